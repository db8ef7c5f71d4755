"""NIR's nodes, step by step in NumPy and float64: what `slax_neurons.nir` is tested against, and shares no code with."""

import jax
import numpy as np


def simulate(graph, inputs, *, dt, integration, order, reset="zero"):
    """The graph's outputs [T, B, ...] for inputs [T, B, ...], both with the channels first.

    Args:
        order: names of all neurons. One that reads a later one, or itself, reads its output of the step before.
        reset: "zero", "subtract" or "none", of all neurons.
    """
    (end,) = (name for name, node in graph.nodes.items() if type(node).__name__ == "Output")
    before = {name: [sender for sender, receiver in graph.edges if receiver == name] for name in graph.nodes}
    states = {name: _first(graph.nodes[name]) for name in order}
    outputs, last = [], {name: np.zeros((len(inputs[0]), *graph.nodes[name].r.shape)) for name in order}
    for x in np.asarray(inputs, np.float64):
        now = {}

        def read(name, x=x, now=now, last=last):
            node = graph.nodes[name]
            if type(node).__name__ == "Input":
                return x
            if name in states:
                return now.get(name, last[name])
            return _apply(node, total(name))

        def total(name):
            return sum(map(read, before[name]))

        for name in order:
            states[name], now[name] = _step(graph.nodes[name], states[name], total(name), dt, integration, reset)
        last = now
        outputs.append(total(end))
    return np.stack(outputs)


def _first(node):
    """At v_leak, where a membrane rests, or for an IF, which has none, where it is reset to."""
    return {"v": getattr(node, "v_leak", getattr(node, "v_reset", 0.0)), "i": 0.0}


def _step(node, state, x, dt, integration, reset):
    def relax(value, target, tau):
        """Towards the target for one step."""
        if integration == "euler":
            return value + dt / tau * (target - value)
        return target + (value - target) * np.exp(-dt / tau)

    current = state["i"]
    match type(node).__name__:
        case "IF":
            v = state["v"] + dt * node.r * x
        case "LIF" | "LI":
            v = relax(state["v"], node.v_leak + node.r * x, node.tau)
        case "CubaLIF":
            current = relax(current, node.w_in * x, node.tau_syn)
            v = relax(state["v"], node.v_leak + node.r * current, node.tau_mem)
    if not hasattr(node, "v_threshold"):
        return {"v": v, "i": current}, v
    spikes = (v > node.v_threshold).astype(np.float64)
    reset_to = {"zero": node.v_reset, "subtract": v - node.v_threshold, "none": v}[reset]
    return {"v": np.where(spikes == 1, reset_to, v), "i": current}, spikes


def _apply(node, x):
    kind = type(node).__name__
    match kind:
        case "Linear":
            return x @ node.weight.T
        case "Affine":
            return x @ node.weight.T + node.bias
        case "Scale":
            return x * node.scale
        case "Flatten":
            stop = x.ndim if node.end_dim == -1 else node.end_dim + 2
            return x.reshape(*x.shape[: node.start_dim + 1], -1, *x.shape[stop:])
        case "Conv1d" | "Conv2d":
            return _convolve(node, x)


def _convolve(node, x):
    """By a function of JAX whose own order of axes is NIR's."""
    axes = node.weight.ndim - 2
    stride, dilation = (np.broadcast_to(sizes, (axes,)).tolist() for sizes in (node.stride, node.dilation))
    padding = "SAME" if isinstance(node.padding, str) else [(of, of) for of in np.broadcast_to(node.padding, (axes,))]
    options = {"rhs_dilation": dilation, "feature_group_count": int(node.groups)}
    y = jax.lax.conv_general_dilated(x, node.weight, stride, padding, **options)
    return np.asarray(y) + np.reshape(node.bias, (-1, *(1,) * axes))
