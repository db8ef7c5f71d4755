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
from pathlib import Path
from types import CodeType, SimpleNamespace

import jax
import numpy as np

ROOT = Path(__file__).parents[2]


def program_of(page: Path) -> CodeType:
    program = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    return compile(program, str(page), "exec")


class Recordings(list):
    """What stands in for a set of tonic: 20 recordings of the camera of N-MNIST, two of each digit."""

    def __init__(self, folder: str, train: bool):
        rng = np.random.default_rng(0)
        for digit in range(20):
            fields = [np.sort(rng.integers(end, size=50)) for end in (34, 34, 310_000, 2)]
            self.append((np.rec.fromarrays(fields, names="x,y,t,p"), digit % 10))


def small_sets(folder: Path) -> None:
    """Small sets stand in for those that are to be downloaded, or that a package has which is not installed."""
    sys.path.insert(0, str(ROOT / "tests" / "data"))
    from small_sets import SMALL_SETS

    os.environ["SLAX_DATA"] = str(folder)
    datasets = SimpleNamespace(NMNIST=Recordings)
    sys.modules.update({"tonic": SimpleNamespace(datasets=datasets), "tonic.datasets": datasets})
    sys.modules["music21"] = SimpleNamespace(__file__=str(folder / "__init__.py"))
    for name, place in {"bach": "corpus/bach", "laser": "", "mnist": "mnist", "spoken_digits_mfcc": ""}.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        SMALL_SETS[name](folder / place)


def main() -> None:
    gc.set_threshold(50_000, 20, 50)  # tracing makes many objects that stay
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
        answer = {"page": str(page), "seconds": time.process_time() - start, "error": error}
        print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
