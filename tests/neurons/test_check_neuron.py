"""`check_neuron` passes all neurons of the library and names each planted fault; what a subclass does not inherit."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from slax_neurons import LI, LIF, NEURONS, AdLIF, Neuron, SpikingNeuron, connect, fast_sigmoid
from slax_neurons.testing import check_neuron
from slax_rules import OSTL, OTPE, OTTT, cross_entropy, gradients


class Base(SpikingNeuron):
    def integrate(self, carry, inputs):
        return jnp.asarray(0.5, carry.dtype) * carry + inputs

    def fire(self, membrane):
        return self.spike(membrane)


class Swapped(Base):
    """S4: the spikes first."""

    def fire(self, membrane):
        return self.spike(membrane)[::-1]


class NoSurrogate(Base):
    """S5."""

    def fire(self, membrane):
        spikes = (membrane >= 0.5).astype(membrane.dtype)
        return membrane - spikes, spikes


class ReadsSamples(Base):
    """S18."""

    def integrate(self, carry, inputs):
        return 0.5 * carry - 0.1 * carry.mean(0, keepdims=True) + inputs


class ReadsTheLast(Base):
    """Of four units, the first one reads the last one, and not the other way round."""

    def integrate(self, carry, inputs):
        return (0.5 * carry + inputs).at[..., 0].add(0.1 * carry[..., -1])


class Decays(LI):
    """Its `membrane_decay` is declared, and a lie."""

    membrane_decay = 0.9

    def integrate(self, carry, inputs):
        return 0.3 * carry + inputs


class Saturates(Base):
    linear = True

    def integrate(self, carry, inputs):
        return 0.5 * carry - 0.1 * jnp.tanh(carry) + inputs


class OwnSpikes(Neuron):
    """Says that it is linear, and makes spikes that no rule can leave out."""

    linear = True
    integrate = Base.integrate

    def fire(self, membrane):
        return membrane - jax.nn.sigmoid(membrane), jax.nn.sigmoid(membrane)


class Forgets(Base):
    """A function over time of its own, which starts each chunk from rest."""

    def unroll(self, carry, inputs):
        return jax.lax.scan(lambda carry, x: self(carry, x), jnp.zeros_like(carry), inputs)


class LateStates(Base):
    def pre_reset_states(self, carry, inputs):
        carry, membranes = super().pre_reset_states(carry, inputs)
        return carry, 2 * membranes


FAULTS = {
    Swapped: "outputs other than 0 and 1. Return the carry first",
    NoSurrogate: "without a derivative",
    ReadsSamples: "a unit or a sample of others",
    ReadsTheLast: "a unit or a sample of others",
    Decays: r"membrane_decay = 0\.9, but its membrane decays by 0\.3\. Define",
    Saturates: "linear = True, but derivatives",
    OwnSpikes: "linear = True, but derivatives",
    LateStates: "that differ from its steps one by one. Leave unroll",
    Forgets: "that differ from its steps one by one. Leave unroll",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_planted_faults_are_named(fault, no_shape_checks):
    told = f"{fault.__name__} .*{FAULTS[fault]}"
    with jax.numpy_dtype_promotion("standard"), pytest.raises(AssertionError, match=told):
        check_neuron(fault())


@pytest.mark.parametrize("name", [*NEURONS, "symplectic"])
def test_neurons_of_the_library_pass(name):
    others = {
        "ltc": lambda: NEURONS["ltc"](4, rngs=nnx.Rngs(0)),
        "symplectic": lambda: AdLIF(form="symplectic"),
    }
    check_neuron(others.get(name, NEURONS.get(name))())


class HalfLife(LI):
    """S2: a step of its own, and nothing said of its decay."""

    def __call__(self, carry, inputs):
        return (u := 0.5 * carry + inputs), u


class Mixin:
    __call__ = HalfLife.__call__


class Mixed(Mixin, LI): ...


class OwnIntegrate(LIF):
    def integrate(self, carry, inputs):
        return 0.2 * carry + inputs


class OwnFire(LIF):
    def fire(self, membrane):
        return 0.5 * membrane, self.spike(membrane)[1]


class Neighbors(Base):
    """Units that inhibit those which an integer matrix names."""

    def __init__(self, **options):
        super().__init__(**options)
        self.others = nnx.Variable(1 - jnp.eye(4, dtype=int))

    def integrate(self, carry, inputs):
        return 0.5 * carry + inputs - 0.3 * (carry @ self.others[...].astype(carry.dtype))


def test_a_step_of_its_own_inherits_neither_decay_nor_linearity():
    """Rules say what they need; told of the decay, they are right."""
    check_neuron(HalfLife())
    assert HalfLife.membrane_decay is Mixed.membrane_decay is None and not HalfLife.linear and LI().linear
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(6, 5, rngs=rngs), LIF(), nnx.Linear(5, 3, rngs=rngs), HalfLife()])
    inputs, labels = jnp.ones((8, 2, 6)), jnp.array([0, 2])
    with pytest.raises(TypeError, match=r"HalfLife above.*output_decay"):
        gradients(model, cross_entropy, inputs, labels, rule=OTPE())
    with pytest.raises(TypeError, match="HalfLife"):
        gradients(model, cross_entropy, inputs, labels, rule=OTTT())
    twin = connect([*model.modules[:3], LI(decay=0.5)])
    found, expected = (
        gradients(one, cross_entropy, inputs, labels, rule=rule)[1]
        for one, rule in ((model, OTPE(output_decay=0.5)), (twin, OTPE()))
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert jnp.allclose(a, b, rtol=1e-6) and a.any()


def test_what_is_inherited_is_true_of_the_step():
    assert OwnIntegrate().membrane_decay is None and not OwnIntegrate.linear
    assert OwnFire(decay=0.9).membrane_decay == pytest.approx(0.9) and not OwnFire.linear


def coupled(x):
    return fast_sigmoid()(x - x.mean(-1, keepdims=True))


@pytest.mark.parametrize("neuron", [Neighbors, lambda: LIF(spike_fn=coupled)])
def test_units_that_see_each_other_are_refused_by_rules_for_layers(neuron):
    model = connect([nnx.Linear(3, 4, rngs=nnx.Rngs(0)), neuron()])
    with pytest.raises(TypeError, match="units see each other"):
        gradients(model, cross_entropy, jnp.ones((5, 2, 3)), jnp.array([0, 2]), rule=OSTL())
