"""The error of a mean over seeds that share a test set, which is a sample too.

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

from collections.abc import Iterable
from typing import Any

import numpy as np


def freedom_and_error(parts: Iterable[tuple[float, Any]]) -> tuple[Any, Any]:
    """The degrees of freedom (Welch and Satterthwaite) and the standard error of a sum of independent means.

    Args:
        parts: for each mean the variance of its numbers, with divisor n - 1, and their number n, which may be an array.
    """
    means = [(variance / count, count - 1) for variance, count in parts]
    total = sum(part for part, _ in means)
    rest = sum(part**2 / freedom for part, freedom in means)
    return np.square(total) / np.where(rest > 0, rest, 1), np.sqrt(total)
