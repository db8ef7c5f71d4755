"""When a call compiles, and that no call gets the program of another one.

Functions and Optax transformations are compared by identity, as under `jax.jit`, and options of modules and rules by type and
value. So a call returns what the same loss gives over a plain `unroll`, except that a function keeps the values that it read
besides its arguments when its program was compiled.
"""

import contextlib
import dataclasses
import enum
import functools
import logging
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect, unroll
from slax_rules import (
    OTTT,
    Sampler,
    cross_entropy,
    evaluate,
    extend_stream,
    fit,
    gradients,
    sparsity,
    start_stream,
)
from training.small import BATCHES, SAMPLER, made, numbers, same


@pytest.fixture(autouse=True)
def promotion_of_users():
    """Adam of Optax raises a float to an integer power."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# --------------------------------------------------------------------------------------------------- how often XLA compiles


@contextlib.contextmanager
def compilations():
    """The names of the programs that XLA compiles, or takes from the kept ones, in a list."""
    names = []

    class Listener(logging.Handler):
        def emit(self, record):
            if found := re.match(r"Finished XLA compilation of (\S+)", record.getMessage()):
                names.append(found[1])

    logger, listener = logging.getLogger("jax._src.dispatch"), Listener()
    logger.addHandler(listener)
    propagates, logger.propagate = logger.propagate, False
    try:
        with jax.log_compiles():
            yield names
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagates


KINDS = {
    "offline": {},
    "online": {"rule": OTTT(), "update": "online", "window": 3},
    "a sampler": {"source": SAMPLER},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_one_program_which_later_runs_share(kind):
    """Also with another learning rate in the state of the optimizer, and for another number of epochs."""
    options = {"source": BATCHES, **KINDS[kind]}
    source, transformation = options.pop("source"), optax.inject_hyperparams(optax.adam)(1e-2)

    def run(transformation, rate=1e-2, epochs=1):
        model, optimizer = made(transformation)
        optimizer.opt_state.hyperparams["learning_rate"][...] = rate
        return fit(model, optimizer, cross_entropy, source, epochs=epochs, progress=False, **options).losses

    losses = run(transformation)  # this also compiles how JAX makes arrays outside of programs
    with compilations() as first:
        run(optax.inject_hyperparams(optax.adam)(1e-2), epochs=2)
    with compilations() as later:
        again, faster = run(transformation), run(transformation, 1e-1, epochs=2)
    assert len(first) == 1 and later == []
    assert same(losses, again) and not np.allclose(losses, faster[: len(losses)])


def test_gradients_and_evaluation_compile_once():
    model, _ = made()
    inputs, labels = map(jnp.asarray, BATCHES[0])
    calls = [
        lambda: gradients(model, cross_entropy, inputs, labels, rule=OTTT()),
        lambda: evaluate(model, cross_entropy, BATCHES[:2]),
    ]
    for call in calls:
        call()
        nnx.update(model, jax.tree.map(lambda x: x + 0.01, nnx.state(model, nnx.Param)))
        with compilations() as names:
            call()
        assert names == []


def test_a_function_that_is_made_anew_compiles_anew():
    fit_loss(cross_entropy)
    with compilations() as names:
        losses = [fit_loss(lambda y, t, weight=weight: weight * cross_entropy(y, t)) for weight in (1.0, 2.0)]
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-6) and len(names) == 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_programs_that_fall_out_of_the_table_are_freed():
    """With a table of 8 programs, 40 fits need what 20 did; tests/nightly/test_many_fits.py has 300, and the table of users."""
    run = [sys.executable, Path(__file__).with_name("many_fits.py"), "40", "8"]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    memory, maps = np.loadtxt(told.splitlines()).T
    assert memory[-1] - memory[19] < 20 and maps[-1] - maps[19] < 50  # a program is about 4 MB, in 100 maps


# --------------------------------------------------------------------------- each call has the numbers of its own functions

INPUTS, LABELS = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0]]], np.float32), np.array([0, 1])
SGD = optax.sgd(0.0)


def network(*modules):
    return connect([nnx.Linear(2, 2, rngs=nnx.Rngs(0)), *modules, LI()])


def fit_loss(loss_fn, *modules, transformation=SGD):
    """The loss of the first step of `fit`."""
    model = network(*modules)
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    return fit(model, optimizer, loss_fn, [(INPUTS, LABELS)], progress=False).losses[0]


def plain_loss(loss_fn, *modules):
    """The same by `unroll`."""
    model = network(*modules)
    outputs = unroll(model, model.initialize_carry(INPUTS.shape[1:]), jnp.asarray(INPUTS))[1]
    return float(jnp.mean(jnp.stack([loss_fn(step, jnp.asarray(LABELS)) for step in outputs])))


def sign_of(number):
    """A number that tells 1, 1.0 and True apart, and 0.0 and -0.0, also in a tuple."""
    number = number[0] if isinstance(number, tuple) else number
    imaginary = number.imag if isinstance(number, complex) else number
    return {bool: 2.0, int: 3.0, float: 5.0, complex: 7.0}[type(number)] * np.copysign(1.0, imaginary)


class WithOption(nnx.Module):
    def __init__(self, option):
        self.option = option

    def __call__(self, x):
        return x * jnp.asarray(sign_of(self.option), x.dtype)


@dataclasses.dataclass(frozen=True)
class WeightedLoss:
    weight: object

    def __call__(self, outputs, labels):
        return sign_of(self.weight) * cross_entropy(outputs, labels)


LOOK_ALIKES = [(1, 1.0, True), (0.0, -0.0), ((1,), (1.0,), (True,)), (complex(1, 0.0), complex(1, -0.0))]


@pytest.mark.parametrize("options", LOOK_ALIKES, ids=str)
def test_options_are_compared_by_type_and_value(options):
    for option in options:
        assert fit_loss(cross_entropy, WithOption(option)) == pytest.approx(
            plain_loss(cross_entropy, WithOption(option)), rel=1e-6
        )
        loss_fn = WeightedLoss(option)
        assert fit_loss(loss_fn) == pytest.approx(plain_loss(loss_fn), rel=1e-6)


class Whole(int):
    weight = 1.0


class Text(str):
    weight = 1.0


class Rows(np.ndarray):
    weight = 1.0


class Real(float):
    pass


class Named(enum.Enum):
    MEMBER = [1.0]  # noqa: RUF012


def with_weight(value, weight):
    value.weight = weight
    return value


def member(weight):
    Named.MEMBER.value[0] = weight
    return Named.MEMBER


def scaled_by(weight):
    def decorate(function):
        @functools.wraps(function)
        def wrapped(*arguments):
            return weight * function(*arguments)

        return wrapped

    return decorate


def masked(weight):
    return np.ma.array([weight, 2.0], mask=[0, weight > 2])


# What a loss may read, made for a weight, and how it reads the weight.
READ = {
    "a subclass of int": (lambda w: with_weight(Whole(1), w), lambda held: held.weight),
    "a subclass of str": (lambda w: with_weight(Text("a"), w), lambda held: held.weight),
    "a subclass of an array": (lambda w: with_weight(np.ones(1).view(Rows), w), lambda held: held.weight),
    "a subclass of float": (Real, lambda held: jnp.float32(held)),
    "a member of an enumeration": (member, lambda held: held.value[0]),
    "a masked array": (masked, lambda held: float(held.sum())),
    "a key": (lambda w: jax.random.key(int(w)), lambda held: jax.random.uniform(held)),
    "keys": (lambda w: jax.random.split(jax.random.key(int(w))), lambda held: jax.random.uniform(held[1])),
}


@pytest.mark.parametrize("kind", READ)
def test_a_loss_may_read_any_value(kind):
    make, read = READ[kind]
    for weight in (1.0, 3.0):
        held = make(weight)

        def loss_fn(outputs, labels, held=held):
            return read(held) * cross_entropy(outputs, labels)

        true = plain_loss(loss_fn)
        assert fit_loss(loss_fn) == pytest.approx(true, rel=1e-6)
        if kind != "a key":
            continue
        inputs, labels = jnp.asarray(INPUTS), jnp.asarray(LABELS)
        assert float(gradients(network(), loss_fn, inputs, labels)[0]) == pytest.approx(true, rel=1e-6)
        assert evaluate(network(), loss_fn, [(INPUTS, LABELS)])["loss"] == pytest.approx(true, rel=1e-6)


KEY = jax.random.key(3)


def test_a_sampler_may_read_a_key():
    def drawn(number):
        return jax.random.bernoulli(jax.random.fold_in(KEY, number), 0.5, INPUTS.shape).astype(jnp.float32)

    def sample(key):
        return drawn(jax.random.randint(key, (), 0, 2**16)), jnp.asarray(LABELS)

    model, key = network(), jax.random.key(1)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    losses = fit(model, optimizer, cross_entropy, Sampler(sample, key, steps=2), progress=False).losses
    assert np.isfinite(losses).all() and losses[0] != losses[1]


def of_decorated_module(weight):
    class Decorated(nnx.Module):
        @scaled_by(weight)
        def __call__(self, x):
            return x

    return cross_entropy, (Decorated(),)


def of_decorated_loss(weight):
    @dataclasses.dataclass(frozen=True)
    class Decorated:
        @scaled_by(weight)
        def __call__(self, outputs, labels):
            return cross_entropy(outputs, labels)

    return Decorated(), ()


def of_partial_method(weight):
    class Partial(nnx.Module):
        def scaled(self, factor, x):
            return factor * x

        __call__ = functools.partialmethod(scaled, weight)

    return cross_entropy, (Partial(),)


def of_class_attributes(weight):
    class Attributes(nnx.Module):
        GAINS, BY_NAME, LISTED = (weight,), {"gain": weight}, [weight]

        class Settings:
            gain = weight

        def __call__(self, x):
            return x * self.GAINS[0] * self.BY_NAME["gain"] * self.LISTED[0] * self.Settings.gain

    return cross_entropy, (Attributes(),)


@pytest.mark.parametrize("made_for", [of_decorated_module, of_decorated_loss, of_partial_method, of_class_attributes])
def test_classes_of_one_name_are_told_apart(made_for):
    for weight in (1.0, 3.0):
        loss_fn, modules = made_for(weight)
        assert fit_loss(loss_fn, *modules) == pytest.approx(plain_loss(loss_fn, *modules), rel=1e-6)


def test_functions_that_differ_in_what_they_catch_are_told_apart():
    """Their code has the same bytes: the ranges of `try` are in a table beside it."""

    def fails():
        raise ZeroDivisionError

    def both(outputs, labels):
        try:
            fails()
            weight = float(1)
        except ZeroDivisionError:
            return 2 * cross_entropy(outputs, labels)
        return weight

    def one(outputs, labels):
        fails()
        try:
            weight = float(1)
        except ZeroDivisionError:
            return 2 * cross_entropy(outputs, labels)
        return weight

    assert fit_loss(both) == pytest.approx(plain_loss(both), rel=1e-6)
    with pytest.raises(ZeroDivisionError):
        fit_loss(one)


def test_a_transformation_that_is_made_anew_has_its_own_numbers():
    """Whose schedule reads a dict that has changed since."""
    bounds, ends = {1: 0.5}, []
    for late in (0.5, 0.01):
        bounds[1] = late
        model, by_hand = network(), network()
        make = lambda: optax.sgd(optax.piecewise_constant_schedule(0.5, bounds))  # noqa: E731
        batch = INPUTS, LABELS
        fit(model, nnx.Optimizer(model, make(), wrt=nnx.Param), cross_entropy, [batch] * 3, progress=False)
        optimizer = nnx.Optimizer(by_hand, make(), wrt=nnx.Param)
        for _ in range(3):
            optimizer.update(by_hand, gradients(by_hand, cross_entropy, *map(jnp.asarray, batch))[1])
        np.testing.assert_allclose(numbers(model)[0], numbers(by_hand)[0], rtol=1e-5, atol=1e-6)
        ends.append(numbers(model)[0])
    assert not np.allclose(*ends)


# ----------------------------------------------------------- what a function reads is read when its program is compiled


class Held:
    weight = 1.0


class HeldParam(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.ones(()))


def change_weight(held):
    held.weight = 3.0


def change_param(held):
    held.weight[...] = jnp.asarray(3.0)


def change_item(held):
    held[0] = 3.0


# What a loss reads besides its arguments, how it reads it, and how it changes.
CHANGES = {
    "an object": (Held, lambda held: held.weight, change_weight),
    "a list": (lambda: [1.0], lambda held: held[0], change_item),
    "an array": (lambda: np.ones(1, np.float32), lambda held: held[0], change_item),
    "a teacher": (HeldParam, lambda held: held.weight[...], change_param),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_function_keeps_what_it_has_read(kind):
    """As under `jax.jit`. A function that is made anew reads it anew."""
    make, read, change = CHANGES[kind]
    held = make()

    def made_anew():
        return lambda outputs, labels: read(held) * cross_entropy(outputs, labels)

    loss_fn = made_anew()
    before = fit_loss(loss_fn)
    assert before == pytest.approx(plain_loss(loss_fn), rel=1e-6)
    change(held)
    assert fit_loss(loss_fn) == before
    assert fit_loss(made_anew()) == pytest.approx(3 * before, rel=1e-6)


class Weighted(nnx.Module):
    """The outputs times a number that tells its option apart."""

    def __init__(self, option):
        self.option = option

    def __call__(self, outputs):
        return self.number(self.option) * outputs

    def number(self, option):
        if isinstance(option, frozenset):
            return self.number(*option)
        if dataclasses.is_dataclass(option):
            return option.hidden
        return {bool: 1.0, int: 2.0, float: 3.0}.get(type(option), 2.0 + float(np.copysign(1, option)))


@dataclasses.dataclass(frozen=True)
class Hiding:
    hidden: float = dataclasses.field(compare=False)


EQUAL = {
    "in a frozenset": [frozenset([1]), frozenset([True]), frozenset([1.0])],
    "zeros of NumPy": [np.float32(0.0), np.float32(-0.0)],
    "a field that is not compared": [Hiding(1.0), Hiding(2.0)],
}


def with_option(option):
    return connect([nnx.Linear(4, 3, rngs=nnx.Rngs(0)), LI(), Weighted(option)])


def squares(outputs, targets):
    return jnp.square(outputs).sum(-1)


@pytest.mark.parametrize("options", EQUAL.values(), ids=EQUAL)
def test_options_that_python_calls_equal_have_programs_of_their_own(options):
    inputs, targets = jnp.ones((3, 2, 4)), jnp.zeros(2)
    losses = [float(gradients(with_option(option), squares, inputs, targets)[0]) for option in options]
    assert len(set(losses)) == len(losses)


def test_streams_under_the_users_jit_are_told_apart_by_the_types_of_options():
    run = jax.jit(lambda stream, x, t: extend_stream(stream, x, t).losses.sum())
    found = []
    for option in (1, True, 1.0):
        model = with_option(option)
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        stream = start_stream(model, optimizer, squares, (2, 4), rule=OTTT())
        found.append(float(run(stream, jnp.ones((3, 2, 4)), jnp.zeros((3, 2)))))
    assert len(set(found)) == len(found)


def test_penalties_may_be_any_iterable():
    inputs, targets = jnp.ones((3, 2, 4)), jnp.zeros(2)
    model = connect([nnx.Linear(4, 3, rngs=nnx.Rngs(0)), LIF(threshold=0.1)])
    given = [sparsity(10.0)], (one for one in [sparsity(10.0)]), map(sparsity, [10.0])
    losses = {float(gradients(model, squares, inputs, targets, penalties=penalties)[0]) for penalties in given}
    assert len(losses) == 1 and losses != {float(gradients(model, squares, inputs, targets)[0])}


def test_an_option_that_cannot_be_compared_is_told():
    with pytest.raises(TypeError, match=r"option of the model.*unhashable type: 'dict'.*tuples"):
        gradients(with_option({"a": 1}), squares, jnp.ones((3, 2, 4)), jnp.zeros(2))
