"""Records: what the files of the pipeline were made from, and what they contain, by digest.

Whatever the pipeline makes, spikes, results, figures and their page, is a product: files that one command makes together, with
a record `NAME.record.json` beside them. A record is about the files as long as they have the checksums in it, and a product is
current if `made_from`, the digest of what it was made from, is what it would be made from now. Times of files play no part.
"""

import dataclasses
import datetime
import hashlib
import json
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.common.result_files import write_json
from experiments.common.sources import ROOT, digest_of_sources, sha256_of

FORMAT = 2  # of records; one of another format does not count
RECORD = ".record.json"
ENDINGS = (".timing.json", ".json", ".npz", ".csv", ".png", ".svg", ".html", ".md")


@dataclasses.dataclass(frozen=True)
class Product:
    """Files that one command makes together.

    Attributes:
        label: its name in messages.
        files: the paths of its files. The record has the name of the first.
        settings: the values that the files depend on, as JSON reads them.
        scripts: the sources that make it; see `experiments.common.sources`.
        others: further files below the root that it is made from.
        inputs: files of other products, or their records, that it is made from, by names that do not depend on folders.
        own: the digests of rules, data sets and codes that are not the library's, by kind and name.
    """

    label: str
    files: tuple[Path, ...]
    settings: Mapping[str, Any]
    scripts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    inputs: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    own: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def record(self) -> Path:
        """The path of its record."""
        return record_of(self.files[0])

    def digest(self) -> str:
        """The digest of all that it would be made from now."""
        others = {name: sha256_of(ROOT / name) for name in self.others}
        inputs = {name: checksum(path) for name, path in self.inputs.items()}
        own = [self.own] if self.own else []
        return digest_of([self.settings, digest_of_sources(*self.scripts), others, inputs, *own])


class State(NamedTuple):
    """How a product compares with its record, and with what it would be made from now; `why` says it in words.

    "missing": never made as a whole. "damaged": it differs from its record. "other settings" and "older": it is intact, and was
    made with other settings, or from other sources or inputs.
    """

    kind: Literal["missing", "damaged", "other settings", "older", "current"]
    why: str = ""

    def is_used(self, keep: bool) -> bool:
        """True if it is current, or if it is older and such products are kept."""
        return self.kind == "current" or (keep and self.kind == "older")


OLDER = State("older", "made from other sources or inputs than the present ones")


def state_of(product: Product, path: Path | None = None) -> State:
    """The state of a product at present, with its record or the one at `path`, a file beside it."""
    path = path or product.record
    if not all(file.is_file() for file in (path, *product.files)):
        return State("missing", "not made yet")
    record = read_record(path)
    if damage := damage_of(path, record):
        return State("damaged", damage)
    assert record is not None
    if set(record["files"]) != {file.name for file in product.files}:
        return State("damaged", f"{path} is about other files")
    current = State("current") if record["made_from"] == product.digest() else OLDER
    return other_settings(record["settings"], product) or current


def other_settings(settings: Mapping[str, Any], product: Product) -> State | None:
    """The state of a product that was made with some settings, if they are not those of the product."""
    changed = different(settings, json.loads(json.dumps(product.settings)))
    return State("other settings", f"made with other settings: {', '.join(changed)}") if changed else None


def settle(product: Product, keep: bool) -> State:
    """Leave the record of a product where it is if the product is used as it is, and set it aside if not, as `NAME.aside`.

    What has no record counts as not made, by Snakemake too. A record that was set aside comes back once it is right again, as
    when an edit is undone. A file that differs from its record is renamed to `FILE.damaged`.
    """
    aside = aside_of(product.record)
    if aside.exists() and not product.record.exists():
        aside.replace(product.record)
    state = state_of(product)
    if not state.is_used(keep) and product.record.exists():
        for name in damaged_files(product.record, read_record(product.record)):
            product.record.with_name(name).replace(product.record.with_name(f"{name}.damaged"))
        product.record.replace(aside)
    return state


class Forecast:
    """What `settle` would say of one product after the other, each after its inputs. It leaves all files as they are.

    Args:
        shipped: the settings of products that would be unpacked first, by label. They count as older than the sources.
    """

    def __init__(self, shipped: Mapping[str, Mapping[str, Any]]):
        self.shipped, self.gone = shipped, set[Path]()

    def __call__(self, product: Product, keep: bool) -> State:
        aside = aside_of(product.record)
        state = state_of(product, aside if aside.exists() and not product.record.exists() else None)
        if (settings := self.shipped.get(product.label)) is not None:
            state = other_settings(settings, product) or OLDER
        inputs = {path if path.name.endswith(RECORD) else record_of(path) for path in product.inputs.values()}
        if state.kind == "current" and inputs & self.gone:
            state = OLDER
        if not state.is_used(keep):
            self.gone.add(product.record)
        return state


