"""NIR's nodes, step by step in NumPy and float64: what `slax_neurons.nir` is tested against, and shares no code with."""

import jax
import numpy as np


def simulate(graph, inputs, *, dt, integration, order, reset="zero", start=None):
    """The graph's outputs [T, B, ...] for inputs [T, B, ...], both with the channels first.

    Args:
        order: names of all neurons. One that reads a later one, or itself, reads its output of the step before.
        reset: "zero", "subtract" or "none", of all neurons.
        start: name to the membrane's first value. By default where the reset leads, or v_leak without one.
    """
    (end,) = (name for name, node in graph.nodes.items() if type(node).__name__ == "Output")
    before = {name: [sender for sender, receiver in graph.edges if receiver == name] for name in graph.nodes}
    states = {name: _first(graph.nodes[name], reset, (start or {}).get(name)) for name in order}
    past = {}  # by the name of a Delay, what came to it
    outputs, last = [], {name: np.zeros((len(inputs[0]), *graph.nodes[name].r.shape)) for name in order}
    for x in np.asarray(inputs, np.float64):
        now = {}

        def read(name, x=x, now=now, last=last):
            node = graph.nodes[name]
            if type(node).__name__ == "Input":
                return x
            if name in states:
                return now.get(name, last[name])
            if type(node).__name__ == "Delay":
                return read_late(name, node)
            return _apply(node, total(name))

        def read_late(name, node, x=x, now=now):
            """What came to a Delay before, as of this step, or as of the last one if what it reads is not there yet."""
            series = past.setdefault(name, [])
            step = len(outputs) - (not neurons_before(name) <= set(now))
            while len(series) <= step:
                series.append(total(name))
            late = np.round(node.delay / dt).astype(int)
            value = np.zeros((len(x), *node.delay.shape))
            for place in np.ndindex(late.shape):
                if step >= late[place]:
                    value[:, *place] = series[step - late[place]][:, *place]
            return value

        def neurons_before(name):
            senders = [{sender} if sender in states else neurons_before(sender) for sender in before[name]]
            return set().union(*senders)

        def total(name):
            return sum(map(read, before[name]))

        for name in order:
            states[name], now[name] = _step(graph.nodes[name], states[name], total(name), dt, integration, reset)
        last = now
        outputs.append(total(end))
    return np.stack(outputs)


def _first(node, reset, start):
    if start is None:
        start = {"zero": getattr(node, "v_reset", 0.0), "subtract": 0.0, "none": getattr(node, "v_leak", 0.0)}[reset]
        start = start if hasattr(node, "v_threshold") else 0.0
    return {"v": start, "i": 0.0}


def _step(node, state, x, dt, integration, reset):
    def relax(value, target, tau):
        """Towards the target for one step."""
        if integration == "euler":
            return value + dt / tau * (target - value)
        return target + (value - target) * np.exp(-dt / tau)

    current = state["i"]
    match type(node).__name__:
        case "IF" | "I":
            v = state["v"] + dt * node.r * x
        case "LIF" | "LI":
            v = relax(state["v"], node.v_leak + node.r * x, node.tau)
        case "CubaLIF" | "CubaLI":
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
        case "Threshold":
            return (x > node.threshold).astype(np.float64)
        case "Flatten":
            stop = x.ndim if node.end_dim == -1 else node.end_dim + 2
            return x.reshape(*x.shape[: node.start_dim + 1], -1, *x.shape[stop:])
        case "Conv1d" | "Conv2d":
            return _convolve(node, x)
        case "SumPool2d" | "AvgPool2d":
            windows = _windows(x, node.kernel_size, node.stride, node.padding).sum((-1, -2))
            return windows if kind == "SumPool2d" else windows / np.prod(node.kernel_size)


def _convolve(node, x):
    axes = node.weight.ndim - 2
    padding = node.padding
    if isinstance(padding, str):
        padding = padding.upper()
    else:
        padding = [(int(side), int(side)) for side in np.broadcast_to(padding, (axes,))]
    y = jax.lax.conv_general_dilated(  # whose own order of axes is NIR's
        np.asarray(x, np.float64),
        np.asarray(node.weight, np.float64),
        [int(size) for size in np.broadcast_to(node.stride, (axes,))],
        padding,
        rhs_dilation=[int(size) for size in np.broadcast_to(node.dilation, (axes,))],
        feature_group_count=int(node.groups),
    )
    return np.asarray(y, np.float64) + np.reshape(node.bias, (-1, *(1,) * axes))


def _windows(x, size, stride, padding):
    sides = [(0, 0), (0, 0), *((int(side), int(side)) for side in padding)]
    views = np.lib.stride_tricks.sliding_window_view(np.pad(x, sides), tuple(size), (-2, -1))
    return views[:, :, :: int(stride[0]), :: int(stride[1])]
