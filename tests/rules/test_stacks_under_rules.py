"""What a stack may be made of under a local rule: edges that can be cut into layers, Dropout, modules without parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Dropout, Edge, connect, unroll
from slax_rules import BPTT, OSTL, OTTT, SLTT, cross_entropy, gradients
from slax_rules.layerwise.passes import as_rule
from stacks import deviation, inputs, linear

T, B = 8, 3
LABELS = jnp.array([0, 3, 2])


def lif():
    return LIF(threshold=0.5, param_dtype=jnp.float64)


def test_dropout_passes_signals_through_its_mask(x64):
    dropout = Dropout(0.5, rngs=nnx.Rngs(0))
    model = connect([linear(7, 6, 0), lif(), dropout, linear(6, 4, 1), lif()])
    x = inputs(T, B, 7)
    carry = model.initialize_carry((B, 7), nnx.Rngs(1))
    mask = carry[2].astype(jnp.float64)
    fixed = connect(
        [
            linear(7, 6, 0),
            lif(),
            lambda rows: rows * jnp.tile(mask, (rows.shape[0] // B, 1)) * 2,
            linear(6, 4, 1),
            lif(),
        ]
    )
    _, dropped = gradients(model, cross_entropy, x, LABELS, rule=OSTL(), window=4, carry=carry)
    _, expected = gradients(fixed, cross_entropy, x, LABELS, rule=OSTL(), window=4)
    assert 0 < mask.mean() < 1
    for mine, reference in zip(jax.tree.leaves(dropped), jax.tree.leaves(expected), strict=True):
        assert deviation(mine, reference) < 1e-12


def test_rules_differ_from_layer_to_layer(x64):
    """Each layer has its own rule's gradient for the signal that it gets, and the last is exact."""
    model = connect([linear(7, 6, 0), lif(), linear(6, 4, 1), LI(param_dtype=jnp.float64)])
    x = inputs(T, B, 7)
    _, mixed = gradients(model, cross_entropy, x, LABELS, rule=[OTTT(), OSTL()], window=4)
    _, of_ottt = gradients(model, cross_entropy, x, LABELS, rule=OTTT(), window=4)
    _, exact = gradients(model, cross_entropy, x, LABELS)
    assert deviation(mixed["modules"][0]["kernel"][...], of_ottt["modules"][0]["kernel"][...]) < 1e-12
    assert deviation(mixed["modules"][2]["kernel"][...], exact["modules"][2]["kernel"][...]) < 1e-12


def test_a_stack_with_a_cycle_goes_forward_bit_for_bit_as_the_plain_one(optimized):
    plain = connect(
        [linear(7, 6, 0, jnp.float32), LIF(), linear(6, 4, 1, jnp.float32), LI()],
        [Edge(1, 0), Edge(3, 0, 2)],
        rngs=nnx.Rngs(0),
    )
    x, rule = inputs(T, B, 7, dtype=jnp.float32), as_rule(OSTL())
    graphdef, params = nnx.split(plain)

    @jax.jit
    def run(params, x):
        model = nnx.merge(graphdef, params)
        return unroll(model, model.initialize_carry(x.shape[1:]), x, chunk=T)

    @jax.jit
    def under(params, x):
        model = nnx.merge(graphdef, params)
        plan, carry = rule.plan(model, (7,)), model.initialize_carry(x.shape[1:])
        start = rule.initialize(plan, model, carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
        heads, state = rule.forward(plan, model, start, x)
        return state.carries, heads.outputs

    for mine, theirs in zip(jax.tree.leaves(under(params, x)), jax.tree.leaves(run(params, x)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    losses = [gradients(plain, cross_entropy, x, LABELS, rule=one, window=T)[0] for one in (OSTL(), BPTT())]
    assert losses[0] == losses[1]


def test_edges_that_cannot_be_cut_into_layers_are_errors():
    modules = [linear(4, 4, 0, jnp.float32), LIF(), linear(4, 4, 1, jnp.float32), LIF()]

    def under(rule, model):
        gradients(model, cross_entropy, jnp.zeros((T, B, 4)), LABELS, rule=rule)

    with pytest.raises(TypeError, match="reads the current of a neuron within the step"):
        under(OSTL(), connect(modules, [Edge(0, 2)], rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match="does not end at a Linear or Conv right before a neuron"):
        under(OSTL(), connect([*modules, lambda x: x], [Edge(4, 4, synapse=lambda x: x)]))
    with pytest.raises(ValueError, match="Got 1 rules for a stack of 2 layers"):
        under([OSTL()], connect(modules))


@pytest.mark.parametrize("edges", [{}, {0: [1]}], ids=["chain", "cycle"])
def test_statistics_of_a_batch_norm_move_once(edges):
    """Also where a stack with late edges is stepped first, for the outputs that come late."""

    def after(rule):
        norm = nnx.BatchNorm(4, momentum=0.9, rngs=nnx.Rngs(0))
        layers = [linear(7, 6, 0, jnp.float32), LIF(threshold=0.5), linear(6, 4, 1, jnp.float32), norm]
        model = connect(layers, edges, rngs=nnx.Rngs(1))
        _, gradient = gradients(model, cross_entropy, inputs(T, B, 7, dtype=jnp.float32), LABELS, rule=rule)
        return gradient["modules"][3], norm.mean[...], norm.var[...]

    for mine, expected in zip(jax.tree.leaves(after(SLTT())), jax.tree.leaves(after(BPTT())), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-7)