def aside_of(record: Path) -> Path:
    """Where a record is while it does not count."""
    return record.with_suffix(".aside")


def checksum(path: Path) -> str | None:
    """The checksum of a record, or of a file of a product as its record has it; None if it does not count as made."""
    if path.name.endswith(RECORD):
        return sha256_of(path)
    record = read_record(record_of(path))
    return record["files"].get(path.name) if record else None


def record_of(file: Path) -> Path:
    """The record of a file, which is in the same folder."""
    ending = next((ending for ending in ENDINGS if file.name.endswith(ending)), "")
    return file.with_name(file.name.removesuffix(ending) + RECORD)


def read_record(path: Path) -> dict[str, Any] | None:
    """The content of a record; None if there is none, or it is damaged, or of another format."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seal = content.pop("sha256_of_the_rest")
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError):
        return None
    whole: bool = content.get("format") == FORMAT and seal == digest_of(content)
    return content if whole else None


def damaged_files(path: Path, record: dict[str, Any] | None) -> list[str]:
    """The names of files that are there and differ from what the record at `path` says."""
    files = record["files"] if record else {}
    return [name for name, digest in files.items() if sha256_of(path.with_name(name)) not in (digest, None)]


def damage_of(path: Path, record: dict[str, Any] | None) -> str:
    """What is damaged of a record and its files, in words; empty if nothing is."""
    if record is None:
        return f"{path} is damaged"
    if damaged := damaged_files(path, record):
        return f"{path.with_name(damaged[0])} differs from its record"
    return ""


def require(files: Iterable[Path], how: str) -> dict[str, Any]:
    """The record of some files of one product.

    Raises:
        SystemExit: a file or the record is missing, or they differ; the message ends with `how`, what to do.
    """
    files = list(files)
    path = record_of(files[0])
    for file in (*files, path):
        if not file.is_file():
            raise SystemExit(f"There is no {file}. {how}")
    record = read_record(path)
    if damage := damage_of(path, record):
        raise SystemExit(f"{damage}: something changed it after it was made, and it is not used. {how}")
    assert record is not None
    if unknown := [file for file in files if file.name not in record["files"]]:
        raise SystemExit(f"{path} does not name {unknown[0].name}, which is not used. {how}")
    return record


def require_used(product: Product, keep: bool, how: str) -> dict[str, Any]:
    """The record of a product.

    Raises:
        SystemExit: the product is missing, damaged, of other settings or, without `keep`, from other sources or inputs.
    """
    record = require(product.files, how)
    state = state_of(product)
    if not state.is_used(keep):
        raise SystemExit(f"{product.files[0]} is not used: {state.why}. {how}")
    return record


def begin(product: Product) -> str:
    """Take away the record of files that are about to be made, and return the digest of what they will be made from."""
    for path in (product.record, aside_of(product.record)):
        path.unlink(missing_ok=True)
    return product.digest()


def write_record(product: Product, made_from: str, **facts: Any) -> None:
    """Write the record of a product whose files were just made.

    Args:
        product: whose files are there.
        made_from: its digest from before they were made, which `begin` returned.
        facts: about the run, of which `run_of` makes the usual ones.
    """
    files = {path.name: sha256_of(path) for path in product.files}
    seal_and_write(product.record, {"files": files, "settings": product.settings, "made_from": made_from, **facts})


def seal_and_write(path: Path, content: Mapping[str, Any]) -> None:
    content = {"format": FORMAT, **content}
    write_json(path, content | {"sha256_of_the_rest": digest_of(content)})


def digest_of(content: Any) -> str:
    """The digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ, or that only one of the two has."""
    return [key for key in sorted({*one, *other}) if key not in one or key not in other or one[key] != other[key]]


def run_of(started: float, **more: str) -> dict[str, Any]:
    """What differs from run to run: commit, date, machine, memory, and wall time since `started`, of `time.perf_counter`.

    The memory is in units of 10^6 bytes. If a process makes several products one after the other, it is that of all up to now.
    """
    return {
        **more,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()} {_processor()}",
        "wall_seconds": round(time.perf_counter() - started, 2),
        "peak_megabytes": round(peak_bytes() / 1e6),
    }


def peak_bytes() -> int:
    """The most memory that this process has had at a time, or the largest of those that it waited for, if that had more."""
    unit = 1 if sys.platform == "darwin" else 1024  # of the number that the system tells
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


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
