"""The oracle against truths that do not need it: differences, sums over time by hand, a reverse pass of each layer alone."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from oracle.exact import bptt
from oracle.networks import Edge, Layer, carried_numbers, forward, series
from oracle.neurons import ALIF, BRF, LI, LIF, AdLIF, CuBaLIF, Dense
from oracle.penalties import Penalty
from oracle.rules import approximate_otpe, e_prop, ostl, otpe, ottt, sltt, snap, stllr, uoro
from oracle.signals import linear, softmax_cross_entropy
from oracle.spikes import SpikeFunction, fast_sigmoid, heaviside

T, B = 8, 3
LABELS = np.array([0, 3, 1])
SIGNAL = softmax_cross_entropy(LABELS)
EXACT = 1e-12
SPIKE = fast_sigmoid(slope=4)
INPUTS = (np.random.default_rng(1).uniform(size=(T, B, 7)) < 0.4).astype(float)


def lif(reset="subtract", stop=False, decay=0.8, threshold=1.0):
    return LIF(decay, threshold, SPIKE, reset, stop)


def cuba(reset="subtract", stop=False):
    return CuBaLIF(0.5, 0.7, 1.0, SPIKE, reset, stop)


def alif(stop=False):
    return ALIF(0.8, 0.9, 0.3, 1.0, SPIKE, stop)


def adlif(**options):
    return AdLIF(0.8, 0.9, 0.2, 0.4, 0.3, SPIKE, **options)


DETACHED, RESONATING = lif(stop=True), BRF(10.0, 2.0, 0.05, 0.8, 0.05, SPIKE)
EDGES = ((0, 0, 1), (0, 2, 0), (1, 1, 2), (2, 0, 1), (0, 1, 3))


def network(*neurons, sizes=None, edges=(), seed=0, fixed=False):
    """Random layers with 7 inputs and 4 outputs, in between 6 and 5. `edges` are (sender, receiver, delay)."""
    rng = np.random.default_rng(seed)
    sizes = sizes or [*[7, 6, 5, 4][: len(neurons)], 4]
    layers = []
    for neuron, n_in, n_out in zip(neurons, sizes[:-1], sizes[1:], strict=True):
        kernel = rng.normal(0.3, 1.0, (n_in, n_out)) / np.sqrt(n_in)
        named = neuron.parameters if fixed else ()
        layers.append(Layer(kernel * 1.5, rng.normal(0.1, 0.1, n_out), neuron, fixed=named))
    for sender, receiver, delay in edges:
        n_in, n_out = sizes[sender + 1], sizes[receiver + 1]
        kernel = rng.normal(0.0, 1.0, (n_in, n_out)) / np.sqrt(n_in)
        edge = Edge(sender, delay, kernel, rng.normal(0.0, 0.1, n_out) if delay != 2 else None)
        layers[receiver] = replace(layers[receiver], edges=(*layers[receiver].edges, edge))
    return layers


def delayed(layers, *places, longest=3.0):
    """With learned delays before some layers; none is at a whole number of steps, where the derivative has two sides."""
    rng = np.random.default_rng(3)
    return [
        replace(layer, delays=rng.uniform(0.05, longest, len(layer.kernel))) if index in places else layer
        for index, layer in enumerate(layers)
    ]


def deviation(a, b, layers=slice(None)):
    """max |a - b| / max |b| over the parameters of the layers."""
    pairs = [(x[name], y[name]) for x, y in zip(a[layers], b[layers], strict=True) for name in y]
    largest = max(np.max(np.abs(y)) for _, y in pairs)
    assert largest > 0
    return max(np.max(np.abs(x - y)) for x, y in pairs) / largest


def apart(rule, other, layers, inputs=INPUTS, signal=SIGNAL, at=slice(None), **options):
    """How far the gradients of two rules are apart, in some layers."""
    one, two = (each(layers, inputs, signal, **options).gradients for each in (rule, other))
    return deviation(one, two, at)


LAST, FIRST, LAST_TWO = slice(-1, None), slice(0, 1), slice(-2, None)


def signals_of(layers, inputs=INPUTS):
    history = forward(layers, inputs)
    return history, np.stack([SIGNAL(t, steps[-1].output)[1] for t, steps in enumerate(history)]) / (T * B)


def sums(values, decay, late=0):
    """sum over k <= t - late of decay^(t - late - k) values[k], without a recursion."""
    zero = np.zeros_like(values[0])
    return np.stack([
        sum((decay ** (t - late - k) * values[k] for k in range(t + 1 - late)), zero) for t in range(len(values))
    ])  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- differences


def squares(values):
    return (values**2).sum(axis=1), 2 * values


def rate(mean):
    return ((mean - 0.1) ** 2).sum() / 2, mean - 0.1


PENALTIES = [Penalty(0, squares, 0.7), Penalty(0, rate, of_mean=True), Penalty(1, rate, 2.0, of_mean=True)]


# -------------------------------------------------------------------------------------------------- rules of the network

NETS = {
    "edges": network(lif("zero"), alif(), cuba(), edges=EDGES),
    "units": network(
        lif(decay=np.linspace(0.5, 0.9, 6), threshold=np.linspace(0.7, 1.3, 6)), adlif(), edges=((0, 0, 1),)
    ),
    "brf": network(RESONATING, LI(0.6)),
}


def test_snap_is_bptt_where_its_steps_reach_all():
    layers = network(lif(), alif(), edges=((0, 0, 1),))
    assert apart(partial(snap, n=2), bptt, layers) < EXACT
    assert apart(snap, bptt, layers) > 0.02
    chain = network(lif(), cuba(), LI(0.8))
    assert apart(snap, bptt, chain) < EXACT


def test_uoro_is_bptt_in_the_mean():
    """The error of the mean over n draws falls as 1 / sqrt(n): one draw per sample, and all samples the same."""
    layers = network(lif(), cuba(), sizes=[3, 3, 2], edges=[(0, 0, 2), (1, 0, 1)])
    inputs, size = INPUTS[:, :1, :3], carried_numbers(layers)[1]
    exact, errors = bptt(layers, inputs, softmax_cross_entropy([1])).gradients, []
    for draws in (64, 4096):
        noise = np.random.default_rng(0).choice([-1.0, 1.0], (T, draws, size))
        mean = uoro(layers, np.repeat(inputs, draws, axis=1), softmax_cross_entropy([1] * draws), noise=noise).gradients
        pairs = [(a[name], b[name]) for a, b in zip(mean, exact, strict=True) for name in b]
        squared = [(np.sum((a - b) ** 2), np.sum(b**2)) for a, b in pairs]
        errors.append(np.sqrt(np.divide(*np.sum(squared, axis=0))))
    assert errors[1] < 0.15 and 3 < errors[0] / errors[1] < 24
    one = partial(uoro, noise=np.ones((1, 1, size)))
    assert apart(one, bptt, layers, inputs[:1], softmax_cross_entropy([1])) < EXACT


def test_tbptt_is_between_the_step_alone_and_the_whole():
    layers = NETS["edges"]
    assert apart(partial(bptt, window=1), sltt, layers) < EXACT
    assert apart(partial(bptt, window=T), bptt, layers) == 0
    assert apart(partial(bptt, window=3), bptt, layers) > 0.01


# ------------------------------------------------------------------------------------------------------------ OSTL and OTTT


def below(layers, history, index, signals):
    """The signals of a layer's cotangent to the layers that it reads within the step."""
    current = signals[index] * series(history, "psi", layer=index)
    for edge in layers[index].connections(index).values():
        if edge.delay == 0 and edge.sender >= 0:
            signals[edge.sender] = signals[edge.sender] + current @ edge.matrix().T


