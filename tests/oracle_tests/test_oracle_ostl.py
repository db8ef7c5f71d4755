"""OSTL, with eligibilities within a neuron and, with H, within a layer."""

import itertools

import numpy as np
import pytest

from oracle import Dense, bptt, forward, linear, ostl, series
from small_networks import (
    EDGES,
    EXACT,
    FIRST,
    HIDDEN,
    LAST,
    NEURONS,
    SELF,
    SIGNAL,
    alif,
    cuba,
    dense,
    depth,
    deviation,
    graphs,
    lif,
    network,
    spikes,
    stacks,
)

MEMORYLESS = {"lif": lif(decay=0.0), "lif-zero": lif("zero", decay=0.0), "li": dense(), "none": Dense()}


def two_layer_stacks():
    hidden = ("lif-subtract-diff", "lif-zero-diff", "cuba-zero-diff", "alif-diff", "lif-subtract-detached")
    pairs = itertools.product((*hidden, "lif-per-neuron"), NEURONS)
    return [pytest.param(NEURONS[a], NEURONS[b], id=f"{a} {b}") for a, b in pairs]


@pytest.mark.parametrize("neurons", stacks())
def test_t4a_t4b_ostl_is_bptt_in_the_last_layer(neurons):
    layers, inputs = network(*neurons), spikes()
    assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


@pytest.mark.parametrize("edges", [[SELF], [(0, 2, 0)], [(0, 2, 3), (0, 0, 2)], [(0, 1, 1), (1, 1, 1), (1, 2, 2)]])
def test_t4a_ostl_is_bptt_in_a_last_layer_that_sends_nothing_back(edges):
    """What comes over edges into it is an input like any other."""
    layers, inputs = network(lif(), alif(), cuba(), edges=edges), spikes()
    assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=LAST) < EXACT


@pytest.mark.parametrize("above", MEMORYLESS)
@pytest.mark.parametrize("hidden", NEURONS)
def test_t4c_ostl_is_bptt_below_memoryless_layers(hidden, above):
    inputs = spikes()
    for neurons in ([NEURONS[hidden], MEMORYLESS[above]], [NEURONS[hidden], MEMORYLESS[above], MEMORYLESS[above]]):
        layers = network(*neurons, edges=[(0, 2, 0)] if len(neurons) == 3 else [])
        assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize(("hidden", "last"), [p for p in two_layer_stacks() if "dense" not in p.id])
def test_t4d_ostl_is_not_bptt_below_a_layer_with_memory(hidden, last):
    layers, inputs = network(hidden, last), spikes()
    assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=HIDDEN) > 0.1


@pytest.mark.parametrize("neurons", stacks())
def test_t4e_ostl_is_the_reverse_pass_of_each_layer_alone(neurons):
    layers, inputs = network(*neurons), spikes()
    result = ostl(layers, inputs, SIGNAL)
    history = forward(layers, inputs)
    signals = np.stack([SIGNAL(t, steps[-1].output)[1] for t, steps in enumerate(history)])
    for index in reversed(range(len(layers))):
        x = series(history, "output", layer=index - 1) if index > 0 else inputs
        alone = bptt([layers[index]], x, linear(signals))
        assert deviation(result._replace(gradients=[result.gradients[index]]), alone) < EXACT
        signals = (signals * series(history, "psi", layer=index)) @ layers[index].kernel.T


@pytest.mark.parametrize("neurons", [(lif(), lif()), (alif(), cuba()), (None, None)])
@pytest.mark.parametrize("delay", [1, 2])
def test_t4f_with_h_a_recurrent_last_layer_is_exact(neurons, delay):
    edges = [SELF, (1, 1, delay), (0, 1, 2)]
    layers, inputs = network(*neurons, edges=edges), spikes()
    exact = bptt(layers, inputs, SIGNAL)
    assert deviation(ostl(layers, inputs, SIGNAL, with_h=True), exact, layers=LAST) < EXACT
    assert deviation(ostl(layers, inputs, SIGNAL), exact, layers=LAST) > 0.02


@pytest.mark.parametrize("hidden", [lif(), lif("zero"), alif(), cuba(), None])
def test_t4g_with_h_a_recurrent_layer_below_a_memoryless_one_is_exact(hidden):
    inputs = spikes()
    for above in (dense(), Dense(), lif(decay=0.0)):
        layers = network(hidden, above, edges=[SELF])
        assert deviation(ostl(layers, inputs, SIGNAL, with_h=True), bptt(layers, inputs, SIGNAL)) < EXACT


@pytest.mark.parametrize("hidden", [lif(), lif("zero"), alif(), cuba(), None])
def test_t4h_without_h_a_recurrent_layer_is_not_exact(hidden):
    layers, inputs = network(hidden, dense(), edges=[SELF]), spikes()
    assert deviation(ostl(layers, inputs, SIGNAL), bptt(layers, inputs, SIGNAL), layers=FIRST) > 0.02


def test_h_holds_edges_of_a_layer_to_itself_and_no_others():
    for name, edges in EDGES.items():
        layers, inputs = network(*(lif(), alif(), lif("zero"))[: depth(edges)], edges=edges), spikes()
        difference = deviation(ostl(layers, inputs, SIGNAL, with_h=True), ostl(layers, inputs, SIGNAL))
        if any(sender == receiver for sender, receiver, _ in edges):
            assert difference > 1e-4, name
        else:
            assert difference < EXACT, name


@pytest.mark.parametrize(("neurons", "edges"), graphs())
def test_ostl_is_what_a_layer_makes_of_all_its_inputs_joined(neurons, edges):
    """An edge is more inputs of its receiver: one kernel with the rows of all gives the same numbers."""
    layers, inputs = network(*neurons, edges=edges), spikes()
    result, history = ostl(layers, inputs, SIGNAL), forward(layers, inputs)
    signals = [np.zeros_like(series(history, "output", layer=index)) for index in range(len(layers))]
    signals[-1] = np.stack([SIGNAL(t, steps[-1].output)[1] for t, steps in enumerate(history)])
    for index in reversed(range(len(layers))):
        layer, prefixes = layers[index], list(layers[index].connections(index))
        x = np.concatenate(
            [np.stack([steps[index].inputs[prefix] for steps in history]) for prefix in prefixes], axis=-1
        )
        kernel = np.concatenate([edge.matrix() for edge in layer.connections(index).values()])
        bias = sum(edge.bias for edge in layer.connections(index).values() if edge.bias is not None)
        joined = ostl([type(layer)(kernel, bias, layer.neuron)], x, linear(signals[index])).gradients[0]
        names = [f"{prefix}kernel" for prefix in prefixes]
        mine = np.concatenate([result.gradients[index][name] for name in names])
        np.testing.assert_allclose(mine, joined["kernel"], atol=1e-14)
        for name in set(result.gradients[index]) - set(names):
            expected = joined["bias" if name.endswith("bias") else name]
            np.testing.assert_allclose(result.gradients[index][name], expected, atol=1e-14)
        current = signals[index] * series(history, "psi", layer=index)
        for edge in layer.connections(index).values():
            if edge.delay == 0 and edge.sender >= 0:
                signals[edge.sender] += current @ edge.kernel.T
