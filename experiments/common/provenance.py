"""Certificates: what files were made from, by digest, and what they contain, by digest.

Whatever the pipeline makes, spikes, results, figures and the page of figures, is a product: some files that one command makes
together, with a certificate `NAME.record.json` next to them. Whether a product is made again, used or refused follows from its
certificate and the present digests alone, never from the times of files.
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
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.common.result_files import write_json
from experiments.common.sources import ROOT, Sources

FORMAT = 1  # of certificates; a certificate of another one does not count
SHOWN = 3  # names in a reason


@dataclasses.dataclass(frozen=True)
class Product:
    """Files that one command makes together.

    Attributes:
        label: its name in messages.
        certificate: the path of its certificate, in the folder of the files or above.
        files: the paths of its files.
        settings: the values that the files depend on, as JSON reads them.
        made_from: the files that they depend on, by the name that the certificate has for each.
    """

    label: str
    certificate: Path
    files: tuple[Path, ...]
    settings: Mapping[str, Any]
    made_from: Mapping[str, Path]

    def digests(self, sources: Sources) -> dict[str, Any]:
        """What the files would be made from now: the settings, and the digest of each file or None."""
        files = {name: sources.digest(path) for name, path in sorted(self.made_from.items())}
        return {"settings": dict(self.settings), "files": files}


@dataclasses.dataclass(frozen=True)
class State:
    """How a product compares with its certificate and with what it would be made from now.

    Attributes:
        kind: "missing" if it was never made as a whole, "damaged" if a file differs from the certificate, "outdated" if it was
            made from something else, or else "current".
        settings: names of settings with other values than now.
        changed: names of files that it was made from and that have other content now, or are new or gone.
        absent: names of files that it would be made from and that are not there at present.
        damage: what is damaged.
    """

    kind: Literal["missing", "damaged", "outdated", "current"]
    settings: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    damage: str = ""

    @property
    def is_usable(self) -> bool:
        """True if it is intact and has the present settings, so that it can be used although the sources changed."""
        return self.kind == "current" or (self.kind == "outdated" and not self.settings)

    @property
    def reason(self) -> str:
        """Why it is not current, in a few words."""
        parts = [
            f"other settings: {listed(self.settings)}" if self.settings else "",
            f"{listed(self.changed)} changed" if self.changed else "",
            f"{listed(self.absent)} missing" if self.absent else "",
        ]
        return {"missing": "not made yet", "damaged": self.damage, "current": ""}.get(
            self.kind, "; ".join(filter(None, parts))
        )


def state_of(product: Product, sources: Sources) -> State:
    """The state of a product at the time of `sources`."""
    missing = [path for path in (product.certificate, *product.files) if not path.is_file()]
    if missing:
        return State("missing")
    certificate = read_certificate(product.certificate)
    if certificate is None:
        return State("damaged", damage=f"{product.certificate} is damaged")
    damage = damage_of(product.certificate, certificate, sources)
    listed_files = {file_name(product.certificate, path) for path in product.files}
    if damage or listed_files != set(certificate["files"]):
        return State("damaged", damage=damage or f"{product.certificate} is about other files")
    return compared(certificate["made_from"], product.digests(sources))


def compared(then: dict[str, Any], now: dict[str, Any]) -> State:
    """The state of an intact product, from what it was made from and what it would be made from now."""
    settings = different(then["settings"], now["settings"])
    names = different(then["files"], now["files"])
    absent = tuple(name for name in names if name in now["files"] and now["files"][name] is None)
    changed = tuple(name for name in names if name not in absent)
    return State("outdated" if settings or names else "current", settings, changed, absent)


def different(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """The keys whose values differ, or that only one of the two has."""
    keys = sorted(one.keys() | other.keys())
    return tuple(key for key in keys if key not in one or key not in other or one[key] != other[key])


def read_certificate(path: Path) -> dict[str, Any] | None:
    """The content of a certificate; None if it is damaged, or of another format."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seal = content.pop("sha256_of_the_rest")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    whole: bool = content.get("format") == FORMAT and seal == seal_of(content)
    return content if whole else None


def damage_of(path: Path, certificate: dict[str, Any], sources: Sources) -> str:
    """The first file that differs from what the certificate at `path` says, in words; empty if there is none."""
    for name, digest in certificate["files"].items():
        found = sources.sha256(path.parent / name)
        if found != digest:
            what = "is missing" if found is None else "differs from its certificate"
            return f"{path.parent / name} {what}"
    return ""