@pytest.mark.parametrize("name", ["edges", "units", "brf"])
def test_ostl_is_the_reverse_pass_of_each_layer_alone(name):
    """One kernel with the rows of all that it receives; signals as they come down within the step."""
    layers = NETS[name]
    result, (history, last) = ostl(layers, INPUTS, SIGNAL).gradients, signals_of(layers)
    signals = [np.zeros(())] * (len(layers) - 1) + [last * T * B]
    for index in reversed(range(len(layers))):
        layer, edges = layers[index], layers[index].connections(index)
        x = np.concatenate([np.stack([steps[index].inputs[prefix] for steps in history]) for prefix in edges], axis=-1)
        kernel = np.concatenate([edge.matrix() for edge in edges.values()])
        bias = sum(edge.bias for edge in edges.values() if edge.bias is not None)
        alone = bptt([Layer(kernel, bias, layer.neuron)], x, linear(signals[index])).gradients[0]
        mine = np.concatenate([result[index][f"{prefix}kernel"] for prefix in edges])
        np.testing.assert_allclose(mine, alone["kernel"], atol=1e-14)
        for name in [name for name in result[index] if not name.endswith("kernel")]:
            expected = alone["bias" if name.endswith("bias") else name]
            np.testing.assert_allclose(result[index][name], expected, atol=1e-14)
        below(layers, history, index, signals)


def test_ostl_with_h_is_exact_for_a_recurrent_layer():
    for layers, at in (
        (network(alif(), Dense(), edges=((0, 0, 1), (0, 0, 3))), slice(None)),
        (network(lif(), cuba(), edges=((0, 0, 1), (1, 1, 2), (0, 1, 2))), LAST),
    ):
        assert apart(partial(ostl, with_h=True), bptt, layers, at=at) < EXACT
        assert apart(ostl, bptt, layers, at=at) > 0.01


