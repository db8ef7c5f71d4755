"""Compare the figures of two machines or two sets of versions, claim by claim and number by number.

    python -m gallery.across figures/quick ../other/figures/quick --scale quick

Both folders come from the same sources. The report goes to the standard output, as Markdown.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from gallery.claims import Tables, judge_all
from gallery.page_tables import in_markdown
from gallery.tables import Row, read_tables

ROUNDING = 1e-4  # relative: float32 sums in another order differ by less, unless a spike moves
SMALL = 1e-3  # what is smaller counts as zero
NAMES = ("task", "code", "rule", "layer", "depth", "quantity", "stage", "which", "n_steps", "window")
# in the names of what a clock decides
TIMES = ("milliseconds", "seconds", "time", "build", "first_call", "repeats", "rank")


def main() -> None:
    parser = argparse.ArgumentParser("python -m gallery.across", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs=2, type=Path, metavar="FOLDER")
    parser.add_argument("--scale", default="quick")
    options = parser.parse_args()
    here, there = (read_tables(folder.glob("*.csv")) for folder in options.folders)
    print("\n".join(report(here, there, options.scale)))


def report(here: Tables, there: Tables, scale: str) -> Iterator[str]:
    """The claims with another verdict, and for each figure how many numbers differ by more than rounding."""
    claims = sorted(Path("experiments").glob("*/claims.yaml"))
    judged = (judge_all(claims, tables, scale, is_complete=False) for tables in (here, there))
    verdicts = [[(one.sentence, one.verdict) for figure in figures for one in figure.claims] for figures in judged]
    run = [(name, one, two) for (name, one), (_, two) in zip(*verdicts, strict=True) if "not run" not in (one, two)]
    other = [row for row in run if row[1] != row[2]]
    yield f"{len(run)} claims are judged in both, {len(other)} of them differently.\n"
    yield in_markdown([("claim", "here", "there"), ("---",) * 3, *other])
    yield f"\nMeans that differ by more than {ROUNDING:.0e} of themselves, without measured times.\n"
    header = ("figure", "means", "differ", "at the initial weights", "differ", "most", "where")
    yield in_markdown([header, ("---",) * len(header), *differences(here, there)])


def differences(here: Tables, there: Tables) -> Iterator[Sequence[str]]:
    for stem in sorted(here.keys() & there.keys()):
        found = [gap for one, two in zip(here[stem], there[stem], strict=True) for gap in gaps(one, two)]
        initial = [gap for gap in found if gap[2]]
        apart, apart_initially = ([gap for gap in some if gap[0] > ROUNDING] for some in (found, initial))
        size, where, _ = max(apart, default=(0.0, "", False))
        counts = (f"{len(some)}" for some in (found, apart, initial, apart_initially))
        yield stem, *counts, f"{size:.1%}" if apart else "", where


def gaps(one: Row, two: Row) -> Iterator[tuple[float, str, bool]]:
    """The relative difference of each mean of a row, where it is, and whether the row is about the initial weights."""
    if any(word in one.get("quantity", "") for word in TIMES):
        return
    is_initial = "initial" in one.values() or "0" in (one.get("training_steps"), one.get("after"))
    name = " ".join(cell for column, cell in one.items() if column in NAMES and cell)
    for column in one.keys() & two.keys() - {"seeds", "rounds", *NAMES}:
        if column.endswith(("low", "high", "values", "tests")) or any(word in column for word in TIMES):
            continue
        try:
            left, right = float(one[column]), float(two[column])
        except ValueError:
            continue
        yield abs(left - right) / max(abs(left), abs(right), SMALL), f"{name} {column}", is_initial


if __name__ == "__main__":
    main()
