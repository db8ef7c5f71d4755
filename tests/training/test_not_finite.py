"""Nothing that is not finite passes in silence: a run stops there, says why, and leaves the numbers of the step before."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import Dropout
from training.small import BATCHES, B, C, T, batch, made, numbers, same

X, LABELS = BATCHES[0]

pytestmark = pytest.mark.filterwarnings("ignore:fit got inputs up to")


def broken(value=np.nan, at=(2, 1, 3)):
    """A batch with one entry that is not finite."""
    inputs, labels = batch(2)
    inputs[at] = value
    return inputs, labels


HOW = [(sr.BPTT(), "offline", np.nan, "NaN"), (sr.OTTT(), "online", -np.inf, "infinite")]


@pytest.mark.parametrize("rule, update, value, word", HOW)
def test_one_entry_of_the_inputs_stops_the_run(rule, update, value, word, tmp_path):
    """At its step, although a spike hides it from the loss; the last checkpoint and the model have the step before.

    With the batch put right, the run goes on as if nothing had happened.
    """
    good, options = BATCHES[:2], {"rule": rule, "update": update, "window": 3}
    expected, again = made(), made()
    sr.fit(*expected, sr.cross_entropy, good, **options)
    went_on = sr.Every(1, lambda info: pytest.fail("went on") if info.step > 2 else None)
    saved = {"checkpoints": sr.Checkpoints(tmp_path / "run", every=1)}
    with pytest.raises(FloatingPointError) as error:
        sr.fit(*again, sr.cross_entropy, [*good, broken(value), BATCHES[3]], callbacks=[went_on], **options, **saved)
    message = str(error.value)
    assert f"step 3 (batch 2 of epoch 0, counted from 0), which is not finite: the inputs are {word} at" in message
    assert "time step 2, sample 1, feature 3" in message and f"checkpoint in {tmp_path / 'run'}" in message
    assert same(numbers(*again), numbers(*expected)) and len(error.value.history.losses) == 2
    other, _ = made()
    sr.load_weights(tmp_path / "run", other)
    assert same(numbers(other), numbers(again[0]))
    whole, again = made(), made()
    history = sr.fit(*whole, sr.cross_entropy, BATCHES, **options)
    resumed = sr.fit(*again, sr.cross_entropy, BATCHES, **options, **saved)
    assert same(numbers(*again), numbers(*whole)) and same([resumed.losses], [history.losses])


def test_in_a_call_of_many_steps_none_after_the_bad_one_changes_anything(tmp_path):
    """Of the fifty steps of a call, the fifth is bad; a run that is four steps long ends the same."""
    key = jax.random.key(1)
    fifth = jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, 0), 4))

    def sample(key):
        is_bad = (jax.random.key_data(key) == fifth).all()
        return jnp.where(is_bad, jnp.nan, jax.random.permutation(key, jnp.asarray(X), axis=2)), jnp.asarray(LABELS)

    short, long = made(), made()
    sr.fit(*short, sr.cross_entropy, sr.Sampler(sample, key, 4))
    told = r"step 5 \(batch 4 of .*the inputs are NaN \(one of 120\) at time step 0, sample 0, feature 0"
    with pytest.raises(FloatingPointError, match=told):
        sr.fit(*long, sr.cross_entropy, sr.Sampler(sample, key, 50), checkpoints=sr.Checkpoints(tmp_path))
    assert same(numbers(*short), numbers(*long)) and [path.name for path in tmp_path.iterdir()] == ["4"]


# ---------------------------------------------------------------------------------------------------- causes, by what is told


def root(outputs, labels):
    """Its slope at 0 is infinite, and 0 times that is NaN."""
    return jnp.sqrt((0 * outputs).sum(axis=-1))


def labels_of(label, *where):
    labels = np.tile(LABELS, (T, 1))
    labels[where] = label
    return labels


TARGETS = np.full((T, B, C), np.nan, np.float32)
PENALTY = sr.Penalty(lambda rates: -jnp.log(rates).sum(), of_mean=True)
CAUSES = {  # what is told, and what differs from a run without a fault
    "label": (f"a label of sample 2 is out of range: {C}. Expected 0 to 2", {"targets": labels_of(C, 0, 2)}),
    "target": ("a target of sample 0 is not finite", {"loss_fn": sr.squared_error, "targets": TARGETS}),
    "gradient": ("the gradient of 2 Linear/kernel NaN.* and of 3 more arrays", {"loss_fn": root}),
    "penalty": ("the loss is (nan|inf).* penalties handle zeros", {"x": 0 * X, "rule": sr.SLTT(), "penalties": [PENALTY]}),
    "update of a model with keys": ("the update makes", {"nodes": lambda: made(optax.sgd(jnp.nan), modules=[dropout()])}),
    "update within a sequence": ("updates within", {"nodes": lambda: made(optax.sgd(3e38)), "update": "online", "window": 2}),
}  # fmt: skip


def dropout():
    return Dropout(0.5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", CAUSES)
def test_the_first_cause_is_named_and_nothing_changes(name):
    told, given = CAUSES[name]
    given = {"nodes": made, "loss_fn": sr.cross_entropy, "x": X, "targets": LABELS, "mask": None} | given
    nodes, loss_fn, *one = (given.pop(part) for part in ("nodes", "loss_fn", "x", "targets", "mask"))
    model, optimizer = nodes()
    before = numbers(model, optimizer)
    with pytest.raises(FloatingPointError, match=told):
        sr.fit(model, optimizer, loss_fn, [one], **given)
    assert same(numbers(model, optimizer), before)


def test_a_label_out_of_range_behind_a_mask_is_fine():
    mask = np.arange(B) != np.full((T, 1), 2)
    sr.fit(*made(), sr.cross_entropy, [(X, np.array([0, 1, C, 0]), mask)])


def test_parameters_are_looked_at_first_and_evaluation_and_prediction_hide_nothing():
    (model, optimizer), (whole, _) = made(), made()
    model.modules[2].kernel[...] = model.modules[2].kernel[...].at[4, 1].set(jnp.nan)
    parameter = r"a parameter that is not finite: 2 Linear/kernel NaN at \[4, 1\]"
    bad, labels = broken()
    for match, look in (
        (parameter, lambda: sr.fit(model, optimizer, sr.cross_entropy, BATCHES)),
        (parameter, lambda: sr.evaluate(model, sr.cross_entropy, BATCHES)),
        (parameter, lambda: sr.predict(model, X)),
        ("inputs .* in batch 1", lambda: sr.evaluate(whole, sr.cross_entropy, [BATCHES[0], (bad, labels)])),
        ("a loss of nan.* in batch 0", lambda: sr.evaluate(whole, sr.cross_entropy, [(X, np.full(B, C))])),
        ("inputs that are not finite", lambda: sr.predict(whole, broken(np.inf)[0])),
    ):
        with pytest.raises(FloatingPointError, match=match):
            look()
