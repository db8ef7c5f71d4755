# /// script
# requires-python = ">=3.11"
# dependencies = ["rockpool==3.1.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark.variants.bptt]
# default = {}
# 1_thread = { OMP_NUM_THREADS = "1" }
#
# [tool.benchmark.neurons]
# all = { equation = "synapse_subtract", differs = "a synapse, which decays before it acts" }
# ///
"""Rockpool on PyTorch: its `LIFTorch` on [B, T, N], which loops over the steps in Python, after a Linear on all steps together.

Its synapse cannot be omitted; weights are scaled so that a spike brings as much total current as ours. It has at most one spike
per step, whereas by default the number is unlimited, and its default surrogate, which is piecewise linear.
"""

import math

import torch
from rockpool.nn.modules import LIFTorch

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, linears, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

SYNAPSE_DECAY = 0.8
SCALE = (1 - SYNAPSE_DECAY) / SYNAPSE_DECAY
DT = 1e-3


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs().swapaxes(0, 1).copy())
    layers = [(linear, lif(linear.out_features).to(DEVICE)) for linear in linears(workload, SCALE)]

    def loss():
        x = inputs
        for linear, neuron in layers:
            neuron.reset_state()
            x = neuron(linear(x))[0]
        return x.sum()

    return TorchStep.of(loss, [linear.weight for linear, _ in layers])


def lif(size: int) -> LIFTorch:
    times = {"tau_mem": -DT / math.log(DECAY), "tau_syn": -DT / math.log(SYNAPSE_DECAY)}
    return LIFTorch(size, **times, threshold=THRESHOLD, bias=0.0, max_spikes_per_dt=torch.tensor(1.0), dt=DT)


def spikes_of(variant: str, currents):
    return lif(currents.shape[2])(torch.from_numpy(currents * SCALE).swapaxes(0, 1))[0].detach().swapaxes(0, 1)
