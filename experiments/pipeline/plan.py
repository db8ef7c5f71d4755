"""All that is made at one scale, and what of it has to be made: the pipeline's answer before anything runs.

A result is stale if its state (`results.state_of`) is not "current", or if a job that it reads is; a figure, if one
of its results is; the page of all figures, if anything is. At a scale whose results come with the repository, older results
are used as they are. Nothing is written, renamed or deleted here, so a dry run and a run have the same plan. Both
unpack shipped results first.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.pipeline import results as records
from experiments.pipeline.config import read_yaml
from experiments.pipeline.job import KEPT, NUMBERS, Job, experiment_names, jobs_of, scales_of
from experiments.pipeline.results import EXPERIMENTS, FIGURES, LOCK, RAW, RECORD, ROOT, Product, State

STORE = Path("data/store/files/md5")
MANIFEST, PAGE = FIGURES / "all", tuple(FIGURES / name for name in ("index.html", "RESULTS.md", "REPLICATION.md"))
PEERS = {"light": "light", "all": True}  # which are timed: the `own_environments` of the experiment that times them


class Plan:
    """All products of one scale, and which of them have to be made.

    Args:
        scale: one of SCALES.
        peers: one of PEERS; by default what the scale says.
        outdated: one of OUTDATED; by default "keep" where the scale's results come with the repository. Under "draw" no
            result is computed: those that are missing are left out.

    Attributes:
        outdated: the one of OUTDATED that holds.
        missing: the raw files that are lacking, by the set of data/config.yaml that needs them.
        settings: of each experiment that has the scale.
        jobs: of each experiment by name, except for those whose spikes cannot be made and that have no result to be used.
        spikes, results, figures: the products, by set; by experiment and job; and by experiment.
        page: the page of all figures.
        stale: why, by the label of each product that has to be made.
        older: the results that are used although they are older than the sources or settings.
        left_out: the states of results that are not used and are not made, by label.
    """

    def __init__(self, scale: str, *, peers: str | None = None, outdated: str | None = None):
        self.scale, self.outdated = scale, outdated_of(scale, outdated)
        self.stale: dict[str, str] = {}
        self.older: list[Product] = []
        self.left_out: dict[str, State] = {}
        sets = read_yaml(ROOT / "data/config.yaml")["sets"]
        absent = {
            name: [raw for raw in of["raw"] if not (stored(RAW / f"{raw}.dvc") or (RAW / raw).exists())]
            for name, of in sets.items()
        }
        self.missing = {name: raw for name, raw in absent.items() if raw}
        self.spikes = {name: records.spikes_product(name) for name in sets if name not in self.missing}
        for product in self.spikes.values():
            self._look(product)
        known = {name: scales_of(name) for name in experiment_names()}
        self.settings = {name: with_peers(scales[scale], peers) for name, scales in known.items() if scale in scales}
        self.jobs: dict[str, dict[str, Job]] = {}
        self.results: dict[tuple[str, str], Product] = {}
        for experiment, settings in self.settings.items():
            self.jobs[experiment] = self._look_at_jobs(experiment, jobs_of(experiment, scale, settings))
        self.figures = {
            name: list(records.figure_products(name, scale, jobs).values()) for name, jobs in self.jobs.items() if jobs
        }
        for name, products in self.figures.items():
            for product in products:
                self._look(product, [self.results[name, job] for job in self.jobs[name]])
        self.shown = [file for file in files_of(self.results.values()) if file.suffix == NUMBERS]
        self.page = page_product(scale, self.results.values(), self.drawn, self.older, self.left_out)
        self._look(self.page, [*self.results.values(), *self.drawn])
        self.manifest_is_stale = bool(self.stale) or not MANIFEST.exists() or MANIFEST.read_text() != self.manifest()

    def _look_at_jobs(self, experiment: str, jobs: dict[str, Job]) -> dict[str, Job]:
        """The jobs that can be made or are there, after a look at the state of each."""
        kept = {}
        for name, job in jobs.items():
            product = records.result_product(experiment, self.scale, jobs, name)
            read = [self.results[experiment, other] for other in job.reads if (experiment, other) in self.results]
            state = self._look(product, read, self.outdated)
            can_run = (
                self.outdated != "draw" and job.spikes not in self.missing and all(other in kept for other in job.reads)
            )
            if state.is_used(self.outdated) or can_run:
                kept[name], self.results[experiment, name] = job, product
            else:
                self.left_out[product.label] = state
                del self.stale[product.label]
        return kept

    def _look(self, product: Product, read: Iterable[Product] = (), outdated: str = "remake") -> State:
        state = records.state_of(product)
        if not state.is_used(outdated):
            self.stale[product.label] = state.why
        elif made := [one.label for one in read if one.label in self.stale]:
            self.stale[product.label] = f"{made[0]} is"
        elif state.kind != "current":
            self.older.append(product)
        return state

    @property
    def drawn(self) -> list[Product]:
        """All figures."""
        return [product for products in self.figures.values() for product in products]

    @property
    def listed(self) -> list[Product]:
        """All products whose files the manifest lists. The page, in which are dates and run times, is none of them."""
        return [*self.spikes.values(), *self.results.values(), *self.drawn]

    def manifest(self) -> str:
        """The checksums of all files, as `sha256sum` writes them, from their records."""
        known = {product.record: records.read_record(product.record) or {"files": {}} for product in self.listed}
        return "".join(
            f"{known[product.record]['files'].get(file.name)}  {file.as_posix()}\n"
            for product in self.listed
            for file in product.files
        )

    def require_all(self) -> None:
        """Stop at a product that is not current, and is no result that is kept."""
        how = "If sources were edited since the run began, start it again."
        results = {product.label for product in self.results.values()}
        for product in [*self.listed, self.page]:
            records.require(product, self.outdated if product.label in results else "remake", how)

    def notes(self) -> Iterator[str]:
        """Lines on results that are not made, and on those that are used although they are outdated."""
        for label, state in self.left_out.items():
            if state.kind != "missing":
                yield f"Left out: {label}: {state.why}"
        if self.older:
            yield "Older than the sources or settings, and used as they are:"
            for experiment, number in Counter(product.label.partition(" ")[0] for product in self.older).items():
                yield f"  {experiment}, {number} jobs"


def page_product(
    scale: str,
    results: Iterable[Product],
    figures: Iterable[Product],
    older: Iterable[Product],
    left_out: Iterable[str],
) -> Product:
    """The page of all figures, the text of all claims and the replication report, made from records of results and figures.

    Which results are older than the sources, and which are left out, is among the settings, since page and text say it.
    """
    files = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("gallery/*.*") if path.suffix != ".md")
    claims = sorted(path.relative_to(ROOT).as_posix() for path in EXPERIMENTS.glob("*/claims.yaml"))
    made = {product.record.as_posix(): product.record for product in (*results, *figures)}
    settings = {
        "scale": scale,
        "older": sorted(path.as_posix() for path in files_of(older)),
        "left_out": sorted(left_out),
        "made": sorted(made),
    }
    return Product("page of figures", PAGE, settings, (LOCK, *files, *claims), made)


def outdated_of(scale: str, outdated: str | None) -> str:
    """One of OUTDATED: what was asked for, or else what is usual at a scale."""
    return outdated or ("keep" if scale in KEPT else "remake")


def with_peers(settings: dict[str, Any], peers: str | None) -> dict[str, Any]:
    """The settings of an experiment with the peers that are asked for; one that times no peers has the same in any case."""
    if peers is None or "own_environments" not in settings:
        return settings
    return settings | {"own_environments": PEERS[peers]}


def stored(pointer: Path) -> Path | None:
    """The file in this repository's store to which a DVC pointer refers, if both are there."""
    md5 = read_yaml(pointer)["outs"][0]["md5"] if pointer.is_file() else "none"
    file = STORE / md5[:2] / md5[2:]
    return file if file.is_file() else None


def files_of(products: Iterable[Product]) -> list[Path]:
    """The files of products, without their records."""
    return [file for product in products for file in product.files]


def unknown_files(plans: Iterable["Plan"]) -> dict[str, str]:
    """What is wrong with files of the pipeline, by path: those that are not as they were made from the present settings and
    sources, and those that no product has."""
    page = records.read_record(records.record_of(PAGE[0]))
    wrong: dict[str, str] = {}
    sound, folders = {MANIFEST}, [FIGURES, Path("data/processed")]
    for plan in plans:
        is_shown = bool(page) and page["settings"]["scale"] == plan.scale
        folders.append(Path("results") / plan.scale)
        for product in [*plan.listed, *([plan.page] if is_shown else [])]:
            if why := plan.stale.get(product.label):
                wrong |= {str(file): why for file in product.files if file.exists()}
            else:
                sound |= {product.record, *product.files}
        if is_shown and MANIFEST.exists() and plan.manifest_is_stale:
            wrong[str(MANIFEST)] = "it is not the list of what is there"
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".part"}
    bare = {str(path): "nothing here makes it: its data are not here, or it can be deleted" for path in files - sound}
    return {path: why for path, why in sorted((bare | wrong).items()) if not path.endswith(RECORD)}
