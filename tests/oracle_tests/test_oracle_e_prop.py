"""e-prop, and DECOLLE, which needs no signal from above at all."""

from dataclasses import replace

import numpy as np
import pytest

from oracle import Dense, approximate_otpe, bptt, decolle, e_prop, linear, ostl, otpe, ottt, softmax_cross_entropy
from small_networks import (
    DETACHED,
    EDGES,
    EXACT,
    FIRST,
    HIDDEN,
    LABELS,
    LAST,
    LAST_TWO,
    SELF,
    SIGNAL,
    B,
    T,
    alif,
    cuba,
    depth,
    deviation,
    graphs,
    li,
    lif,
    network,
    spikes,
)


def transposed(layers):
    """The kernels themselves as feedback."""
    return [{name: value for name, value in layer.parameters().items() if name.endswith("kernel")} for layer in layers]


def random_feedback(layers, seed=3):
    rng = np.random.default_rng(seed)
    return [{name: rng.normal(size=kernel.shape) for name, kernel in kernels.items()} for kernels in transposed(layers)]


@pytest.mark.parametrize("kappa", [None, 0.5])
def test_t12_e_prop_is_exact_in_a_last_layer_that_sends_nothing_back(kappa):
    layers, inputs = network(lif(), alif(), cuba(), edges=[SELF, (0, 2, 0), (1, 2, 2)]), spikes()
    a, b = e_prop(layers, inputs, SIGNAL, kappa=kappa), bptt(layers, inputs, SIGNAL)
    assert deviation(a, b, layers=LAST) < EXACT
    assert deviation(a, b, layers=HIDDEN) > 0.1


@pytest.mark.parametrize("hidden", [lif(), lif("zero"), alif(), cuba()])
def test_t12_e_prop_is_bptt_if_the_recurrent_weights_are_zero(hidden):
    """Those of the recurrent weights too."""
    layers, inputs = network(hidden, li(0.6), edges=[SELF]), spikes()
    assert deviation(e_prop(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=FIRST) > 0.01
    layers[0].edges[0].kernel[...] = 0
    a, b = e_prop(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)
    assert deviation(a, b) < EXACT
    assert np.abs(b.gradients[0]["edge0_kernel"]).max() > 1e-4
    assert deviation(e_prop(layers, inputs, SIGNAL, kappa=0.5), b, layers=FIRST) > 0.05


@pytest.mark.parametrize("edges", EDGES)
def test_t12_symmetric_feedback_is_no_feedback(edges):
    layers = network(*(lif(), alif(), cuba())[: depth(EDGES[edges])], edges=EDGES[edges])
    inputs = spikes()
    symmetric = e_prop(layers, inputs, SIGNAL)
    assert deviation(e_prop(layers, inputs, SIGNAL, feedback=transposed(layers)), symmetric) == 0
    random = e_prop(layers, inputs, SIGNAL, feedback=random_feedback(layers))
    assert deviation(random, symmetric, layers=LAST) == 0
    assert deviation(random, symmetric, layers=HIDDEN) > 0.1


def test_random_feedback_brings_the_signal_down_in_place_of_the_weights():
    """One hidden layer: the gradient of W is that of the network with weights B, along the spikes of that with W."""
    layers, inputs = network(lif(), Dense()), spikes()
    weights = np.random.default_rng(0).normal(size=(T, B, 4))
    feedback = random_feedback(layers)
    other = [layers[0], replace(layers[1], kernel=feedback[1]["kernel"])]
    a = e_prop(layers, inputs, linear(weights), feedback=feedback)
    assert deviation(a, ostl(other, inputs, linear(weights)), layers=FIRST) < EXACT


@pytest.mark.parametrize(("neurons", "edges"), [p for p in graphs() if "per neuron" not in p.id])
def test_e_prop_with_the_decay_above_is_otpe_in_the_last_two_layers(neurons, edges):
    layers, inputs = network(*neurons, edges=edges), spikes()
    assert deviation(e_prop(layers, inputs, SIGNAL), otpe(layers, inputs, SIGNAL), layers=LAST_TWO) < EXACT


def test_e_prop_below_two_layers_is_not_otpe():
    layers, inputs = network(lif(), lif(), lif()), spikes()
    assert deviation(e_prop(layers, inputs, SIGNAL), otpe(layers, inputs, SIGNAL), layers=FIRST) > 0.1


def test_e_prop_without_a_filter_is_ostl():
    layers, inputs = network(lif(), alif(), cuba(), edges=EDGES["everything"]), spikes()
    assert deviation(e_prop(layers, inputs, SIGNAL, kappa=0.0), ostl(layers, inputs, SIGNAL)) == 0


@pytest.mark.parametrize("rule", [e_prop, otpe, approximate_otpe])
def test_last_layer_is_the_last_one_with_a_neuron(rule):
    """Synapses alone on top are part of the loss: the layer below is under OSTL, or under OTTT, as a last layer is."""
    layers, inputs = network(lif(), DETACHED, Dense()), spikes()
    options = {"kappa": 0.9} if rule is e_prop else {}
    assert deviation(rule(layers, inputs, SIGNAL, **options), bptt(layers, inputs, SIGNAL), layers=LAST_TWO) < EXACT


# ------------------------------------------------------------------------------------------------------------- DECOLLE


def readouts(layers, seed=4):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(layer.size, 4)) for layer in layers]


