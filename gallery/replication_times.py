"""The published times of libraries beside ours, as factors over the time of slax 0.0.1 on the same device.

Seconds on a GPU and on a CPU cannot be compared. Whether a library is slower or faster than slax 0.0.1 can.
"""

import math
from typing import Any

from gallery.claims import Tables
from gallery.outcomes import Line, Outcome
from gallery.significance import difference
from gallery.tables import Number, Row, matching, number

REFERENCE = "slax_original"
UNMEASURED = "not measured at this size"


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
    without = {(row["peer"], row["n"], row["device"]) for row in published if not row["seconds"]}
    lines = []
    for peer, n in dict.fromkeys((row["peer"], row["n"]) for row in published):
        cells, factors = [], []
        for device in devices:
            seconds, reference = known.get((peer, n, device)), known.get((REFERENCE, n, device))
            if seconds is None:
                cells.append("no bar" if (peer, n, device) in without else "other row")
            elif peer == REFERENCE or reference is None:
                cells.append(f"{seconds:g} s")
            else:
                factors.append(seconds / reference)
                cells.append(f"{seconds:g} s, {_short(factors[-1])}")
        told = (about["names"][peer], f"{int(n):,}", *cells)
        count = sum((peer, n, device) in known for device in devices)
        if count:
            rows = [_row(about, name, n, tables) for name in (peer, REFERENCE)]
            lines.append(
                _line(told, count, factors, *rows) if factors else _reference(about, told, count, rows[1], tables)
            )
    return ("library", "units", *devices), lines


def _row(about: dict[str, Any], peer: str, n: str, tables: Tables) -> Row | None:
    """Our row for a library in its fastest form."""
    rows = matching(tables.get(about["ratios"], []), {"peer": peer, "n": n} | about["where"])
    if len(rows) > 1:
        raise ValueError(f"{about['ratios']}.csv has {len(rows)} rows for {peer} and {n} units, expected one")
    return rows[0] if rows else None


def _line(cells: tuple[str, ...], count: int, factors: list[float], row: Row | None, reference: Row | None) -> Line:
    one, other = (number(side, "ratio") if side else None for side in (row, reference))
    if one is None or other is None:
        note = row["reason"] if row and row["reason"] else UNMEASURED
        outcome: Outcome = "not run"
        return Line(cells, outcomes=(outcome,) * len(factors), note=note, published=count)
    mean, low, high = _factor(one, other)
    outcomes = tuple(_side(factor, low, high) for factor in factors if factor != 1)
    ours = f"{_short(mean)} ({low:.2f} to {high:.2f})"
    return Line(cells, ours, outcomes, "not comparable", published=count)


def _reference(about: dict[str, Any], cells: tuple[str, ...], count: int, row: Row | None, tables: Tables) -> Line:
    """The seconds of slax 0.0.1, there and here."""
    if row is None:
        return Line(cells, outcomes=("not run",), note=UNMEASURED, published=count)
    form = {name: row[name] for name in ("peer", "variant", "n", "batch", "dtype")}
    (measured,) = matching(tables[about["seconds"]], form | {"source": "measured"})
    ours = f"{float(measured['seconds']):.3g} s"
    return Line(cells, ours, standing="not comparable", note="a CPU", published=count)


def _factor(one: Number, other: Number) -> tuple[float, float, float]:
    """The factor of one time over another, with its 95 % interval."""
    apart = difference(one.samples, other.samples, paired=one.is_paired_with(other), logarithms=True)
    if apart is None:
        raise ValueError("ratios of times need two rounds or more")
    low, high = map(math.exp, apart.interval)
    return math.exp(apart.mean), low, high


def _short(factor: float) -> str:
    """A factor in two or three digits: 1.05x, 1.4x, 107x."""
    return f"{factor:.{0 if factor >= 9.95 else 2 if factor < 1.095 else 1}f}x"


def _side(published: float, low: float, high: float) -> Outcome:
    """Whether both are slower than slax 0.0.1, or both are faster."""
    if low <= 1 <= high:
        return "unresolved"
    return "same" if (low > 1) == (published > 1) else "another"
