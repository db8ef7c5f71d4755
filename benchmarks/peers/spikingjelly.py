# /// script
# requires-python = ">=3.11"
# dependencies = ["spikingjelly==2.0.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark]
# neuron = { equation = "subtract", differs = "nothing but H(0) and the surrogate" }
# dtypes.bptt = ["float32", "bfloat16"]
#
# [tool.benchmark.variants.bptt]
# default = {}
#
# [tool.benchmark.variants.rules]
# ottt_1_thread = { OMP_NUM_THREADS = "1" }
# ///
"""SpikingJelly: its multi-step mode, and its rule OTTT.

`bptt` is `step_mode="m"`: each layer on all steps together. Its fused kernels are for CUDA; on a CPU it runs its PyTorch code.

`rules` is `ottt_online_training(online=False)` over an `OTTTSequential` of `Linear` and `OTTTLIFNode`, a Python loop with a
backward pass at every step, on one thread, the fastest. Its first layer learns from the input itself, not from a trace of it.
An optimizer is part of the call; its learning rate is 0, so that the weights stay fixed.

Parity: the equations of slax (`decay_input=False`, `v_reset=None`). In `bptt` the surrogate is sigmoid, its default. In `rules`
it is `SoftSign(25)`, whose derivative is 12.5 times that in slax, and no gradient passes the reset.
"""

from collections.abc import Callable
from functools import partial

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.learning.online_learning import ottt_online_training

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

NEURON = {"tau": 1 / (1 - DECAY), "decay_input": False, "v_threshold": THRESHOLD, "v_reset": None}


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs(), workload.dtype)
    linear = partial(layer.Linear, step_mode="m")
    net = torch.nn.Sequential(*layers_of(workload, linear, lif)).to(DEVICE)

    def loss():
        functional.reset_net(net)
        return net(inputs).sum()

    return TorchStep.of(loss, net.parameters())


def rules(variant: str, workload: Workload) -> TorchStep:
    new_neuron = partial(neuron.OTTTLIFNode, **NEURON, surrogate_function=surrogate.SoftSign(25.0))
    net = layer.OTTTSequential(*layers_of(workload, torch.nn.Linear, new_neuron)).to(DEVICE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    inputs = tensor(workload.inputs()).transpose(0, 1)
    labels = tensor(workload.labels(), "int64")[:, None].expand(-1, workload.steps)

    def loss(outputs, labels):
        return torch.nn.functional.cross_entropy(outputs, labels) / workload.steps

    def run():
        functional.reset_net(net)
        return ottt_online_training(net, optimizer, inputs, labels, loss, online=False)[0]

    return TorchStep(run, net.parameters())


def layers_of(
    workload: Workload, new_linear: Callable[..., torch.nn.Linear], new_neuron: Callable[[], torch.nn.Module]
) -> list[torch.nn.Module]:
    """Linear and neuron of each layer, in order."""
    layers = []
    for weight in workload.weights():
        linear = new_linear(*weight.shape, bias=False)
        linear.weight.data = tensor(weight.T.copy(), workload.dtype)
        layers += [linear, new_neuron()]
    return layers


def lif() -> neuron.LIFNode:
    return neuron.LIFNode(**NEURON, step_mode="m")


def spikes_of(variant: str, currents):
    return lif()(torch.from_numpy(currents)).detach()
