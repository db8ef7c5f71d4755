# /// script
# requires-python = ">=3.11"
# dependencies = ["sinabs==3.1.3", "torch==2.15.0", "numpy"]
#
# [tool.benchmark.variants.bptt]
# default = {}
# 1_thread = { OMP_NUM_THREADS = "1" }
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "nothing but the surrogate" }
# ///
"""sinabs: its `LIF` on [B, T, N], which loops over the steps in Python, after a Linear on all steps together.

With `norm_input=False` and at most one spike per step, where the default is unlimited, it has the equations of slax.
The surrogate is its default, a single exponential.
"""

import math

import sinabs.layers
import torch
from sinabs.activation import SingleSpike

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, linears, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs().swapaxes(0, 1).copy())
    layers = [(linear, lif().to(DEVICE)) for linear in linears(workload)]

    def loss():
        x = inputs
        for linear, neuron in layers:
            neuron.reset_states()
            x = neuron(linear(x))
        return x.sum()

    return TorchStep.of(loss, [linear.weight for linear, _ in layers])


def lif() -> sinabs.layers.LIF:
    threshold = torch.tensor(THRESHOLD)
    return sinabs.layers.LIF(-1 / math.log(DECAY), spike_threshold=threshold, spike_fn=SingleSpike, norm_input=False)


def spikes_of(variant: str, currents):
    return lif()(torch.from_numpy(currents).swapaxes(0, 1)).detach().swapaxes(0, 1)
