"""Delays, one per input and group, in plain loops; and a layer behind them as a layer of lagged inputs.

x~_gi(t) = sum_k kappa(k - d_gi) x_i(t - k), k = 0..D. A kernel W [G I, N] behind it is, for the lags k together, the kernel

    sum_g kappa(k - d_gi) W_gin

from x_i(t - k) to unit n. So the gradients of a network of lagged inputs, or of edges with delays k, are those of the network
with delays by the chain rule: `pull_back`.
"""

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


def lagged(x, longest):
    """[T, B, (D + 1) I]: the inputs of the step, of the step before, ..., 0 before the first step."""
    before = np.zeros((longest, *x.shape[1:]))
    series = np.concatenate([before, x])
    return np.concatenate([series[longest - k : longest - k + len(x)] for k in range(longest + 1)], axis=-1)


def lagged_kernels(kernel, d, longest, width=None, weight=kappa):
    """[D + 1, I, N] from W [G I, N]."""
    blocks = kernel.reshape(*d.shape, -1)
    weights = np.array([[[weight(k, d_gi, longest, width) for d_gi in row] for row in d] for k in range(longest + 1)])
    return np.einsum("kgi,gin->kin", weights, blocks)


def pull_back(gradient, kernel, d, longest, width=None):
    """The gradients of W [G I, N] and of d [G, I] from that of the lagged kernels [D + 1, I, N]."""
    blocks = kernel.reshape(*d.shape, -1)
    by_kernel, by_delay = np.zeros_like(blocks), np.zeros(d.shape)
    for g, i in np.ndindex(d.shape):
        for k in range(longest + 1):
            by_kernel[g, i] += kappa(k, d[g, i], longest, width) * gradient[k, i]
            by_delay[g, i] += slope(k, d[g, i], longest, width) * (gradient[k, i] @ blocks[g, i])
    return by_kernel.reshape(kernel.shape), by_delay
