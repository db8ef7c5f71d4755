"""When a call compiles, and that no call gets the program of another one.

Functions and Optax transformations are compared by identity, as under `jax.jit`, and options of modules and rules by type and
value. A function keeps the values that it read besides its arguments when its program was compiled.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import LI, LIF, connect
from slax_rules.rules.base import kind
from training.small import BATCHES, SAMPLER, made, same

pytestmark = pytest.mark.usefixtures("standard_promotion")
INPUTS, LABELS = map(jnp.asarray, BATCHES[0])


# --------------------------------------------------------------------------------------------------- how often XLA compiles


@pytest.fixture
def compiled(caplog):
    """The programs that XLA compiles in a call, or takes from the kept ones."""

    def during(call):
        caplog.clear()
        with jax.log_compiles():
            call()
        return [text for text in caplog.messages if text.startswith("Finished XLA compilation of ")]

    return during


KINDS = {"offline": (BATCHES, {}), "a sampler": (SAMPLER, {})}
KINDS["online"] = BATCHES, {"rule": sr.OTTT(), "update": "online", "window": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_one_program_which_later_runs_share(kind, compiled):
    """Also with another learning rate in the state of the optimizer, and for another number of epochs."""
    source, options = KINDS[kind]
    transformation = optax.inject_hyperparams(optax.adam)(1e-2)

    def run(transformation, rate=1e-2, epochs=1):
        model, optimizer = made(transformation)
        optimizer.opt_state.hyperparams["learning_rate"][...] = rate
        return sr.fit(model, optimizer, sr.cross_entropy, source, epochs=epochs, progress=False, **options).losses

    losses = run(transformation)  # this also compiles how JAX makes arrays outside of programs
    assert len(compiled(lambda: run(optax.inject_hyperparams(optax.adam)(1e-2), epochs=2))) == 1
    assert not compiled(lambda: (run(transformation), run(transformation, 1e-1, epochs=2)))
    again, faster = run(transformation), run(transformation, 1e-1, epochs=2)
    assert same(losses, again) and not np.allclose(losses, faster[: len(losses)])


def test_gradients_steps_and_evaluation_compile_once(compiled):
    """With other numbers, and a rule with random numbers that is made anew."""
    model, optimizer = made()
    batch = sr.cross_entropy, INPUTS, LABELS
    calls = [
        lambda: sr.gradients(model, *batch, rule=sr.UORO(rngs=nnx.Rngs(0))),
        lambda: sr.train_offline(model, optimizer, *batch, rule=sr.UORO(rngs=nnx.Rngs(0))),
        lambda: sr.train_online(model, optimizer, *batch, rule=sr.OTTT(), window=3),
        lambda: sr.evaluate(model, sr.cross_entropy, BATCHES[:2]),
    ]
    for call in calls:
        call()
        nnx.update(model, jax.tree.map(lambda x: x + 0.01, nnx.state(model, nnx.Param)))
        assert not compiled(call)


def loss_of(loss_fn):
    return float(sr.gradients(made()[0], loss_fn, INPUTS, LABELS)[0])


def test_a_function_keeps_what_it_has_read_and_one_that_is_made_anew_reads_it_anew(compiled):
    """And it compiles anew, of which the third one warns."""
    held, plain = [1.0], loss_of(sr.cross_entropy)

    def made_anew():
        return lambda outputs, labels: held[0] * sr.cross_entropy(outputs, labels)

    loss_fn = made_anew()
    assert loss_of(loss_fn) == pytest.approx(plain)
    held[0] = 3.0
    assert loss_of(loss_fn) == pytest.approx(plain) and not compiled(lambda: loss_of(loss_fn))
    assert loss_of(made_anew()) == pytest.approx(3 * plain)
    with pytest.warns(UserWarning, match="for the third time.*made_anew.*Make it once"):
        loss_of(made_anew())
    loss_of(made_anew())  # it has been said once


# ------------------------------------------------------------------------------------------------ options that look alike


@dataclasses.dataclass(frozen=True)
class Hiding:
    hidden: Any = dataclasses.field(compare=False)


class Scales(nnx.Module):
    """What passes, times a number for the type of its option."""

    def __init__(self, option):
        self.option = option

    def __call__(self, x):
        return number_of(self.option) * x


@dataclasses.dataclass(frozen=True)
class ScaledLoss:
    option: Any

    def __call__(self, outputs, targets):
        return number_of(self.option) * outputs.sum(axis=1)


@dataclasses.dataclass(frozen=True)
class ScaledRule(sr.SLTT):
    option: Any = 1

    def layer_gradient(self, layer, window, traces, signal):
        return super().layer_gradient(layer, window, traces, number_of(self.option) * signal)


def number_of(option):
    return {int: 1.0, bool: 2.0, float: 4.0}[type(option)]  # powers of two, so that nothing is rounded


ALIKE = [(1, 1.0, True), (0.0, -0.0), (np.float32(0.0), np.float32(-0.0)), (complex(1, 0.0), complex(1, -0.0))]
WITHIN = [lambda x: x, lambda x: (x,), lambda x: frozenset([x]), Hiding, ScaledLoss, lambda x: nnx.graphdef(Scales(x))]


def test_options_that_python_calls_equal_are_told_apart_wherever_they_are():
    for options in ALIKE:
        assert len(set(options)) == 1
        for within in WITHIN:
            kinds = {kind(within(option)) for option in options}
            assert len(kinds) == len(options) and kinds == {kind(within(option)) for option in options}
    assert Hiding(1.0) == Hiding(2.0) and kind(Hiding(1.0)) != kind(Hiding(2.0))


NO_TRACE = sr.SLTT()


def bias(loss_fn=ScaledLoss(1), *modules, rule=NO_TRACE):
    model = connect([nnx.Linear(5, 3, rngs=nnx.Rngs(0)), LI(), *modules])
    return sr.gradients(model, loss_fn, INPUTS, LABELS, rule=rule)[1]["modules"][0]["bias"][...]


def streamed(option):
    """Under the user's own `jax.jit`."""
    model = connect([nnx.Linear(5, 3, rngs=nnx.Rngs(0)), LI(), Scales(option)])
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    stream = sr.start_stream(model, optimizer, ScaledLoss(1), (4, 5), rule=sr.SLTT())
    return EXTEND(stream, INPUTS, jnp.tile(LABELS, (6, 1)))


SGD, EXTEND = optax.sgd(0.0), jax.jit(lambda stream, x, t: sr.extend_stream(stream, x, t).losses.sum())
PLACES = {
    "loss": lambda option: bias(ScaledLoss(option)),
    "rule": lambda option: bias(rule=ScaledRule(option)),
    "module": lambda option: bias(ScaledLoss(1), Scales(option)),
    "stream": streamed,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_call_has_the_numbers_of_its_own_options(place):
    one, *others = map(PLACES[place], (1, True, 1.0, 1))
    for found, factor in zip(others, (2, 4, 1), strict=True):
        np.testing.assert_array_equal(found, factor * one)


def test_penalties_may_be_any_iterable():
    model = connect([nnx.Linear(5, 3, rngs=nnx.Rngs(0)), LIF(threshold=0.1)])
    given = [sr.sparsity(10.0)], (one for one in [sr.sparsity(10.0)]), map(sr.sparsity, [10.0]), ()
    *found, without = (float(sr.gradients(model, ScaledLoss(1), INPUTS, LABELS, penalties=each)[0]) for each in given)
    assert len(set(found)) == 1 and found[0] != without
