"""Rules are values: equal where their options are, and trees of their arrays for JAX and Flax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Edge, connect
from slax_rules import BPTT, OSTL, RULES, SLTT, LayerRule, Random, Symmetric, cross_entropy, gradients
from stacks import inputs, linear
from training.small import same

LABELS = jnp.array([0, 3, 2])


def model():
    return connect([linear(7, 6, 0, jnp.float32), LIF(threshold=0.5), linear(6, 4, 1, jnp.float32), LI()])


@dataclasses.dataclass(frozen=True)
class Scaled(LayerRule):
    """OSTL whose gradient is scaled unit by unit with an array of the rule's own."""

    scale: object = 1.0

    def init_layer(self, layer, inputs, states):
        return OSTL().init_layer(layer, inputs, states)

    def layer_gradient(self, layer, window, traces, signal):
        return OSTL().layer_gradient(layer, window, traces, signal * jnp.asarray(self.scale, signal.dtype))


VALUES = {
    "random stream": lambda: RULES["uoro"].make(rngs=nnx.Rngs(0)),
    "array beside a route": lambda: Scaled(jnp.arange(3.0), route=Random(rngs=nnx.Rngs(0))),
    "array beside a rule": lambda: Scaled((np.arange(3.0), OSTL(route=Random(rngs=nnx.Rngs(0))))),
}


@pytest.mark.parametrize("name", VALUES)
def test_rules_go_through_jit_and_come_back(name):
    """And through a tree of placeholders, with all that they hold."""
    value = VALUES[name]()

    def leaves(one):
        found = jax.tree.leaves(one)
        return [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in found]

    marked = jax.tree.map(lambda _: object(), value)
    filled = jax.tree.unflatten(jax.tree.structure(marked), jax.tree.leaves(value))
    for again in (jax.jit(lambda one: one)(value), nnx.jit(lambda one: one)(value), filled):
        assert type(again) is type(value) and jax.tree.structure(again) == jax.tree.structure(value)
        assert leaves(value) and same(leaves(again), leaves(value))


def test_an_option_that_is_its_default_makes_an_equal_rule():
    assert OSTL() == OSTL(route=Symmetric()) != SLTT()
    assert hash(OSTL()) == hash(OSTL(route=Symmetric()))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_a_rule_of_ones_own_may_hold_arrays(array):
    """Another array of the same shape is another rule, and the same program."""
    x = inputs(6, 3, 7, dtype=jnp.float32)
    one, four, zero = (
        gradients(model(), cross_entropy, x, LABELS, rule=Scaled(array(factor, jnp.float32)))[1]
        for factor in (1.0, 4.0, 0.0)  # a power of two, so that nothing is rounded
    )
    for a, b, c in zip(*map(jax.tree.leaves, (one, four, zero)), strict=True):
        np.testing.assert_allclose(b[..., :], a * (16.0 if a.shape[-1] == 6 else 4.0), rtol=1e-6)
        assert a.any() and not c.any()


@pytest.mark.parametrize("over", ["synapse", "kernel", "function"])
def test_recurrence_over_a_tied_synapse_or_kernel_or_a_function_is_exact(over):
    own, other, x = *(linear(7, 7, 0, jnp.float32) for _ in range(2)), inputs(8, 3, 7, dtype=jnp.float32)
    other.kernel = own.kernel
    synapse = {"synapse": own, "kernel": other, "function": lambda x: 0.1 * x}[over]
    net = connect([own, LIF(threshold=0.3)], [Edge(1, 0, synapse=synapse)])
    exact, online = (
        gradients(net, cross_entropy, x, LABELS, rule=rule)[1]["modules"][0]["kernel"][...]
        for rule in (BPTT(), OSTL(recurrence=True))
    )
    np.testing.assert_allclose(online, exact, rtol=1e-4, atol=1e-7)
