"""Laws that every rule obeys."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from oracle import (
    OSTL,
    Direct,
    Local,
    advance,
    approximate_otpe,
    bptt,
    e_prop,
    forward_step,
    linear,
    ostl,
    ottt,
    softmax_cross_entropy,
    start,
)
from small_networks import (
    EDGES,
    EXACT,
    LABELS,
    NEURONS,
    RESETS,
    RULES,
    SIGNAL,
    B,
    T,
    alif,
    cuba,
    depth,
    deviation,
    lif,
    network,
    spikes,
)

READOUTS = [np.random.default_rng(5).normal(size=(n, 4)) for n in (6, 5)]
NO_FUTURE = {
    **{name: rule for name, rule in RULES.items() if name != "bptt"},
    "ottt-no-bias-trace": partial(ottt, bias_trace=False),
    "approximate-otpe-no-bias-trace": partial(approximate_otpe, bias_trace=False),
    "e-prop-kappa": partial(e_prop, kappa=0.9),
    "ostl-direct": lambda layers, *given, **options: ostl(
        layers, *given, route=Direct(READOUTS[: len(layers) - 1]), **options
    ),
    "decolle": lambda layers, *given, **options: ottt(
        layers, *given, route=Local(READOUTS[: len(layers) - 1]), **options
    ),
}
ALL = {**NO_FUTURE, "bptt": bptt}
GRAPH = {"neurons": (lif(), alif(), lif("zero")), "edges": EDGES["everything"]}


def graph():
    return network(*GRAPH["neurons"], edges=GRAPH["edges"])


def knows(rule, neuron):
    """Rules that take the decay above need one for the whole layer."""
    return neuron is not None or rule not in ("otpe", "approximate-otpe", "e-prop")


@pytest.mark.parametrize(
    ("name", "rule"), [(name, rule) for name in NEURONS for rule in RULES if knows(rule, NEURONS[name])]
)
def test_t8a_every_rule_is_bptt_in_one_step(name, rule):
    layers, inputs = network(*[NEURONS[name]] * 3), spikes(steps=1)
    assert deviation(RULES[rule](layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("edges", EDGES)
def test_t8a_every_rule_is_bptt_in_one_step_over_edges(edges, rule):
    layers = network(*(lif(), alif(), cuba())[: depth(EDGES[edges])], edges=EDGES[edges])
    inputs = spikes(steps=1)
    assert deviation(RULES[rule](layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("reset", "stop"), RESETS)
def test_t8b_every_rule_is_bptt_without_memory(reset, stop, rule):
    for edges in ([], [(0, 2, 0)]):
        layers, inputs = network(*[lif(reset, stop, decay=0.0)] * 3, edges=edges), spikes()
        assert deviation(RULES[rule](layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("rule", ALL)
def test_t8c_silent_inputs_leave_their_weights_alone(rule):
    layers = network(lif(), lif())
    gradients = ALL[rule](layers, 0 * spikes(), SIGNAL).gradients
    assert not gradients[0]["kernel"].any()
    assert gradients[0]["bias"].any()


@pytest.mark.parametrize("rule", NO_FUTURE)
@pytest.mark.parametrize("chunk", [1, 2, 5, T])
def test_t10a_chunks_with_carried_traces_give_the_same_gradient(rule, chunk):
    inputs = spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    for layers in (network(lif(), lif("zero"), lif(stop=True)), graph()):
        whole = NO_FUTURE[rule](layers, inputs, linear(weights))
        carry, total = None, [dict.fromkeys(layer.parameters(), 0.0) for layer in layers]
        for first in range(0, T, chunk):
            part = slice(first, first + chunk)
            result = NO_FUTURE[rule](layers, inputs[part], linear(weights[part]), carry=carry)
            carry = result.carry
            for sums, gradients in zip(total, result.gradients, strict=True):
                for name in sums:
                    sums[name] = sums[name] + gradients[name] * len(inputs[part]) / T
        assert deviation(whole._replace(gradients=total), whole) < EXACT


@pytest.mark.parametrize("rule", ALL)
def test_t14_gradients_are_linear_in_the_signal(rule):
    layers, inputs = graph(), spikes()

    def tripled(t, outputs):
        return tuple(3 * part for part in SIGNAL(t, outputs))

    once, thrice = ALL[rule](layers, inputs, SIGNAL), ALL[rule](layers, inputs, tripled)
    expected = [{name: 3 * g for name, g in layer.items()} for layer in once.gradients]
    assert deviation(thrice, once._replace(gradients=expected)) < EXACT
    assert thrice.loss == pytest.approx(3 * once.loss)


@pytest.mark.parametrize("rule", NO_FUTURE)
def test_t15_gradient_is_the_mean_of_those_of_single_steps(rule):
    layers, inputs = graph(), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    whole = NO_FUTURE[rule](layers, inputs, linear(weights))
    steps = [
        NO_FUTURE[rule](layers, inputs, linear(np.where(np.arange(T)[:, None, None] == t, weights, 0)))
        for t in range(T)
    ]
    total = [
        {name: sum(step.gradients[index][name] for step in steps) for name in layer}
        for index, layer in enumerate(whole.gradients)
    ]
    assert deviation(whole._replace(gradients=total), whole) < EXACT


@pytest.mark.parametrize("rule", ALL)
def test_gradients_are_means_over_samples(rule):
    layers, inputs = graph(), spikes()
    whole = ALL[rule](layers, inputs, SIGNAL)
    alone = [ALL[rule](layers, inputs[:, b : b + 1], softmax_cross_entropy(LABELS[b : b + 1])) for b in range(B)]
    mean = [
        {name: sum(result.gradients[index][name] for result in alone) / B for name in layer}
        for index, layer in enumerate(whole.gradients)
    ]
    assert deviation(whole._replace(gradients=mean), whole) < EXACT


@pytest.mark.parametrize("rule", NO_FUTURE)
def test_rules_without_a_future_do_not_see_it(rule):
    """Further steps without a loss, whatever comes in, change nothing."""
    layers, inputs = graph(), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    longer = np.concatenate([inputs, spikes(seed=7, steps=3)])
    padded = np.concatenate([weights, np.zeros((3, B, 4))])
    short = NO_FUTURE[rule](layers, inputs, linear(weights))
    long = NO_FUTURE[rule](layers, longer, linear(padded))
    scaled = [{name: g * (T + 3) / T for name, g in layer.items()} for layer in long.gradients]
    assert deviation(long._replace(gradients=scaled), short) < EXACT


@pytest.mark.parametrize("rule", [rule for rule in ALL if rule not in ("otpe", "e-prop") and "approx" not in rule])
def test_parameters_per_neuron_sum_to_the_shared_ones(rule):
    inputs = spikes()
    shared = network(lif(), cuba(), alif(), edges=[(0, 0, 1), (0, 2, 0)])
    separate = [
        replace(
            layer,
            neuron=replace(
                layer.neuron,
                **{name: np.full(layer.size, getattr(layer.neuron, name)) for name in layer.neuron.parameters},
            ),
        )
        for layer in shared
    ]
    a, b = ALL[rule](separate, inputs, SIGNAL), ALL[rule](shared, inputs, SIGNAL)
    assert a.gradients[0]["decay"].shape == (6,)
    assert np.shape(b.gradients[0]["decay"]) == ()
    summed = [
        {name: np.sum(g) if name in layer.neuron.parameters else g for name, g in gradients.items()}
        for layer, gradients in zip(shared, a.gradients, strict=True)
    ]
    if rule == "snap":  # shared by all, a parameter acts on all neurons directly
        assert deviation(a._replace(gradients=summed), b, names=["kernel", "bias", "edge0_kernel"]) < EXACT
    else:
        assert deviation(a._replace(gradients=summed), b) < EXACT


def test_advance_uses_the_parameters_that_it_is_given():
    # Online training: states and traces stay, parameters change between steps.
    before, after = network(lif(), lif(), seed=0), network(lif(), lif(), seed=1)
    x = spikes()
    carry, _, _, _ = advance(OSTL(), before, start(OSTL(), before, B), x[0], lambda y: SIGNAL(0, y))
    _, output, loss, gradients = advance(OSTL(), after, carry, x[1], lambda y: SIGNAL(1, y))
    step = forward_step(after, carry.states, x[1])[-1]
    np.testing.assert_array_equal(output, step.output)
    assert loss == SIGNAL(1, output)[0].mean()
    eps = step.o[..., 0] * carry.traces.layers[1]["bias"][..., 0] + step.psi
    np.testing.assert_allclose(gradients[1]["bias"], (SIGNAL(1, output)[1] / B * eps).sum(axis=0))
