"""S-TLLR: a causal term, which is OTTT's, and a non-causal one."""

from dataclasses import replace

import numpy as np
import pytest

from oracle import LI, LIF, Layer, PerLayer, bptt, fast_sigmoid, forward, linear, ottt, run, series, stllr
from oracle.local import OTTT, STLLR
from small_networks import (
    EDGES,
    EXACT,
    LAST,
    SIGNAL,
    B,
    T,
    alif,
    cuba,
    depth,
    deviation,
    li,
    lif,
    network,
    spikes,
    without_neuron_parameters,
)

AUTHORS = {"pre_decay": 0.75, "post_decay": 0.2}


def triangle(x):
    return 0.3 * np.maximum(1 - np.abs(x), 0)


@pytest.mark.parametrize("bias_trace", [True, False])
@pytest.mark.parametrize("edges", EDGES)
def test_causal_term_alone_is_ottt(edges, bias_trace):
    """With the layer's decay for its inputs and psi for Psi."""
    neurons = (lif(), lif("zero", decay=0.8), li(0.8))[: depth(EDGES[edges])]
    layers, inputs = without_neuron_parameters(network(*neurons, edges=EDGES[edges])), spikes()
    expected = ottt(layers, inputs, SIGNAL, bias_trace=bias_trace)
    found = stllr(layers, inputs, SIGNAL, pre_decay=0.8, post_decay=0.5, post=0.0, bias_trace=bias_trace)
    assert deviation(found, expected) < EXACT
    assert (
        deviation(stllr(layers, inputs, SIGNAL, pre_decay=0.8, post_decay=0.5, bias_trace=bias_trace), expected) > 0.1
    )


