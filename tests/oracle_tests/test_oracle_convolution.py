"""Convolutions of the oracle: the same as sliding windows, and the same as matrices with shared entries under every rule."""

from dataclasses import replace

import numpy as np
import pytest

from oracle import LI, Convolution, Edge, Layer, bptt, forward, ostl, otpe, ottt, rtrl, series, smooth
from small_networks import DETACHED, EXACT, LAST, RULES, SIGNAL, B, T, changed, cuba, deviation, lif

GEOMETRIES = {
    "same": ((5, 4, 2), (3, 3, 2, 3), {"strides": (1, 1)}),
    "valid": ((5, 4, 2), (3, 2, 2, 3), {"strides": (1, 1), "padding": "VALID"}),
    "strides": ((5, 4, 2), (3, 3, 2, 3), {"strides": (2, 3)}),
    "valid, strides": ((7, 6, 1), (3, 3, 1, 2), {"strides": (2, 3), "padding": "VALID"}),
    "even window": ((5, 4, 1), (2, 4, 1, 2), {"strides": (1, 1)}),
    "groups": ((4, 4, 4), (3, 3, 2, 6), {"strides": (1, 1), "groups": 2}),
    "depthwise": ((4, 4, 3), (2, 2, 1, 3), {"strides": (1, 1), "groups": 3}),
    "one space axis": ((7, 2), (3, 2, 3), {"strides": (2,)}),
}


