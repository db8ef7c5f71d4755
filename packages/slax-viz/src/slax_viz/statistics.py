"""Confidence intervals for quantities that vary from seed to seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float


class Interval(NamedTuple):
    """A mean and the ends of its interval, in the units of the samples.

    Example:
        >>> import numpy as np
        >>> from slax_viz import mean_interval
        >>> cosines = np.array([[0.8, 0.5], [0.9, 0.6], [0.7, 0.7]])  # of 3 seeds and 2 layers
        >>> mean, low, high = mean_interval(cosines, bounds=(-1.0, 1.0))
        >>> mean.round(3).tolist(), low.round(2).tolist(), high.round(2).tolist()
        ([0.8, 0.6], [0.55, 0.35], [1.0, 0.85])
    """

    mean: Float[np.ndarray, "..."]
    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


def mean_interval(
    samples: np.ndarray | Array | Sequence, *, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Student's t interval for the mean of independent samples, for example of one number per seed.

        mean +- t_{n-1} s / sqrt(n)

    where n is the number of samples, s their standard deviation with divisor n - 1, and t(n - 1) the quantile of
    Student's distribution with n - 1 degrees of freedom at 0.975. In repeated experiments with normal samples
    the interval contains the true mean with probability 95 %. An end outside `bounds` is clipped: the mean
    cannot lie there, so clipping does not change how often the interval contains it.

    Args:
        samples: [n, ...], n >= 2 along the first axis; each position of the other axes gets its own interval.
        bounds: bounds of each sample, such as (-1, 1) for cosines.

    Returns:
        Float64 arrays of shape [...].

    References:
        Student, The probable error of a mean, Biometrika 6(1), 1908, doi:10.1093/biomet/6.1.1.

    Example:
        >>> from slax_viz import mean_interval
        >>> interval = mean_interval([0.7, 0.8, 0.9], bounds=(-1.0, 1.0))  # of 3 seeds
        >>> [round(float(number), 3) for number in interval]
        [0.8, 0.552, 1.0]
    """
    from scipy.special import stdtrit  # here, since it takes a tenth of a second to import, and figures do without

    values = np.asarray(samples, dtype=np.float64)
    if values.ndim == 0 or len(values) < 2:
        raise ValueError(f"Got samples {values.shape}, expected at least 2, along the first axis. Run more seeds.")
    within = np.isfinite(values) & (values >= bounds[0]) & (values <= bounds[1])
    if not within.all():
        others = np.argwhere(~within)
        which = f"{len(others)} samples that are not finite or not in {bounds}, the first at index {others[0].tolist()}"
        raise ValueError(f"Got {which}, expected none. Leave out only what is known to be undefined.")
    n, mean = len(values), np.asarray(values.mean(axis=0))
    half_width = stdtrit(n - 1, 0.975) * values.std(axis=0, ddof=1) / np.sqrt(n)
    low, high = np.clip(mean - half_width, *bounds), np.clip(mean + half_width, *bounds)
    return Interval(mean, np.asarray(low), np.asarray(high))
