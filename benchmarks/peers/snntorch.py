# /// script
# requires-python = ">=3.11"
# dependencies = ["snntorch==1.0.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark]
# neuron = { equation = "late_reset", differs = "the reset acts a step later, and no gradient passes it" }
#
# [tool.benchmark.variants.bptt]
# layers = {}
# ///
"""snntorch: a Python loop over the steps of a layer at a time. Over all layers, as in its documentation, it was not faster.

Parity: r_t = H(u_{t-1} - 1), u_t = beta u_{t-1} + I_t - r_t, s_t = H(u_t - 1), H(0) = 0: the reset comes a step later than
in slax, and no gradient passes it. The surrogate is its default, arctan. Its spikes are float32 whatever the dtype of the
currents, so the next layer cannot use half precision.
"""

import snntorch
import torch

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, linears, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs())
    layers = [(linear, leaky().to(DEVICE)) for linear in linears(workload)]

    def loss():
        x = inputs
        for linear, neuron in layers:
            membrane = neuron.reset_mem()
            spikes = []
            for current in linear(x):
                s, membrane = neuron(current, membrane)
                spikes.append(s)
            x = torch.stack(spikes)
        return x.sum()

    return TorchStep.of(loss, [linear.weight for linear, _ in layers])


def leaky() -> snntorch.Leaky:
    return snntorch.Leaky(beta=DECAY, threshold=THRESHOLD)


def spikes_of(variant: str, currents):
    neuron, spikes = leaky(), []
    membrane = neuron.reset_mem()
    for current in torch.from_numpy(currents):
        s, membrane = neuron(current, membrane)
        spikes.append(s)
    return torch.stack(spikes).detach()
