"""The published times of libraries beside ours, as factors over the time of slax 0.0.1 on the same device.

Seconds on a GPU and on a CPU cannot be compared. Whether a library is slower or faster than slax 0.0.1 can.
"""

import math
from typing import Any

from gallery import wording
from gallery.claims import Tables
from gallery.outcomes import Line, Outcome
from gallery.significance import difference
from gallery.tables import Number, Row, matching, number

REFERENCE = "slax_original"


def times(about: dict[str, Any], tables: Tables) -> tuple[tuple[str, ...], list[Line]]:
    """The titles of the cells, and a line for each library and number of units.

    Args:
        about: `names`, how libraries are called, by their names in the tables; `where`, which of our rows are compared; and
            `seconds`, `ratios`, the tables with the published times and with our ratios.
        tables: the rows of the figures.
    """
    published = matching(tables.get(about["seconds"], []), {"source": "published"})
    devices = list(dict.fromkeys(row["device"] for row in published))
    known = {(row["peer"], row["n"], row["device"]): float(row["seconds"]) for row in published if row["seconds"]}
    failed = {(row["peer"], row["n"], row["device"]) for row in published if not row["seconds"]}
    lines = []
    for peer, n in dict.fromkeys((row["peer"], row["n"]) for row in published):
        cells, factors = [], []
        for device in devices:
            seconds, reference = known.get((peer, n, device)), known.get((REFERENCE, n, device))
            if seconds is None:
                cells.append("failed" if (peer, n, device) in failed else "")
            elif peer == REFERENCE or reference is None:
                cells.append(f"{seconds:g} s")
            else:
                factors.append(seconds / reference)
                cells.append(f"{seconds:g} s, {factors[-1]:.2g}-fold")
        told = (about["names"][peer], f"{int(n):,}", *cells)
        count = sum((peer, n, device) in known for device in devices)
        if count:
            lines.append(_line(told, count, factors, *(_row(about, name, n, tables) for name in (peer, REFERENCE))))
    return ("library", "units", *devices), lines


def _row(about: dict[str, Any], peer: str, n: str, tables: Tables) -> Row | None:
    """Our row for a library in its fastest form."""
    rows = matching(tables.get(about["ratios"], []), {"peer": peer, "n": n} | about["where"])
    if len(rows) > 1:
        raise ValueError(f"{about['ratios']}.csv has {len(rows)} rows for {peer} and {n} units, expected one")
    return rows[0] if rows else None


def _line(cells: tuple[str, ...], count: int, factors: list[float], row: Row | None, reference: Row | None) -> Line:
    one, other = (side and number(side, "ratio") for side in (row, reference))
    if one is None or other is None:
        note = row["reason"] if row and row["reason"] else "not measured at this size"
        return Line(cells, standing="not run", note=note, published=count)
    if not factors:
        return Line(cells, "1, by definition", standing="not comparable", note="seconds on another device", published=count)
    mean, low, high = _factor(one, other)
    outcomes = tuple(_side(factor, low, high) for factor in factors if factor != 1)
    ours = f"{wording.in_digits(mean)}-fold {wording.interval(low, high)}"
    return Line(cells, ours, outcomes, "not comparable", published=count)


def _factor(one: Number, other: Number) -> tuple[float, float, float]:
    """The factor of one time over another, with its 95 % interval."""
    apart = difference(one.samples, other.samples, paired=one.is_paired_with(other), logarithms=True)
    if apart is None:
        raise ValueError("ratios of times need two rounds or more")
    low, high = map(math.exp, apart.interval)
    return math.exp(apart.mean), low, high


def _side(published: float, low: float, high: float) -> Outcome:
    """Whether both are slower than slax 0.0.1, or both are faster."""
    if low <= 1 <= high:
        return "unresolved"
    return "same" if (low > 1) == (published > 1) else "another"
