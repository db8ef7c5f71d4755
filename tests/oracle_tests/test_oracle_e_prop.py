"""e-prop."""

import numpy as np
import pytest

from oracle import Dense, approximate_otpe, bptt, e_prop, ostl, otpe
from small_networks import (
    DETACHED,
    EDGES,
    EXACT,
    FIRST,
    HIDDEN,
    LAST,
    LAST_TWO,
    SELF,
    SIGNAL,
    alif,
    cuba,
    deviation,
    graphs,
    li,
    lif,
    network,
    spikes,
)


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
