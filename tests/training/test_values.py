"""Rules are values: equal where their options are, and trees of their arrays for JAX and Flax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Edge, SpikingNeuron, connect
from slax_rules import (
    BPTT,
    DECOLLE,
    OSTL,
    OTPE,
    OTTT,
    RULES,
    SLTT,
    Adaptive,
    ApproximateOTPE,
    EProp,
    LayerRule,
    Random,
    cross_entropy,
    gradients,
)
from stacks import inputs, linear

LABELS = jnp.array([0, 3, 2])


def model():
    return connect([linear(7, 6, 0, jnp.float32), LIF(threshold=0.5), linear(6, 4, 1, jnp.float32), LI()])


@pytest.mark.parametrize("name", RULES)
def test_rules_go_through_jit_and_come_back(name):
    rule = RULES[name].make(rngs=nnx.Rngs(0), model=model())
    again = nnx.merge(*nnx.split(rule))
    assert type(again) is type(rule)
    assert len(jax.tree.leaves(nnx.state(again))) == len(jax.tree.leaves(nnx.state(rule)))
    if dataclasses.is_dataclass(rule) and not jax.tree.leaves(rule):
        assert again == rule
        assert hash(again) == hash(rule)
    assert nnx.graphdef(rule) == nnx.graphdef(RULES[name].make(rngs=nnx.Rngs(1), model=model()))  # one program for both
    assert_returns(rule)


def assert_returns(value):
    """From `jax.jit`, from `nnx.jit`, and from a tree of placeholders, with all that it holds."""

    def leaves(one):
        return [jax.random.key_data(x) if is_key(x) else x for x in jax.tree.leaves(one)]

    def is_key(x):
        return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)

    marked = jax.tree.map(lambda _: object(), value)
    filled = jax.tree.unflatten(jax.tree.structure(marked), jax.tree.leaves(value))
    for again in (jax.jit(lambda one: one)(value), nnx.jit(lambda one: one)(value), filled):
        assert type(again) is type(value)
        assert jax.tree.structure(again) == jax.tree.structure(value)
        for a, b in zip(leaves(again), leaves(value), strict=True):
            np.testing.assert_array_equal(a, b)


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


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scaled(np.arange(3.0)),
        lambda: Scaled(jnp.arange(3.0), route=Random(rngs=nnx.Rngs(0))),
        lambda: Scaled((np.arange(3.0), OSTL(route=Random(rngs=nnx.Rngs(0))))),
    ],
    ids=["numpy", "nested", "tuple"],
)
def test_values_with_arrays_go_through_jit_and_come_back(make):
    assert_returns(make())


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
        assert a.any()
        assert not c.any()


class Gained(SpikingNeuron):
    """A neuron with a parameter of its own, of any shape that broadcasts to the units."""

    def __init__(self, shape):
        super().__init__(threshold=0.3)
        self.gain = nnx.Param(jnp.full(shape, 0.5))

    def integrate(self, carry, inputs):
        return 0.9 * carry + jnp.broadcast_to(self.gain[...], inputs.shape) * inputs

    def fire(self, membrane):
        return self.spike(membrane)


@pytest.mark.parametrize("shape, rule", [((1, 4), OSTL()), ((1,), SLTT()), ((), OSTL())])
def test_the_gradient_of_a_neuron_s_parameter_has_its_shape(shape, rule):
    net = connect([linear(7, 4, 0, jnp.float32), Gained(shape)])
    steps = 6 if rule == OSTL() else 1  # where the rule is exact
    x = inputs(steps, 3, 7, dtype=jnp.float32)
    exact, online = (
        gradients(net, cross_entropy, x, LABELS, rule=one)[1]["modules"][1]["gain"][...] for one in (BPTT(), rule)
    )
    assert online.shape == exact.shape == shape
    np.testing.assert_allclose(online, exact, rtol=1e-4, atol=1e-7)


def test_recurrence_counts_in_a_list_of_rules_too():
    layers = [linear(7, 6, 0, jnp.float32), LIF(threshold=0.5), linear(6, 4, 1, jnp.float32), LI()]
    net = connect(layers, {0: [1]}, rngs=nnx.Rngs(0))
    x = inputs(8, 3, 7, dtype=jnp.float32)
    whole, listed, without = (
        gradients(net, cross_entropy, x, LABELS, rule=rule)[1]["synapses"][0]["kernel"][...]
        for rule in (OSTL(recurrence=True), [OSTL(recurrence=True), OSTL()], OSTL())
    )
    np.testing.assert_array_equal(listed, whole)
    assert jnp.abs(without - whole).max() > 1e-6


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "function"])
def test_recurrence_over_the_same_synapse_or_none(tied):
    own = linear(5, 5, 0, jnp.float32)
    net = connect([own, LIF(threshold=0.3)], [Edge(1, 0, synapse=own if tied else lambda x: 0.1 * x)])
    x = inputs(8, 3, 5, dtype=jnp.float32)
    exact, online = (
        gradients(net, cross_entropy, x, LABELS, rule=rule)[1]["modules"][0]["kernel"][...]
        for rule in (BPTT(), OSTL(recurrence=True))
    )
    np.testing.assert_allclose(online, exact, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rule", [OTPE, EProp, ApproximateOTPE])
def test_a_decay_of_outputs_is_between_0_and_1(rule):
    for decay in (-0.1, 1.5):
        with pytest.raises(
            ValueError, match=rf"{rule.__name__} got output_decay={decay}, expected a number in \[0, 1\]"
        ):
            rule(output_decay=decay)
    rule(output_decay=1.0)


def test_losses_of_wide_parameters_and_narrow_inputs_add_up(x64):
    net = connect([linear(7, 4, 0), LI(param_dtype=jnp.float64)])
    x = inputs(6, 3, 7)
    with jax.numpy_dtype_promotion("standard"):
        whole, windows = (
            gradients(net, cross_entropy, x.astype(dtype), LABELS, rule=OSTL(), window=window)[0]
            for dtype, window in ((jnp.float64, None), (jnp.float32, 2))
        )
    assert windows.dtype == jnp.float64
    assert abs(float(whole - windows)) < 1e-12