def test_decolle_takes_nothing_from_above():
    """A layer's gradient stays when any parameter of a layer above changes, and changes with its own read-out."""
    layers, inputs = network(lif(), cuba(), alif()), spikes()
    Q = readouts(layers)
    before = decolle(layers, inputs, SIGNAL, Q)
    for index in (1, 2):
        other = network(lif(), cuba("zero"), alif(True), seed=7)
        after = decolle([*layers[:index], *other[index:]], inputs, SIGNAL, Q)
        assert deviation(after, before, layers=slice(0, index)) == 0
        assert deviation(after, before, layers=slice(index, index + 1)) > 0.1
    after = decolle(layers, inputs, SIGNAL, [Q[0], Q[1], -Q[2]])
    assert deviation(after, before, layers=slice(0, 2)) == 0
    assert deviation(after, before, layers=LAST) > 0.1


@pytest.mark.parametrize("edges", EDGES)
def test_decolle_is_ottt_of_each_layer_below_its_read_out(edges):
    """With the layers above cut off, but for what they send back, and the read-out as a layer without a neuron on top."""
    layers = network(*(lif(), cuba(), alif())[: depth(EDGES[edges])], edges=EDGES[edges])
    inputs, Q = spikes(), readouts(layers)
    result = decolle(layers, inputs, SIGNAL, Q)
    for index, layer in enumerate(layers):
        if any(edge.sender > index for lower in layers[: index + 1] for edge in lower.edges):
            continue
        readout = replace(layer, kernel=Q[index], bias=None, neuron=Dense(), edges=())
        alone = ottt([*layers[: index + 1], readout], inputs, SIGNAL).gradients[index]
        for name, gradient in result.gradients[index].items():
            np.testing.assert_allclose(gradient, alone[name], atol=1e-14)


def test_decolle_is_exact_within_a_layer_if_the_reset_is_detached():
    layers, inputs = network(DETACHED), spikes()
    assert deviation(decolle(layers, inputs, SIGNAL, [None]), bptt(layers, inputs, SIGNAL)) < EXACT


def test_loss_of_decolle_is_the_sum_over_layers():
    layers, inputs = network(lif(), li()), spikes()
    Q = readouts(layers)[0]
    result = decolle(layers, inputs, SIGNAL, [Q, None])
    hidden = bptt(layers[:1], inputs, lambda t, s: (softmax_cross_entropy(LABELS)(t, s @ Q)[0], 0 * s))
    assert result.loss == pytest.approx(hidden.loss + bptt(layers, inputs, SIGNAL).loss)