def sliding_windows(x, kernel, strides, padding="SAME", groups=1):
    """x [B, *space, channels], by cutting windows out of the padded array."""
    window = kernel.shape[:-2]
    if padding == "SAME":
        outputs = [-(-n // stride) for n, stride in zip(x.shape[1:-1], strides, strict=True)]
        missing = [
            max((n_out - 1) * stride + k - n, 0)
            for n_out, stride, k, n in zip(outputs, strides, window, x.shape[1:-1], strict=True)
        ]
        x = np.pad(x, [(0, 0), *((zeros // 2, zeros - zeros // 2) for zeros in missing), (0, 0)])
    axes = tuple(range(1, x.ndim - 1))
    windows = np.lib.stride_tricks.sliding_window_view(x, window, axes)  # [B, *space, channels, *window]
    windows = windows[:, *(np.s_[::stride] for stride in strides)]
    per_group, channels_out = kernel.shape[-2:]
    parts = []
    for group in range(groups):
        seen = windows[(..., np.s_[group * per_group : (group + 1) * per_group], *[np.s_[:]] * len(window))]
        seen = np.moveaxis(seen, x.ndim - 1, -1)  # [B, *space, *window, channels of the group]
        weights = kernel[..., group * channels_out // groups : (group + 1) * channels_out // groups]
        parts.append(np.tensordot(seen, weights, len(window) + 1))
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolution_is_what_windows_that_slide_see(name):
    features, kernel_shape, options = GEOMETRIES[name]
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(B, *features)), rng.normal(size=kernel_shape)
    bias = rng.normal(size=kernel_shape[-1])
    expected = sliding_windows(x, kernel, **options) + bias
    edge = Edge(-1, 0, kernel, bias, Convolution(features, **options))
    assert edge.features() == expected.shape[1:]
    np.testing.assert_allclose(edge.current(x.reshape(B, -1)), expected.reshape(B, -1), atol=1e-12)


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="padding must be 'SAME' or 'VALID', got 'CAUSAL'"):
        Convolution((5, 2), (1,), "CAUSAL").entries((3, 2, 3))


def convolutional(*neurons, seed=0):
    """[3, 3, 2] to [3, 3, 2], with recurrence, to [2, 2, 2], to 4; None is an LIF with parameters per channel."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return rng.normal(0.3, 1.0, shape) * 1.5 / np.sqrt(np.prod(shape[:-1])), rng.normal(0.1, 0.1, shape[-1])

    per_channel = lif(decay=np.array([0.6, 0.9]), threshold=np.array([0.8, 1.1]))
    first, middle, last = (per_channel if neuron is None else neuron for neuron in neurons)
    same = Convolution((3, 3, 2), (1, 1), groups=2)
    return [
        Layer(*weights(2, 2, 1, 2), first, (Edge(0, 1, *weights(2, 2, 1, 2), same),), same),
        Layer(*weights(2, 2, 2, 2), middle, (), Convolution((3, 3, 2), (1, 1), "VALID")),
        Layer(*weights(8, 4), last),
    ]


def sum_of_squares(t, outputs):
    return (outputs**2).sum(axis=1), 2 * outputs


def images(seed=1, steps=T):
    return (np.random.default_rng(seed).uniform(size=(steps, B, 3, 3, 2)) < 0.4).astype(float)


def as_matrices(layers):
    """The same network, each convolution as a dense kernel and each of its biases one per neuron."""

    def dense(edge):
        bias = None if edge.bias is None else np.broadcast_to(edge.bias, edge.features()).ravel()
        return {"kernel": edge.matrix(), "bias": bias, "convolution": None}

    return [
        replace(
            layer,
            **dense(layer.connections(index)[""]),
            neuron=layer.unit_neuron(),
            edges=tuple(replace(edge, **dense(edge)) for edge in layer.edges),
        )
        for index, layer in enumerate(layers)
    ]


def shared(layers, result):
    """The gradient of a network `as_matrices`, summed by what shares a parameter in the original."""
    gradients = []
    for layer, dense in zip(layers, result.gradients, strict=True):
        gradients.append({})
        for name, gradient in dense.items():
            scalar = layer.parameters()[name].ndim == 0
            gradients[-1][name] = gradient if scalar else layer.shared(name, gradient)
    return result._replace(gradients=gradients)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.startswith("snap")])
@pytest.mark.parametrize("neurons", [(None, cuba(), lif()), (cuba("zero"), lif(), LI(0.6))], ids=["lif", "cuba"])
def test_every_rule_gives_a_convolution_the_sum_over_its_places(rule, neurons):
    """SnAp excepted, for which a parameter that is shared reaches further."""
    layers = convolutional(*neurons)
    a, b = RULES[rule](layers, images(), SIGNAL), RULES[rule](as_matrices(layers), images(), SIGNAL)
    np.testing.assert_allclose(a.outputs, b.outputs, atol=1e-12)
    assert deviation(a, shared(layers, b)) < EXACT


def test_convolutions_are_not_silent():
    history = forward(convolutional(None, cuba(), lif()), images())
    assert all(0.05 < series(history, "output", layer).mean() < 0.95 for layer in range(3))


def test_bptt_of_convolutions_equals_finite_differences_of_its_loss():
    layers = convolutional(None, cuba(), LI(0.6))
    layers = [
        replace(layer, neuron=replace(layer.neuron, spike=smooth(2.0))) if hasattr(layer.neuron, "spike") else layer
        for layer in layers
    ]
    inputs = images(steps=3)
    for index, gradients in enumerate(bptt(layers, inputs, SIGNAL).gradients):
        for name, gradient in gradients.items():
            for place in np.ndindex(gradient.shape):
                up, down = (
                    bptt(changed(layers, index, name, place, step), inputs, SIGNAL).loss for step in (1e-4, -1e-4)
                )
                assert abs((up - down) / 2e-4 - gradient[place]) < 1e-7, (index, name, place)


@pytest.mark.parametrize("neurons", [(None, cuba(), lif()), (cuba("zero"), lif(), LI(0.6))], ids=["lif", "cuba"])
def test_t1_t4_rtrl_and_the_last_layer_of_ostl_are_bptt(neurons):
    layers = convolutional(*neurons)
    exact = bptt(layers, images(), SIGNAL)
    assert deviation(rtrl(layers, images(), SIGNAL), exact) < EXACT
    assert deviation(ostl(layers, images(), SIGNAL), exact, layers=LAST) < EXACT
    alone = layers[:1]
    recurrent = bptt(alone, images(), sum_of_squares)
    assert deviation(ostl(alone, images(), sum_of_squares, with_h=True), recurrent) < EXACT
    assert deviation(ostl(alone, images(), sum_of_squares), recurrent) > 0.02


def test_t5_t6_ottt_and_otpe_are_exact_where_they_are_for_matrices():
    layers = convolutional(DETACHED, DETACHED, LI(0.8))
    assert deviation(ottt(layers, images(), SIGNAL), ostl(layers, images(), SIGNAL)) < EXACT
    assert deviation(otpe(layers, images(), SIGNAL), bptt(layers, images(), SIGNAL), layers=slice(1, 3)) < EXACT
