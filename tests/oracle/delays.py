"""Learned delays: an input that is read between two steps, and how the reading changes with the delay.

    x~_i(t) = sum over k >= 0 of kappa(k - d_i) x_i(t - k),  kappa(z) = max(0, 1 - |z|)

This is linear interpolation between the two steps around t - d_i. At the kinks of kappa, where k - d_i is 0, 1 or -1, its slope
is the one on the side where d_i becomes larger.
"""

import math

import numpy as np


def kappa(z):
    return np.maximum(0, 1 - np.abs(z))


def slope(z):
    """d kappa(k - d) / dd at z = k - d."""
    return np.where((z > 0) & (z <= 1), 1.0, 0.0) - np.where((z > -1) & (z <= 0), 1.0, 0.0)


def lags(delays) -> range:
    """The k at which kappa or its slope may differ from 0 for some delay."""
    return range(max(0, math.ceil(delays.min() - 1)), math.floor(delays.max() + 1) + 1)
