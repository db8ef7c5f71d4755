"""Routes: what brings the signal to each layer, whatever the rule makes of it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from oracle import (
    Dense,
    Direct,
    Layer,
    Local,
    Matrices,
    PerLayer,
    Symmetric,
    Target,
    approximate_otpe,
    bptt,
    e_prop,
    forward,
    linear,
    ostl,
    otpe,
    ottt,
    pp_prop,
    run,
    series,
    sltt,
)
from oracle.local import OSTL, OTPE, OTTT, SLTT
from small_networks import (
    DETACHED,
    EDGES,
    EXACT,
    FIRST,
    HIDDEN,
    LABELS,
    LAST,
    SELF,
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

RULES = {
    "ostl": ostl,
    "ostl-with-h": partial(ostl, with_h=True),
    "sltt": sltt,
    "ottt": ottt,
    "otpe": otpe,
    "approximate-otpe": approximate_otpe,
    "e-prop": e_prop,
    "pp-prop": pp_prop,
}
TARGETS = np.eye(4)[LABELS]


def three_layers(edges=()):
    return without_neuron_parameters(network(lif(), alif(), cuba(), edges=edges))


def transposed(layers):
    """The kernels themselves in their own place."""
    return [{name: value for name, value in layer.parameters().items() if name.endswith("kernel")} for layer in layers]


def random_kernels(layers, seed=3):
    rng = np.random.default_rng(seed)
    return [{name: rng.normal(size=kernel.shape) for name, kernel in kernels.items()} for kernels in transposed(layers)]


def random_matrices(layers, seed=4):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(layer.size, 4)) for layer in layers[:-1]]


ROUTES = {
    "matrices": lambda layers: Matrices(random_kernels(layers)),
    "direct": lambda layers: Direct(random_matrices(layers)),
    "target": lambda layers: Target(random_matrices(layers), TARGETS),
    "local": lambda layers: Local(random_matrices(layers)),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("rule", RULES)
def test_route_is_of_no_matter_to_the_last_layer_and_brings_others_another_signal(rule, route):
    layers, inputs = three_layers(EDGES["everything"]), spikes()
    symmetric = RULES[rule](layers, inputs, SIGNAL)
    other = RULES[rule](layers, inputs, SIGNAL, route=ROUTES[route](layers))
    assert deviation(other, symmetric, layers=LAST) == 0
    for index in (0, 1):
        assert deviation(other, symmetric, layers=slice(index, index + 1)) > 0.1
    assert other.loss == symmetric.loss


@pytest.mark.parametrize("rule", RULES)
def test_t12_kernels_in_their_own_place_are_the_symmetric_route(rule):
    for edges in EDGES.values():
        layers, inputs = (
            without_neuron_parameters(network(*(lif(), alif(), cuba())[: depth(edges)], edges=edges)),
            spikes(),
        )
        symmetric = RULES[rule](layers, inputs, SIGNAL)
        assert deviation(RULES[rule](layers, inputs, SIGNAL, route=Symmetric()), symmetric) == 0
        assert deviation(RULES[rule](layers, inputs, SIGNAL, route=Matrices(transposed(layers))), symmetric) == 0


def test_random_kernels_bring_the_signal_down_in_place_of_the_weights():
    """One hidden layer: the gradient of W is that of the network with weights B, along the spikes of that with W."""
    layers, inputs = network(lif(), Dense()), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    kernels = random_kernels(layers)
    other = [layers[0], replace(layers[1], kernel=kernels[1]["kernel"])]
    a = e_prop(layers, inputs, linear(weights), route=Matrices(kernels))
    assert deviation(a, ostl(other, inputs, linear(weights)), layers=FIRST) < EXACT


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("last", [li(0.6), lif("zero"), Dense()], ids=["li", "lif", "none"])
def test_direct_route_is_that_of_matrices_in_two_layers(last, rule):
    """The chain alone brings signals down; with edges from above there would be several matrices and one B."""
    layers, inputs = without_neuron_parameters(network(lif(), last, edges=[SELF])), spikes()
    (B_l,) = random_matrices(layers)
    a = RULES[rule](layers, inputs, SIGNAL, route=Direct([B_l]))
    b = RULES[rule](layers, inputs, SIGNAL, route=Matrices([{}, {"kernel": B_l}]))
    assert deviation(a, b) < EXACT
    assert deviation(a, RULES[rule](layers, inputs, SIGNAL), layers=HIDDEN) > 0.1


def alone(rule, layers, inputs, index, signals, **options):
    """A hidden layer under a rule with given signals [T, B, N], the layers below in place."""
    return rule(layers[: index + 1], inputs, linear(signals), **options).gradients[index]


def same(gradients, others):
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, others[name], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("rule", ["ostl", "ottt", "sltt"])
@pytest.mark.parametrize("last", [li(), cuba("zero")], ids=["li", "cuba"])
def test_direct_signal_is_the_cotangent_of_the_last_current_times_the_matrix(last, rule):
    layers, inputs = network(lif(), alif(), last, edges=[SELF, (0, 2, 0), (0, 1, 2)]), spikes()
    matrices, history = random_matrices(layers), forward(layers, inputs)
    e = np.stack([SIGNAL(t, steps[-1].output)[1] * steps[-1].psi for t, steps in enumerate(history)])
    result = RULES[rule](layers, inputs, SIGNAL, route=Direct(matrices))
    for index in (0, 1):
        same(result.gradients[index], alone(RULES[rule], layers, inputs, index, e @ matrices[index].T))
    if isinstance(last, type(li())):
        np.testing.assert_array_equal(e, np.stack([SIGNAL(t, s[-1].output)[1] for t, s in enumerate(history)]))


def test_synapses_alone_on_top_may_belong_to_the_top_or_not():
    """With a matrix for every layer with a neuron, the error is that of the outputs; else the last of them is the top."""
    layers, inputs = network(lif(), lif(), Dense()), spikes()
    history, matrices = forward(layers, inputs), random_matrices(layers)
    error = np.stack([SIGNAL(t, steps[-1].output)[1] for t, steps in enumerate(history)])
    result = ostl(layers, inputs, SIGNAL, route=Direct(matrices))
    for index in (0, 1):
        same(result.gradients[index], alone(ostl, layers, inputs, index, error @ matrices[index].T))
    B_0 = np.random.default_rng(0).normal(size=(6, 5))
    result = ostl(layers, inputs, SIGNAL, route=Direct([B_0]))
    assert deviation(result, ostl(layers, inputs, SIGNAL), layers=slice(1, None)) == 0
    e = error @ layers[2].kernel.T * series(history, "psi", layer=1)
    same(result.gradients[0], alone(ostl, layers, inputs, 0, e @ B_0.T))


@pytest.mark.parametrize("route", ["direct", "target", "local"])
@pytest.mark.parametrize("rule", RULES)
def test_no_signal_passes_from_layer_to_layer(rule, route):
    """Each matrix is of matter to its own layer alone, whatever edges there are."""
    kinds = {"direct": Direct, "target": lambda matrices: Target(matrices, TARGETS), "local": Local}
    layers, inputs = three_layers(EDGES["everything"]), spikes()
    matrices = random_matrices(layers)
    before = RULES[rule](layers, inputs, SIGNAL, route=kinds[route](matrices))
    for index in (0, 1):
        other = [-matrix if i == index else matrix for i, matrix in enumerate(matrices)]
        after = RULES[rule](layers, inputs, SIGNAL, route=kinds[route](other))
        for i in range(3):
            difference = deviation(after, before, layers=slice(i, i + 1))
            assert difference > 0.1 if i == index else difference == 0


# --------------------------------------------------------------------------------------------------------------- target


@pytest.mark.parametrize("rule", ["ostl", "ottt", "sltt"])
def test_target_signal_is_the_label_times_the_matrix(rule):
    """As if the loss of a hidden layer was the mean over T and B of s . (B y*)."""
    layers, inputs = network(lif(), alif(), li(), edges=[SELF, (0, 2, 0)]), spikes()
    matrices = random_matrices(layers)
    result = RULES[rule](layers, inputs, SIGNAL, route=Target(matrices, TARGETS))
    for index in (0, 1):
        signals = np.tile(TARGETS @ matrices[index].T, (T, 1, 1))
        same(result.gradients[index], alone(RULES[rule], layers, inputs, index, signals))


def test_target_signal_is_not_of_the_loss():
    layers, inputs = network(lif(), li()), spikes()
    route = Target(random_matrices(layers), TARGETS)
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    a, b = ostl(layers, inputs, SIGNAL, route=route), ostl(layers, inputs, linear(weights), route=route)
    assert deviation(a, b, layers=HIDDEN) == 0
    assert deviation(a, b, layers=LAST) > 0.1


@pytest.mark.parametrize("chunk", [1, 5])
def test_targets_of_each_step_go_on_in_the_next_chunk(chunk):
    layers, inputs = network(lif(), alif(), li()), spikes()
    targets = np.random.default_rng(2).normal(size=(T, B, 4))
    route = Target(random_matrices(layers), targets)
    whole = otpe(layers, inputs, SIGNAL, route=route)
    carry, total = None, [dict.fromkeys(layer.parameters(), 0.0) for layer in layers]
    for first in range(0, T, chunk):
        part = inputs[first : first + chunk]
        result = otpe(layers, part, SIGNAL, route=route, carry=carry)
        carry = result.carry
        for sums, gradients in zip(total, result.gradients, strict=True):
            for name in sums:
                sums[name] = sums[name] + gradients[name] * len(part) / T
    assert deviation(whole._replace(gradients=total), whole) < EXACT
    steady = otpe(layers, inputs, SIGNAL, route=Target(route.matrices, targets[0]))
    assert deviation(steady, whole, layers=HIDDEN) > 0.1


# ---------------------------------------------------------------------------------------------------------------- local


def test_local_route_takes_nothing_from_above():
    """A layer's gradient stays when any parameter of a layer above changes: DECOLLE."""
    layers, inputs = network(lif(), cuba(), alif()), spikes()
    route = Local(random_matrices(layers))
    before = ottt(layers, inputs, SIGNAL, route=route)
    for index in (1, 2):
        other = network(lif(), cuba("zero"), alif(True), seed=7)
        after = ottt([*layers[:index], *other[index:]], inputs, SIGNAL, route=route)
        assert deviation(after, before, layers=slice(0, index)) == 0
        assert deviation(after, before, layers=slice(index, index + 1)) > 0.1


