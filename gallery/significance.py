"""The difference of two numbers with its interval, what it says about a relation, and the correction for many looks.

A relation is true by some margin: `above` by the difference, `below` by its negative, `near` by what is left of the tolerance.
The mean of the samples estimates this margin, and Student's t distribution says how sure its sign is. `equal` is about every
sample and needs no test. Accuracies on a test set that seeds have in common also vary with its samples: the error of their mean
is that of `experiments.drawing.statistics`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

from experiments.drawing.statistics import freedom_and_error

LEVEL = 0.05  # a p-value below it is significant
# Samples are float32 numbers in seven digits: relative to the numbers compared, a smaller difference is rounding.
RESOLUTION = 1e-6
DECIMAL = 1e-12  # 0.3 and 0.2 are 0.1 apart, but not as binary numbers

Kind = Literal["exact", "one sample", "paired", "not paired"]
Samples = Sequence[float | None]  # None is a sample that is missing


class Difference(NamedTuple):
    """Our number minus the other one.

    Attributes:
        kind: "exact", two numbers without samples; "one sample", samples against a number; "paired", differences of samples
            that belong together; "not paired", samples that do not belong together (Welch).
        mean: the difference of the means.
        counts: the number of samples: one entry, or one of each side where they are not paired.
        variances: the variance of these samples, with divisor n - 1.
        ends: the smallest and the largest difference of two samples, of those that belong together if they are paired.
        size: the largest absolute number on either side.
        is_of_logarithms: it is the logarithm of a factor, ours over the other one, and so are the samples.
        of_tests: the variance of the means of test samples, and their number, of those that seeds have in common: one entry, or
            up to two where samples are not paired.
    """

    kind: Kind
    mean: float
    counts: tuple[int, ...]
    variances: tuple[float, ...]
    ends: tuple[float, float]
    size: float
    is_of_logarithms: bool
    of_tests: tuple[tuple[float, int], ...] = ()

    @property
    def is_constant(self) -> bool:
        """True if the samples do not vary, except for rounding."""
        if any(variance > 0 for variance, _ in self.of_tests):
            return False
        return self.ends[1] - self.ends[0] <= RESOLUTION * self.size

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval."""
        if self.is_constant:
            return self.mean, self.mean
        freedom, error = self.freedom_and_error()
        low, high = student.interval(1 - LEVEL, freedom, self.mean, error)
        return float(low), float(high)

    def evidence(self, margin: float) -> "Evidence":
        """How sure the sign of a margin is, which moves with the difference one to one."""
        freedom, error = self.freedom_and_error()
        holds, fails = np.minimum(1, 2 * student.sf(np.array([1, -1]) * margin / error, freedom))
        return Evidence(float(holds), float(fails))

    def freedom_and_error(self) -> tuple[float, float]:
        """The degrees of freedom (n - 1 for one list), and the standard error of the mean."""
        return freedom_and_error([*zip(self.variances, self.counts, strict=True), *self.of_tests])


class Evidence(NamedTuple):
    """Two-sided p-values of a relation: `holds` is small if it is surely true, and `fails` if it is surely false."""

    holds: float
    fails: float


def difference(
    ours: Samples | float,
    than: Samples | float,
    *,
    paired: bool,
    logarithms: bool = False,
    fewest: int = 2,
    tests: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Difference | None:
    """The difference of two sides, one of which may be a number; None if there are too few samples.

    Args:
        ours: samples or a number.
        than: the same for the other side.
        paired: samples at the same place belong together; a pair of which one is missing is left out.
        logarithms: take the difference of the logarithms, for geometric means of numbers above zero.
        fewest: how many samples there have to be: two for a test.
        tests: for both sides the means over the samples for each sample of a common test set, empty where there is none.
    """
    sides = [np.array(side, float) for side in (ours, than)]  # a missing sample is NaN
    if logarithms:
        sides = [np.log(side) for side in sides]
    lists = [side for side in sides if side.ndim]
    kinds: tuple[Kind, ...] = ("exact", "one sample", "paired" if paired else "not paired")
    kind = kinds[len(lists)]
    samples = lists if kind == "not paired" else [np.atleast_1d(sides[0] - sides[1])]
    samples = [numbers[~np.isnan(numbers)] for numbers in samples]
    if lists and min(map(len, samples)) < fewest:
        return None
    means = [float(numbers.mean()) for numbers in samples]
    return Difference(
        kind,
        means[0] - sum(means[1:]),
        tuple(map(len, samples)),
        tuple(float(numbers.var(ddof=min(1, len(numbers) - 1))) for numbers in samples) if lists else (),
        _ends(*samples),
        max(float(np.nanmax(np.abs(side))) for side in sides),
        logarithms,
        _of_tests(*tests, kind == "paired"),
    )


def _of_tests(ours: Sequence[float], than: Sequence[float], paired: bool) -> tuple[tuple[float, int], ...]:
    """The variances over test samples, and their numbers: of the differences where both sides have the same test set."""
    sides = [np.subtract(ours, than)] if paired and len(ours) == len(than) else [np.array(ours), np.array(than)]
    return tuple((float(side.var(ddof=1)), len(side)) for side in sides if len(side) > 1)


def _ends(ours: np.ndarray, than: np.ndarray | None = None) -> tuple[float, float]:
    low, high = (0.0, 0.0) if than is None else (than.min(), than.max())
    return float(ours.min() - high), float(ours.max() - low)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given.

    If all those below 0.05 are called significant, the probability of any error among them is at most 5 %, whatever the
    dependence between the tests.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6(2), 1979.
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.arange(len(order), 0, -1) * np.asarray(p_values, float)[order]
    return np.minimum(1, np.maximum.accumulate(raised))[np.argsort(order)].tolist()
