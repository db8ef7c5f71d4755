"""Writing of results: numbers with everything that determines them.

A result `x.json` holds configuration, versions and numbers, `x.npz` arrays. They are reproducible bit for bit on one machine,
except for measured times, which have a file of their own, `x.timing.json`. What differs from run to run is in the record of the
job, `x.record.json`: see `experiments.pipeline.results`.
"""

import contextlib
import importlib.metadata
import json
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax")


def write_numbers(path: Path, config: dict[str, Any], numbers: dict[str, Any]) -> None:
    """Write a result with the values that its numbers depend on. Their `seed`, or else 0, is recorded as the first seed."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    head = {
        "config": config,
        "seed": config.get("seed", 0),
        "versions": {"python": platform.python_version(), **versions},
    }
    write_json(path, head | numbers)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` once the block ends without an error: a killed run leaves no partial file.

    `slax_data` has the same for its own files. Results do not use it, since each job that imports `slax_data` runs again when a
    file of it changes, timings included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
