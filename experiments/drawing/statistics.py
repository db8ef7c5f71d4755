"""Means over seeds with their intervals, and the error of a mean over seeds that share a test set, which is a sample too.

Let x_si be 1 if the network of seed s is right about test sample i. Its mean m over S seeds and I samples varies with both:

    error(m)^2 = s_seeds^2 / S + s_samples^2 / I

with the variances, of divisor n - 1, of the means of the seeds and of the means of the samples. A difference of two rules is
the same, with differences x_si - y_si. Where each seed has test samples of its own, they are a part of what varies between
seeds, and the second term is left out.

It is the error that a bootstrap over seeds and samples finds, without the draws: the variance of the bootstrap, which draws S
seeds and I samples with replacement, is

    (1 - 1/S) s_seeds^2 / S + (1 - 1/I) s_samples^2 / I + c^2 / (S I)

where c^2 is the mean square of what seed and sample do not explain together. We leave out the last term, as both others contain
it already, and use n - 1 and Student's t, since percentiles of a bootstrap are too narrow for a few seeds.

References:
    Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007, doi:10.1214/07-AOAS122.
    Satterthwaite, An approximate distribution of estimates of variance components, Biometrics Bulletin 2(6), 1946.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from slax_viz import mean_interval

Bounds = tuple[float, float]

# Bounds of numbers; a difference is one of two shares.
ANY, POSITIVE, SHARE = (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0)
COSINE = DIFFERENCE = (-1.0, 1.0)


def freedom_and_error(parts: Iterable[tuple[float, Any]]) -> tuple[Any, Any]:
    """The degrees of freedom (Welch and Satterthwaite) and the standard error of a sum of independent means.

    Args:
        parts: for each mean the variance of its numbers, with divisor n - 1, and their number n, which may be an array.
    """
    means = [(variance / count, count - 1) for variance, count in parts]
    total = sum(part for part, _ in means)
    rest = sum(part**2 / freedom for part, freedom in means)
    return np.square(total) / np.where(rest > 0, rest, 1), np.sqrt(total)


def seeds_and_tests(numbers: Any) -> tuple[Any, np.ndarray]:
    """One number for each seed, and the means of the test samples, if seeds have these in common.

    Args:
        numbers: one for each seed [S], None where it is missing, or a matrix by seed and test sample [S, I], with I = 1 if each
            seed has a test set of its own.
    """
    if np.ndim(numbers) < 2:
        return numbers, np.array([])
    matrix = np.asarray(numbers, float)
    return matrix.mean(axis=1).tolist(), matrix.mean(axis=0) if matrix.shape[1] > 1 else np.array([])


def interval(numbers: Any, bounds: Bounds) -> tuple[float | None, float | None, float | None]:
    """The mean, and the low and high ends of its 95 % interval, without the numbers that are missing (None); None where there
    are too few numbers.

    Where seeds have a test set in common, the interval contains what other test samples would change (above).

    Args:
        numbers: see `seeds_and_tests`.
        bounds: bounds of each number.
    """
    of_seeds, tests = seeds_and_tests(numbers)
    known = [number for number in of_seeds if number is not None]
    if len(known) < 2:
        return (known[0] if known else None), None, None
    if len(tests):
        freedom, error = freedom_and_error([(float(np.var(of, ddof=1)), len(of)) for of in (known, tests)])
        mean, half = float(np.mean(known)), float(stdtrit(freedom, 0.975) * error) if error > 0 else 0.0
        return mean, max(bounds[0], mean - half), min(bounds[1], mean + half)
    mean, low, high = (float(number) for number in mean_interval(known, bounds=bounds))
    return mean, low, high


def further(numbers: Sequence[float | None], bounds: Bounds, runs: int = 1) -> tuple[float | None, float | None]:
    """The ends of the interval in which the mean of further runs would be with 95 % probability, cut at the bounds; None where
    there are too few numbers.

    With n numbers of standard deviation s, it extends t(n - 1) s sqrt(1 / n + 1 / runs) to both sides of their mean.
    """
    mean, low, high = interval(numbers, ANY)
    if mean is None or low is None or high is None:
        return None, None
    half = (high - low) / 2 * math.sqrt(1 + count(numbers) / runs)
    return max(bounds[0], mean - half), min(bounds[1], mean + half)


def ratio_interval(numbers: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The geometric mean of ratios of times, and the ends of its 95 % interval, which is that of their logarithms.

    A mean of ratios a / b is above 1 even if a and b are times of the same program, since noise makes it so, and so is the mean
    of b / a. The geometric mean of one is the inverse of the other.
    """
    mean, low, high = (None if end is None else math.exp(end) for end in interval([*map(math.log, numbers)], ANY))
    return mean, low, high


def count(numbers: Iterable[float | None]) -> int:
    """How many of the numbers are not missing."""
    return sum(number is not None for number in numbers)
