# /// script
# requires-python = ">=3.11"
# dependencies = ["norse==1.1.0", "torch==2.15.0", "numpy"]
#
# [tool.benchmark.variants.bptt]
# layers = {}
# whole = {}
# whole_1_thread = { OMP_NUM_THREADS = "1" }
#
# [tool.benchmark.neurons]
# whole = { equation = "subtract", differs = "one product more per step" }
# whole_1_thread = { equation = "subtract", differs = "one product more per step" }
# layers = { equation = "synapse_to_zero", differs = "a synapse; reset to zero" }
# ///
"""norse: `layers` runs each Linear, and then its `LIF`, on all steps together; `whole` steps a `SequentialState` of Linear
and `LIFBoxCell`, its neuron without a synaptic current, in a Python loop.

Its modules over time select each step by an index, whose backward pass writes an entire [T, B, N] per step: quadratic in T.

Parity: `whole` has the equations of slax except for H(0) = 0, one more product per step, and weights divided by 1 - decay.
`layers` filters the current first, i_t = 0.8 i_{t-1} + I_t, and resets to zero. SuperSpike as surrogate, its default.
"""

import norse.torch as norse
import torch

from benchmarks.side_by_side.torch_step import DEVICE, TorchStep, linears, tensor
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload

DT = 1e-3
SYNAPSE_LOSS = 0.2  # loss of its default synapse per step


def bptt(variant: str, workload: Workload) -> TorchStep:
    inputs = tensor(workload.inputs())
    layers = linears(workload, scale_of(variant))
    net = norse.SequentialState(*(part for linear in layers for part in (linear, neuron_of(variant).to(DEVICE))))

    def stepped():
        state, spikes = None, []
        for x in inputs:
            x, state = net(x, state)
            spikes.append(x)
        return torch.stack(spikes).sum()

    loss = (lambda: net(inputs)[0].sum()) if variant == "layers" else stepped
    return TorchStep.of(loss, [layer.weight for layer in layers])


def scale_of(variant: str) -> float:
    """The divisor that its neuron applies to its input."""
    return (SYNAPSE_LOSS if variant == "layers" else 1.0) / (1 - DECAY)


def neuron_of(variant: str) -> torch.nn.Module:
    membrane = {"tau_mem_inv": torch.tensor((1 - DECAY) / DT), "v_th": torch.tensor(THRESHOLD)}
    if variant == "layers":
        return norse.LIF(norse.LIFParameters(**membrane), dt=DT)
    return norse.LIFBoxCell(norse.LIFBoxParameters(**membrane, reset_method=norse.reset_subtract), dt=DT)


def spikes_of(variant: str, currents):
    neuron, state, spikes = neuron_of(variant), None, []
    currents = torch.from_numpy(currents * scale_of(variant))
    if variant == "layers":
        return neuron(currents)[0].detach()
    for current in currents:
        s, state = neuron(current, state)
        spikes.append(s)
    return torch.stack(spikes).detach()
