"""The statistics of numbers from several seeds: Student's interval of a mean, and tests of paired differences."""

from collections.abc import Sequence

import numpy as np

ROUNDING = 1e-6  # of float32, relative to the largest number


def interval(numbers: np.ndarray) -> dict[str, float]:
    """The "mean" of numbers x_1, ..., x_n, and "low" and "high", the limits of Student's 95 % confidence interval for it.

        mean ± t s / sqrt(n),    s^2 = sum_i (x_i - mean)^2 / (n - 1)

    where t is the quantile of Student's distribution with n - 1 degrees of freedom. The limits are NaN for a single number.

    Example:
        >>> import numpy as np
        >>> from slax_rules.train.intervals import interval
        >>> {name: round(number, 3) for name, number in interval(np.array([0.8, 0.9, 1.0])).items()}
        {'mean': 0.9, 'low': 0.652, 'high': 1.148}
    """
    from scipy.special import stdtrit  # here, since it takes a tenth of a second to import, and training does without

    mean, count = float(np.mean(numbers)), len(numbers)
    half = float(stdtrit(count - 1, 0.975) * _error(numbers))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The two-sided p-value of the paired t test that numbers x_i and y_i have the same mean.

        2 P(T > |d| sqrt(n) / s),    d_i = x_i - y_i,    d = mean of d_i,    s^2 = sum_i (d_i - d)^2 / (n - 1)

    where T has Student's distribution with n - 1 degrees of freedom. It is NaN for a single pair, and for differences that are
    all equal but for rounding, since their standard deviation says nothing about the error of their mean.

    Example:
        >>> import numpy as np
        >>> from slax_rules.train.intervals import p_value
        >>> round(p_value(np.array([0.8, 0.9, 0.9]), np.array([0.7, 0.7, 0.6])), 3)
        0.074
    """
    from scipy.special import stdtr

    found, size = ours - theirs, np.max(np.abs([ours, theirs]))
    if len(found) < 2 or not np.ptp(found) > ROUNDING * size:
        return np.nan
    return float(2 * stdtr(len(found) - 1, -abs(np.mean(found)) / _error(found)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values q, in the order given; NaN stays NaN, and counts as a test.

        q_k = min(1, max_{j <= k} (m - j + 1) p_j)

    where p_1 <= ... <= p_m are the m values in increasing order. If all tests with q < 0.05 are called significant, the
    probability of any error among them is at most 5 %, whatever the dependence between the tests.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6(2), 1979.

    Example:
        >>> from slax_rules.train.intervals import holm
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")  # NaN last
    raised = np.arange(len(order), 0, -1) * np.asarray(p_values, float)[order]
    return np.minimum(1, np.maximum.accumulate(raised))[np.argsort(order)].tolist()


def _error(numbers: np.ndarray) -> float:
    """The standard error of a mean; NaN for a single number."""
    return float(np.std(numbers, ddof=1) / np.sqrt(len(numbers))) if len(numbers) > 1 else np.nan
