"""OSTL with the layer's own recurrence, against the oracle's full influence within a layer, and against BPTT."""

import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from slax_rules import BPTT, OSTL, cross_entropy, gradients
from stacks import deviation, gradients_of, inputs, pair, worst

T, B = 8, 3
LABELS = jnp.array([0, 3, 2])
LIFS = [{"kind": "lif"}, {"kind": "lif", "reset": "zero"}]


@pytest.mark.parametrize("window", [3, T])
def test_equals_the_full_influence_within_each_layer(window, x64):
    model, layers = pair([5, 4, 4], LIFS, edges=[(0, 0, 1), (1, 1, 1)])
    x = inputs(T, B, 5)
    expected = oracle.ostl(layers, np.asarray(x), oracle.softmax_cross_entropy(np.asarray(LABELS)), with_h=True)
    _, found = gradients(model, cross_entropy, x, LABELS, rule=OSTL(recurrence=True), window=window)
    assert worst(gradients_of(model, found), expected.gradients) < 1e-11


def test_is_exact_for_a_recurrent_layer_below_a_memoryless_read_out_and_ostl_is_not(x64):
    lif = {"kind": "lif", "surrogate": "arctan"}  # a wide one, so that much passes over the recurrent weights
    model, _ = pair([5, 4, 4], [lif, {"kind": "none"}], edges=[(0, 0, 1)])
    x = inputs(T, B, 5)
    exact, online, diagonal = (
        gradients_of(model, gradients(model, cross_entropy, x, LABELS, rule=rule)[1])
        for rule in (BPTT(), OSTL(recurrence=True), OSTL())
    )
    assert worst(online, exact) < 1e-11
    assert deviation(diagonal[0]["edge0_kernel"], exact[0]["edge0_kernel"]) > 0.02


def test_layers_without_edges_of_their_own_are_under_ostl(x64):
    model, _ = pair([5, 4, 4, 4], [*LIFS, {"kind": "li"}], edges=[(1, 1, 1)])
    x = inputs(T, B, 5)
    ours, plain = (
        gradients_of(model, gradients(model, cross_entropy, x, LABELS, rule=rule, window=3)[1])
        for rule in (OSTL(recurrence=True), OSTL())
    )
    assert worst(ours[2:], plain[2:]) < 1e-12
    assert worst(ours[:1], plain[:1]) < 1e-12
    assert deviation(ours[1]["edge0_kernel"], plain[1]["edge0_kernel"]) > 1e-3


@pytest.mark.parametrize("edges", [[(1, 0, 1)], [(0, 0, 1), (1, 0, 1)]], ids=["alone", "beside its own"])
def test_an_edge_from_one_layer_to_another_is_an_error(edges):
    model, _ = pair([5, 4, 4], LIFS, edges=edges, dtype=jnp.float32)
    with pytest.raises(TypeError, match="takes edges from a layer to itself, got one from another layer"):
        gradients(model, cross_entropy, inputs(T, B, 5, dtype=jnp.float32), LABELS, rule=OSTL(recurrence=True))
