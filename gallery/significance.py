"""The difference of two numbers with its interval, what it says about a relation, and the correction for many looks.

A relation is true by some margin: `above` by the difference, `below` by its negative, `near` by what is left of the tolerance.
The mean of the samples estimates this margin, and Student's t distribution says how sure its sign is. `equal` is about every
sample and needs no test. Accuracies on a test set that seeds have in common also vary with its samples: the error of their mean
is that of `experiments.drawing.statistics`.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

from experiments.drawing.statistics import freedom_and_error
from gallery.tables import Number

LEVEL = 0.05  # a p-value below it is significant
# Samples are float32 numbers in seven digits: relative to the numbers compared, a smaller difference is rounding.
RESOLUTION = 1e-6
DECIMAL = 1e-12  # 0.3 and 0.2 are 0.1 apart, but not as binary numbers

Kind = Literal["exact", "one sample", "paired", "not paired"]


class Evidence(NamedTuple):
    """Two-sided p-values of a relation: `holds` is small if it is surely true, and `fails` if it is surely false."""

    holds: float
    fails: float


class Difference(NamedTuple):
    """Our number minus the other one.

    Attributes:
        kind: "exact", two numbers without samples; "one sample", samples against a number; "paired", differences of samples
            that belong together; "not paired", samples that do not belong together (Welch).
        mean: the difference of the means.
        counts: the number of samples: one entry, or one of each side where they are not paired.
        parts: the variance, with divisor n - 1, and the number of these samples, and then of the means of test samples that
            seeds have in common; empty without samples.
        ends: the smallest and the largest difference of two samples, of those that belong together if they are paired.
        size: the largest absolute number on either side.
        is_of_logarithms: it is the logarithm of a factor, ours over the other one, and so are the samples.
        is_constant: the samples do not vary, except for rounding, and neither do those of a test set.
    """

    kind: Kind
    mean: float
    counts: tuple[int, ...]
    parts: tuple[tuple[float, int], ...]
    ends: tuple[float, float]
    size: float
    is_of_logarithms: bool
    is_constant: bool

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval."""
        if self.is_constant:
            return self.mean, self.mean
        freedom, error = freedom_and_error(self.parts)
        low, high = student.interval(1 - LEVEL, freedom, self.mean, error)
        return float(low), float(high)

    def evidence(self, margin: float) -> Evidence:
        """How sure the sign of a margin is, which moves with the difference one to one."""
        freedom, error = freedom_and_error(self.parts)
        holds, fails = np.minimum(1, 2 * student.sf(np.array([1, -1]) * margin / error, freedom))
        return Evidence(float(holds), float(fails))


def difference(ours: Number, than: Number, *, fewest: int = 2) -> Difference | None:
    """The difference of two numbers; None if there are fewer samples than `fewest`, two for a test.

    Samples at the same place belong together if both numbers have the same setting; a pair of which one is missing is left out.
    Geometric means are compared by their logarithms.
    """
    is_paired, is_geometric = ours.is_paired_with(than), ours.is_geometric or than.is_geometric
    sides = [np.array(side.samples or side.value, float) for side in (ours, than)]  # a missing sample is NaN
    if is_geometric:
        sides = [np.log(side) for side in sides]
    lists = [side for side in sides if side.ndim]
    kinds: tuple[Kind, ...] = ("exact", "one sample", "paired" if is_paired else "not paired")
    kind = kinds[len(lists)]
    samples = lists if kind == "not paired" else [np.atleast_1d(sides[0] - sides[1])]
    samples = [numbers[~np.isnan(numbers)] for numbers in samples]
    if lists and min(map(len, samples)) < fewest:
        return None
    tests = [np.array(side.tests) for side in (ours, than)]
    if kind == "paired" and len(tests[0]) == len(tests[1]):
        tests = [tests[0] - tests[1]]
    of_tests = [_variance(numbers) for numbers in tests if len(numbers) > 1]
    means = [float(numbers.mean()) for numbers in samples]
    other = samples[1] if len(samples) > 1 else np.zeros(1)
    ends = float(samples[0].min() - other.max()), float(samples[0].max() - other.min())
    size = max(float(np.nanmax(np.abs(side))) for side in sides)
    return Difference(
        kind,
        means[0] - sum(means[1:]),
        tuple(map(len, samples)),
        tuple([*map(_variance, samples), *of_tests]) if lists else (),
        ends,
        size,
        is_geometric,
        ends[1] - ends[0] <= RESOLUTION * size and not any(variance > 0 for variance, _ in of_tests),
    )


def _variance(numbers: np.ndarray) -> tuple[float, int]:
    """The variance of the numbers, with divisor n - 1, and n."""
    return float(numbers.var(ddof=min(1, len(numbers) - 1))), len(numbers)
