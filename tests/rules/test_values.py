"""Rules are values: equal where their options are, and trees of their arrays for JAX and Flax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import DECOLLE, OSTL, OTPE, OTTT, RULES, Adaptive, LayerRule, Random, cross_entropy, gradients
from stacks import inputs, linear

LABELS = jnp.array([0, 3, 2])


def model():
    return connect([linear(7, 6, 0, jnp.float32), LIF(threshold=0.5), linear(6, 4, 1, jnp.float32), LI()])


@pytest.mark.parametrize("name", RULES)
def test_rules_go_through_jit_and_come_back(name):
    rule = RULES[name].make(rngs=nnx.Rngs(0))
    again = nnx.merge(*nnx.split(rule))
    assert type(again) is type(rule)
    assert len(jax.tree.leaves(nnx.state(again))) == len(jax.tree.leaves(nnx.state(rule)))
    if dataclasses.is_dataclass(rule) and not jax.tree.leaves(rule):
        assert again == rule
        assert hash(again) == hash(rule)
    assert nnx.graphdef(rule) == nnx.graphdef(RULES[name].make(rngs=nnx.Rngs(1)))  # one program for both


def test_options_are_static_and_modules_are_children():
    rngs = nnx.Rngs(0)
    assert jax.tree.leaves(OTPE(0.9)) == []
    assert OTPE(0.9) != OTPE(0.8)
    assert len(jax.tree.leaves(nnx.state(OTTT(route=Random(rngs=rngs))))) == 1
    assert len(jax.tree.leaves(nnx.state(DECOLLE(rngs=rngs)))) == 1
    rule = OSTL(route=Adaptive(model(), rngs=rngs))
    assert [leaf.shape for leaf in jax.tree.leaves(nnx.state(rule, nnx.Param))] == [(7, 6), (6, 4)]


@dataclasses.dataclass(frozen=True)
class Scaled(LayerRule):
    """OSTL whose gradient is scaled unit by unit with an array of the rule's own."""

    scale: object = 1.0

    def initialize_traces(self, layer, inputs, states):
        return OSTL().initialize_traces(layer, inputs, states)

    def window(self, layer, window, traces, signal):
        return OSTL().window(layer, window, traces, signal * jnp.asarray(self.scale, signal.dtype))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_a_rule_of_ones_own_may_hold_arrays(array):
    """Another array of the same shape is another rule, and the same program."""
    x = inputs(6, 3, 7, dtype=jnp.float32)
    one, three, zero = (
        gradients(model(), cross_entropy, x, LABELS, rule=Scaled(array(factor, jnp.float32)))[1]
        for factor in (1.0, 3.0, 0.0)
    )
    for a, b, c in zip(*map(jax.tree.leaves, (one, three, zero)), strict=True):
        np.testing.assert_allclose(b[..., :], a * (9.0 if a.shape[-1] == 6 else 3.0), rtol=1e-5)
        assert a.any()
        assert not c.any()
