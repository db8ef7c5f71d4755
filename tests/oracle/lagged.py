"""Delays, one per input and group, in plain loops: x~_gi(t) = sum_k kappa(k - d_gi) x_i(t - k), k = 0..D."""

import numpy as np


def kappa(k, d, longest, width=None):
    """The weight of the input k steps ago for a delay d in [0, longest]."""
    if width is None:
        return max(0.0, 1 - abs(k - d))
    return np.exp(-((k - d) ** 2) / (2 * width**2)) / sum(
        np.exp(-((j - d) ** 2) / (2 * width**2)) for j in range(longest + 1)
    )


def slope(k, d, longest, width=None):
    """d kappa / d d; at a whole number that toward longer delays, except at the longest."""
    if width is None:
        n = min(int(np.floor(d)), longest - 1)
        return {n: -1.0, n + 1: 1.0}.get(k, 0.0)
    weights = [kappa(j, d, longest, width) for j in range(longest + 1)]
    mean = sum(j * weight for j, weight in enumerate(weights))
    return weights[k] * (k - mean) / width**2


def delayed(x, d, longest, width=None, weight=kappa):
    """Outputs [T, B, G I] for inputs [T, B, I] and delays [G, I]; with `weight=slope`, their derivatives by the delays."""
    outputs = np.zeros((*x.shape[:2], *d.shape))
    for t in range(len(x)):
        for g, i in np.ndindex(d.shape):
            for k in range(min(t, longest) + 1):
                outputs[t, :, g, i] += weight(k, d[g, i], longest, width) * x[t - k, :, i]
    return outputs.reshape(*x.shape[:2], -1)
