"""What becomes of a published number: the outcomes, how several are taken together, and the rules for one and for an order."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

from gallery.significance import RESOLUTION, difference
from gallery.tables import Number

Outcome = Literal["same", "in part", "different", "unresolved", "not run", "no number", "not read"]
SYMBOLS: dict[Outcome, str] = dict(zip(get_args(Outcome), "✓◐✗≈○··", strict=True))


def named(outcome: Outcome) -> str:
    return f"{SYMBOLS[outcome]} {outcome}"


def together(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The outcome of several: what they have in common, and "in part" if only some are the same. None without any."""
    distinct = dict.fromkeys(outcomes)
    if len(distinct) > 1 and {"same", "in part"} & distinct.keys():
        return "in part"
    return next((outcome for outcome in ("different", "unresolved") if outcome in distinct), next(iter(distinct), None))


def counted(outcomes: Iterable[Outcome], unit: str) -> str:
    """How many there are of each: "5 of 6 numbers the same, 1 unresolved". `unit` says what the same is: "numbers the same"."""
    counts = Counter(outcomes)
    rest = [f"{counts[outcome]} {outcome}" for outcome in SYMBOLS if counts[outcome] and outcome != "same"]
    return ", ".join([f"{counts['same']} of {counts.total()} {unit}", *rest])


def compared(ours: Number, published: float, rule: str, distance: float = 0.0) -> Outcome:
    """The outcome for a published number.

    Args:
        ours: our number.
        published: the published one.
        rule: `within`, ours with its interval lies within a distance of the published number; `seeds`, that lies between our
            smallest and our largest seed; `above`, ours with its interval lies above it.
        distance: for `within`.

    A difference of less than a millionth of the published number is one of rounding.
    """
    rounding = RESOLUTION * abs(published)
    if rule in ("within", "above"):
        low, high = (published - distance, published + distance) if rule == "within" else (published, math.inf)
        low, high = low - rounding, high + rounding
        if low <= ours.low and ours.high <= high:
            return "same"
        return "different" if ours.high < low or high < ours.low else "unresolved"
    samples = [one for one in ours.samples if one is not None] or [ours.value]
    return "same" if min(samples) - rounding <= published <= max(samples) + rounding else "different"


def ordered(one: tuple[float, Number], other: tuple[float, Number]) -> Outcome:
    """The outcome for the order of two published numbers that differ, each with ours."""
    apart = difference(other[1], one[1])
    low, high = apart.interval if apart and apart.kind != "exact" else (apart.mean if apart else 0.0,) * 2
    if low <= 0 <= high:
        return "unresolved"
    return "same" if (low > 0) == (other[0] > one[0]) else "different"
