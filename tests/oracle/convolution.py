"""Convolutions as matrices: which number of a kernel joins which input to which output."""

import functools
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Convolution:
    """The geometry of a convolution over any number of space axes; arrays have their channels last.

    An output at place q of channel o is the sum over offsets k in the window of input[q stride + k - before] kernel[k],
    over the channels of o's group. With SAME there are ceil(inputs / stride) outputs per axis, and of the zeros that this
    needs, half, rounded down, are `before`. With VALID there are none.
    """

    features_in: tuple[int, ...]  # [*space, channels]
    strides: tuple[int, ...]  # one per space axis
    padding: str = "SAME"  # or "VALID"
    groups: int = 1

    def features(self, kernel_shape) -> tuple[int, ...]:
        """[*space, channels] of the output."""
        return (*(n for n, _ in self._space(kernel_shape)), kernel_shape[-1])

    def entries(self, kernel_shape) -> np.ndarray:
        """[I, N], see `Edge.entries`; inputs and outputs are numbered in the order of their flattened arrays."""
        return _entries(self, tuple(kernel_shape))

    def _space(self, kernel_shape) -> list[tuple[int, int]]:
        """Per space axis, the number of outputs and that of zeros before the first input."""
        result = []
        for n, window, stride in zip(self.features_in[:-1], kernel_shape[:-2], self.strides, strict=True):
            if self.padding == "VALID":
                result.append(((n - window) // stride + 1, 0))
            else:
                outputs = math.ceil(n / stride)
                result.append((outputs, max((outputs - 1) * stride + window - n, 0) // 2))
        return result


@functools.cache
def _entries(geometry, kernel_shape):
    *window, per_group, channels_out = kernel_shape
    features_out = geometry.features(kernel_shape)
    before = [zeros for _, zeros in geometry._space(kernel_shape)]
    numbers_in = np.arange(math.prod(geometry.features_in)).reshape(geometry.features_in)
    numbers_out = np.arange(math.prod(features_out)).reshape(features_out)
    numbers = np.arange(math.prod(kernel_shape)).reshape(kernel_shape)
    result = np.full((numbers_in.size, numbers_out.size), -1)
    for *q, o in np.ndindex(features_out):
        group = o // (channels_out // geometry.groups)
        for *k, c in np.ndindex(*window, per_group):
            place = [q[a] * geometry.strides[a] + k[a] - before[a] for a in range(len(q))]
            if all(0 <= p < n for p, n in zip(place, geometry.features_in[:-1], strict=True)):
                result[numbers_in[*place, group * per_group + c], numbers_out[*q, o]] = numbers[*k, c, o]
    return result
