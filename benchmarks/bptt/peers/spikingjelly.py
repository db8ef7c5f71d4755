# /// script
# requires-python = ">=3.11"
# dependencies = ["spikingjelly==2.0.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark]
# dtypes = ["float32", "bfloat16"]
#
# [tool.benchmark.variants]
# default = {}
# 1_thread = { OMP_NUM_THREADS = "1" }
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "nothing but H(0) and the surrogate" }
# ///
"""SpikingJelly in its multi-step mode, `step_mode="m"`: each layer on all steps together.

Its fused kernels are for CUDA; on a CPU it runs its PyTorch code.

Parity: the equations of slax (`decay_input=False`, `v_reset=None`); sigmoid as surrogate, its default.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch_step import DEVICE, TorchStep, tensor
from workload import DECAY, THRESHOLD, Workload


def build(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.spikes(), workload.dtype)
    layers = []
    for weight in workload.weights():
        linear = layer.Linear(*weight.shape, bias=False, step_mode="m")
        linear.weight.data = tensor(weight.T.copy(), workload.dtype)
        layers += [linear, lif()]
    net = torch.nn.Sequential(*layers).to(DEVICE)

    def loss():
        functional.reset_net(net)
        return net(inputs).sum()

    return TorchStep.of(loss, net.parameters())


def lif() -> neuron.LIFNode:
    tau = 1 / (1 - DECAY)
    return neuron.LIFNode(tau, decay_input=False, v_threshold=THRESHOLD, v_reset=None, step_mode="m")


def spikes_of(variant: str, currents):
    return lif()(torch.from_numpy(currents)).detach()
