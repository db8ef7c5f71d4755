# /// script
# requires-python = ">=3.11"
# dependencies = ["spikingjelly==2.0.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark.variants]
# ottt = {}
# ottt_1_thread = { OMP_NUM_THREADS = "1" }
# sltt = {}
# sltt_1_thread = { OMP_NUM_THREADS = "1" }
# ///
"""SpikingJelly: `ottt_online_training(online=False)` over an `OTTTSequential` of `Linear` and `OTTTLIFNode`, and over a
`Sequential` of `Linear` and `SLTTLIFNode`, a Python loop with a backward pass at every step.

Its first layer learns from the input itself, not from a trace of it. An optimizer is part of the call; its learning rate is 0,
so that the weights stay fixed.

Parity: the equations of slax (`decay_input=False`, `v_reset=None`), except for the surrogate, `SoftSign(25)`, whose derivative
is 12.5 times that in slax; no gradient passes the reset.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.learning.online_learning import ottt_online_training
from torch_step import DEVICE, TorchStep, tensor
from workload import DECAY, THRESHOLD, Workload


def build(variant: str, workload: Workload) -> TorchStep:
    kind = neuron.OTTTLIFNode if variant.startswith("ottt") else neuron.SLTTLIFNode
    modules = []
    for weight in workload.weights():
        linear = torch.nn.Linear(*weight.shape, bias=False)
        linear.weight.data = tensor(weight.T.copy())
        lif = kind(
            1 / (1 - DECAY),
            decay_input=False,
            v_threshold=THRESHOLD,
            v_reset=None,
            surrogate_function=surrogate.SoftSign(25.0),
        )
        modules += [linear, lif]
    net = (layer.OTTTSequential if variant.startswith("ottt") else torch.nn.Sequential)(*modules).to(DEVICE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    inputs = tensor(workload.spikes()).transpose(0, 1)
    labels = tensor(workload.labels(), "int64")[:, None].expand(-1, workload.steps)

    def loss(outputs, labels):
        return torch.nn.functional.cross_entropy(outputs, labels) / workload.steps

    def run():
        functional.reset_net(net)
        return ottt_online_training(net, optimizer, inputs, labels, loss, online=False)[0]

    return TorchStep(run, net.parameters())
