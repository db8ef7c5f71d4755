"""Learned delays: inputs read between two steps, under BPTT and under rules without a future."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from oracle import (
    LI,
    Convolution,
    Dense,
    Direct,
    Edge,
    Layer,
    Penalty,
    approximate_otpe,
    bptt,
    e_prop,
    forward,
    linear,
    ostl,
    otpe,
    ottt,
    pp_prop,
    rtrl,
    series,
    sltt,
    snap,
    stllr,
    tbptt,
    uoro,
)
from oracle.delays import kappa, lags, slope
from oracle.routes import Symmetric
from small_networks import (
    DETACHED,
    EXACT,
    LAST,
    SIGNAL,
    B,
    T,
    alif,
    cuba,
    dense,
    deviation,
    difference_quotients,
    li,
    lif,
    network,
    smoothed,
    spikes,
    without_neuron_parameters,
)

RULES = {
    "rtrl": rtrl,
    "ostl": ostl,
    "ostl-with-h": partial(ostl, with_h=True),
    "ottt": ottt,
    "sltt": sltt,
    "otpe": partial(otpe, next_decay=lambda *_: 0.7),
    "approximate-otpe": partial(approximate_otpe, next_decay=lambda *_: 0.7),
    "e-prop": partial(e_prop, kappa=0.7),
    "pp-prop": pp_prop,
    "stllr": partial(stllr, pre_decay=0.75, post_decay=0.2),
}


def delayed(layers, *indices, seed=6, longest=4.0, width=1):
    """The layers with random delays of their chain, and of all edges into these layers."""
    rng = np.random.default_rng(seed)
    layers = list(layers)
    for index in indices:
        layer = layers[index]
        edges = tuple(
            replace(edge, delays=rng.uniform(0, longest, edge.kernel.shape[0]), delay_width=width)
            for edge in layer.edges
        )
        chain = rng.uniform(0, longest, layer.kernel.shape[0])
        layers[index] = replace(layer, delays=chain, delay_width=width, edges=edges)
    return layers


# ----------------------------------------------------------------------------------------------------------- the kernel


@pytest.mark.parametrize("width", [1, 2, 3])
def test_weights_of_all_lags_are_one_together_and_their_mean_lag_is_the_delay(width):
    """For delays that are not shorter than the triangle is wide."""
    for d in np.linspace(width, width + 2, 30):
        k = np.array(lags(np.array([d]), width))
        assert kappa(k - d, width).sum() == pytest.approx(1)
        assert (k * kappa(k - d, width)).sum() == pytest.approx(d)
        assert slope(k - d, width).sum() == pytest.approx(0)


@pytest.mark.parametrize("width", [1, 2])
def test_slope_is_the_difference_to_a_delay_that_is_a_little_longer(width):
    k = np.arange(8)
    for d in (0.0, 0.3, 1.0, 2.0, 2.5, 3.9):
        quotient = (kappa(k - (d + 1e-6), width) - kappa(k - d, width)) / 1e-6
        np.testing.assert_allclose(slope(k - d, width), quotient, atol=1e-8)
        outside = [n for n in k if n not in lags(np.array([d]), width)]
        assert not kappa(np.array(outside) - d, width).any()
        assert not slope(np.array(outside) - d, width).any()


def test_input_is_interpolated_between_the_two_steps_around_it():
    d = np.array([0.0, 0.25, 1.0, 2.7])
    layers = [Layer(np.eye(4), None, Dense(), delays=d)]
    x = np.random.default_rng(0).normal(size=(T, B, 4))
    result = bptt(layers, x, SIGNAL).outputs
    before = np.concatenate([np.zeros((6, B, 4)), x])  # nothing before the first step
    for i, delay in enumerate(d):
        whole, part = int(delay), delay % 1
        at = np.arange(T) + 6 - whole
        expected = (1 - part) * before[at, :, i] + part * before[at - 1, :, i]
        np.testing.assert_allclose(result[..., i], expected, atol=1e-15)


def test_delays_of_whole_steps_are_those_of_edges():
    layers, inputs = network(lif(), li(), edges=[(0, 0, 3), (0, 1, 2), (1, 0, 1)]), spikes()
    first, second = layers[0].edges
    learned = [
        replace(layers[0], edges=(replace(first, delay=1, delays=np.full(6, 2.0)), replace(second, delays=0.0))),
        replace(layers[1], edges=(replace(layers[1].edges[0], delay=0, delays=2.0),)),
    ]
    a, b = bptt(learned, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)
    np.testing.assert_allclose(a.outputs, b.outputs, atol=1e-14)
    for layer, expected in zip(a.gradients, b.gradients, strict=True):
        for name, gradient in expected.items():
            np.testing.assert_allclose(layer[name], gradient, atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------- exact


def convolution():
    """[4, 3, 2] with a delay per channel to [4, 3, 2] with one for all, then to 4 with one per input."""
    rng = np.random.default_rng(0)
    geometry = Convolution((4, 2), (1,))
    kernels = [rng.normal(0.3, 1.0, shape) for shape in ((3, 2, 2), (2, 2, 2), (8, 4))]
    return [
        Layer(kernels[0], np.zeros(2), lif(), (), geometry, delays=[0.3, 1.6]),
        Layer(kernels[1], None, lif(), (), geometry, delays=1.4),
        Layer(kernels[2] / 3, np.zeros(4), LI(0.6), delays=rng.uniform(0, 3, 8)),
    ]


NETWORKS = {
    "one layer": lambda: delayed(network(lif(), sizes=[3, 4]), 0),
    "per layer": lambda: [replace(network(cuba("zero"), sizes=[3, 4])[0], delays=1.3)],
    "two layers": lambda: delayed(network(lif(), li(0.6), sizes=[3, 4, 4]), 0, 1),
    "edges": lambda: delayed(network(alif(), lif("zero"), sizes=[3, 3, 4], edges=[(0, 0, 1), (1, 0, 2)]), 0, 1),
    "skip": lambda: delayed(network(lif(), lif(), li(), sizes=[3, 3, 3, 4], edges=[(0, 2, 0)]), 1, 2),
    "wide": lambda: delayed(network(lif(), li(0.6), sizes=[3, 4, 4]), 0, 1, width=2),
    "convolution": convolution,
}


def real_inputs(layers):
    n = layers[0].kernel.shape[0] if layers[0].convolution is None else 8
    return np.random.default_rng(2).normal(0.3, 1.0, (8, B, n))


@pytest.mark.parametrize("name", NETWORKS)
def test_bptt_equals_finite_differences_by_delays_too(name):
    layers = smoothed(NETWORKS[name]())
    inputs = real_inputs(layers)
    result = bptt(layers, inputs, SIGNAL)
    assert any(np.abs(g).min() > 1e-5 for layer in result.gradients for p, g in layer.items() if p.endswith("delays"))
    for index, parameter, place, quotient in difference_quotients(
        lambda other: bptt(other, inputs, SIGNAL).loss, layers
    ):
        assert abs(result.gradients[index][parameter][place] - quotient) < 1e-8, (index, parameter, place)


@pytest.mark.parametrize("name", NETWORKS)
def test_t1_rtrl_is_bptt_with_delays(name):
    layers = NETWORKS[name]()
    inputs = real_inputs(layers)
    penalties = [Penalty(0, lambda v: ((v**2).sum(axis=1), 2 * v), "membranes")]
    exact = bptt(layers, inputs, SIGNAL, penalties=penalties)
    assert deviation(rtrl(layers, inputs, SIGNAL, penalties=penalties), exact) < EXACT


def test_tbptt_does_not_pass_the_start_of_a_window_through_a_delay():
    layers, inputs = delayed(network(lif(), li()), 0, 1), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    carry, total = None, [dict.fromkeys(layer.parameters(), 0.0) for layer in layers]
    for first in range(0, T, 5):
        part = slice(first, first + 5)
        result = bptt(layers, inputs[part], linear(weights[part]), carry=carry)
        carry = result.carry
        for sums, gradients in zip(total, result.gradients, strict=True):
            for name in sums:
                sums[name] = sums[name] + gradients[name] * len(inputs[part]) / T
    whole = tbptt(layers, inputs, linear(weights), 5)
    assert deviation(whole._replace(gradients=total), whole) < EXACT
    assert deviation(whole, bptt(layers, inputs, linear(weights))) > 0.01


# ---------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize("neuron", [lif(), lif("zero", True), cuba("zero"), alif(), None, li()])
def test_t4_ostl_is_bptt_of_the_delays_of_one_layer_and_of_the_last(neuron):
    inputs = spikes()
    for layers in (delayed(network(neuron), 0), delayed(network(neuron, dense()), 0)):
        assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT
    layers = delayed(network(lif(), neuron, edges=[(0, 1, 2)]), 1)
    assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


def test_t4_with_h_a_recurrent_layer_with_delays_is_exact():
    layers, inputs = delayed(network(lif(), edges=[(0, 0, 1), (0, 0, 2)]), 0), spikes()
    exact = bptt(layers, inputs, SIGNAL)
    assert deviation(ostl(layers, inputs, SIGNAL, with_h=True), exact) < EXACT
    assert deviation(ostl(layers, inputs, SIGNAL), exact, names=["delays", "edge0_delays"]) > 0.02


def test_t5_ottt_is_ostl_of_delays_without_a_gradient_through_resets():
    layers, inputs = delayed(network(DETACHED, cuba(stop=True), edges=[(1, 0, 1)]), 0, 1), spikes()
    assert deviation(ottt(layers, inputs, SIGNAL), ostl(layers, inputs, SIGNAL)) < EXACT
    layers = delayed(network(lif("zero")), 0)
    a, b = ottt(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)
    assert deviation(a, b, names=["delays"]) > 0.05


def test_t6_otpe_and_e_prop_are_bptt_of_the_delays_of_two_layers():
    inputs = spikes()
    layers = delayed(network(alif(), li(0.6)), 0)
    exact = bptt(layers, inputs, SIGNAL)
    assert deviation(otpe(layers, inputs, SIGNAL), exact) < EXACT
    assert deviation(e_prop(layers, inputs, SIGNAL), exact) < EXACT
    assert np.abs(exact.gradients[0]["delays"]).min() > 1e-5


def test_t9_sltt_is_bptt_of_the_delays_of_steps_alone():
    layers, inputs = delayed(network(lif(), alif(), li(), edges=[(0, 2, 0), (0, 0, 1)]), 0, 1, 2, longest=1.5), spikes()
    assert deviation(sltt(layers, inputs, SIGNAL), tbptt(layers, inputs, SIGNAL, 1)) < EXACT


@pytest.mark.parametrize("rule", RULES)
def test_gradient_of_a_delay_is_what_a_kernel_on_the_derivative_has_times_the_kernel(rule):
    """The input x with delays d, as two inputs without delays: x~ through W and its derivative through 0."""
    layers = without_neuron_parameters(delayed(network(lif(), li(0.7)), 0))
    inputs = np.random.default_rng(2).normal(0.3, 1.0, (T, B, 7))
    steps = [forward_of_first for (forward_of_first, _) in forward(layers, inputs)]
    x, dx = (np.stack([getattr(step, field)[""] for step in steps]) for field in ("inputs", "slopes"))
    two = [
        replace(layers[0], kernel=np.vstack([layers[0].kernel, 0 * layers[0].kernel]), delays=None),
        layers[1],
    ]
    expected = RULES[rule](two, np.concatenate([x, dx], axis=-1), SIGNAL).gradients[0]["kernel"]
    found = RULES[rule](layers, inputs, SIGNAL).gradients[0]
    np.testing.assert_allclose(found["kernel"], expected[:7], rtol=1e-11, atol=1e-14)
    by_delays = (expected[7:] * layers[0].kernel).sum(axis=1)
    np.testing.assert_allclose(found["delays"], by_delays, rtol=1e-11, atol=1e-14)


def test_delays_shared_by_inputs_have_the_sum():
    inputs = spikes()
    shared = [replace(network(lif())[0], delays=1.4)]
    separate = [replace(shared[0], delays=np.full(7, 1.4))]
    for rule in (bptt, *(rule for name, rule in RULES.items() if name not in ("pp-prop", "stllr"))):
        a, b = rule(shared, inputs, SIGNAL), rule(separate, inputs, SIGNAL)
        np.testing.assert_allclose(a.gradients[0]["delays"], b.gradients[0]["delays"].sum(), rtol=1e-11)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("chunk", [1, 5])
def test_t10a_delays_read_the_inputs_of_the_chunk_before(chunk, rule):
    layers = without_neuron_parameters(delayed(network(lif(), alif(), edges=[(0, 0, 1), (1, 0, 2)]), 0, 1))
    inputs = spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    whole = RULES[rule](layers, inputs, linear(weights))
    carry, total = None, [dict.fromkeys(layer.parameters(), 0.0) for layer in layers]
    for first in range(0, T, chunk):
        part = slice(first, first + chunk)
        result = RULES[rule](layers, inputs[part], linear(weights[part]), carry=carry)
        carry = result.carry
        for sums, gradients in zip(total, result.gradients, strict=True):
            for name in sums:
                sums[name] = sums[name] + gradients[name] * len(inputs[part]) / T
    assert deviation(whole._replace(gradients=total), whole) < EXACT


# -------------------------------------------------------------------------------------------------------- signals below


@pytest.mark.parametrize("rule", RULES)
def test_t8a_every_rule_is_bptt_in_one_step_with_delays(rule):
    """So the signal down has the share of the input that arrives at once."""
    layers = without_neuron_parameters(delayed(network(lif(), alif(), cuba(), edges=[(0, 2, 0)]), 1, 2, longest=0.8))
    inputs = spikes(steps=1)
    exact = bptt(layers, inputs, SIGNAL)
    assert deviation(RULES[rule](layers, inputs, SIGNAL), exact) < EXACT
    assert np.abs(exact.gradients[0]["kernel"]).max() > 1e-4


@pytest.mark.parametrize("rule", ["ostl", "ottt", "sltt", "otpe", "e-prop"])
def test_what_arrives_later_brings_no_signal_down_unless_it_is_to_pass_delays(rule):
    layers, inputs = delayed(network(lif(), li(0.7)), 1), spikes()
    layers[1] = replace(layers[1], delays=1 + layers[1].delays)
    first = RULES[rule](layers, inputs, SIGNAL).gradients[0]
    assert not any(np.any(gradient) for gradient in first.values())
    passing = RULES[rule](layers, inputs, SIGNAL, route=Symmetric(through_delays=True))
    history = forward(layers, inputs)
    below = np.stack([SIGNAL(t, steps[-1].output)[1] @ layers[1].kernel.T for t, steps in enumerate(history)])
    expected = RULES[rule]([layers[0], Layer(np.eye(6), None, LI(0.7), fixed=("decay",))], inputs, linear(below))
    for name, gradient in passing.gradients[0].items():
        np.testing.assert_allclose(gradient, expected.gradients[0][name], rtol=1e-11, atol=1e-14)
    assert deviation(passing, RULES[rule](layers, inputs, SIGNAL), layers=LAST) == 0


def test_routes_that_pass_no_layer_need_no_share_of_what_arrives_late():
    layers, inputs = delayed(network(lif(), li(0.7)), 1), spikes()
    layers[1] = replace(layers[1], delays=1 + layers[1].delays)
    history, (matrix,) = forward(layers, inputs), np.random.default_rng(0).normal(size=(1, 6, 4))
    below = np.stack([SIGNAL(t, steps[-1].output)[1] @ matrix.T for t, steps in enumerate(history)])
    found = ostl(layers, inputs, SIGNAL, route=Direct([matrix])).gradients[0]
    expected = ostl(layers[:1], inputs, linear(below)).gradients[0]
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], atol=1e-14)


# ----------------------------------------------------------------------------------------------------- groups, refusals


def test_delays_per_input_and_group_of_outputs_are_edges_with_a_part_of_the_kernel():
    """Two groups of the outputs, each with its own delays: the chain with the columns of one, an edge with the others'."""
    rng = np.random.default_rng(1)
    kernel, d = rng.normal(size=(7, 4)), rng.uniform(0, 3, (2, 7))
    group = np.arange(4) < 2
    edge = Edge(-1, 0, kernel * ~group, delays=d[1])
    layers, inputs = [Layer(kernel * group, np.zeros(4), lif(), (edge,), delays=d[0])], spikes()
    alone = [Layer(kernel[:, group], np.zeros(2), lif(), delays=d[0])]
    np.testing.assert_array_equal(
        series(forward(layers, inputs), "output")[..., group], series(forward(alone, inputs), "output")
    )
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    whole, part = ostl(layers, inputs, linear(weights)), ostl(alone, inputs, linear(weights[..., group]))
    np.testing.assert_allclose(whole.gradients[0]["delays"], part.gradients[0]["delays"], atol=1e-14)
    np.testing.assert_allclose(whole.gradients[0]["kernel"][:, group], part.gradients[0]["kernel"], atol=1e-14)
    assert deviation(whole, bptt(layers, inputs, linear(weights))) < EXACT


@pytest.mark.parametrize("rule", [snap, partial(uoro, noise=np.ones((T, B, 10)))])
def test_rules_that_number_what_is_carried_refuse_learned_delays(rule):
    with pytest.raises(ValueError, match="expected delays that are not learned"):
        rule(delayed(network(lif()), 0), spikes(), SIGNAL)
