"""OSTL with the layer's own recurrence, against the oracle's full influence within a layer, and against BPTT."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from slax_neurons import LIF, connect
from slax_rules import cross_entropy, gradients, ostl, ostl_with_recurrence
from stacks import deviation, gradients_of, inputs, linear, pair, worst

T, B = 8, 3
LABELS = jnp.array([0, 3, 2])
LIFS = [{"kind": "lif"}, {"kind": "lif", "reset": "zero"}]
jitted = nnx.jit(gradients, static_argnames=("loss_fn", "window"))


@pytest.mark.parametrize("window", [3, T])
def test_equals_the_full_influence_within_each_layer(window, x64):
    model, layers = pair([5, 4, 4], LIFS, edges=[(0, 0, 1), (1, 1, 1)])
    x = inputs(T, B, 5)
    expected = oracle.ostl(layers, np.asarray(x), oracle.softmax_cross_entropy(np.asarray(LABELS)), with_h=True)
    _, found = jitted(ostl_with_recurrence(model), cross_entropy, x, LABELS, window=window)
    assert worst(gradients_of(model, found), expected.gradients) < 1e-11


def test_is_exact_for_a_recurrent_layer_below_a_memoryless_read_out_and_ostl_is_not(x64):
    lif = {"kind": "lif", "surrogate": "arctan"}  # a wide one, so that much passes over the recurrent weights
    model, _ = pair([5, 4, 4], [lif, {"kind": "none"}], edges=[(0, 0, 1)])
    x = inputs(T, B, 5)
    exact, online, diagonal = (
        gradients_of(model, jitted(cell, cross_entropy, x, LABELS)[1])
        for cell in (model, ostl_with_recurrence(model), ostl(model))
    )
    assert worst(online, exact) < 1e-11
    assert deviation(diagonal[0]["edge0_kernel"], exact[0]["edge0_kernel"]) > 0.02


def test_an_edge_from_one_layer_to_another_is_an_error():
    model, _ = pair([5, 4, 4], LIFS, edges=[(1, 0, 1)], dtype=jnp.float32)
    with pytest.raises(TypeError, match="takes edges from a layer to itself, got one from 3 to 0"):
        ostl_with_recurrence(model)


def test_a_stack_under_a_rule_and_a_wrong_carry_are_errors():
    model = connect([linear(5, 4, 0, jnp.float32), LIF()])
    with pytest.raises(TypeError, match="under OSTL already"):
        ostl_with_recurrence(ostl(model))
    with pytest.raises(ValueError, match="not a tuple of 1 entries"):
        ostl_with_recurrence(model).unroll((), jnp.zeros((T, B, 5)))
