"""Writing of results: numbers with everything that determines them, along with a record of the run.

A result `x.json` holds configuration, seed, versions and numbers, and is reproducible bit for bit on one machine. Its record
`x.record.json` holds the information that differs from run to run: commit, device, date and wall time.
"""

import contextlib
import datetime
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from slax_data.storage.whole_files import atomic_write

PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax")


@contextlib.contextmanager
def recorded(output: Path, *, config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Yield a dict for the numbers, and write result and record if the block ends without an error.

    Args:
        output: the result's path, ending in `.json`.
        config: the values that the numbers depend on.
        seed: the seed that they depend on.
    """
    started = time.perf_counter()
    numbers: dict[str, Any] = {}
    yield numbers
    record = {
        "result": output.name,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": jax.devices()[0].device_kind,
        "machine": f"{platform.system()} {platform.machine()} {_processor()}",
        "wall_seconds": round(time.perf_counter() - started, 2),
    }
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    result = {"config": config, "seed": seed, "versions": {"python": platform.python_version(), **versions}, **numbers}
    for path, content in ((output.with_suffix(".record.json"), record), (output, result)):
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
