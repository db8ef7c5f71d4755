"""Modules that change their own variables when called: which count as such, and what happens to one that does not say so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LIF, Dropout, Edge, complexity, connect, health, unroll
from slax_neurons.building_blocks import mutates_state

T, B, N = 20, 3, 4


class Holds(nnx.Module):
    """Has a variable and never writes to it."""

    def __init__(self, variable):
        self.variable = variable

    def __call__(self, x):
        return x


class Counts(nnx.Module):
    """Counts its calls in a variable of some type."""

    def __init__(self, kind):
        self.calls = kind(jnp.zeros(()))

    def __call__(self, x):
        self.calls[...] += 1
        return x * self.calls[...]


class Declares(Counts):
    mutates_state = True


class Denies(Holds):
    mutates_state = False


class Odd(nnx.Variable):
    """A type of a user's own."""


MUTATING = {
    "BatchNorm in training": lambda: nnx.BatchNorm(N, rngs=nnx.Rngs(0)),
    "Flax's Dropout": lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
    "random streams": lambda: Holds(nnx.Rngs(0)),
    "a random stream": lambda: Holds(nnx.Rngs(0).params),
    "a statistic": lambda: Holds(nnx.BatchStat(jnp.zeros(()))),
    "a cache": lambda: Holds(nnx.Cache(jnp.zeros(()))),
    "an intermediate": lambda: Holds(nnx.Intermediate(jnp.zeros(()))),
    "a declared one": lambda: Declares(nnx.Variable),
    "inside of another": lambda: connect([LIF(), connect([Declares(nnx.Variable)])]),
}
CONSTANT = {
    "BatchNorm in evaluation": lambda: nnx.BatchNorm(N, use_running_average=True, rngs=nnx.Rngs(0)),
    "Flax's Dropout that is off": lambda: nnx.Dropout(0.5, deterministic=True, rngs=nnx.Rngs(0)),
    "our Dropout": lambda: Dropout(0.5, rngs=nnx.Rngs(0)),
    "a plain variable": lambda: Holds(nnx.Variable(jnp.zeros(()))),
    "variables in a list": lambda: Holds(nnx.List([nnx.Variable(jnp.zeros(())), Odd(jnp.zeros(()))])),
    "one that denies it": lambda: Denies(nnx.Rngs(0)),
    "neurons": lambda: connect([nnx.Linear(N, N, rngs=nnx.Rngs(0)), LIF(decay=np.full(N, 0.9))]),
}


def feedback():
    return Edge(2, 0, synapse=nnx.Linear(N, N, rngs=nnx.Rngs(1)))


def test_which_modules_mutate_their_state():
    assert [name for name, make in MUTATING.items() if not mutates_state(make())] == []
    assert [name for name, make in CONSTANT.items() if mutates_state(make())] == []


@pytest.mark.parametrize("kind", [nnx.Variable, Odd])
def test_a_variable_that_is_never_written_changes_nothing(kind):
    """It runs in chunks, with remat, within a cycle, and no variable is copied."""
    model = connect([nnx.Linear(N, N, rngs=nnx.Rngs(0)), LIF(), Holds(kind(jnp.ones(3)))], [feedback()])
    x, carry = jax.random.normal(jax.random.key(0), (T, B, N)), model.initialize_carry((B, N))
    whole = unroll(model, carry, x)[1]
    np.testing.assert_allclose(unroll(model, carry, x, chunk=3, remat=True)[1], whole, rtol=1e-6)
    text = str(jax.make_jaxpr(lambda x: unroll(model, carry, x, chunk=5)[1])(x))
    assert f"f32[5,{B},{N}]" in text


@pytest.mark.parametrize("make", [lambda: Declares(nnx.Variable), lambda: Counts(nnx.BatchStat)])
def test_what_says_that_it_changes_gets_the_whole_sequence_once(make):
    model, x = connect([make(), LIF()]), jnp.full((T, B, N), 0.5)
    for calls in (1, 2):
        unroll(model, model.initialize_carry((B, N)), x, chunk=3)
        assert model.modules[0].calls[...] == calls
    with pytest.raises(ValueError, match="remat=True for a model with a module that changes its own variables"):
        unroll(model, model.initialize_carry((B, N)), x, remat=True)
    for analysis in (health, complexity):
        assert analysis(model, x, chunk=3) == analysis(model, x, chunk=T)
        assert model.modules[0].calls[...] == 2


@pytest.mark.parametrize(
    "run",
    [
        lambda model, x: unroll(model, model.initialize_carry((B, N)), x, chunk=3),
        lambda model, x: unroll(model, model.initialize_carry((B, N)), x, remat=True),
        lambda model, x: jax.jit(lambda x: unroll(model, model.initialize_carry((B, N)), x))(x),
        lambda model, x: health(model, x, chunk=3),
        lambda model, x: complexity(model, x, chunk=3),
    ],
    ids=["chunks", "remat", "jit", "health", "complexity"],
)
def test_one_that_changes_without_saying_so_is_an_error_and_not_another_result(run):
    model = connect([Counts(nnx.Variable), LIF()])
    with pytest.raises(
        ValueError, match=r"changes a variable .* without declaring it, .* Put mutates_state = True into"
    ):
        run(model, jnp.full((T, B, N), 0.5))
    assert model.modules[0].calls[...] == 0


def test_one_inside_a_cycle_that_changes_without_saying_so_is_an_error():
    modules = [nnx.Linear(N, N, rngs=nnx.Rngs(0)), LIF(), Counts(nnx.Variable)]
    model = connect(modules, [feedback()])
    with pytest.raises(ValueError, match="mutates_state = True into its class"):
        unroll(model, model.initialize_carry((B, N)), jnp.ones((T, B, N)))


class CountingNeuron(LIF):
    def __init__(self):
        super().__init__()
        self.calls = nnx.Variable(jnp.zeros(()))

    def integrate(self, carry, inputs):
        self.calls[...] += 1
        return super().integrate(carry, inputs) * self.calls[...]


def test_a_neuron_that_changes_itself_is_an_error():
    neuron = CountingNeuron()
    with pytest.raises(ValueError, match="mutates_state = True into its class"):
        unroll(neuron, neuron.initialize_carry((B, N)), jnp.ones((T, B, N)))


def test_what_flax_refuses_for_another_reason_stays_as_it_is():
    """The model says that it changes, but its variables belong to no trace of jax.jit."""
    model = connect([Declares(nnx.Variable), LIF()])
    with pytest.raises(Exception, match="Cannot mutate Variable") as caught:
        jax.jit(lambda x: unroll(model, model.initialize_carry((B, N)), x))(jnp.ones((T, B, N)))
    assert not isinstance(caught.value, ValueError)