def certify(product: Product, made_from: dict[str, Any], **run: Any) -> None:
    """Write the certificate of a product whose files were just made.

    Args:
        product: whose files are there.
        made_from: its `digests` from before they were made.
        run: further facts about the run, of which `run_of` makes the usual ones.
    """
    files = Sources()  # reads them afresh
    content = {
        "format": FORMAT,
        "files": {file_name(product.certificate, path): files.sha256(path) for path in product.files},
        "made_from": made_from,
        **run,
    }
    write_json(product.certificate, content | {"sha256_of_the_rest": seal_of(content)})


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


def require_intact(certificate: Path, files: Iterable[Path], how: str) -> dict[str, Any]:
    """The content of a certificate, after a look at some of its files.

    Raises:
        SystemExit: the certificate or a file is missing, or they differ; the message ends with `how`, what to do.
    """
    files = list(files)
    for path in files:
        if not path.is_file():
            raise SystemExit(f"There is no {path}. {how}")
    if not certificate.is_file():
        raise SystemExit(f"There is no {certificate}, which is written next to {files[0].name}: copy both. {how}")
    content = read_certificate(certificate)
    damage = f"{certificate} is damaged" if content is None else damage_of(certificate, content, Sources())
    if content is None or damage:
        raise SystemExit(f"{damage}: something changed it after it was made, and it is not used. {how}")
    unknown = [path for path in files if file_name(certificate, path) not in content["files"]]
    if unknown:
        raise SystemExit(f"{certificate} does not name {unknown[0].name}, which is not used. {how}")
    return content


def changes_since(certificate: dict[str, Any], sources: Sources) -> list[str]:
    """The files that a product was made from and that have other content now, or are gone; what is made itself is left out."""
    then = certificate["made_from"]["files"]
    now = {name: sources.digest(sources.root / name) for name in then}
    return [name for name in then if now[name] != then[name] and not (now[name] is None and is_made(name))]


def older_results(certificates: Iterable[Path], sources: Sources) -> dict[str, list[str]]:
    """The results that are older than the sources: by the path of the certificate, what changed since."""
    read = {path: read_certificate(path) for path in sorted(set(certificates)) if path.is_file()}
    changes = {path.as_posix(): changes_since(content, sources) for path, content in read.items() if content}
    return {path: changed for path, changed in changes.items() if changed}


def is_made(name: str) -> bool:
    """True if a file that something is made from is itself made by the pipeline, and can be missing for that reason."""
    return name.startswith(("data/processed/", "results/", "figures/", "benchmarks/.envs/"))


@dataclasses.dataclass(frozen=True)
class Decision:
    """What the pipeline does with a product: it makes it if `is_pending`, and uses it if not, even if it is `older`."""

    state: State
    is_pending: bool
    reason: str
    older: bool = False


def decide(
    products: Iterable[Product],
    sources: Sources,
    *,
    keep: Collection[Path] = (),
    forced: Collection[Path] = (),
) -> dict[Path, Decision]:
    """What to do with each product, by the path of its certificate.

    Args:
        products: in an order in which each comes after what it is made from.
        sources: the present files.
        keep: certificates of products that are used as long as they are intact and have the present settings.
        forced: files that are made in any case.
    """
    makers: dict[Path, Path] = {}
    decisions: dict[Path, Decision] = {}
    for product in products:
        state = state_of(product, sources)
        kept = product.certificate in keep
        made_by = {makers[path] for path in product.made_from.values() if path in makers}
        remade = sorted(maker for maker in made_by if decisions[maker].is_pending and (not kept or maker in keep))
        first = [path for path in (*product.files, *product.made_from.values()) if path in forced]
        usable = state.is_usable if kept else state.kind == "current"
        reason = (
            state.reason
            if not usable
            else f"{remade[0]} is made again"
            if remade
            else f"{first[0]} is asked for"
            if first
            else ""
        )
        older = kept and usable and bool(state.changed)
        decisions[product.certificate] = Decision(state, bool(reason), reason, older and not reason)
        makers |= dict.fromkeys((product.certificate, *product.files), product.certificate)
    return decisions


def file_name(certificate: Path, path: Path) -> str:
    """The name of a file in a certificate: its path from the folder of the certificate."""
    return path.relative_to(certificate.parent).as_posix()


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def seal_of(content: dict[str, Any]) -> str:
    """The digest of the content of a certificate."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
