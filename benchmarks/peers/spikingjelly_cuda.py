# /// script
# requires-python = ">=3.11"
# dependencies = ["spikingjelly==2.0.0", "torch==2.15.0", "cupy-cuda13x==14.2.0", "numpy"]
#
# [tool.benchmark]
# cuda = true
#
# [tool.benchmark.variants.bptt]
# cupy = {}
# triton = {}
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "nothing but H(0) and the surrogate" }
# ///
"""SpikingJelly in its multi-step mode with its fused kernels, `backend="cupy"` or `"triton"`, which are for CUDA.

Parity: the equations of slax (`decay_input=False`, `v_reset=None`); sigmoid as surrogate, its default.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs())
    layers = []
    for weight in workload.weights():
        linear = layer.Linear(*weight.shape, bias=False, step_mode="m")
        linear.weight.data = tensor(weight.T.copy())
        layers += [linear, lif(variant)]
    net = torch.nn.Sequential(*layers).to(DEVICE)

    def loss():
        functional.reset_net(net)
        return net(inputs).sum()

    return TorchStep.of(loss, net.parameters())


def lif(backend: str) -> neuron.LIFNode:
    options = {"decay_input": False, "v_threshold": THRESHOLD, "v_reset": None, "step_mode": "m", "backend": backend}
    return neuron.LIFNode(1 / (1 - DECAY), **options)


def spikes_of(variant: str, currents):
    return lif(variant).to(DEVICE)(tensor(currents)).detach().cpu()
