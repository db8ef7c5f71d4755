"""Backpropagation through time, and the derivatives of a step that rules for any cell carry forward."""

from typing import NamedTuple

import numpy as np

from oracle.networks import carried_numbers, flat, forward, recall, zero_states
from oracle.penalties import own_losses
from oracle.running import Result, zero_gradients


def bptt(layers, inputs, signal, *, window=None, penalties=(), states=None) -> Result:
    """Backpropagation through time, by its reverse recursion over time and, within a step, over layers.

    With `window`, adjoints do not pass the starts of windows, t = 0, window, 2 window, ..., on no way.
    """
    inputs = flat(inputs)
    n_steps, batch = inputs.shape[:2]
    history = forward(layers, inputs, states)
    loss, signals = zip(*(signal(t, history[t][-1].output) for t in range(n_steps)), strict=True)
    penalty, own = zip(
        *(own_losses(layers, [one.at(history, t) for one in penalties]) for t in range(n_steps)), strict=True
    )

    gradients = zero_gradients(layers)
    gs = [[np.zeros_like(step.output) for step in steps] for steps in history]  # adjoints of the outputs
    for t in range(n_steps):
        gs[t][-1] += signals[t] / (n_steps * batch)
        for g, losses in zip(gs[t], own[t], strict=True):
            if losses is not None:
                g += losses / n_steps
    gh = zero_states(layers, batch)  # adjoints of the states after the current step
    for t in reversed(range(n_steps)):
        first = 0 if window is None else t - t % window
        for i in reversed(range(len(layers))):
            layer, step = layers[i], history[t][i]
            gi = (step.d * gh[i]).sum(axis=-1) + step.psi * gs[t][i]
            for prefix, edge in layer.connections(i).items():
                gradients[i][f"{prefix}kernel"] += layer.shared(f"{prefix}kernel", step.inputs[prefix].T @ gi)
                if edge.bias is not None:
                    gradients[i][f"{prefix}bias"] += layer.shared(f"{prefix}bias", gi.sum(axis=0))
                gx = gi @ edge.matrix().T
                if edge.delays is not None:
                    per_input = (gx * step.slopes[prefix]).sum(axis=0)
                    gradients[i][f"{prefix}delays"] += layer.shared(f"{prefix}delays", per_input)
                for lag, (weights, _) in edge.weights_of_lags().items():
                    if edge.sender >= 0 and t - lag >= first:
                        gs[t - lag][edge.sender] += gx * weights
            for name in layer.neuron_parameters:
                per_unit = (step.dh[name] * gh[i]).sum(axis=-1) + step.ds[name] * gs[t][i]
                gradients[i][name] += layer.shared(name, per_unit.sum(axis=0))
            gh[i] = np.einsum("bnsr,bns->bnr", step.D, gh[i]) + step.o * gs[t][i][..., None]
            if t == first:
                gh[i] = np.zeros_like(gh[i])
    return Result(float(np.mean(loss)), gradients, float(np.mean(penalty)))


def parameter_numbers(layers) -> tuple[list[dict[str, np.ndarray]], int]:
    """Numbers all parameters through the layers, in arrays of their shapes, and counts them: P."""
    numbers, first = [], 0
    for layer in layers:
        numbers.append({})
        for name, value in layer.parameters().items():
            numbers[-1][name] = first + np.arange(value.size).reshape(value.shape)
            first += value.size
    return numbers, first


class Influence(NamedTuple):
    """The derivatives of a layer after a step by all parameters."""

    states: np.ndarray  # [B, N, S, P]
    outputs: np.ndarray  # [B, N, P]


def influence(layer, connections, numbers, trace, step, dx) -> Influence:
    """One step.

    trace: the derivatives of the states before. dx: by the prefix of the connection, those of what the layer receives
    [B, I, P]; where a connection is missing, what it carries depends on no parameter.
    """
    batch, n, _, size = trace.shape
    di = np.zeros((batch, n, size))
    dh = np.zeros_like(trace)
    ds = np.zeros_like(di)
    units = np.arange(n)
    for prefix, edge in connections.items():
        if prefix in dx:
            di += np.einsum("bip,ij->bjp", dx[prefix], edge.matrix())
        entries = edge.entries()
        i, j = np.nonzero(entries >= 0)
        di[:, j, numbers[f"{prefix}kernel"].ravel()[entries[i, j]]] += step.inputs[prefix][:, i]
        if edge.bias is not None:
            di[:, units, numbers[f"{prefix}bias"].ravel()[layer.entries(f"{prefix}bias")]] += 1
    for name in layer.neuron_parameters:
        p = numbers[name].ravel()[layer.entries(name)]
        dh[:, units, :, p] += step.dh[name].swapaxes(0, 1)
        ds[:, units, p] += step.ds[name]
    ds += np.einsum("bns,bnsp->bnp", step.o, trace) + step.psi[..., None] * di
    dh += np.einsum("bnsr,bnrp->bnsp", step.D, trace) + np.einsum("bns,bnp->bnsp", step.d, di)
    return Influence(dh, ds)


def propagate(layers, steps, states, past, size) -> list[Influence]:
    """`influence` of all layers in a step: from the derivatives of the states before, [B, N, S, size], and of the outputs
    before, to those after. Columns behind the P of the parameters are derivatives by something else."""
    new, now = [], []
    numbers, _ = parameter_numbers(layers)
    for i, (layer, step) in enumerate(zip(layers, steps, strict=True)):
        connections = layer.connections(i)
        dx = {}
        for prefix, edge in connections.items():
            if edge.sender >= 0:
                zeros = np.zeros((*step.inputs[prefix].shape, size))
                dx[prefix] = recall(edge, edge.delay, None, now, past, zeros)
        new.append(influence(layer, connections, numbers[i], states[i], step, dx))
        now.append(new[-1].outputs)
    return new


def push(layers, steps, columns) -> tuple[np.ndarray, list[Influence]]:
    """Of all that goes to the next step, in the order of `carried_numbers`: the derivatives by the parameters, [B, H, P], and
    behind them what the step makes of columns [B, H, X] of what came from the step before."""
    numbers, _ = carried_numbers(layers)
    before = np.concatenate([np.zeros((*columns.shape[:2], parameter_numbers(layers)[1])), columns], axis=-1)
    states, *past = [[before[:, number] for number in group] for group in numbers]
    influences = propagate(layers, steps, states, past, before.shape[-1])
    found = [[one.states for one in influences], [one.outputs for one in influences], *past]
    after = np.zeros_like(before)
    for group, values in zip(numbers, found, strict=False):
        for number, value in zip(group, values, strict=True):
            after[:, number] = value
    return after, influences


def owed(influences, signals, own) -> np.ndarray:
    """The derivatives of the losses of a step by all parameters, [B, P]."""
    both = [signal if losses is None else signal + losses for signal, losses in zip(signals, own, strict=True)]
    return sum(np.einsum("bn,bnp->bp", signal, one.outputs) for signal, one in zip(both, influences, strict=True))