@pytest.mark.parametrize("rule", [ottt, ostl, sltt])
@pytest.mark.parametrize("edges", EDGES)
def test_local_route_is_the_rule_of_each_layer_below_its_read_out(edges, rule):
    """With the layers above cut off, but for what they send back, and the read-out as a layer without a neuron on top."""
    layers = network(*(lif(), cuba(), alif())[: depth(EDGES[edges])], edges=EDGES[edges])
    inputs, Q = spikes(), random_matrices(layers)
    result = rule(layers, inputs, SIGNAL, route=Local(Q))
    for index in range(len(layers) - 1):
        if any(edge.sender > index for lower in layers[: index + 1] for edge in lower.edges):
            continue
        readout = Layer(Q[index], None, Dense())
        same(result.gradients[index], rule([*layers[: index + 1], readout], inputs, SIGNAL).gradients[index])


def test_local_route_is_exact_within_a_layer_if_the_reset_is_detached():
    layers, inputs = network(DETACHED, li()), spikes()
    (Q,) = random_matrices(layers)
    result = ottt(layers, inputs, SIGNAL, route=Local([Q]))
    exact = bptt([layers[0], Layer(Q, None, Dense())], inputs, SIGNAL)
    same(result.gradients[0], exact.gradients[0])
    assert deviation(result, bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


# ---------------------------------------------------------------------------------------------------------- mixed rules


def test_each_layer_has_the_rule_that_it_is_given():
    """All of these send the same signal down, so each layer's gradient is that of its rule for all layers."""
    layers, inputs = network(lif(), cuba(), lif(decay=0.6)), spikes()
    rules = [OTTT(), SLTT(), OSTL()]
    for route in (Symmetric(), Local(random_matrices(layers))):
        mixed = run(PerLayer(rules, route=route), layers, inputs, SIGNAL)
        for index, rule in enumerate((ottt, sltt, ostl)):
            whole = rule(layers, inputs, SIGNAL, route=route)
            assert deviation(mixed, whole, layers=slice(index, index + 1)) == 0


def test_one_rule_for_each_layer_is_the_rule():
    layers, inputs = network(lif(), cuba(), lif(decay=0.6), edges=EDGES["everything"]), spikes()
    assert deviation(run(PerLayer([OTPE()] * 3), layers, inputs, SIGNAL), otpe(layers, inputs, SIGNAL)) == 0