def test_ottt_is_ostl_without_reset_gradients_or_its_sum():
    layers = delayed(network(DETACHED, cuba(stop=True), LI(0.8), edges=EDGES), 1)
    assert apart(ottt, ostl, layers, penalties=PENALTIES) < EXACT
    assert apart(ottt, bptt, layers, at=FIRST) > 0.05
    layers = network(cuba("zero"), alif())
    result, (history, signal) = ottt(layers, INPUTS, SIGNAL).gradients, signals_of(layers)
    psi, s = series(history, "psi", layer=1), series(history, "output", layer=1)
    a = sums(series(history, "output", layer=0), 0.8)
    np.testing.assert_allclose(result[1]["kernel"], np.einsum("tbj,tbj,tbi->ij", signal, psi, a), rtol=1e-11)
    adaptation = sums(s, 0.9, late=1)  # at given spikes it is a sum of them, and so is its derivative by the decay
    np.testing.assert_allclose(result[1]["adaptation"], -(signal * psi * adaptation).sum(), rtol=1e-11)
    by_decay = sums(adaptation, 0.9, late=1)
    np.testing.assert_allclose(result[1]["adaptation_decay"], -0.3 * (signal * psi * by_decay).sum(), rtol=1e-11)
    # The response of the membrane of a CuBaLIF to one input is a difference of exponentials.
    signal, psi = (signal * psi) @ layers[1].kernel.T, series(history, "psi", layer=0)
    a = sums(sums(INPUTS, 0.5), 0.7)
    np.testing.assert_allclose(result[0]["kernel"], np.einsum("tbj,tbj,tbi->ij", signal, psi, a), rtol=1e-11)
    without = ottt(layers, INPUTS, SIGNAL, bias_trace=False).gradients[0]
    np.testing.assert_allclose(without["bias"], (signal * psi).sum(axis=(0, 1)), rtol=1e-11)


# ---------------------------------------------------------------------------------------------------- sums over time above


def test_otpe_and_e_prop_are_exact_in_the_last_two_layers():
    for hidden in (lif(), cuba("zero"), alif()):
        layers = delayed(network(lif(), hidden, LI(0.6)), 1)
        for rule in (otpe, e_prop):
            penalties = [Penalty(1, squares), Penalty(2, squares)]
            assert apart(rule, bptt, layers, at=LAST_TWO, penalties=penalties) < EXACT
            assert apart(rule, bptt, layers, at=FIRST) > 0.05
        assert apart(otpe, bptt, network(hidden, DETACHED)) < EXACT
    # Synapses alone on top are part of the loss.
    for rule in (otpe, partial(e_prop, kappa=0.9), approximate_otpe):
        assert apart(rule, bptt, network(lif(), DETACHED, Dense()), at=LAST_TWO) < EXACT


def test_otpe_sends_the_mean_of_psi_and_e_prop_psi():
    """The third layer from above, by explicit sums: w and g of a decay of 0.6 above the middle layer, k 0.7 above the first."""
    layers = network(lif("zero"), lif("none", decay=0.7), lif(decay=0.6))
    history, signal = signals_of(layers)
    signal = (signal * series(history, "psi", layer=2)) @ layers[2].kernel.T
    psi = series(history, "psi", layer=1)
    mean = sums(psi, 0.6) / sums(np.ones(T), 0.6)[:, None, None]
    for rule, factor in ((otpe, mean), (e_prop, psi)):
        down = (signal * factor) @ layers[1].kernel.T
        exact = bptt([layers[0], Layer(np.eye(6), None, LI(0.7), fixed=("decay",))], INPUTS, linear(down * T * B))
        found = rule(layers, INPUTS, SIGNAL).gradients
        assert deviation(found, exact.gradients, FIRST) < 1e-10


def test_s_tllr_is_its_explicit_sums():
    layers = network(lif(threshold=0.9), fixed=True)
    history, signal = signals_of(layers)
    psi = series(history, "psi")
    result = stllr(layers, INPUTS, SIGNAL, pre_decay=0.75, post_decay=0.2, pre=0.9, post=-0.7).gradients[0]["kernel"]
    causal = 0.9 * np.einsum("tbn,tbi->in", signal * psi, sums(INPUTS, 0.75))
    other = -0.7 * np.einsum("tbn,tbi->in", signal * sums(psi, 0.2, late=1), INPUTS)
    np.testing.assert_allclose(result, causal + other, rtol=1e-11)


def test_approximate_otpe_is_otpe_where_psi_is_constant():
    constant = SpikeFunction(heaviside, lambda x: 0.3 * np.ones_like(x))
    neurons = [replace(lif(stop=True, decay=decay), spike=constant) for decay in (0.9, 0.7, 0.6)]
    assert apart(approximate_otpe, otpe, network(*neurons, edges=EDGES)) < EXACT
    for rule, other in ((otpe, ostl), (approximate_otpe, ottt)):
        assert apart(partial(rule, next_decay=lambda *_: 0.0), other, NETS["edges"]) < EXACT
    assert apart(partial(e_prop, kappa=0.0), ostl, NETS["edges"]) == 0
    filtered = partial(e_prop, kappa=0.5)
    assert apart(filtered, partial(otpe, next_decay=lambda *_: 0.5), network(lif(), cuba()), at=FIRST) < EXACT
