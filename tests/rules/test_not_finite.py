"""Nothing that is not finite passes in silence: a run stops there, says why, and leaves the numbers of the step before."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from covering import combinations
from slax_neurons import IF, LI, LIF, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTTT,
    UORO,
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
    train_online,
)

T, B, N, C = 6, 4, 5, 3
RULES = [BPTT(), OSTL(), OTTT()]
WORDS = {jnp.nan: "NaN", jnp.inf: "infinite", -jnp.inf: "infinite"}
MOMENTUM = optax.sgd(0.1, momentum=0.9)


def made(transformation=MOMENTUM, *, dtype=jnp.float32, modules=(), readout=()):
    rngs = nnx.Rngs(0)
    options = {"rngs": rngs, "param_dtype": dtype}
    layers = [nnx.Linear(N, 6, **options), *modules, LIF(threshold=0.5, param_dtype=dtype)]
    model = connect([*layers, nnx.Linear(6, C, **options), *readout, LI(param_dtype=dtype)])
    return model, nnx.Optimizer(model, transformation, wrt=nnx.Param)


def batch(seed, dtype=jnp.float32):
    return jax.random.bernoulli(jax.random.key(seed), 0.4, (T, B, N)).astype(dtype), jnp.arange(B) % C


def with_entry(value, seed=2):
    """A batch with one entry that is not finite."""
    inputs, labels = batch(seed)
    return inputs.at[2, 1, 3].set(value), labels


def numbers(*nodes):
    leaves = jax.tree.leaves(nnx.state(nodes))
    return [
        np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x) for x in leaves
    ]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def stopped(*arguments, **options):
    """What a run says that stops."""
    with pytest.raises(FloatingPointError) as error:
        fit(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize("rule, value, update", combinations(RULES, WORDS, ["offline", "online"]), ids=repr)
def test_one_entry_of_the_inputs_stops_the_run(rule, value, update, tmp_path):
    """At its step, although a spike hides it from the loss; the last checkpoint and the model have the step before."""
    good = [batch(0), batch(1)]
    expected = made()
    fit(*expected, cross_entropy, good, rule=rule, update=update, window=3)
    model, optimizer = made()
    message = stopped(
        model,
        optimizer,
        cross_entropy,
        [*good, with_entry(value), batch(3), batch(4)],
        rule=rule,
        update=update,
        window=3,
        checkpoints=Checkpoints(tmp_path / "run", every=1),
        callbacks=[Every(1, lambda info: pytest.fail("went on") if info.step > 2 else None)],
    )
    assert message.startswith(
        "fit stopped at step 3 (batch 2 of epoch 0, counted from 0), which is not finite: the inputs are "
        f"{WORDS[value]} at time step 2, sample 1, feature 3."
    )
    assert message.endswith(f"and of the checkpoint in {tmp_path / 'run'} are those after step 2.")
    assert same(numbers(model, optimizer), numbers(*expected))
    other, _ = made()
    load_weights(tmp_path / "run", other)
    assert same(numbers(other), numbers(model))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("rule", [*RULES, UORO(rngs=nnx.Rngs(5))], ids=lambda rule: type(rule).__name__)
def test_in_a_call_of_many_steps_none_after_the_bad_one_changes_anything(rule, tmp_path):
    """Of the fifty steps of a call, the fifth is bad; a run that is four steps long ends the same, random numbers included."""
    key = jax.random.key(1)

    def sample(key, bad):
        inputs, labels = batch(0)
        inputs = jax.random.permutation(key, inputs, axis=2)
        is_bad = (jax.random.key_data(key) == jax.random.key_data(bad)).all()
        return jnp.where(is_bad, jnp.nan, inputs), labels

    fifth = jax.random.fold_in(jax.random.fold_in(key, 0), 4)
    graphdef, state = nnx.split(rule)
    ends = []
    for steps in (4, 50):
        model, optimizer = made()
        mine = nnx.merge(graphdef, state, copy=True)
        arguments = (model, optimizer, cross_entropy, Sampler(lambda key: sample(key, fifth), key, steps))
        if steps == 4:
            losses = fit(*arguments, rule=mine).losses
        else:
            message = stopped(*arguments, rule=mine, checkpoints=Checkpoints(tmp_path, every=1000))
            assert "step 5 (batch 4 of epoch 0, counted from 0)" in message
            assert "the inputs are NaN (one of 120) at time step 0, sample 0, feature 0" in message
        ends.append(numbers(model, mine, optimizer))
    assert same(*ends)
    assert [path.name for path in tmp_path.iterdir()] == ["4"]
    saved = json.loads(json.loads(next(tmp_path.glob("4/run/metadata")).read_text())[1])
    assert saved["step"] == 4 and saved["facts"]["progress"]["batches"] == 4 and len(losses) == 4


def test_a_run_goes_on_from_the_step_before_when_its_batches_are_put_right(tmp_path):
    batches = [batch(seed) for seed in range(5)]
    model, optimizer = made()
    whole = fit(model, optimizer, cross_entropy, batches, epochs=2)
    again = made()
    bad = [*batches[:3], with_entry(jnp.nan), batches[4]]
    stopped(*again, cross_entropy, bad, epochs=2, checkpoints=Checkpoints(tmp_path))
    again = made()
    history = fit(*again, cross_entropy, batches, epochs=2, checkpoints=Checkpoints(tmp_path))
    assert same(numbers(*again), numbers(model, optimizer)) and same([history.losses], [whole.losses])


def test_statistics_of_a_batch_norm_stay_finite():
    model, optimizer = made(modules=[nnx.BatchNorm(6, rngs=nnx.Rngs(0))])
    fit(model, optimizer, cross_entropy, [batch(0)])
    before = numbers(model, optimizer)
    assert "the inputs are NaN" in stopped(model, optimizer, cross_entropy, [with_entry(jnp.nan)])
    assert same(numbers(model, optimizer), before)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_weight_that_is_not_finite_is_found_before_the_first_step(rule):
    model, optimizer = made()
    model.modules[2].kernel[...] = model.modules[2].kernel[...].at[4, 1].set(jnp.nan)
    message = stopped(model, optimizer, cross_entropy, [batch(0)], rule=rule)
    assert "a parameter that is not finite: 2 Linear/kernel NaN at [4, 1]" in message
    for look in (lambda: evaluate(model, cross_entropy, [batch(0)]), lambda: predict(model, batch(0)[0])):
        with pytest.raises(
            FloatingPointError, match=r"a parameter that is not finite: 2 Linear/kernel NaN at \[4, 1\]"
        ):
            look()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_an_overflow_of_float16_names_the_layer(rule):
    """Inputs of 6e4 are finite, their weighted sums are not, now to one side and now to the other, and the loss is."""
    inputs, labels = batch(0, jnp.float16)
    inputs = inputs * jnp.where(jnp.arange(T) % 2, -1, 1).astype(jnp.float16)[:, None, None]
    model, optimizer = made(optax.sgd(0.1), dtype=jnp.float16)
    message = stopped(model, optimizer, cross_entropy, [(inputs * 6e4, labels)], rule=rule)
    assert re.search(
        r"the output of layer 0 Linear is infinite \(one of \d+\) at time step 0, sample \d, feature \d: more than 6.55e\+04, "
        "the largest number of float16",
        message,
    )


def test_the_state_of_a_neuron_can_overflow_where_its_inputs_do_not():
    """Without a leak and far below the threshold; the outputs are no spikes, whatever becomes of the membrane."""
    inputs, labels = batch(0, jnp.float16)
    rngs = nnx.Rngs(0)
    options = {"rngs": rngs, "param_dtype": jnp.float16}
    neurons = [IF(reset="zero", param_dtype=jnp.float16), LI(param_dtype=jnp.float16)]
    model = connect([nnx.Linear(N, 6, **options), neurons[0], nnx.Linear(6, C, **options), neurons[1]])
    model.modules[0].kernel[...] = jnp.full((N, 6), -2e4, jnp.float16)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    message = stopped(model, optimizer, cross_entropy, [(jnp.ones_like(inputs) * 0.6, labels)])
    assert re.search(r"the state of layer 1 IF is (infinite|NaN) .*at the end, sample 0, feature 0", message)


def test_where_the_cause_cannot_be_found_the_run_says_so_and_at_which_step_it_stopped(monkeypatch):
    def no_memory(*_):
        raise MemoryError("too large")

    monkeypatch.setattr("slax_rules.training.diagnosis._causes", no_memory)
    model, optimizer = made()
    with pytest.raises(FloatingPointError, match=r"stopped at step 2 .*could not be found \(MemoryError: too large\)"):
        fit(model, optimizer, cross_entropy, [batch(1), with_entry(jnp.nan)])


def test_inputs_that_no_weight_meets_are_looked_at():
    """A model that begins with a neuron makes spikes of them, and all gradients stay finite."""
    rngs = nnx.Rngs(0)
    model = connect([LIF(threshold=0.5), nnx.Linear(N, C, rngs=rngs), LI()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    assert "the inputs are NaN at time step 2" in stopped(model, optimizer, cross_entropy, [with_entry(jnp.nan)])


@pytest.mark.parametrize("label", [C, -1])
@pytest.mark.parametrize("per_step", [False, True])
def test_a_label_out_of_range_is_named(label, per_step):
    inputs, labels = batch(0)
    labels = labels.at[2].set(label)
    labels = jnp.tile(labels, (T, 1)) if per_step else labels
    message = stopped(*made(), cross_entropy, [batch(1), (inputs, labels)])
    assert (
        f"step 2 (batch 1 of epoch 0, counted from 0), which is not finite: a label of sample 2 is out of range: {label}. "
        in message
    )
    assert "Expected 0 to 2 for outputs of 3 classes" in message


def test_a_label_out_of_range_that_the_mask_leaves_out_is_no_matter():
    inputs, labels = batch(0)
    mask = jnp.ones((T, B), bool).at[:, 2].set(False)
    fit(*made(), cross_entropy, [(inputs, labels.at[2].set(7), mask)])


def test_other_targets_and_losses_that_are_not_finite_are_named():
    inputs, labels = batch(0)
    targets = jnp.zeros((T, B, C)).at[3, 1, 2].set(jnp.nan)
    assert "a target of sample 1 is not finite: [0.0, 0.0, nan]" in stopped(*made(), squared_error, [(inputs, targets)])

    def logarithm(outputs, labels):
        return jnp.log(jnp.zeros_like(outputs[:, 0]))

    message = stopped(*made(), logarithm, [(inputs, labels)])
    assert "loss_fn makes infinite (one of 24) of outputs that are finite, at time step 0, sample 0" in message
    whole = SequenceLoss(lambda outputs, labels: jnp.log(jnp.zeros(B)))
    assert "loss_fn makes infinite (one of 4) of outputs that are finite, at sample 0" in stopped(
        *made(), whole, [(inputs, labels)]
    )
    numbered = SequenceLoss(lambda outputs, labels: cross_entropy(outputs.sum(axis=0), labels))
    assert "a label of sample 2 is out of range: 5" in stopped(*made(), numbered, [(inputs, labels.at[2].set(5))])


def test_a_gradient_that_is_not_finite_names_its_parameter():
    """The square root has an infinite slope at 0, and 0 times that is NaN."""

    def root(outputs, labels):
        return jnp.sqrt((0 * outputs).sum(axis=-1))

    message = stopped(*made(), root, [batch(0)])
    assert "the gradient of 2 Linear/kernel NaN" in message and "and of 3 more arrays" in message


def minus_log(rates):
    return -jnp.log(rates).sum()


def root(outputs):
    return jnp.sqrt(outputs).sum(axis=-1)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_penalty_that_a_silent_layer_makes_infinite_is_named(rule):
    model, optimizer = made()
    model.modules[1] = LIF(threshold=1e6)
    penalty = Penalty(minus_log, of_mean=True)
    message = stopped(model, optimizer, cross_entropy, [batch(0)], rule=rule, penalties=[penalty])
    assert (
        "which is not finite: the penalty 1.0 minus_log of the mean, outputs of spiking layers is infinite for layer 0 of the "
        "neurons. Check how its function handles zeros"
    ) in message


def test_a_penalty_with_an_infinite_slope_is_named():
    """The square root of 0 is 0, and its slope is infinite; steps that the mask leaves out do not matter."""
    model, optimizer = made()
    penalty = Penalty(root, weight=0.1)
    message = stopped(model, optimizer, cross_entropy, [batch(0)], penalties=[penalty])
    assert "the gradient of the penalty 0.1 root, outputs of spiking layers is infinite (one of" in message
    assert "for layer 0 of the neurons, though the penalty is finite" in message


def test_online_a_penalty_refers_to_the_mean_so_far():
    """The layer is silent in the first window alone, so that the mean of the sequence is not 0."""
    inputs, labels = batch(0)
    batches = [(50 * inputs.at[:2].set(0), labels)]

    def arguments():
        model, optimizer = made()
        model.modules[0].kernel[...] = jnp.abs(model.modules[0].kernel[...])
        return model, optimizer, cross_entropy, batches

    options = {"window": 2, "penalties": [Penalty(minus_log, of_mean=True)]}
    fit(*arguments(), rule=OSTL(), update="offline", **options)
    message = stopped(*arguments(), rule=OSTL(), update="online", **options)
    assert "the penalty 1.0 minus_log of the mean, outputs of spiking layers is infinite for layer 0" in message


def test_a_penalty_is_looked_at_where_the_mask_counts():
    """Where it does not, an infinite value is no cause: here it is the learning rate."""
    inputs, labels = batch(0)
    mask = jnp.ones((T, B), bool).at[:, 2:].set(False)
    penalty = Penalty(lambda outputs: jnp.where(jnp.arange(B) < 2, 0 * outputs.sum(axis=-1), jnp.inf))
    message = stopped(*made(optax.sgd(jnp.nan)), cross_entropy, [(inputs, labels, mask)], penalties=[penalty])
    assert "the update makes" in message and "penalty" not in message


@pytest.mark.parametrize("rate", [jnp.nan, jnp.inf])
def test_an_update_that_is_not_finite_names_what_it_makes_so(rate):
    """The gradient is finite, and so is the loss, but what comes of them is not; model and optimizer stay."""
    model, optimizer = made(optax.sgd(rate))
    before = numbers(model, optimizer)
    message = stopped(model, optimizer, cross_entropy, [batch(0)])
    assert re.search(
        "which is not finite: the update makes 0 Linear/bias (NaN|infinite) .*, in the model, of a gradient", message
    )
    assert same(numbers(model, optimizer), before)


def test_adam_in_float16_divides_by_zero():
    """Its 1e-8 is 0 there; the moments of a gradient of zero make 0/0."""
    model, optimizer = made(optax.adam(1e-3), dtype=jnp.float16)
    with jax.numpy_dtype_promotion("standard"):  # Optax promotes there
        message = stopped(model, optimizer, cross_entropy, [batch(0, jnp.float16)] * 3)
    assert "the update makes" in message and "In float16, compute in bfloat16 or float32" in message


def test_numbers_that_run_away_within_a_sequence_are_found():
    """Online, after some updates with a step that is too large."""
    message = stopped(*made(optax.sgd(3e38)), cross_entropy, [batch(0)] * 3, update="online", window=2)
    assert "not finite: " in message and "not seen again" not in message


def test_an_optimizer_that_begins_with_infinity_is_fine():
    """As one that remembers the best loss so far."""

    def init(params):
        return {"best": jnp.array(jnp.inf)}

    transformation = optax.GradientTransformation(init, lambda updates, state, params=None: (updates, state))
    fit(*made(optax.chain(transformation, optax.sgd(0.1))), cross_entropy, [batch(0)] * 2)


def test_evaluation_and_prediction_do_not_hide_it_either():
    model, _ = made()
    with pytest.raises(FloatingPointError, match="evaluate got inputs that are not finite in batch 1"):
        evaluate(model, cross_entropy, [batch(0), with_entry(jnp.nan)])
    with pytest.raises(FloatingPointError, match=r"evaluate got a loss of nan .*in batch 0"):
        evaluate(model, cross_entropy, [(batch(0)[0], jnp.full(B, C))])
    with pytest.raises(FloatingPointError, match="predict got inputs that are not finite, expected"):
        predict(model, with_entry(jnp.inf)[0])
    with pytest.raises(FloatingPointError, match="predict got inputs that are not finite in batch 1"):
        predict(model, [batch(0), with_entry(jnp.inf)])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_target_that_is_not_finite_costs_its_window_alone(rule):
    """Traces do not depend on signals, so the windows after it learn as if its losses had not counted."""
    inputs, labels = batch(0)
    targets = jnp.broadcast_to(jax.nn.one_hot(labels, C), (T, B, C))
    model, optimizer = made()
    train_online(model, optimizer, squared_error, inputs, targets.at[1, 2].set(jnp.nan), rule=rule, window=2)
    other, its_optimizer = made()
    mask = jnp.ones((T, B), bool).at[:2].set(False)
    train_online(other, its_optimizer, squared_error, inputs, targets, rule=rule, window=2, mask=mask)
    for mine, expected, start in zip(numbers(model), numbers(other), numbers(made()[0]), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-7)
        assert np.abs(mine - start).max() > 1e-4
