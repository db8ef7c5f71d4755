"""Nothing that is not finite passes in silence: a run stops there, says why, and leaves the numbers of the step before."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import IF, LI, LIF, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTTT,
    Checkpoints,
    Every,
    Penalty,
    Sampler,
    SequenceLoss,
    cross_entropy,
    evaluate,
    fit,
    load_weights,
    predict,
    squared_error,
)
from training.small import BATCHES, B, C, N, T, batch, made, numbers, same


def broken(value=np.nan, at=(2, 1, 3)):
    """A batch with one entry that is not finite."""
    inputs, labels = batch(2)
    inputs[at] = value
    return inputs, labels


def stopped(*arguments, **options):
    """What a run says that stops."""
    with pytest.raises(FloatingPointError) as error:
        fit(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize(
    "rule, update, value, word",
    [
        (BPTT(), "offline", np.nan, "NaN"),
        (OTTT(), "online", np.inf, "infinite"),
        (OSTL(), "offline", -np.inf, "infinite"),
    ],
)
def test_one_entry_of_the_inputs_stops_the_run(rule, update, value, word, tmp_path):
    """At its step, although a spike hides it from the loss; the last checkpoint and the model have the step before.

    With the batch put right, the run goes on as if nothing had happened.
    """
    good, options = BATCHES[:2], {"rule": rule, "update": update, "window": 3}
    expected, again = made(), made()
    fit(*expected, cross_entropy, good, **options)
    message = stopped(
        *again,
        cross_entropy,
        [*good, broken(value), BATCHES[3]],
        **options,
        checkpoints=Checkpoints(tmp_path / "run", every=1),
        callbacks=[Every(1, lambda info: pytest.fail("went on") if info.step > 2 else None)],
    )
    told = f"step 3 (batch 2 of epoch 0, counted from 0), which is not finite: the inputs are {word}"
    assert message.startswith(f"fit stopped at {told}") and "at time step 2, sample 1, feature 3" in message
    assert message.endswith(f"and of the checkpoint in {tmp_path / 'run'} are those after step 2.")
    assert same(numbers(*again), numbers(*expected))
    other, _ = made()
    load_weights(tmp_path / "run", other)
    assert same(numbers(other), numbers(again[0]))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["1", "2"]
    whole, again = made(), made()
    history = fit(*whole, cross_entropy, BATCHES, **options)
    resumed = fit(*again, cross_entropy, BATCHES, **options, checkpoints=Checkpoints(tmp_path / "run", every=1))
    assert same(numbers(*again), numbers(*whole)) and same([resumed.losses], [history.losses])


def test_in_a_call_of_many_steps_none_after_the_bad_one_changes_anything(tmp_path):
    """Of the fifty steps of a call, the fifth is bad; a run that is four steps long ends the same."""
    key = jax.random.key(1)
    fifth = jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, 0), 4))
    inputs, labels = map(jnp.asarray, batch(0))

    def sample(key):
        is_bad = (jax.random.key_data(key) == fifth).all()
        return jnp.where(is_bad, jnp.nan, jax.random.permutation(key, inputs, axis=2)), labels

    short, long = made(), made()
    fit(*short, cross_entropy, Sampler(sample, key, 4))
    message = stopped(*long, cross_entropy, Sampler(sample, key, 50), checkpoints=Checkpoints(tmp_path))
    assert "step 5 (batch 4 of epoch 0, counted from 0)" in message
    assert "the inputs are NaN (one of 120) at time step 0, sample 0, feature 0" in message
    assert same(numbers(*short), numbers(*long)) and [path.name for path in tmp_path.iterdir()] == ["4"]


def test_a_weight_that_is_not_finite_is_found_before_the_first_step():
    model, optimizer = made()
    model.modules[2].kernel[...] = model.modules[2].kernel[...].at[4, 1].set(jnp.nan)
    for look in (
        lambda: fit(model, optimizer, cross_entropy, BATCHES),
        lambda: evaluate(model, cross_entropy, BATCHES),
        lambda: predict(model, BATCHES[0][0]),
    ):
        with pytest.raises(
            FloatingPointError, match=r"a parameter that is not finite: 2 Linear/kernel NaN at \[4, 1\]"
        ):
            look()


def test_an_overflow_of_float16_names_the_layer():
    """Inputs of 6e4 are finite, their weighted sums are not, now to one side and now to the other, and the loss is."""
    inputs, labels = batch(0, np.float16)
    inputs *= np.where(np.arange(T) % 2, -6e4, 6e4).astype(np.float16)[:, None, None]
    message = stopped(*made(optax.sgd(0.1), dtype=jnp.float16), cross_entropy, [(inputs, labels)])
    told = r"the output of layer 0 Linear is infinite \(one of \d+\), more than 6.55e\+04, the largest number of float16, at"
    assert re.search(told + r" time step 0, sample \d, feature \d", message)


def test_the_state_of_a_neuron_can_overflow_where_its_inputs_do_not():
    """Without a leak and far below the threshold; the outputs are no spikes, whatever becomes of the membrane."""
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float16}
    neuron, readout = IF(reset="zero", param_dtype=jnp.float16), LI(param_dtype=jnp.float16)
    model = connect([nnx.Linear(N, 6, **options), neuron, nnx.Linear(6, C, **options), readout])
    model.modules[0].kernel[...] = jnp.full((N, 6), -2e4, jnp.float16)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    message = stopped(model, optimizer, cross_entropy, [(np.full((T, B, N), 0.6, np.float16), np.arange(B) % C)])
    assert re.search(r"the state of layer 1 IF at the end is (infinite|NaN) .*at \[0, 0\]", message)


def test_where_the_cause_cannot_be_found_the_run_says_so_and_at_which_step_it_stopped(monkeypatch):
    def no_memory(*_):
        raise MemoryError("too large")

    monkeypatch.setattr("slax_rules.training.diagnosis._causes", no_memory)
    with pytest.raises(
        FloatingPointError, match=r"stopped at step 2 .*not be found \(MemoryError: too large\)"
    ) as raised:
        fit(*made(), cross_entropy, [BATCHES[1], broken()])
    assert isinstance(raised.value.__cause__, MemoryError)


def test_inputs_that_no_weight_meets_are_looked_at():
    """A model that begins with a neuron makes spikes of them, and all gradients stay finite."""
    model = connect([LIF(threshold=0.5), nnx.Linear(N, C, rngs=nnx.Rngs(0)), LI()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    assert "the inputs are NaN at time step 2" in stopped(model, optimizer, cross_entropy, [broken()])


def test_labels_targets_and_losses_are_named():
    inputs, labels = batch(0)
    wrong = np.where(np.arange(B) == 2, C, labels)
    targets = np.zeros((T, B, C), np.float32)
    targets[3, 1, 2] = np.nan
    whole = SequenceLoss(lambda outputs, labels: jnp.log(jnp.zeros(B)))
    numbered = SequenceLoss(lambda outputs, labels: cross_entropy(outputs.sum(axis=0), labels))

    def logarithm(outputs, labels):
        return jnp.log(jnp.zeros_like(outputs[:, 0]))

    label = f"a label of sample 2 is out of range: {C}. Expected 0 to 2 for outputs of 3 classes"
    for loss_fn, its_targets, told in (
        (cross_entropy, wrong, label),
        (cross_entropy, np.tile(np.where(np.arange(B) == 2, -1, labels), (T, 1)), label.replace(str(C), "-1", 1)),
        (numbered, wrong, label),
        (squared_error, targets, "a target of sample 1 is not finite"),
        (logarithm, labels, "loss_fn makes infinite (one of 24)"),
        (whole, labels, "loss_fn makes infinite (one of 4)"),
    ):
        assert told in stopped(*made(), loss_fn, [(inputs, its_targets)])
    mask = np.ones((T, B), bool)
    mask[:, 2] = False
    fit(*made(), cross_entropy, [(inputs, wrong, mask)])  # the mask leaves it out


def test_labels_behind_a_mask_are_not_blamed_for_a_loss_elsewhere():
    """Sample 0 ends after three steps, with labels of -1 from there on; the loss is infinite at a step before."""
    inputs, labels = batch(0)
    mask, targets = np.ones((T, B), bool), np.tile(labels, (T, 1))
    mask[3:, 0], targets[3:, 0] = False, -1

    def logarithm(outputs, labels):
        return jnp.log(jnp.zeros_like(outputs[:, 0]))

    message = stopped(*made(), logarithm, [(inputs, targets, mask)])
    assert "loss_fn makes infinite (one of 21)" in message and "time step 0, sample 0" in message
    targets[1, 0] = C  # another step than that of the first infinite loss, which this label does not explain
    assert "loss_fn makes infinite" in stopped(*made(), logarithm, [(inputs, targets, mask)])
    targets[0, 0] = C
    assert f"a label of sample 0 is out of range: {C}" in stopped(*made(), logarithm, [(inputs, targets, mask)])


def test_a_gradient_that_is_not_finite_names_its_parameter():
    """The square root has an infinite slope at 0, and 0 times that is NaN."""

    def root(outputs, labels):
        return jnp.sqrt((0 * outputs).sum(axis=-1))

    message = stopped(*made(), root, BATCHES)
    assert "the gradient of 2 Linear/kernel NaN" in message and "and of 3 more arrays" in message
    one = connect([nnx.Linear(N, C, use_bias=False, rngs=nnx.Rngs(0)), LI()])
    assert "more arrays" not in stopped(one, nnx.Optimizer(one, optax.sgd(0.1), wrt=nnx.Param), root, BATCHES)


@pytest.mark.parametrize("update", ["offline", "online"])
def test_a_penalty_that_a_silent_layer_makes_infinite_is_named(update):
    """Online, the layer is silent in the first window alone, and the mean so far is 0 there."""

    def minus_log(rates):
        return -jnp.log(rates).sum()

    inputs, labels = batch(0)
    inputs = 50 * inputs
    inputs[: 2 if update == "online" else T] = 0
    model, optimizer = made()
    model.modules[0].kernel[...] = jnp.abs(model.modules[0].kernel[...])
    penalty = Penalty(minus_log, of_mean=True)
    options = {"rule": OSTL(), "window": 2, "penalties": [penalty], "update": update}
    message = stopped(model, optimizer, cross_entropy, [(inputs, labels)], **options)
    assert f"the penalty {penalty.describe()}, or its gradient, is not finite. Check how its function" in message


@pytest.mark.parametrize("rate", [jnp.nan, jnp.inf])
def test_an_update_that_is_not_finite_names_what_it_makes_so(rate):
    """The gradient is finite, and so is the loss, but what comes of them is not; model and optimizer stay."""
    model, optimizer = made(optax.sgd(rate))
    before = numbers(model, optimizer)
    message = stopped(model, optimizer, cross_entropy, BATCHES)
    assert re.search("the update makes 0 Linear/bias (NaN|infinite).*, in the model, of a gradient", message)
    assert same(numbers(model, optimizer), before)


def test_numbers_that_run_away_within_a_sequence_are_found():
    """Online, after some updates with a step that is too large."""
    message = stopped(*made(optax.sgd(3e38)), cross_entropy, BATCHES, update="online", window=2)
    assert "not finite: " in message and "not seen again" not in message


def test_an_optimizer_that_begins_with_infinity_is_fine():
    """As one that remembers the best loss so far."""
    best = optax.GradientTransformation(
        lambda params: {"best": jnp.array(jnp.inf)}, lambda g, state, params=None: (g, state)
    )
    fit(*made(optax.chain(best, optax.sgd(0.1))), cross_entropy, BATCHES)


def test_evaluation_and_prediction_do_not_hide_it_either():
    model, _ = made()
    inputs, _ = BATCHES[0]
    for match, look in (
        (
            "evaluate got inputs that are not finite in batch 1",
            lambda: evaluate(model, cross_entropy, [BATCHES[0], broken()]),
        ),
        ("evaluate got a loss of nan .*in batch 0", lambda: evaluate(model, cross_entropy, [(inputs, np.full(B, C))])),
        ("predict got inputs that are not finite, expected", lambda: predict(model, broken(np.inf)[0])),
        ("predict got inputs that are not finite in batch 1", lambda: predict(model, [BATCHES[0], broken()])),
    ):
        with pytest.raises(FloatingPointError, match=match):
            look()
