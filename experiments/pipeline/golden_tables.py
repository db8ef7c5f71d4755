"""Compare the tables made at the tiny scale with the stored ones, number by number.

    python -m experiments.pipeline.golden_tables            # after `make tiny`
    python -m experiments.pipeline.golden_tables --renew    # stores the current tables: check `git diff` before committing

The stored tables, and the tolerances of their numbers on another processor, are listed in tests/references/tolerances.yaml.
Times and memory differ from run to run and are not included. Under another version of JAX, training takes another path
(docs/upgrading.md), and nothing is compared.
"""

import csv
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from experiments.pipeline.command_line import parser_of
from experiments.pipeline.config import read_yaml

FIGURES, REFERENCES = Path("figures/tiny"), Path("tests/references")
MADE_WITH = "0.10.2"  # the version of JAX
SHOWN = 5  # differences reported for each table


def main() -> None:
    parser = parser_of("experiments.pipeline.golden_tables", __doc__)
    parser.add_argument("--renew", action="store_true", help="keep them as references")
    arguments = parser.parse_args()
    if (here := version("jax")) != MADE_WITH:
        print(f"The stored tables were made with JAX {MADE_WITH}, and this is {here}: nothing is compared or kept.")
        return
    tolerances = read_yaml(REFERENCES / "tolerances.yaml")
    wrong = []
    for stem, tolerance in tolerances.items():
        made, kept = FIGURES / f"{stem}.csv", REFERENCES / f"{stem}.csv"
        if arguments.renew:
            shutil.copy(made, kept)
        wrong += [f"{stem}: {text}" for text in differences(read(made), read(kept), **tolerance)]
    if wrong:
        sys.exit("\n".join(["Tables differ from those in tests/references:", *wrong]))
    print(f"{len(tolerances)} tables are as in {REFERENCES}.")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def differences(
    made: list[dict[str, str]], kept: list[dict[str, str]], *, absolute: float, columns: dict[str, float] | None = None
) -> list[str]:
    """The differences as text: rows, or cells that are neither equal nor numbers within the tolerance.

    Args:
        made: the rows of a table.
        kept: the expected rows.
        absolute: the amount by which a number may differ.
        columns: the amount for individual columns.
    """
    if len(made) != len(kept):
        return [f"there are {len(made)} rows, expected {len(kept)}"]
    found = []
    for number, (row, expected) in enumerate(zip(made, kept, strict=True), start=2):
        if row.keys() != expected.keys():
            return [f"the columns are {', '.join(row)}, expected {', '.join(expected)}"]
        for name, cell in expected.items():
            if not alike(row[name], cell, (columns or {}).get(name, absolute)):
                found.append(f"line {number}, {name}: {row[name]!r}, expected {cell!r}")
    rest = len(found) - SHOWN
    return found[:SHOWN] + ([f"and {rest} more"] if rest > 0 else [])


def alike(cell: str, expected: str, tolerance: float) -> bool:
    """True if cells are equal word by word, where a number may differ by the tolerance."""
    try:
        pairs = [pair for pair in zip(cell.split(), expected.split(), strict=True) if pair[0] != pair[1]]
        return all(abs(float(one) - float(other)) <= tolerance for one, other in pairs)
    except ValueError:  # another number of words, or a word that is no number
        return False


if __name__ == "__main__":
    main()
