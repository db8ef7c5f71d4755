"""Rules that know the whole network: BPTT, its truncation, RTRL, and SnAp between them."""

from dataclasses import replace

import numpy as np
import pytest

from oracle import (
    Convolution,
    Edge,
    bptt,
    forward_step,
    linear,
    rtrl,
    sltt,
    smooth,
    snap,
    softmax_cross_entropy,
    tbptt,
    uoro,
)
from oracle.networks import carried_numbers, remember
from oracle.snap import step_pattern
from small_networks import (
    EXACT,
    FEEDBACK,
    HIDDEN,
    SELF,
    SIGNAL,
    B,
    T,
    alif,
    changed,
    cuba,
    dense,
    deviation,
    graphs,
    li,
    lif,
    network,
    spikes,
    stacks,
)


@pytest.mark.parametrize("neurons", stacks())
def test_t1_rtrl_is_bptt(neurons):
    layers = network(*neurons)
    assert deviation(rtrl(layers, spikes(), SIGNAL), bptt(layers, spikes(), SIGNAL)) < EXACT


@pytest.mark.parametrize(("neurons", "edges"), graphs())
def test_t1_rtrl_is_bptt_over_edges(neurons, edges):
    layers = network(*neurons, edges=edges)
    assert deviation(rtrl(layers, spikes(), SIGNAL), bptt(layers, spikes(), SIGNAL)) < EXACT


@pytest.mark.parametrize(
    ("neurons", "edges"),
    [((lif(), lif()), ()), ((alif(), cuba()), ()), ((None, li()), ()), ((lif(), alif()), [SELF, FEEDBACK])],
)
def test_t3_rtrl_of_one_step_is_bptt_of_its_loss_alone(neurons, edges):
    layers, inputs = network(*neurons, edges=edges), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    for t in (0, 5, T - 1):
        alone = np.where(np.arange(T)[:, None, None] == t, weights, 0)
        whole, part = bptt(layers, inputs, linear(alone)), rtrl(layers, inputs[: t + 1], linear(alone))
        scaled = [{name: g * (t + 1) / T for name, g in layer.items()} for layer in part.gradients]
        assert deviation(part._replace(gradients=scaled), whole) < EXACT


@pytest.mark.parametrize(
    ("neurons", "edges"),
    [
        ((lif(), lif()), ()),
        ((alif(), cuba(), li()), ()),
        ((None, lif("zero"), lif()), ()),
        ((lif(), alif(), lif()), [(0, 2, 0), (0, 0, 1), (2, 1, 2)]),
    ],
)
def test_t9_tbptt_ends_at_sltt_and_at_bptt(neurons, edges):
    layers, inputs = network(*neurons, edges=edges), spikes()
    full = bptt(layers, inputs, SIGNAL)
    assert deviation(tbptt(layers, inputs, SIGNAL, 1), sltt(layers, inputs, SIGNAL)) < EXACT
    assert deviation(tbptt(layers, inputs, SIGNAL, T), full) == 0
    assert deviation(tbptt(layers, inputs, SIGNAL, T + 5), full) == 0
    for window in (1, 2, 5):
        assert deviation(tbptt(layers, inputs, SIGNAL, window), full) > 0.01


@pytest.mark.parametrize("edges", [(), [(0, 2, 0), (0, 0, 1), (2, 1, 2)]])
def test_tbptt_is_bptt_of_each_window_from_the_states_before(edges):
    layers, inputs = network(lif(), alif(), li(), edges=edges), spikes()
    window, carry = 5, None
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    total = [dict.fromkeys(layer.parameters(), 0.0) for layer in layers]
    for first in range(0, T, window):
        part = slice(first, first + window)
        result = bptt(layers, inputs[part], linear(weights[part]), carry=carry)
        carry = result.carry
        for sums, gradients in zip(total, result.gradients, strict=True):
            for name in sums:
                sums[name] = sums[name] + gradients[name] * len(inputs[part]) / T
    whole = tbptt(layers, inputs, linear(weights), window)
    assert deviation(whole._replace(gradients=total), whole) < EXACT


RECURRENT = {
    "self": ((lif(), li()), [SELF]),
    "two states": ((alif(), cuba()), [SELF]),
    "feedback": ((lif(), lif("zero")), [FEEDBACK]),
    "both": ((lif(), lif()), [SELF, FEEDBACK, (1, 1, 1)]),
}


@pytest.mark.parametrize("neurons", [(lif(), lif("zero"), lif()), (alif(), cuba(), li()), (None, None, dense())])
@pytest.mark.parametrize("edges", [(), [(0, 2, 0)]])
def test_t11_snap_1_is_bptt_without_delays(neurons, edges):
    layers, inputs = network(*neurons, edges=edges), spikes()
    exact = bptt(layers, inputs, SIGNAL)
    slow = {"adaptation_decay"}  # acts on the adaptation, and through it on the membrane one step later
    names = {name for layer in layers for name in layer.parameters()} - slow
    assert deviation(snap(layers, inputs, SIGNAL), exact, names=names) < EXACT
    assert deviation(snap(layers, inputs, SIGNAL, n=2), exact) < EXACT


