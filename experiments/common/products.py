"""The products of the pipeline: which files each consists of, and what they are made from."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from experiments.common.job import ARRAYS, EXPERIMENTS, Job, experiment_names, figures_of, jobs_of, scales_of
from experiments.common.policy import KEPT, is_kept, with_peers
from experiments.common.records import Product, State, checksum, digest_of, record_of, require_used, state_of
from experiments.common.sources import ROOT, digest_of_sources, own_entries, sha256_of
from experiments.common.yaml_files import read_yaml

LOCK = "requirements.lock"
FORMS = (".csv", ".png", ".svg")
RESULTS, FIGURES, SPIKES, RAW = Path("results"), Path("figures"), Path("data/processed"), Path("data/raw")
STORE = Path("data/store/files/md5")
SHIPPED_INPUTS = Path("shipped/inputs.json")
MANIFEST, PAGE = Path("figures/all"), tuple(FIGURES / name for name in ("index.html", "RESULTS.md", "REPLICATION.md"))
SHOWN = 10  # reasons

Paths = Iterable[Path]


@dataclasses.dataclass(frozen=True)
class Shipped(Product):
    """A result that comes with the repository, though not all that it was made from does.

    A clone lacks spikes, of which some are of data that may not be passed on, and the records of other libraries' environments.
    While such a file is absent, its checksum in shipped/inputs.json counts.
    """

    def digest(self) -> str:
        """The digest of all that it would be made from now, as in `Product`."""
        others = {name: sha256_of(ROOT / name) or known_checksum(name) for name in self.others}
        inputs = {name: checksum(path) or known_checksum(name) for name, path in self.inputs.items()}
        own = [self.own] if self.own else []
        return digest_of([self.settings, digest_of_sources(*self.scripts), others, inputs, *own])


def known_checksum(name: str) -> str | None:
    """The checksum of a file of shipped/inputs.json; None if it is not in it, or of spikes that would be made otherwise now."""
    entry = shipped_inputs().get(name, {"sha256": None, "made_from": None})
    if entry["made_from"] is not None:
        spikes, sets = Path(name).stem, read_yaml("data/config.yaml")["sets"]
        if spikes not in sets or spikes_product(spikes, sets[spikes]).digest() != entry["made_from"]:
            return None
    return entry["sha256"]


def shipped_inputs() -> dict[str, dict[str, str | None]]:
    """Files that shipped results were made from and that a clone lacks, by name: checksums, and what spikes were made from.

    Raises:
        SystemExit: the file is damaged.
    """
    if not SHIPPED_INPUTS.is_file():
        return {}
    try:
        known: dict[str, dict[str, str | None]] = json.loads(SHIPPED_INPUTS.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(
            f"{SHIPPED_INPUTS} is damaged: {error}. Restore it: `git checkout {SHIPPED_INPUTS}`."
        ) from None
    return known


def spikes_product(name: str, settings: Mapping[str, Any], *, data: Path = SPIKES) -> Product:
    """The spikes of a set of data/config.yaml. The settings have the checksums of its raw files, except where there is none."""
    raw = tuple((RAW / file).as_posix() for file, sha256 in settings["raw"].items() if sha256 is None)
    script = "experiments/common/make_spikes.py"
    return Product(f"spikes {name}", (data / f"{name}{ARRAYS}",), settings, (script,), (LOCK, *raw))


def result_product(experiment: str, scale: str, job: Job, *, results: Path = RESULTS, data: Path = SPIKES) -> Product:
    """The files of a job.

    The command itself, experiments/run.py, and jobs.py are not what they are made from: what these do shows in the settings.
    """
    folder = results / scale / experiment
    scripts = tuple(file for file in job.files if file.endswith(".py"))
    made = {f"{name}{ARRAYS}": folder / f"{name}{ARRAYS}" for name in job.reads}
    made |= {f"data/processed/{name}{ARRAYS}": data / f"{name}{ARRAYS}" for name in [job.spikes] if name}
    return (Shipped if scale in KEPT else Product)(
        f"{experiment} {job.name}",
        tuple(folder / output for output in job.outputs),
        job.settings,
        ("experiments/common/result_files.py", f"experiments/{experiment}/{job.module}.py", *scripts),
        (LOCK, *sorted({*job.files}.difference(scripts))),
        made,
        own_entries(job.settings),
    )


def figure_product(
    experiment: str, stem: str, scale: str, jobs: Iterable[Job], *, results: Path = RESULTS, figures: Path = FIGURES
) -> Product:
    """The table and the pictures of a figure. It is made from the records of results: some figures name the machine."""
    names = {job.name: record_of(results / scale / experiment / job.outputs[0]) for job in jobs}
    tables = sorted(path.relative_to(ROOT).as_posix() for path in (EXPERIMENTS / experiment).glob("*.csv"))
    return Product(
        f"figure {stem}",
        tuple(figures / scale / f"{stem}{form}" for form in FORMS),
        {"scale": scale, "jobs": list(names)},
        ("experiments/common/figures.py", f"experiments/{experiment}/plot.py"),
        (LOCK, *tables),
        names,
    )


def page_product(
    pages: tuple[Path, ...], scale: str, claims: Paths, results: Paths, figures: Paths, older: Paths = ()
) -> Product:
    """The page of all figures, the text of all claims and the replication report, made from records of results and figures.

    Which results are older than the sources is among the settings, since page and text say it.
    """
    files = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("gallery/*.*") if path.suffix != ".md")
    files += [path.as_posix() for path in claims]
    made = {path.as_posix(): path for path in map(record_of, [*results, *figures])}
    settings = {"scale": scale, "older": sorted(path.as_posix() for path in older)}
    return Product("page of figures", pages, settings, (), (LOCK, *files), made)


def stored(pointer: Path) -> Path | None:
    """The file in this repository's store to which a DVC pointer refers, if both are there."""
    md5 = read_yaml(pointer)["outs"][0]["md5"] if pointer.is_file() else "none"
    file = STORE / md5[:2] / md5[2:]
    return file if file.is_file() else None


