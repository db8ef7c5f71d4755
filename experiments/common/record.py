"""Writing of results: numbers with everything that determines them, along with a record of the run.

A result `x.json` holds configuration, versions and numbers. It is reproducible bit for bit on one machine, except for measured
times, which have a file of their own, `x.timing.json`. Its record `x.record.json` holds the information that differs from run
to run: commit, device, date and wall time.
"""

import contextlib
import datetime
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax")


@contextlib.contextmanager
def recorded(outputs: Sequence[Path], *, config: dict[str, Any]) -> Iterator[dict[Path, dict[str, Any]]]:
    """Yield a dict for the numbers of each output, and write results and records if the block ends without an error.

    Args:
        outputs: the paths of the results, ending in `.json`.
        config: the values that the numbers depend on. Its `seed`, or else 0, is recorded as the first seed.
    """
    started = time.perf_counter()
    numbers: dict[Path, dict[str, Any]] = {}
    yield numbers
    record = {
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": jax.devices()[0].device_kind,
        "machine": f"{platform.system()} {platform.machine()} {_processor()}",
        "wall_seconds": round(time.perf_counter() - started, 2),
    }
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    head = {
        "config": config,
        "seed": config.get("seed", 0),
        "versions": {"python": platform.python_version(), **versions},
    }
    for output in outputs:
        _write(output.with_suffix(".record.json"), {"result": output.name, **record})
        _write(output, head | numbers[output])


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` once the block ends without an error: a killed run leaves no partial file.

    `slax_data` has the same for its own files. Results do not use it, since each job that imports `slax_data` runs again when a
    file of it changes, timings included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    yield aside
    aside.replace(path)


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _commit() -> str:
    """The commit of the sources, "+" if files differ from it; "unknown" outside a git checkout."""
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/dvc.lock"]
    status = subprocess.run(changes, cwd=here, capture_output=True, text=True)
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