@pytest.mark.parametrize("name", RECURRENT)
def test_t11_snap_2_is_bptt_with_dense_recurrence(name):
    neurons, edges = RECURRENT[name]
    layers, inputs = network(*neurons, edges=edges), spikes()
    exact = bptt(layers, inputs, SIGNAL)
    assert deviation(snap(layers, inputs, SIGNAL, n=2), exact) < EXACT
    assert deviation(snap(layers, inputs, SIGNAL, n=5), exact) < EXACT
    assert deviation(snap(layers, inputs, SIGNAL, n=1), exact, layers=HIDDEN) > 0.02


def test_t11_snap_reaches_one_step_further_with_each_n():
    # Each of 6 neurons in a row feeds its two neighbors and itself, so that it takes 5 further steps to reach them all.
    neighbors = Edge(0, 1, np.reshape([0.9, 0.4, 0.8], (3, 1, 1)), None, Convolution((6, 1), (1,)))
    layers, inputs = network(lif(), li()), spikes()
    layers[0] = replace(layers[0], edges=(neighbors,))
    exact = bptt(layers, inputs, SIGNAL)
    errors = [deviation(snap(layers, inputs, SIGNAL, n=n), exact, layers=HIDDEN, names=["kernel"]) for n in range(1, 7)]
    assert errors[0] > 0.05
    assert min(errors[:5]) > 1e-9
    assert errors[5] < EXACT


def test_snap_keeps_what_numbers_say_can_differ_from_zero():
    """The pattern of one step, from differences of the step itself at a random point."""
    layers = network(lif("zero"), alif(), cuba(), sizes=[2, 3, 2, 2], edges=[(0, 0, 2), (2, 1, 1), (0, 2, 0)])
    layers = [replace(layer, neuron=replace(layer.neuron, spike=smooth(2.0))) for layer in layers]
    numbers, size = carried_numbers(layers)
    rng = np.random.default_rng(0)
    carried, x = rng.normal(size=size), rng.normal(size=(1, 2))

    def step(layers, carried):
        states, *past = [[carried[number][None] for number in group] for group in numbers]
        steps = forward_step(layers, states, x, past)
        kept = [[step.states for step in steps], *remember(layers, [step.output for step in steps], past)]
        return np.concatenate([part.ravel() for group in kept for part in group])

    by_number, by_parameter = step_pattern(layers)
    differences = [step(layers, carried + 1e-3 * one) - step(layers, carried - 1e-3 * one) for one in np.eye(size)]
    np.testing.assert_array_equal(np.abs(np.transpose(differences)) > 1e-9, by_number)
    places = [
        (index, name, place)
        for index, layer in enumerate(layers)
        for name, value in layer.parameters().items()
        for place in np.ndindex(value.shape)
    ]
    differences = [
        step(changed(layers, *place, 1e-3), carried) - step(changed(layers, *place, -1e-3), carried) for place in places
    ]
    np.testing.assert_array_equal(np.abs(np.transpose(differences)) > 1e-9, by_parameter)


@pytest.mark.parametrize("edges", [[SELF], [(0, 0, 2), FEEDBACK, (0, 1, 1)]])
def test_t16_uoro_is_bptt_in_the_mean(edges):
    """The error of the mean over n draws falls as 1 / sqrt(n): one draw per sample, and all samples the same."""
    layers = network(lif(), cuba(), sizes=[3, 3, 2], edges=edges)
    signal = softmax_cross_entropy
    inputs = spikes(steps=8, batch=1, n=3)
    exact = bptt(layers, inputs, signal([1])).gradients
    size = carried_numbers(layers)[1]
    errors = []
    for draws in (64, 4096):
        noise = np.random.default_rng(0).choice([-1.0, 1.0], (8, draws, size))
        mean = uoro(layers, np.repeat(inputs, draws, axis=1), signal([1] * draws), noise).gradients
        pairs = [(a[name], b[name]) for a, b in zip(mean, exact, strict=True) for name in b]
        squares = [(np.sum((a - b) ** 2), np.sum(b**2)) for a, b in pairs]
        errors.append(np.sqrt(np.divide(*np.sum(squares, axis=0))))
    assert errors[1] < 0.15
    assert 3 < errors[0] / errors[1] < 24


def test_uoro_is_bptt_in_one_step():
    layers, inputs = network(lif(), cuba(), edges=[SELF]), spikes(steps=1)
    noise = np.ones((1, B, carried_numbers(layers)[1]))
    assert deviation(uoro(layers, inputs, SIGNAL, noise), bptt(layers, inputs, SIGNAL)) < EXACT
