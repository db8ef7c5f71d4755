"""Spike functions: the step that a membrane takes at its threshold, and the surrogate that counts as its derivative."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class SpikeFunction(NamedTuple):
    """A spike as a function of x = v - threshold, and what counts as its derivative."""

    value: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]

    def __call__(self, x):
        """The spike. An imaginary part of x, by which `neurons` finds derivatives, passes as the derivative says."""
        return self.value(x) if np.isrealobj(x) else self.value(x.real) + 1j * self.derivative(x.real) * x.imag


def heaviside(x):
    return (x >= 0).astype(np.float64)


def fast_sigmoid(slope=25.0) -> SpikeFunction:
    return SpikeFunction(heaviside, lambda x: 1 / (slope * np.abs(x) + 1) ** 2)


def arctan(alpha=2.0) -> SpikeFunction:
    return SpikeFunction(heaviside, lambda x: alpha / 2 / (1 + (np.pi * alpha * x / 2) ** 2))
