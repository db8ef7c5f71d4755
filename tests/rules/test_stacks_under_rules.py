"""What a stack may be made of under a local rule: edges that can be cut into layers, Dropout, modules without parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Dropout, Edge, connect, unroll
from slax_rules import OSTL, OTTT, Ruled, cross_entropy, gradients, ostl
from stacks import deviation, inputs, linear

T, B = 8, 3
LABELS = jnp.array([0, 3, 2])


def lif():
    return LIF(threshold=0.5, param_dtype=jnp.float64)


def test_dropout_passes_signals_through_its_mask(x64):
    dropout = Dropout(0.5, rngs=nnx.Rngs(0))
    model = connect([linear(7, 6, 0), lif(), dropout, linear(6, 4, 1), lif()])
    x = inputs(T, B, 7)
    carry = ostl(model).initialize_carry((B, 7), nnx.Rngs(1))
    mask = carry.plain[2].astype(jnp.float64)
    fixed = connect(
        [
            linear(7, 6, 0),
            lif(),
            lambda rows: rows * jnp.tile(mask, (rows.shape[0] // B, 1)) * 2,
            linear(6, 4, 1),
            lif(),
        ]
    )
    _, dropped = gradients(ostl(model), cross_entropy, x, LABELS, window=4, carry=carry)
    _, expected = gradients(ostl(fixed), cross_entropy, x, LABELS, window=4)
    assert 0 < mask.mean() < 1
    for mine, reference in zip(jax.tree.leaves(dropped), jax.tree.leaves(expected), strict=True):
        assert deviation(mine, reference) < 1e-12


def test_rules_differ_from_layer_to_layer(x64):
    """Each layer has its own rule's gradient for the signal that it gets, and the last is exact."""
    model = connect([linear(7, 6, 0), lif(), linear(6, 4, 1), LI(param_dtype=jnp.float64)])
    x = inputs(T, B, 7)
    _, mixed = gradients(Ruled(model, [OTTT(), OSTL()]), cross_entropy, x, LABELS, window=4)
    _, of_ottt = gradients(Ruled(model, OTTT()), cross_entropy, x, LABELS, window=4)
    _, exact = gradients(model, cross_entropy, x, LABELS)
    assert deviation(mixed["modules"][0]["kernel"][...], of_ottt["modules"][0]["kernel"][...]) < 1e-12
    assert deviation(mixed["modules"][2]["kernel"][...], exact["modules"][2]["kernel"][...]) < 1e-12


def test_a_stack_with_a_cycle_goes_forward_bit_for_bit_as_the_plain_one(optimised):
    plain = connect(
        [linear(7, 6, 0, jnp.float32), LIF(), linear(6, 4, 1, jnp.float32), LI()],
        [Edge(1, 0), Edge(3, 0, 2)],
        rngs=nnx.Rngs(0),
    )
    x = inputs(T, B, 7, dtype=jnp.float32)

    @nnx.jit
    def run(model, x):
        return unroll(model, model.initialize_carry(x.shape[1:]), x, chunk=T)

    carry, outputs = run(plain, x)
    ruled_carry, ruled_outputs = run(ostl(plain), x)
    np.testing.assert_array_equal(outputs, ruled_outputs)
    for mine, theirs in zip(jax.tree.leaves(ruled_carry.plain), jax.tree.leaves(carry), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_edges_that_cannot_be_cut_into_layers_are_errors():
    modules = [linear(4, 4, 0, jnp.float32), LIF(), linear(4, 4, 1, jnp.float32), LIF()]
    with pytest.raises(TypeError, match="reads the current of a neuron within the step"):
        ostl(connect(modules, [Edge(0, 2)], rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match="does not end at a Linear or Conv right before a neuron"):
        ostl(connect([*modules, lambda x: x], [Edge(4, 4, synapse=lambda x: x)]))
    with pytest.raises(ValueError, match="Got 1 rules for a stack of 2 layers"):
        Ruled(connect(modules), [OSTL()])
