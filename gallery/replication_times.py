"""The published times of libraries beside ours, as factors over the time of slax 0.0.1 on the same device.

Seconds on a GPU and on a CPU cannot be compared. Whether a library is slower or faster than slax 0.0.1 can.
"""

from typing import Any

from gallery.claims import Tables
from gallery.outcomes import Line, Outcome
from gallery.tables import Number, matching, number

REFERENCE = "slax_original"
UNMEASURED = "not measured at this size"


def times(about: dict[str, Any], tables: Tables) -> tuple[tuple[str, ...], list[Line]]:
    """The titles of the cells, and a line for each library and number of units.

    Args:
        about: `names`, how libraries are called, by their names in the tables; `seconds`, the table of times, published and
            ours; `ratios`, the table with ours of pairs of libraries; `where`, which of our workloads are compared; `inputs`,
            kinds of input, of which the first one that is there is judged.
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
                cells.append("no bar" if (peer, n, device) in without else "-")
            elif peer == REFERENCE or reference is None:
                cells.append(f"{seconds:g} s")
            else:
                factors.append(seconds / reference)
                cells.append(f"{seconds:g} s, {_short(factors[-1])}")
        count = sum((peer, n, device) in known for device in devices)
        if count:
            find = _reference if peer == REFERENCE else _factors
            line = find(about, (about["names"][peer], f"{int(n):,}", *cells), peer, n, factors, tables)
            lines.append(line._replace(published=count, factors=_range(factors), same="same side"))
    return ("library", "units", *devices), lines


def _factors(
    about: dict[str, Any], cells: tuple[str, ...], peer: str, n: str, published: list[float], tables: Tables
) -> Line:
    """Our factor of a library, for each kind of input that was timed, the judged one first."""
    rows = matching(tables.get(about["ratios"], []), {"library": REFERENCE, "other": peer, "n": n} | about["where"])
    timed = {row["inputs"]: _inverse(ratio) for row in rows if (ratio := number(row, "ratio"))}
    found = {inputs: timed[inputs] for inputs in about["inputs"] if inputs in timed}
    if not found:
        outcome: Outcome = "not run"
        note = next((row["reason"] for row in rows if row["reason"]), UNMEASURED)
        return Line(cells, outcomes=(outcome,) * len(published), note=note)
    told = [f"{_short(one.value)} ({one.low:.2f} to {one.high:.2f}), {inputs}" for inputs, one in found.items()]
    outcomes = tuple(_side(factor, next(iter(found.values()))) for factor in published if factor != 1)
    return Line(cells, "; ".join(told), outcomes, "not comparable")


def _reference(
    about: dict[str, Any], cells: tuple[str, ...], peer: str, n: str, _: list[float], tables: Tables
) -> Line:
    """The seconds of slax 0.0.1, there and here."""
    rows = matching(tables[about["seconds"]], {"source": "measured", "peer": peer, "n": n} | about["where"])
    seconds = [float(row["seconds"]) for row in rows if row["seconds"]]
    if not seconds:
        return Line(cells, outcomes=("not run",), note=UNMEASURED)
    return Line(cells, f"{min(seconds):.3g} s", standing="not comparable", note="a CPU")


def _inverse(ratio: Number) -> Number:
    """The time of the other library over that of slax 0.0.1."""
    return Number(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)


def _short(factor: float) -> str:
    """A factor in two or three digits: 1.05x, 1.4x, 107x."""
    return f"{factor:.{0 if factor >= 9.95 else 2 if factor < 1.095 else 1}f}x"


def _range(factors: list[float]) -> str:
    """The least and the greatest published factor."""
    return " to ".join(dict.fromkeys(map(_short, (min(factors), max(factors))))) if factors else ""


def _side(published: float, ours: Number) -> Outcome:
    """Whether both are slower than slax 0.0.1, or both are faster."""
    if ours.low <= 1 <= ours.high:
        return "unresolved"
    return "same" if (ours.low > 1) == (published > 1) else "different"
