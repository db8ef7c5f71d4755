# /// script
# requires-python = ">=3.11"
# dependencies = ["spikingjelly==2.0.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark.variants]
# default = {}
# 1_thread = { OMP_NUM_THREADS = "1" }
# ///
"""SpikingJelly in its multi-step mode, `step_mode="m"`: each layer on all steps at once.

Its fused kernels are for CUDA; on a CPU it runs its PyTorch code.

Parity: the equations of slax (`decay_input=False`, `v_reset=None`); sigmoid as surrogate, its default.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch_step import TorchStep
from workload import DECAY, THRESHOLD, Workload


def build(variant: str, workload: Workload) -> TorchStep:
    inputs = torch.from_numpy(workload.spikes())
    tau = 1 / (1 - DECAY)
    layers = []
    for weight in workload.weights():
        linear = layer.Linear(*weight.shape, bias=False, step_mode="m")
        linear.weight.data = torch.from_numpy(weight.T.copy())
        layers += [linear, neuron.LIFNode(tau, decay_input=False, v_threshold=THRESHOLD, v_reset=None, step_mode="m")]
    net = torch.nn.Sequential(*layers)

    def loss():
        functional.reset_net(net)
        return net(inputs).sum()

    return TorchStep.of(loss, net.parameters())
