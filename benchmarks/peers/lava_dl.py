# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["lava-dl==0.6.0", "torch==2.3.1", "numpy<2", "setuptools<80"]
#
# [tool.benchmark.variants.bptt]
# default = {}
#
# [tool.benchmark.neurons]
# all = { equation = "fixed_point_to_zero", differs = "whole numbers; reset to zero, which no gradient passes" }
# ///
"""lava-dl: its `cuba` neuron with a memoryless synapse, on [B, N, T], after a Linear on all steps together.

Its kernels are for CUDA; on a CPU it runs a loop over the steps in Python. The surrogate is its default.
"""

import lava.lib.dl.slayer as slayer
import torch

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, linears, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs())
    layers = [(linear, cuba().to(DEVICE)) for linear in linears(workload)]

    def loss():
        x = inputs
        for linear, neuron in layers:
            x = neuron(linear(x).permute(1, 2, 0)).permute(2, 0, 1)
        return x.sum()

    return TorchStep.of(loss, [linear.weight for linear, _ in layers])


def cuba() -> torch.nn.Module:
    return slayer.neuron.cuba.Neuron(threshold=THRESHOLD, current_decay=1.0, voltage_decay=1 - DECAY)


def spikes_of(variant: str, currents):
    return cuba()(torch.from_numpy(currents).permute(1, 2, 0)).detach().permute(2, 0, 1)
