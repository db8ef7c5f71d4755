# /// script
# requires-python = ">=3.11"
# dependencies = ["norse==1.1.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark]
# neuron = { equation = "subtract", differs = "one product more per step" }
#
# [tool.benchmark.variants.bptt]
# whole = {}
# ///
"""norse: a Python loop over the steps of a `SequentialState` of Linear and `LIFBoxCell`, its neuron without a synaptic current.

Its modules over time are left out: they select each step by an index, whose backward pass writes an entire [T, B, N] per step,
and their neuron has a synapse.

Parity: the equations of slax except for H(0) = 0, one more product per step, and weights divided by 1 - decay. SuperSpike as
surrogate, its default.
"""

import norse.torch as norse
import torch

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, linears, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

DT = 1e-3
SCALE = 1 / (1 - DECAY)  # the divisor that its neuron applies to its input


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs())
    layers = linears(workload, SCALE)
    net = norse.SequentialState(*(part for linear in layers for part in (linear, lif().to(DEVICE))))

    def loss():
        state, spikes = None, []
        for x in inputs:
            x, state = net(x, state)
            spikes.append(x)
        return torch.stack(spikes).sum()

    return TorchStep.of(loss, [layer.weight for layer in layers])


def lif() -> torch.nn.Module:
    membrane = {"tau_mem_inv": torch.tensor((1 - DECAY) / DT), "v_th": torch.tensor(THRESHOLD)}
    return norse.LIFBoxCell(norse.LIFBoxParameters(**membrane, reset_method=norse.reset_subtract), dt=DT)


def spikes_of(variant: str, currents):
    neuron, state, spikes = lif(), None, []
    for current in torch.from_numpy(currents * SCALE):
        s, state = neuron(current, state)
        spikes.append(s)
    return torch.stack(spikes).detach()