def test_causal_terms_with_the_decay_of_each_layer_are_ottt():
    layers, inputs = without_neuron_parameters(network(lif(), lif(decay=0.6), li(0.9))), spikes()
    rules = [STLLR(decay, 0.5, post=0.0) for decay in (0.8, 0.6, 0.9)]
    assert deviation(run(PerLayer(rules), layers, inputs, SIGNAL), ottt(layers, inputs, SIGNAL)) < EXACT
    mixed = run(PerLayer([*rules[:2], OTTT()]), layers, inputs, SIGNAL)
    assert deviation(mixed, bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


def leaky_sums(values, decay, last):
    """sum over k <= t - (not last) of decay^(t - k) values[k], without a recursion; in the shape of the values."""
    ends = [t + 1 if last else t for t in range(len(values))]
    return np.stack(
        [sum((decay ** (end - 1 - k) * values[k] for k in range(end)), np.zeros_like(values[0])) for end in ends]
    )


@pytest.mark.parametrize("activation", [None, triangle])
@pytest.mark.parametrize("first", [lif(), cuba("zero"), alif()], ids=["lif", "cuba", "alif"])
def test_gradient_is_its_explicit_sums(first, activation):
    layers, inputs = without_neuron_parameters(network(first, lif(threshold=0.9), edges=[(0, 0, 1)])), spikes()
    history = forward(layers, inputs)
    thresholds = [1.0, 0.9]
    if activation is None:
        Psi = [series(history, "psi", layer=index) for index in (0, 1)]
    else:
        v = [series(history, "membrane", layer=index) for index in (0, 1)]
        adapted = 0.3 * series(history, "previous", layer=0)[..., 1] if isinstance(first, type(alif())) else 0.0
        Psi = [activation(v[0] - 1.0 - adapted), activation(v[1] - thresholds[1])]
    signal = np.stack([SIGNAL(t, steps[-1].output)[1] / (T * B) for t, steps in enumerate(history)])
    signals = [(signal * Psi[1]) @ layers[1].kernel.T, signal]
    s = series(history, "output", layer=0)
    received = {"kernel": inputs, "edge0_kernel": np.concatenate([np.zeros_like(s[:1]), s[:-1]])}
    result = stllr(layers, inputs, SIGNAL, pre=0.9, post=-0.7, activation=activation, **AUTHORS).gradients
    for index, inputs_of_layer in enumerate([received, {"kernel": s}]):
        psihat = leaky_sums(Psi[index], 0.2, last=False)
        for name, x in inputs_of_layer.items():
            causal = 0.9 * np.einsum("tbn,tbi->in", signals[index] * Psi[index], leaky_sums(x, 0.75, last=True))
            other = -0.7 * np.einsum("tbn,tbi->in", signals[index] * psihat, x)
            np.testing.assert_allclose(result[index][name], causal + other, rtol=1e-11, atol=1e-14)


def test_bias_is_the_weight_of_an_input_of_one_or_has_no_trace():
    layers, inputs = without_neuron_parameters(network(lif(), li())), spikes()
    constant = np.concatenate([inputs, np.ones((T, B, 1))], axis=-1)
    joined = [replace(layers[0], kernel=np.vstack([layers[0].kernel, layers[0].bias]), bias=None), layers[1]]
    expected = stllr(joined, constant, SIGNAL, **AUTHORS).gradients[0]["kernel"][-1]
    found = stllr(layers, inputs, SIGNAL, **AUTHORS).gradients[0]["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-14)
    history = forward(layers, inputs)
    signal = np.stack([SIGNAL(t, steps[-1].output)[1] / (T * B) for t, steps in enumerate(history)])
    expected = (signal @ layers[1].kernel.T * series(history, "psi", layer=0)).sum(axis=(0, 1))
    without = stllr(layers, inputs, SIGNAL, bias_trace=False, **AUTHORS).gradients[0]["bias"]
    np.testing.assert_allclose(without, expected, atol=1e-14)
    np.testing.assert_allclose(
        stllr(layers, inputs, SIGNAL, bias_trace=False, **AUTHORS).gradients[1]["bias"], signal.sum(axis=(0, 1))
    )


def test_two_steps_of_one_neuron_by_hand():
    # psi(x) = 1 / (|x| + 1)^2. v: 1.5, then 0.5 (1.5 - 1) + 0.25 = 0.5; psi = 4/9 both times. Signals 2, 3.
    # xhat: 1.5, 0.5 1.5 + 0.25 = 1. psihat before: 0, 4/9.
    layers = [Layer([[1.0]], None, LIF(0.5, 1.0, fast_sigmoid(1), "subtract", True), fixed=("decay", "threshold"))]
    inputs = np.array([1.5, 0.25]).reshape(2, 1, 1)
    signal = linear(np.array([2.0, 3.0]).reshape(2, 1, 1))
    result = stllr(layers, inputs, signal, pre_decay=0.5, post_decay=0.7, pre=1.0, post=-0.2)
    expected = 4 / 9 * (2 * 1.5 + 3 * 1.0) - 0.2 * 3 * 4 / 9 * 0.25
    np.testing.assert_allclose(result.gradients[0]["kernel"], [[expected / 2]])
    # The second post-synaptic trace is 0.7 4/9 + 4/9: a third step with input 1 has it.
    inputs = np.array([1.5, 0.25, 1.0]).reshape(3, 1, 1)
    signal = linear(np.array([0.0, 0.0, 1.0]).reshape(3, 1, 1))
    result = stllr(layers, inputs, signal, pre_decay=0.5, post_decay=0.7, pre=0.0, post=1.0)
    np.testing.assert_allclose(result.gradients[0]["kernel"], [[1.7 * 4 / 9 / 3]])


def test_layer_that_does_not_fire_has_a_psi_of_one():
    layers, inputs = without_neuron_parameters(network(LI(0.9))), spikes()
    options = {"pre_decay": 0.9, "post_decay": 0.2, "post": 0.0}
    found = stllr(layers, inputs, SIGNAL, activation=triangle, **options)
    assert deviation(found, bptt(layers, inputs, SIGNAL)) < EXACT


def test_parameters_of_a_neuron_are_refused():
    with pytest.raises(ValueError, match="expected a neuron without parameters, got decay, threshold"):
        stllr(network(lif()), spikes(), SIGNAL, **AUTHORS)
