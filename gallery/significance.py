"""The difference of two numbers with its interval, what it says about a relation, and the correction for many looks.

A relation is true by some margin: `above` by the difference, `below` by its negative, `near` by what is left of the tolerance.
The mean of the samples estimates this margin, and Student's t distribution says how sure its sign is. `equal` is about every
sample and needs no test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

LEVEL = 0.05  # a p-value below it is significant
MOST_SAMPLES = 1000  # larger numbers of samples are not looked for
# Samples are float32 numbers in seven digits: relative to the numbers compared, a smaller difference is rounding.
RESOLUTION = 1e-6
DECIMAL = 1e-12  # 0.3 and 0.2 are 0.1 apart, but not as binary numbers

Samples = Sequence[float | None]  # None is a sample that is missing
Kind = Literal["exact", "one sample", "paired", "not paired"]


@dataclass(frozen=True)
class Difference:
    """Our number minus the other one.

    Attributes:
        kind: "exact", two numbers without samples; "one sample", samples against a number; "paired", differences of samples
            that belong together; "not paired", samples that do not belong together (Welch).
        mean: the difference of the means.
        counts: the number of samples: one entry, or one of each side where they are not paired.
        variances: the variance of these samples, with divisor n - 1.
        spread: the distance between the smallest and the largest of these samples.
        size: the largest absolute number on either side.
        is_of_logarithms: it is the logarithm of a factor, ours over the other one, and so are the samples.
    """

    kind: Kind
    mean: float
    counts: tuple[int, ...] = ()
    variances: tuple[float, ...] = ()
    spread: float = 0.0
    size: float = 0.0
    is_of_logarithms: bool = False

    @property
    def is_constant(self) -> bool:
        """True if the samples do not vary, except for rounding."""
        return self.spread <= RESOLUTION * self.size

    def half_width(self, level: float, counts: Sequence[np.ndarray | float] | None = None) -> np.ndarray:
        """Half the width of the interval that misses the true difference with probability `level`, of these or other counts."""
        error, freedom = self.error(self.counts if counts is None else counts)
        return student.isf(level / 2, freedom) * error

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval."""
        if self.is_constant:
            return self.mean, self.mean
        half = float(self.half_width(LEVEL))
        return self.mean - half, self.mean + half

    def error(self, counts: Sequence[np.ndarray | float]) -> tuple[np.ndarray, np.ndarray]:
        """The standard error of the mean, and its degrees of freedom (Welch and Satterthwaite; n - 1 for one list)."""
        parts = [variance / count for variance, count in zip(self.variances, counts, strict=True)]
        rest = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
        total = np.asarray(sum(parts))
        return np.sqrt(total), total**2 / rest


class Evidence(NamedTuple):
    """Two-sided p-values of a relation: `holds` is small if it is surely true, and `fails` if it is surely false."""

    holds: float
    fails: float


def difference(ours: Samples | float, than: Samples | float, *, paired: bool) -> Difference | None:
    """The difference of two sides, one of which may be a number; None if there are too few samples for a test.

    Args:
        ours: samples or a number.
        than: the same for the other side.
        paired: samples at the same place belong together; a pair of which one is missing is left out.
    """
    if isinstance(ours, Sequence) and isinstance(than, Sequence):
        return _of_pairs("paired", ours, than) if paired else _of_two(ours, than)
    if isinstance(ours, Sequence):
        return _of_pairs("one sample", ours, [than] * len(ours))
    if isinstance(than, Sequence):
        return _of_pairs("one sample", [ours] * len(than), than)
    return Difference("exact", ours - than, size=max(abs(ours), abs(than)))


def factor(ours: Samples | float, than: Samples | float, *, paired: bool) -> Difference | None:
    """The difference of the logarithms of two sides, which are above zero: for geometric means."""
    found = difference(_logarithms(ours), _logarithms(than), paired=paired)
    return found and replace(found, is_of_logarithms=True)


def _logarithms(side: Samples | float) -> Samples | float:
    if isinstance(side, Sequence):
        return [None if sample is None else math.log(sample) for sample in side]
    return math.log(side)


def _of_pairs(kind: Kind, ours: Samples, than: Samples) -> Difference | None:
    pairs = np.array([(a, b) for a, b in zip(ours, than, strict=True) if a is not None and b is not None], float)
    if len(pairs) < 2:
        return None
    differences = pairs[:, 0] - pairs[:, 1]
    return Difference(
        kind,
        float(differences.mean()),
        (len(pairs),),
        (float(differences.var(ddof=1)),),
        float(np.ptp(differences)),
        float(np.abs(pairs).max()),
    )


def _of_two(ours: Samples, than: Samples) -> Difference | None:
    sides = [np.array([sample for sample in side if sample is not None]) for side in (ours, than)]
    if min(map(len, sides)) < 2:
        return None
    return Difference(
        "not paired",
        float(sides[0].mean() - sides[1].mean()),
        tuple(map(len, sides)),
        tuple(float(side.var(ddof=1)) for side in sides),
        max(float(np.ptp(side)) for side in sides),
        float(max(np.abs(side).max() for side in sides)),
    )


def margin(relation: str, found: Difference, tolerance: float | None) -> float:
    """By how much a relation is true of the means; negative if it is false of them."""
    if relation == "near":
        assert tolerance is not None
        return tolerance - abs(found.mean)
    return {"above": found.mean, "below": -found.mean, "equal": -abs(found.mean)}[relation]


def is_true_of_means(relation: str, found: Difference, tolerance: float | None) -> bool:
    """A margin of zero is enough for `near` and `equal`; for `above` and `below` it has to exceed the resolution of samples."""
    by = margin(relation, found, tolerance)
    if relation == "near":
        return by >= -DECIMAL * found.size
    if relation == "equal":
        return by == 0
    return by > (0 if found.kind == "exact" else RESOLUTION * found.size)


def evidence(relation: str, found: Difference, tolerance: float | None) -> Evidence:
    """What a difference says about a relation. Numbers that do not vary are compared as they are: p is 0 or 1.

    The p-value of `near` is the larger one of two one-sided tests, doubled. It is below 0.05 if and only if the 95 % interval
    of the difference lies within the tolerance.
    """
    if relation == "equal":
        true = is_true_of_means(relation, found, tolerance) and found.spread == 0
        return Evidence(0.0, 1.0) if true else Evidence(1.0, 0.0)
    if found.kind == "exact" or found.is_constant:
        return Evidence(0.0, 1.0) if is_true_of_means(relation, found, tolerance) else Evidence(1.0, 0.0)
    error, freedom = found.error(found.counts)
    sides = student.sf(np.array([1, -1]) * margin(relation, found, tolerance) / error, freedom)
    holds, fails = np.minimum(1, 2 * sides)
    return Evidence(float(holds), float(fails))


def samples_needed(relation: str, found: Difference, tolerance: float | None, level: float) -> int:
    """The smallest number of samples (of each side) that would decide a relation at a level, if the mean difference and the
    variances stayed as they are; MOST_SAMPLES + 1 if it is larger than MOST_SAMPLES."""
    numbers = np.arange(2, MOST_SAMPLES + 1)
    if found.is_constant:
        return int(numbers[0])
    decided = found.half_width(level, [numbers] * len(found.counts)) < abs(margin(relation, found, tolerance))
    return int(numbers[decided.argmax()]) if decided.any() else MOST_SAMPLES + 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given.

    If all those below 0.05 are called significant, the probability of any error among them is at most 5 %, whatever the
    dependence between the tests.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6(2), 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values, float)[order]))
    return corrected.tolist()
