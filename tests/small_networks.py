"""Small random networks that the oracle's laws are tried on, and how far two gradients are apart."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from oracle import (
    ALIF,
    LI,
    LIF,
    CuBaLIF,
    Edge,
    Layer,
    approximate_otpe,
    bptt,
    e_prop,
    fast_sigmoid,
    ostl,
    otpe,
    ottt,
    rtrl,
    sltt,
    smooth,
    snap,
    softmax_cross_entropy,
)

T, B = 12, 3
LABELS = np.array([0, 3, 1])
SIGNAL = softmax_cross_entropy(LABELS)
EXACT = 1e-12
SPIKE = fast_sigmoid(slope=4)

# Rules that are BPTT where there is nothing of the past.
RULES = {
    "bptt": bptt,
    "rtrl": rtrl,
    "snap": snap,
    "snap-2": partial(snap, n=2),
    "ostl": ostl,
    "ostl-with-h": partial(ostl, with_h=True),
    "sltt": sltt,
    "ottt": ottt,
    "otpe": otpe,
    "approximate-otpe": approximate_otpe,
    "e-prop": e_prop,
}

RESETS = [(reset, stop) for reset in ("subtract", "zero", "none") for stop in (False, True)]


def lif(reset="subtract", stop=False, decay=0.8, threshold=1.0):
    return LIF(decay, threshold, SPIKE, reset, stop)


def cuba(reset="subtract", stop=False):
    return CuBaLIF(0.5, 0.7, 1.0, SPIKE, reset, stop)


def alif(stop=False):
    return ALIF(0.8, 0.9, 0.3, 1.0, SPIKE, stop)


def li(decay=0.8):
    return LI(decay)


def dense():
    return LI(0.0)


DETACHED = lif(stop=True)
NEURONS = {
    **{f"lif-{reset}-{'detached' if stop else 'diff'}": lif(reset, stop) for reset, stop in RESETS},
    **{f"cuba-{reset}-{'detached' if stop else 'diff'}": cuba(reset, stop) for reset, stop in RESETS[:4]},
    "alif-diff": alif(),
    "alif-detached": alif(True),
    "li": li(),
    "dense": dense(),
    "lif-per-neuron": None,  # see `network`
}

# (sender, receiver, delay); layers 0 and 1, and 2 where there are three.
SELF, FEEDBACK, LAST_SELF = (0, 0, 1), (1, 0, 1), (1, 1, 1)
EDGES = {
    "self": [SELF],
    "feedback": [FEEDBACK],
    "self and feedback": [SELF, FEEDBACK],
    "last self": [LAST_SELF],
    "delayed": [(0, 0, 2), (1, 0, 3), (0, 1, 2)],
    "skip": [(0, 2, 0), (2, 1, 1)],
    "everything": [(0, 0, 1), (0, 2, 0), (1, 1, 2), (2, 0, 1), (0, 2, 1)],
}


def depth(edges):
    return 3 if any(2 in edge[:2] for edge in edges) else 2


def network(*neurons, sizes=None, seed=0, edges=()):
    """Random layers with 7 inputs and 4 outputs, in between 6 and 5; None is an LIF with parameters per neuron.

    `edges` are (sender, receiver, delay), every other one with a bias.
    """
    rng = np.random.default_rng(seed)
    sizes = sizes or [*[7, 6, 5, 4][: len(neurons)], 4]
    layers = []
    for neuron, n_in, n_out in zip(neurons, sizes[:-1], sizes[1:], strict=True):
        if neuron is None:
            neuron = lif(decay=rng.uniform(0.5, 0.95, n_out), threshold=rng.uniform(0.7, 1.3, n_out))
        kernel = rng.normal(0.3, 1.0, (n_in, n_out)) / np.sqrt(n_in)
        layers.append(Layer(kernel * 1.5, rng.normal(0.1, 0.1, n_out), neuron))
    for number, (sender, receiver, delay) in enumerate(edges):
        n_in, n_out = sizes[sender + 1], sizes[receiver + 1]
        kernel = rng.normal(0.0, 1.0, (n_in, n_out)) / np.sqrt(n_in)
        edge = Edge(sender, delay, kernel, rng.normal(0.0, 0.1, n_out) if number % 2 == 0 else None)
        layers[receiver] = replace(layers[receiver], edges=(*layers[receiver].edges, edge))
    return layers


def changed(layers, index, name, place, step):
    """The layers with one number of one parameter moved by `step`."""
    layer = layers[index]

    def shifted(value):
        value = np.array(value)
        value[place] += step
        return value

    if name in ("kernel", "bias", "delays"):
        layer = replace(layer, **{name: shifted(getattr(layer, name))})
    elif name.startswith("edge"):
        number, field = name.removeprefix("edge").split("_")
        edges = list(layer.edges)
        edges[int(number)] = replace(edges[int(number)], **{field: shifted(getattr(edges[int(number)], field))})
        layer = replace(layer, edges=tuple(edges))
    else:
        layer = replace(layer, neuron=replace(layer.neuron, **{name: shifted(getattr(layer.neuron, name))}))
    return [*layers[:index], layer, *layers[index + 1 :]]


def smoothed(layers, slope=2.0):
    """The layers with sigmoids for spikes, so that gradients can be checked with finite differences.

    Resets have to be differentiated.
    """
    return [
        replace(layer, neuron=replace(layer.neuron, spike=smooth(slope))) if hasattr(layer.neuron, "spike") else layer
        for layer in layers
    ]


def without_neuron_parameters(layers):
    return [replace(layer, fixed=layer.neuron.parameters) for layer in layers]


def difference_quotients(loss, layers, step=1e-3):
    """Of the loss of layers, by every number of every parameter: (layer, name, place, quotient), to the fourth order."""
    for index, layer in enumerate(layers):
        for name, value in layer.parameters().items():
            for place in np.ndindex(value.shape):
                at = {n: loss(changed(layers, index, name, place, n * step)) for n in (-2, -1, 1, 2)}
                yield index, name, place, (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)


def spikes(seed=1, steps=T, batch=B, n=7):
    return (np.random.default_rng(seed).uniform(size=(steps, batch, n)) < 0.4).astype(float)


def deviation(a, b, *, layers=slice(None), names=None):
    """max |a - b| / max |b| over the parameters of the layers."""
    pairs = [
        (x[name], y[name])
        for x, y in zip(a.gradients[layers], b.gradients[layers], strict=True)
        for name in y
        if names is None or name in names
    ]
    assert pairs
    assert all(x.shape == y.shape for x, y in pairs)
    largest = max(np.max(np.abs(y)) for _, y in pairs)
    assert largest > 0
    return max(np.max(np.abs(x - y)) for x, y in pairs) / largest


FIRST, LAST, HIDDEN = slice(0, 1), slice(-1, None), slice(0, -1)
LAST_TWO = slice(-2, None)


def stacks():
    """Networks without edges: one, two and three layers of each neuron, and mixed ones."""
    return [
        *(pytest.param([n] * count, id=f"{count} {name}") for name, n in NEURONS.items() for count in (1, 2, 3)),
        pytest.param([lif(), alif(), li()], id="lif alif li"),
        pytest.param([cuba(), lif("zero"), dense()], id="cuba lif dense"),
        pytest.param([None, cuba("zero"), lif()], id="per-neuron cuba lif"),
    ]


def graphs():
    """Networks with edges, of three mixtures of neurons."""
    mixtures = {
        "lif": (lif(), lif("zero"), lif()),
        "two states": (alif(), cuba(), li()),
        "per neuron": (None, None, alif(True)),
    }
    return [
        pytest.param(neurons[: depth(edges)], edges, id=f"{mixture} {name}")
        for mixture, neurons in mixtures.items()
        for name, edges in EDGES.items()
    ]
