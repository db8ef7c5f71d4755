"""The workload of every contender: a batch of inputs through a stack of (Linear, LIF), and the gradient of the weights.

All contenders get the same inputs, the same weights, the same decay, and, where the loss reads them, the same labels, so
contenders with the same neuron report the same loss.
"""

import itertools
from typing import NamedTuple

import numpy as np

DECAY = 0.8807970779778823  # decay of the membrane per step: sigmoid(2), the default of slax
THRESHOLD = 1.0
INPUT_RATE = 0.2
GAIN = 2.0  # makes every layer fire about as often as its input


class Workload(NamedTuple):
    """Steps T, batch B, the widths of the input and of each layer, and the type of all numbers, "float32" or "bfloat16".

    `source` is what the input consists of: "spikes", zeros and ones, or "gaussian", standard normal numbers, which the script
    of slax feeds (perf_tests of its repository, commit 04f130e).
    """

    steps: int
    batch: int
    widths: tuple[int, ...]
    dtype: str = "float32"
    source: str = "spikes"

    def inputs(self) -> np.ndarray:
        """The input, [T, B, N]."""
        rng, shape = np.random.default_rng(0), (self.steps, self.batch, self.widths[0])
        if self.source == "gaussian":
            return rng.standard_normal(shape, np.float32)
        drawn = rng.random(shape, np.float32)
        return np.less(drawn, INPUT_RATE, out=drawn)

    def weights(self) -> list[np.ndarray]:
        """One matrix [inputs, outputs] per layer."""
        rng = np.random.default_rng(1)
        return [
            (GAIN * rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
            for shape in itertools.pairwise(self.widths)
        ]

    def labels(self) -> np.ndarray:
        """The class of each sample, one of the units of the last layer, [B]."""
        return np.random.default_rng(2).integers(0, self.widths[-1], self.batch, np.int32)


def uniform(steps: int, size: int, batch: int = 32, dtype: str = "float32", source: str = "spikes") -> Workload:
    """Three layers of N units, with N inputs."""
    return Workload(steps, batch, (size,) * 4, dtype, source)
