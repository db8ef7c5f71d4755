"""Parts of local rules: eligibilities, traces of inputs, and their sums over time.

A kernel has one trace per entry of its matrix and sample, [I, B, N, S], and so have the delays of a connection, of the
derivatives of its inputs by the delays; all other parameters have one per neuron and sample, [B, N, S]. The axis of inputs
comes first so that what a neuron does to them, [B, N, ...], multiplies both alike.
"""

from typing import Any, NamedTuple

import numpy as np


def zero_traces(layer, batch):
    shape = (batch, layer.size, layer.neuron.n_states)
    per_input = {name: len(layer.entries(name)) for name in layer.parameters() if name.endswith(("kernel", "delays"))}
    return {name: np.zeros((per_input[name], *shape) if name in per_input else shape) for name in layer.parameters()}


def currents(layer, step):
    """The derivatives of the current by the kernels, [I, B, 1], and by the biases, [1, 1].

    Those by the delays are without the kernel, which `contracted` brings in: the derivatives of what arrives, [I, B, 1].
    """
    result = {}
    for prefix, edge in layer.connections(0).items():
        result[f"{prefix}kernel"] = step.inputs[prefix].T[:, :, None]
        if edge.bias is not None:
            result[f"{prefix}bias"] = np.ones((1, 1))
        if edge.delays is not None:
            result[f"{prefix}delays"] = step.slopes[prefix].T[:, :, None]
    return result


def contracted(layer, name, per_place):
    """The gradient of a parameter from that of each place, [I, N] or [N]: of delays, sum over N with the present kernel."""
    if name.endswith("delays"):
        kernel = layer.connections(0)[name.removesuffix("delays")].matrix()
        per_place = (per_place * kernel).sum(axis=1)
    return layer.shared(name, per_place)


def direct_terms(layer, step):
    """Per parameter, what the states [..., B, N, S] and the output [..., B, N] owe to it within this step."""
    synapses = {name: (di[..., None] * step.d, di * step.psi) for name, di in currents(layer, step).items()}
    return synapses | {name: (step.dh[name], step.ds[name]) for name in layer.neuron_parameters}


def eligibilities(layer, trace, step):
    """eps = o E + psi x of this step, from the OLD trace, and the new trace E' = D E + d x."""
    eps, new_trace = {}, {}
    for name, (dh, ds) in direct_terms(layer, step).items():
        eps[name] = (step.o * trace[name]).sum(axis=-1) + ds
        new_trace[name] = (step.D @ trace[name][..., None])[..., 0] + dh
    return eps, new_trace


class Integrated(NamedTuple):
    """The derivatives of the states before firing, where nothing passes through spikes, and what parameters of firing add."""

    states: dict[str, np.ndarray]  # [..., B, N, S]
    outputs: dict[str, np.ndarray]  # [..., B, N]; 0 where a parameter acts through the states alone


def integrate(layer, trace, step, bias_trace):
    """The trace before firing, a' = A f + b x, that after it, f' = F a', and ds/dm, which a' is read with.

    A parameter of firing, as the threshold, adds to f' what it does at given spikes: one that a reset takes, -s.
    """
    halves = step.neuron.halves(step.previous, step.current)
    direct = {name: di[..., None] * halves.b for name, di in currents(layer, step).items()} | halves.dm
    states, carried, outputs = {}, {}, {}
    for name, before in trace.items():
        no_memory = name.endswith("bias") and not bias_trace
        kept = 0 * before if no_memory else (halves.A @ before[..., None])[..., 0]
        states[name] = kept + direct.get(name, 0.0)
        carried[name] = (halves.F @ states[name][..., None])[..., 0] + halves.dh.get(name, 0.0)
        outputs[name] = halves.ds.get(name, np.zeros_like(step.psi))
    return Integrated(states, outputs), carried, halves.slope


def read_out(fired, integrated):
    """ds/dm a + ds/dp, the estimate of the output's derivative."""
    return {name: (fired * a).sum(axis=-1) + integrated.outputs[name] for name, a in integrated.states.items()}


class Mean(NamedTuple):
    """A mean over the steps so far, of which each counts k times as much as the next: w' = k w + 1."""

    value: Any = 0.0
    weight: float = 0.0

    def add(self, k, value):
        weight = k * self.weight + 1
        return Mean((k * self.weight * self.value + value) / weight, weight)


def decayed_sum(sums, k, values):
    """k times the sums so far, plus the new values, by name."""
    return {name: k * sums[name] + value for name, value in values.items()}


def zero_sums(layer):
    return dict.fromkeys(layer.parameters(), 0.0)


def decay_above(layer, above):
    """The decay of the next layer's membrane, one number."""
    assert not np.ndim(above.neuron.decay)
    return above.neuron.decay