class Pipeline:
    """All that is made at one scale, and what of it is there when this object is made.

    Attributes:
        keep: True if results that are older than the sources are used.
        missing: the raw files that are lacking, by the set of data/config.yaml that needs them.
        settings: of each experiment at this scale, with the peers that are asked for.
        jobs: of each experiment by name, except for those whose spikes cannot be made and that have no result to be used.
        spikes, results, figures: the products, by set; by experiment and job; and by experiment.
        page: the page of all figures.
        pending: the states of all products that are not used as they are, by label.
        older: the results that are used although they are older than the sources.
        left_out: the states of results that are not used and cannot be made, since their spikes cannot, by label.
        claims, shown: what the page is made from, besides figures.
    """

    def __init__(
        self,
        scale: str,
        *,
        peers: str | None = None,
        outdated: str | None = None,
        look: Callable[[Product, bool], State] = lambda product, keep: state_of(product),
    ):
        def is_used(product: Product, keep: bool = False) -> bool:
            state = look(product, keep)
            if not state.is_used(keep):
                self.pending[product.label] = state
            elif state.kind == "older":
                self.older.append(product)
            return state.is_used(keep)

        self.scale, self.keep = scale, is_kept(scale, outdated)
        self.pending: dict[str, State] = {}
        self.older: list[Product] = []
        self.left_out: dict[str, State] = {}
        sets = read_yaml("data/config.yaml")["sets"]
        absent = {
            name: [raw for raw in of["raw"] if not (stored(RAW / f"{raw}.dvc") or (RAW / raw).exists())]
            for name, of in sets.items()
        }
        self.missing = {name: raw for name, raw in absent.items() if raw}
        self.spikes = {name: spikes_product(name, of) for name, of in sets.items() if name not in self.missing}
        for product in self.spikes.values():
            is_used(product)
        self.settings = {name: with_peers(scales_of(name)[scale], peers) for name in experiment_names()}
        self.jobs: dict[str, dict[str, Job]] = {}
        self.results: dict[tuple[str, str], Product] = {}
        for name, settings in self.settings.items():
            jobs = jobs_of(name, scale, settings)
            products = {key: result_product(name, scale, jobs[key]) for key in in_order(jobs)}
            used = {key for key, product in products.items() if is_used(product, self.keep)}
            self.jobs[name] = {key: job for key, job in jobs.items() if key in used or job.spikes not in self.missing}
            self.results |= {(name, key): products[key] for key in self.jobs[name]}
            unused = [products[key].label for key in products if key not in self.jobs[name]]
            self.left_out |= {label: self.pending.pop(label) for label in unused}
        self.figures = {
            name: [figure_product(name, stem, scale, jobs.values()) for stem in figures_of(name)]
            for name, jobs in self.jobs.items()
            if jobs
        }
        for product in self.drawn:
            is_used(product)
        self.claims = sorted(Path("experiments").glob("*/claims.yaml"))
        self.shown = [file for file in files_of(self.results.values()) if file.suffix == ".json"]
        given = (self.claims, self.shown, files_of(self.drawn), files_of(self.older))
        self.page = page_product(PAGE, scale, *given)
        is_used(self.page)

    @property
    def drawn(self) -> list[Product]:
        """All figures."""
        return [product for products in self.figures.values() for product in products]

    @property
    def listed(self) -> list[Product]:
        """All products whose files the manifest lists. The page, in which are dates and run times, is none of them."""
        return [*self.spikes.values(), *self.results.values(), *self.drawn]

    def manifest(self) -> str:
        """The checksums of all files, as `sha256sum` writes them.

        Raises:
            SystemExit: a product is not current, and not a result that is kept.
        """
        how = "If sources were edited since the run began, start it again."
        for product in [*self.listed, self.page]:
            require_used(product, self.keep and product.label not in self.pending, how)
        return "".join(f"{sha256_of(file)}  {file.as_posix()}\n" for file in files_of(self.listed))

    def told(self) -> Iterator[str]:
        """Lines on products that were made before and are made again, and on results that are used although they are older."""
        again = [f"  {label}: {state.why}" for label, state in self.pending.items() if state.kind != "missing"]
        if again:
            more = len(again) - SHOWN
            yield from ["To be made again:", *again[:SHOWN], *([f"  and {more} more"] if more > 0 else [])]
        yield from (
            f"Left out, since its data are lacking: {label}: {state.why}"
            for label, state in self.left_out.items()
            if state.kind != "missing"
        )
        if self.older:
            jobs = Counter(product.label.partition(" ")[0] for product in self.older)
            yield "Older than the sources, and used as they are:"
            yield from (f"  {experiment}, {number} jobs" for experiment, number in jobs.items())


def in_order(jobs: Mapping[str, Job]) -> Iterable[str]:
    """The names of jobs, each after those that it reads."""
    return TopologicalSorter({name: job.reads for name, job in jobs.items()}).static_order()


def files_of(products: Iterable[Product]) -> list[Path]:
    """The files of products, without their records."""
    return [file for product in products for file in product.files]


def lacking(products: Iterable[Product]) -> list[str]:
    """The records of the products that have to be made first."""
    return [str(product.record) for product in products if not product.record.exists()]
