"""What files are made from, and whether they are stale: one digest, one record.

Whatever the pipeline makes, spikes, results, figures and their page, is a *product*: files that one command makes together,
with a record `NAME.record.json` beside them. The record has the checksums of the files, the digest of what they were made from,
and the checksums of the inputs that were read. A product is current if all of these are as they are now; an input that is not
there, as in a clone that lacks some, cannot differ. Times of files play no part.

The digest is that of the settings and of whole source files. Folders stand for all Python files in them, so that it does not
matter who imports what. A result is made from the packages, experiments/common and the files of its experiment, without
jobs.py and plot*.py; a figure from the packages, experiments/drawing and these files with plot*.py, and from its results. What
else a job reads, such as data beside its module, is named by `Job.sources`; experiments do not import each other.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import inspect
import json
import platform
import resource
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.pipeline.config import ROOT, TABLES, own, read_yaml
from experiments.pipeline.job import ARRAYS, EXPERIMENTS, Job, figures_of

LOCK = "requirements.lock"
FORMAT = 2  # of records; one of another format does not count
RECORD = ".record.json"
ENDINGS = (".timing.json", ".json", ".npz", ".csv", ".png", ".svg", ".html", ".md")
RESULTS, FIGURES, SPIKES, RAW = Path("results"), Path("figures"), Path("data/processed"), Path("data/raw")
VERSIONS = ("flax", "jax", "jaxlib", "numpy", "optax")

LIBRARY = tuple(f"packages/slax-{name}/src" for name in ("data", "neurons", "rules"))
COMPUTED_BY = ("experiments/__init__.py", "experiments/common", *LIBRARY, LOCK)
STYLES = "packages/slax-viz/src/slax_viz/slax.mplstyle", "experiments/drawing/print.mplstyle"
SHOWN_AS = ("experiments/drawing/names.yaml", "experiments/drawing/styles.yaml", *STYLES)
DRAWN_BY = ("experiments/drawing", *SHOWN_AS, "experiments/plot.py", "packages/slax-viz/src", *LIBRARY, LOCK)


@dataclasses.dataclass(frozen=True)
class Product:
    """Files that one command makes together.

    Attributes:
        label: its name in messages.
        files: the paths of its files. The record has the name of the first.
        settings: the values that the files depend on, as JSON reads them.
        sources: files of the repository and folders of Python files that it is made from.
        inputs: files of other products, or their records, that it is made from, by names that do not depend on folders.
        more: further things that the digest contains, by name.
    """

    label: str
    files: tuple[Path, ...]
    settings: Mapping[str, Any]
    sources: tuple[str, ...]
    inputs: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def record(self) -> Path:
        """The path of its record."""
        return record_of(self.files[0])

    def digest(self) -> str:
        """The digest of the settings and sources that it would be made from now."""
        return digest_of([self.settings, checksums_below(*self.sources), self.more])

    def inputs_now(self) -> dict[str, str]:
        """The checksums of its inputs that are there."""
        return {name: found for name, path in self.inputs.items() if (found := checksum(path))}


# The states of results that are used: only what would come out now; also of other sources; and whatever is intact.
OUTDATED = {"remake": ("current",), "keep": ("current", "older"), "draw": ("current", "older", "other settings")}


class State(NamedTuple):
    """How a product compares with its record, and with what it would be made from now; `why` says it in words.

    "missing": never made as a whole. "damaged": it differs from its record. "other settings" and "older": it is intact, and was
    made with other settings, or from other sources or inputs.
    """

    kind: Literal["missing", "damaged", "other settings", "older", "current"]
    why: str = ""

    def is_used(self, outdated: str = "remake") -> bool:
        """Whether a product of this state is used; `outdated` is one of OUTDATED."""
        return self.kind in OUTDATED[outdated]


def spikes_product(name: str) -> Product:
    """The spikes of a set of data/config.yaml. The settings have the checksums of its raw files, except where there is none."""
    settings = read_yaml(ROOT / "data/config.yaml")["sets"][name]
    raw = {file: checksum(RAW / file) for file, sha256 in settings["raw"].items() if sha256 is None}
    sources = ("experiments/pipeline/spikes.py", LIBRARY[0], LOCK)
    return Product(f"spikes {name}", (SPIKES / f"{name}{ARRAYS}",), settings, sources, more={"raw": raw} if raw else {})


def result_product(
    experiment: str, scale: str, jobs: Mapping[str, Job], name: str, *, results: Path = RESULTS
) -> Product:
    """The files of a job, one of the `jobs` of an experiment."""
    job, folder = jobs[name], results / scale / experiment
    inputs = {f"{other}{ARRAYS}": folder / f"{other}{ARRAYS}" for other in job.reads} | {
        file: Path(file) for file in job.needs
    }
    more: dict[str, Any] = {"module": job.module, "reads": list(job.reads)}
    more |= {other: result_product(experiment, scale, jobs, other).digest() for other in job.reads}
    if job.spikes:
        spikes = spikes_product(job.spikes)
        inputs[f"data/processed/{job.spikes}{ARRAYS}"] = spikes.files[0]
        more["spikes"] = spikes.digest()
    return Product(
        f"{experiment} {name}",
        tuple(folder / output for output in job.outputs),
        job.settings,
        (*COMPUTED_BY, *modules_of(experiment), *job.sources),
        inputs,
        more | own_sources(job.settings),
    )


def figure_products(
    experiment: str, scale: str, jobs: Mapping[str, Job], *, results: Path = RESULTS, figures: Path = FIGURES
) -> dict[str, Product]:
    """The table and the pictures of each figure, by its stem. It is made from the records of results: some figures name the
    machine."""
    found = [path for form in ("**/*.py", "*.csv") for path in sorted((EXPERIMENTS / experiment).glob(form))]
    files = [path for path in found if path.name != "jobs.py"]
    sources = (*DRAWN_BY, *(path.relative_to(ROOT).as_posix() for path in files))
    records = {name: record_of(results / scale / experiment / job.outputs[0]) for name, job in jobs.items()}
    return {
        stem: Product(
            f"figure {stem}",
            tuple(figures / scale / f"{stem}{ending}" for ending in endings),
            {"scale": scale, "jobs": list(jobs)},
            sources,
            records,
        )
        for stem, endings in figures_of(experiment).items()
    }


@cache
def modules_of(experiment: str) -> tuple[str, ...]:
    """The files by which an experiment computes, and slax_viz, if one of them names it."""
    files = [
        path
        for path in sorted((EXPERIMENTS / experiment).rglob("*.py"))
        if path.name != "jobs.py" and path.stem[:4] != "plot"
    ]
    drawn = ("packages/slax-viz/src",) if any(b"slax_viz" in path.read_bytes() for path in files) else ()
    return (*(path.relative_to(ROOT).as_posix() for path in files), *drawn)


@cache
def checksums_below(*sources: str) -> dict[str, str | None]:
    """The checksums of files, and of all Python files in folders, by their paths below the root."""
    files = [file for source in sources for file in (sorted((ROOT / source).rglob("*.py")) or [ROOT / source])]
    return {file.relative_to(ROOT).as_posix(): sha256_of(file) for file in files}


def own_sources(settings: Any) -> dict[str, str | None]:
    """The checksums of the Python files beside each rule, neuron, data set and code that settings name and the library lacks.

    Raises:
        SystemExit: one of them is in no file.
    """
    named, found = json.dumps(settings), {}
    for kind in TABLES:
        for name, entry in own(kind).items():
            if json.dumps(name) in named:
                made = getattr(entry, "rule", getattr(entry, "encode", entry))
                while isinstance(made, partial):
                    made = made.func
                try:
                    folder = Path(str(inspect.getsourcefile(made))).parent
                except (OSError, TypeError):
                    raise SystemExit(
                        f"Got the {kind} {name!r}, which is in no file, expected one: results are made again when it changes. "
                        "Put it into a .py file."
                    ) from None
                found |= {f"{folder.name}/{file.name}": sha256_of(file) for file in sorted(folder.glob("*.py"))}
    return found


def state_of(product: Product) -> State:
    """The state of a product at present."""
    if not all(file.is_file() for file in (product.record, *product.files)):
        return State("missing", "not made yet")
    record = read_record(product.record)
    if damage := damage_of(product.record, record):
        return State("damaged", damage)
    assert record is not None
    if set(record["files"]) != {file.name for file in product.files}:
        return State("damaged", f"{product.record} is about other files")
    if changed := different(record["settings"], json.loads(json.dumps(product.settings))):
        return State("other settings", f"made with other settings: {', '.join(changed)}")
    if record["made_from"] != product.digest():
        return State("older", "made from other sources than the present ones")
    read = record.get("inputs", {})
    if changed := [name for name, found in product.inputs_now().items() if read.get(name) != found]:
        return State("older", f"made from another {changed[0]} than the present one")
    if gone := sorted(read.keys() - product.inputs.keys()):
        return State("older", f"made from {gone[0]}, too, which is gone")
    return State("current")


def require(product: Product, outdated: str, how: str) -> dict[str, Any]:
    """The record of a product.

    Raises:
        SystemExit: the product is missing or damaged, or its state is not used under `outdated`, one of OUTDATED. The message
            ends with `how`, what to do.
    """
    record = require_intact(product.files, how)
    state = state_of(product)
    if not state.is_used(outdated):
        raise SystemExit(f"{product.files[0]} is not used: {state.why}. {how}")
    return record


def require_intact(files: Iterable[Path], how: str) -> dict[str, Any]:
    """The record of some files of one product.

    Raises:
        SystemExit: a file or the record is missing, or they differ; the message ends with `how`, what to do.
    """
    files = list(files)
    path = record_of(files[0])
    if missing := [file for file in (*files, path) if not file.is_file()]:
        raise SystemExit(f"There is no {missing[0]}. {how}")
    record = read_record(path)
    damage = damage_of(path, record)
    if record is None or damage:
        raise SystemExit(f"{damage}: something changed it after it was made, and it is not used. {how}")
    if unknown := [file for file in files if file.name not in record["files"]]:
        raise SystemExit(f"{path} does not name {unknown[0].name}, which is not used. {how}")
    return record


def begin(product: Product) -> dict[str, Any]:
    """Take away the record of files that are about to be made, and return what they will be made from: the digest, and the
    checksums of the inputs."""
    product.record.unlink(missing_ok=True)
    return {"made_from": product.digest(), "inputs": product.inputs_now()}


def write_record(product: Product, made: Mapping[str, Any], **facts: Any) -> None:
    """Write the record of a product whose files were just made, with what `begin` returned and the facts of the run."""
    files = {path.name: sha256_of(path) for path in product.files}
    content = {"format": FORMAT, "files": files, "settings": product.settings, **made, **facts}
    write_json(product.record, content | {"sha256_of_the_rest": digest_of(content)})


def record_of(file: Path) -> Path:
    """The record of a file, which is in the same folder."""
    ending = next((ending for ending in ENDINGS if file.name.endswith(ending)), "")
    return file.with_name(file.name.removesuffix(ending) + RECORD)


def read_record(path: Path) -> dict[str, Any] | None:
    """The content of a record; None if there is none, or it is damaged, or of another format."""
    return whole_record(path.read_bytes()) if path.is_file() else None


def whole_record(text: bytes) -> dict[str, Any] | None:
    """The content of a record from its text; None if it is damaged, or of another format."""
    try:
        content = json.loads(text)
        seal = content.pop("sha256_of_the_rest")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    whole: bool = content.get("format") == FORMAT and seal == digest_of(content)
    return content if whole else None


def damage_of(path: Path, record: dict[str, Any] | None) -> str:
    """What is damaged of a record and its files, in words; empty if nothing is."""
    if record is None:
        return f"{path} is damaged"
    damaged = [
        path.with_name(name) for name, digest in record["files"].items() if sha256_of(path.with_name(name)) != digest
    ]
    return f"{damaged[0]} differs from its record" if damaged else ""


def checksum(path: Path) -> str | None:
    """The checksum of a record or a raw file, or of a file of a product as its record has it; None if it is not there."""
    if path.name.endswith(RECORD) or not (record := read_record(record_of(path))):
        return sha256_of(path)
    found: str | None = record["files"].get(path.name)
    return found


def sha256_of(path: Path) -> str | None:
    """The SHA-256 of a file, in hexadecimal digits; None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: Any) -> str:
    """The digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ, or that only one of the two has."""
    # As texts, since 1 is not True.
    texts = [{key: json.dumps(value, sort_keys=True) for key, value in of.items()} for of in (one, other)]
    return [key for key in sorted({*one, *other}) if texts[0].get(key) != texts[1].get(key)]


def run_of(started: float, **more: Any) -> dict[str, Any]:
    """What differs from run to run: commit, date, machine, memory, and wall time since `started`, of `time.perf_counter`.

    The memory is in units of 10^6 bytes. If a process makes several products one after the other, it is that of all up to now.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # of the number that the system gives
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        **more,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()} {_processor()}",
        "wall_seconds": round(time.perf_counter() - started, 2),
        "peak_megabytes": round(unit * peak / 1e6),
    }


def commit() -> str:
    """The commit of the sources, "+" if files differ from it; "unknown" outside a git checkout, or without git."""
    if shutil.which("git") is None:
        return "unknown"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/dvc.lock"]
    status = subprocess.run(changes, cwd=ROOT, capture_output=True, text=True)
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_numbers(path: Path, config: dict[str, Any], numbers: dict[str, Any]) -> None:
    """Write a result with the values that its numbers depend on. Their `seed`, or else 0, is recorded as the first seed."""
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    head = {
        "config": config,
        "seed": config.get("seed", 0),
        "versions": {"python": platform.python_version(), **versions},
    }
    write_json(path, head | numbers)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` once the block ends without an error: a killed run leaves no partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
