"""Record the numbers that a change of the code must not change, or compare all of them with what is recorded.

    python -m tests.freeze.record            # writes frozen.npz
    python -m tests.freeze.record compare    # prints the deviation of each case, of which test_frozen.py looks at some

frozen.npz was recorded at commit 96dfba00. It holds all numbers in a row, and the case, the name and the shape of each array.
"""

import sys
from pathlib import Path

import jax
import numpy as np

FILE = Path(__file__).with_name("frozen.npz")
BOUND = 1e-12  # relative to the largest number of an array


def read() -> dict[str, dict[str, np.ndarray]]:
    """The recorded arrays by case and name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(FILE) as file:
        numbers, place = file["numbers"], 0
        for line in file["arrays"]:
            case, name, *shape = line.split("|")
            shape = tuple(map(int, shape))
            size = int(np.prod(shape))
            found.setdefault(case, {})[name] = numbers[place : place + size].reshape(shape)
            place += size
    return found


def write(cases: dict[str, dict[str, np.ndarray]]) -> None:
    arrays = [(f"{case}|{name}", array) for case, found in cases.items() for name, array in found.items()]
    lines = ["|".join([line, *map(str, array.shape)]) for line, array in arrays]
    numbers = np.concatenate([array.ravel() for _, array in arrays])
    assert numbers.dtype == np.float64 and np.isfinite(numbers).all()
    np.savez_compressed(FILE, arrays=lines, numbers=numbers)


def deviation(found: dict[str, np.ndarray], frozen: dict[str, np.ndarray]) -> float:
    """max |a - b| / max |b|, of the array where it is largest."""
    assert {name: array.shape for name, array in found.items()} == {name: array.shape for name, array in frozen.items()}
    return max(float(np.abs(found[name] - b).max() / (np.abs(b).max() or 1)) for name, b in frozen.items())


def main(*arguments: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    with jax.enable_x64(True):
        from freeze.cases import CASES

        frozen = read() if arguments == ("compare",) else None
        found = {}
        for name, case in CASES.items():
            found[name] = case()
            if frozen is not None:
                off = deviation(found[name], frozen[name])
                print(f"{off:8.1e} {'' if off <= BOUND else 'CHANGED '}{name}", flush=True)
    if frozen is None:
        write(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
