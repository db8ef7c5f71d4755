"""Run the Python of pages as a reader would type it, all in one process: `python run_pages.py PAGE...`.

Each page is one program in an empty folder of its own. A line of JSON for each says its name, its seconds, and its error.
"""

import gc
import json
import os
import re
import sys
import tempfile
import time
import traceback
import types
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[2]


def program_of(page: Path) -> types.CodeType:
    program = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    return compile(program, str(page), "exec")


class Recordings(list):
    """What stands in for a set of tonic: 20 recordings of the camera of N-MNIST, two of each digit."""

    def __init__(self, folder: str, train: bool):
        rng = np.random.default_rng(0)
        kind = [("x", int), ("y", int), ("t", int), ("p", int)]
        for digit in range(20):
            events = np.zeros(50, kind)
            for field, end in (("x", 34), ("y", 34), ("t", 310_000), ("p", 2)):
                events[field] = np.sort(rng.integers(end, size=50)) if field == "t" else rng.integers(end, size=50)
            self.append((events, digit % 10))


def stand_ins() -> dict[str, types.ModuleType]:
    """Another library's reader of a set, with a small set of the true form: neither is installed."""
    modules = {name: types.ModuleType(name) for name in ("tonic", "tonic.datasets")}
    modules["tonic"].datasets = modules["tonic.datasets"]  # type: ignore[attr-defined]
    modules["tonic.datasets"].NMNIST = Recordings  # type: ignore[attr-defined]
    return modules


def small_sets(folder: Path) -> None:
    """Small sets stand in for those that are to be downloaded, or that a package has which is not installed."""
    sys.path.insert(0, str(ROOT / "tests" / "data"))
    from small_sets import SMALL_SETS

    os.environ["SLAX_DATA"] = str(folder)
    sys.modules["music21"] = types.ModuleType("music21")
    sys.modules["music21"].__file__ = str(folder / "__init__.py")
    for name, place in {"bach": "corpus/bach", "laser": "", "mnist": "mnist", "spoken_digits_mfcc": ""}.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        SMALL_SETS[name](folder / place)


def main() -> None:
    gc.set_threshold(50_000, 20, 50)  # tracing makes many objects that stay
    sys.modules.update(stand_ins())
    sys.path.insert(0, str(ROOT))  # as of a script in the folder of the clone
    sets = tempfile.TemporaryDirectory()
    small_sets(Path(sets.name))
    for page in [Path(name).resolve() for name in sys.argv[1:]]:
        start, error = time.process_time(), None
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                exec(program_of(page), {"__name__": "__main__"})
            except Exception:
                error = traceback.format_exc()
            os.chdir(ROOT)
        jax.config.update("jax_enable_x64", False)
        print(
            "\n" + json.dumps({"page": str(page), "seconds": time.process_time() - start, "error": error}), flush=True
        )


if __name__ == "__main__":
    main()
