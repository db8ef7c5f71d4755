"""The outer loop: it is the training step again and again, and nothing that looks at it changes it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LIF, Dropout, Trainable, connect, unroll
from slax_rules import (
    BPTT,
    OSTL,
    OTTT,
    UORO,
    Adaptive,
    Checkpoints,
    EarlyStopping,
    EProp,
    Every,
    History,
    PerStep,
    Sampler,
    SequenceLoss,
    accuracy,
    cross_entropy,
    evaluate,
    fit,
    gradients,
    predict,
    squared_error,
    train_offline,
    train_online,
    valid_steps,
)
from training.small import BATCHES, MOMENTUM, SAMPLER, B, C, N, T, batch, close, made, numbers, same, sample

RULES = {
    "one per layer": ("online", lambda model: [OTTT(), OSTL()]),
    "random numbers": ("online", lambda model: UORO(rngs=nnx.Rngs(3))),
    "parameters": ("offline", lambda model: EProp(route=Adaptive(model, rngs=nnx.Rngs(3)))),
}


@pytest.mark.parametrize("kind", RULES)
def test_training_is_the_step_again_and_again(kind):
    """Of a sampler, and of a list of NumPy arrays; model, rule and optimizer end the same."""
    update, make_rule = RULES[kind]

    def make():
        model, _ = made()
        rule = make_rule(model)
        both = (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model
        return model, rule, nnx.Optimizer(both, MOMENTUM, wrt=nnx.Param)

    model, rule, optimizer = make()
    before = numbers(model, rule)
    step = train_offline if update == "offline" else train_online
    batches = list(SAMPLER(0))
    losses = [step(model, optimizer, cross_entropy, *one, rule=rule, window=3) for one in batches]
    assert not any(np.array_equal(a, b) for a, b in zip(numbers(model, rule), before, strict=True) if a.size > 2)
    for source in (SAMPLER, [tuple(map(np.asarray, one)) for one in batches]):
        fitted, its_rule, its_optimizer = make()
        history = fit(fitted, its_optimizer, cross_entropy, source, rule=its_rule, update=update, window=3)
        assert close(numbers(fitted, its_rule, its_optimizer), numbers(model, rule, optimizer))
        np.testing.assert_allclose(history.losses, np.array(losses), rtol=1e-5)


def test_a_loss_of_the_whole_sequence():
    """It is trained offline, evaluated as a mean over samples, and refused online."""
    loss_fn = SequenceLoss(lambda outputs, labels, *mask: cross_entropy(outputs.mean(axis=0), labels))
    inputs, labels = batch(3)
    model, optimizer = made()
    loss, _ = gradients(model, loss_fn, jnp.asarray(inputs), jnp.asarray(labels), rule=OSTL())
    assert evaluate(model, loss_fn, [(inputs, labels)])["loss"] == pytest.approx(float(loss), rel=1e-6)
    half = np.arange(B)[None] < np.full((T, 1), 2)
    masked = evaluate(model, loss_fn, [(inputs, labels, half), (inputs, labels)])["loss"]
    first = evaluate(model, loss_fn, [(inputs[:, :2], labels[:2])])["loss"]
    assert masked == pytest.approx((2 * first + B * float(loss)) / (2 + B), rel=1e-6)
    history = fit(model, optimizer, loss_fn, [(inputs, labels)] * 2, rule=OSTL(), window=2)
    assert history.losses[0] == pytest.approx(float(loss), rel=1e-6) and history.losses[1] < history.losses[0]
    with pytest.raises(TypeError, match="got a SequenceLoss, expected the loss of one step"):
        fit(model, optimizer, loss_fn, [(inputs, labels)], update="online")


def test_targets_per_step_in_floating_point():
    """They are evaluated as they are trained on; T = B is left open by the shape, and said by a mark."""
    inputs, _ = batch(3)
    targets = np.sin(np.arange(T * B * C, dtype=np.float32)).reshape(T, B, C)
    model, optimizer = made()
    one = (inputs[:B], PerStep(targets[:B]))
    before = evaluate(model, squared_error, [one])["loss"]
    outputs = predict(model, inputs[:B])
    assert before == pytest.approx(float(((outputs - targets[:B]) ** 2).mean()), rel=1e-6)
    history = fit(model, optimizer, squared_error, [one] * 3)
    assert history.losses[0] == pytest.approx(before, rel=1e-6) and history.losses[2] < before


def test_outputs_are_those_of_the_model_in_evaluation_mode():
    """In one batch or in several, from a carry or at rest."""
    model, _ = made(modules=[Dropout(0.5, rngs=nnx.Rngs(1)), nnx.BatchNorm(6, rngs=nnx.Rngs(1))])
    before = numbers(model)
    inputs, labels = batch(3)
    outputs = predict(model, inputs)
    assert same(numbers(model), before) and not model.modules[2].use_running_average
    model.eval()
    carry, early = unroll(model, model.initialize_carry((B, N)), jnp.asarray(inputs[:3]))
    np.testing.assert_allclose(outputs[:3], early, rtol=1e-5)
    np.testing.assert_allclose(predict(model, inputs[3:], carry=carry), outputs[3:], rtol=1e-5)
    several = predict(model, [(inputs, labels), inputs[:, :2]])
    np.testing.assert_allclose(several[0], outputs, rtol=1e-5)
    np.testing.assert_allclose(several[1], outputs[:, :2], rtol=1e-5)
    with pytest.raises(ValueError, match="a carry for several batches, expected it for one batch"):
        predict(model, [inputs], carry=carry)


def test_no_batch_of_a_sampler_comes_twice():
    batches = [np.asarray(inputs).tobytes() for epoch in range(3) for inputs, _ in SAMPLER(epoch)]
    assert len(set(batches)) == len(batches) == 12


@pytest.mark.parametrize("source", [SAMPLER, lambda epoch: BATCHES])
def test_number_of_traces_does_not_depend_on_what_happens_between_steps(source):
    counts = []
    for options in ({"epochs": 3, "callbacks": [Every(3, lambda info: None)]}, {}):
        traced = []

        def loss_fn(outputs, labels, traced=traced):
            traced.append(1)
            return cross_entropy(outputs, labels)

        fit(*made(), loss_fn, source, **options)
        counts.append(len(traced))
    assert counts[0] == counts[1] > 0


def test_looking_on_changes_nothing_bit_for_bit_and_info_is_of_its_step():
    def make():
        return made(modules=[Dropout(0.3, rngs=nnx.Rngs(1))])

    seen = []

    def scribble(info):
        seen.append((info.step, info.epoch, info.loss, info.rule, info.update, info.window, info.batch))
        info.model.modules[0].kernel[...] *= 0
        info.optimizer.step[...] *= 0
        return {"steps": info.step, "none": None}

    plain, watched = make(), make()
    expected = fit(*plain, cross_entropy, SAMPLER, epochs=2)
    options = {"held_out": [batch(2)], "evaluate_every": 3, "callbacks": [Every(2, scribble)]}
    history = fit(*watched, cross_entropy, SAMPLER, epochs=2, **options)
    assert same(numbers(*watched), numbers(*plain)) and same([history.losses], [expected.losses])
    assert [one[:2] for one in seen] == [(2, 0), (4, 0), (6, 1), (8, 1)]
    assert [one[2] for one in seen] == history.losses[1::2].tolist()
    assert seen[0][3:6] == (BPTT(), "offline", None) and same(seen[2][6], SAMPLER.batch(1, 1))
    assert history.series("steps")[0].tolist() == [2, 4, 6, 8] and history.series("none")[0].size == 0
    assert history.series("loss")[0].tolist() == [3, 6]


def test_evaluation_is_that_of_the_whole_set_in_evaluation_mode():
    inputs, labels = batch(3)
    mask = np.asarray(valid_steps(jnp.array([6, 2, 0, 5]), T))
    parts = [(inputs[:, :3], labels[:3], mask[:, :3]), (inputs[:, 3:], labels[3:], mask[:, 3:])]
    model, _ = made(modules=[nnx.BatchNorm(6, rngs=nnx.Rngs(1)), Dropout(0.5, rngs=nnx.Rngs(1))])
    before = numbers(model)
    whole = evaluate(model, cross_entropy, [(inputs, labels, mask)], metrics={"accuracy": accuracy})
    pieces = evaluate(model, cross_entropy, parts, metrics={"accuracy": accuracy})
    assert pieces == pytest.approx(whole, rel=1e-5) and 0 < whole["accuracy"] < 1
    outputs = predict(model, inputs)
    losses = np.stack([cross_entropy(output, jnp.asarray(labels)) for output in outputs])
    assert whole["loss"] == pytest.approx(losses[mask].mean(), rel=1e-5)
    assert same(numbers(model), before) and not model.modules[1].use_running_average


def test_a_batch_without_a_true_entry_does_not_count_in_a_metric_and_fit_refuses_it():
    inputs, labels = BATCHES[0]
    batches = [(inputs, labels, np.ones((T, B), bool)), (inputs, labels, np.zeros((T, B), bool))]

    def rate(outputs, labels, mask):
        return jnp.where(mask[..., None], outputs, 0).sum() / mask.sum(dtype=jnp.float32)

    model, optimizer = made()
    found = evaluate(model, cross_entropy, batches, metrics={"rate": rate})
    assert found == evaluate(model, cross_entropy, batches[:1], metrics={"rate": rate})
    with pytest.raises(ValueError, match="masks without a single true entry"):
        evaluate(model, cross_entropy, batches[1:])
    with pytest.raises(ValueError, match="Got a mask without a single true entry, expected at least one"):
        fit(model, optimizer, cross_entropy, batches)


def test_a_cell_of_flax_is_trained_and_evaluated():
    model = nnx.GRUCell(N, C, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    before = evaluate(model, cross_entropy, BATCHES)
    fit(model, optimizer, cross_entropy, BATCHES, epochs=5)
    assert evaluate(model, cross_entropy, BATCHES)["loss"] < before["loss"]


def test_early_stopping_waits_and_gives_back_the_best():
    """Steps uphill make it worse each time, so the first evaluation is the best."""
    model, optimizer = made(optax.sgd(-0.5))
    best = []
    history = fit(
        model,
        optimizer,
        cross_entropy,
        lambda epoch: [batch(5)] * 5,
        epochs=50,
        held_out=[batch(5)],
        evaluate_every=2,
        early_stopping=EarlyStopping(patience=3, restore_best=True),
        callbacks=[Every(1, lambda info: best.append(numbers(info.model)))],
    )
    assert history.stopped_early and len(history.losses) == 8 and history.best_step == 2
    assert same(numbers(model), best[1]) and not same(best[1], best[2])
    assert history.series("loss")[1][0] == min(history.series("loss")[1])


@pytest.mark.parametrize("mode, sign", [("min", 1), ("max", -1)])
def test_patience_counts_evaluations_without_a_gain_above_min_delta(mode, sign):
    stopping = EarlyStopping(patience=2, min_delta=0.1, mode=mode)
    patience, waited = None, []
    for step, value in enumerate([1.0, 0.95, 0.8, 0.9, 0.75]):
        patience = stopping.update(patience, sign * value, step)
        waited.append(patience.waited)
    assert waited == [0, 1, 0, 1, 2]
    assert patience.step == 2 and stopping.should_stop(patience) and not stopping.should_stop(None)
    assert [EarlyStopping().mode, EarlyStopping("accuracy").mode] == ["min", "max"]


def test_bar_is_for_terminals(capsys):
    fit(*made(), cross_entropy, BATCHES)
    assert capsys.readouterr().err == ""
    held_out = {"held_out": BATCHES, "metrics": {"accuracy": accuracy}}
    for source in (BATCHES, SAMPLER):
        fit(*made(), cross_entropy, source, epochs=2, progress=True, **held_out)
        shown = capsys.readouterr().err
        assert "8/8" in shown and "loss=" in shown and "held-out accuracy=" in shown


def test_a_history_prints_in_a_line_and_names_what_there_is():
    records = [{"step": 1, "epoch": 0, "loss": 0.5, "accuracy": None}, {"step": 3, "epoch": 0, "accuracy": 1.0}]
    history = History(np.linspace(1, 0.25, 10_000), records, best_step=1, stopped_early=True)
    text = "History(10000 steps; last loss 0.25; 2 records of accuracy, loss; best step 1; stopped early)"
    assert str(history) == text and repr(History(np.zeros(0), [])) == "History(0 steps)"
    assert [array.tolist() for array in history.series("accuracy")] == [[3], [1.0]]
    with pytest.raises(KeyError, match="expected one of: accuracy, loss"):
        history.series("error")


def silent(bias, transformation):
    model, optimizer = made(transformation)
    model.modules[0].bias[...] = jnp.full(6, bias)
    return model, optimizer


def raises_biases():
    """An optimizer that makes neurons spike within an epoch."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda gradient: jnp.full_like(gradient, 10.0), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def test_a_layer_that_stays_silent_is_told_once_at_the_line_of_the_call():
    with pytest.warns(UserWarning, match="Layer 1 LIF is silent: .*fluctuation_driven") as warned:
        inspect.unwrap(fit)(*silent(-100.0, MOMENTUM), cross_entropy, SAMPLER, epochs=3)
    assert [warning.filename for warning in warned if "silent" in str(warning.message)] == [__file__]


def test_nothing_is_told_of_a_layer_that_spikes_or_of_no_stack():
    """Warnings are errors here."""
    cell = LIF(decay=Trainable(0.9), threshold=1e9)
    for model, optimizer in (silent(-20.0, raises_biases()), (cell, nnx.Optimizer(cell, MOMENTUM, wrt=nnx.Param))):
        fit(model, optimizer, cross_entropy, BATCHES, epochs=2)


ONE = BATCHES[0]
HELD = {"held_out": BATCHES}


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"epochs": 2.5}, ValueError, "epochs=2.5"),
        ({"update": "deferred"}, ValueError, 'update=\'deferred\', expected .* "offline" or "online"'),
        ({"window": 0}, ValueError, "window=0, expected at least 1"),
        ({"rule": OSTL}, TypeError, "Got the class OSTL as the rule, expected a rule such as .* rule=OSTL\\(\\)"),
        ({"loss_fn": 3}, TypeError, "got int as loss_fn, expected a function such as cross_entropy"),
        ({"optimizer": optax.adam(1e-3)}, TypeError, "Wrap the Optax transformation: nnx.Optimizer"),
        ({"metrics": {"accuracy": accuracy}}, ValueError, "expected held_out"),
        ({"metrics": accuracy, **HELD}, TypeError, "got the function accuracy as metrics, expected a table"),
        ({"metrics": {"loss": accuracy}, **HELD}, ValueError, 'a metric named "loss"'),
        ({"evaluate_every": 3}, ValueError, "expected held_out"),
        ({"early_stopping": EarlyStopping("accuracy"), **HELD}, ValueError, "'accuracy', expected one of: loss"),
        ({"checkpoints": Checkpoints("x", best="accuracy"), **HELD}, ValueError, "expected one of: loss"),
        ({"checkpoints": "runs"}, TypeError, "expected Checkpoints\\('runs'\\)"),
        ({"early_stopping": 5, **HELD}, TypeError, "got 5 as early_stopping, expected one such as EarlyStopping"),
        ({"held_out": []}, ValueError, "evaluate got no batches"),
        ({"held_out": iter(BATCHES)}, ValueError, "as held_out, but it can be read only once"),
        ({"callbacks": [Every(0, print)]}, ValueError, "every 0 steps"),
        ({"callbacks": [print]}, TypeError, r"got print among the callbacks, .* Every\(100, print\)"),
        ({"callbacks": Every(1, print)}, TypeError, r"got one Every as callbacks, expected a list"),
        ({"callbacks": [Every]}, TypeError, r"Make one: Every\(...\)"),
        ({"batches": lambda epoch: []}, ValueError, "Epoch 0 gave no batches, expected at least one"),
        ({"batches": ONE}, ValueError, r"Got one batch as batches, expected many .* batches=\[\(inputs, targets\)\]"),
        ({"batches": ONE[0]}, ValueError, "Got one array as batches"),
        ({"batches": [ONE[:1]]}, TypeError, r"a batch of 1 entries, expected \(inputs, targets\)"),
        ({"batches": [{"inputs": 1}]}, TypeError, r"a batch of a dict, expected .*: \(batch\['inputs'\], "),
        ({"batches": [("abc", ONE[1])]}, TypeError, "Got str 'abc' as inputs, expected an array of numbers"),
        ({"batches": [(ONE[0].swapaxes(0, 1), ONE[1])]}, ValueError, r"which is batch first.*inputs.swapaxes\(0, 1\)"),
        ({"batches": [(np.ones((B, T, 2, 2)), ONE[1])]}, ValueError, "which is batch first"),
        ({"batches": 7}, TypeError, "Got int 7 as batches, expected a list of batches"),
        ({"batches": Sampler}, TypeError, r"Got the class Sampler as batches, .* Make one: Sampler\(...\)"),
        ({"batches": iter(BATCHES), "epochs": 2}, ValueError, "a list_iterator as batches of 2 epochs, but it can be"),
    ],
)
def test_fit_refuses(options, error, message):
    """As it is without the check of types that the tests have everywhere else."""
    model, optimizer = made()
    arguments = {"optimizer": optimizer, "loss_fn": cross_entropy, "batches": BATCHES} | options
    with pytest.raises(error, match=message):
        inspect.unwrap(fit)(model, **arguments)


def test_options_out_of_range_are_refused():
    for call, message in (
        (lambda: EarlyStopping(patience=0), "patience=0"),
        (lambda: EarlyStopping("error"), "got mode=None for the metric 'error'"),
        (lambda: EarlyStopping().update(None, float("nan"), 1), "NaN"),
        (lambda: Sampler(sample, jax.random.key(0), 0), "0 steps per epoch"),
        (lambda: Checkpoints("x", every=0), "every=0, keep=3"),
        (lambda: Checkpoints("x", keep=0), "keep=0"),
        (
            lambda: Checkpoints("x", best="error"),
            "mode=None for the metric 'error', expected \"min\" if less is better",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_what_does_not_fit_is_named_where_it_is_given():
    """Options that cannot be hashed, losses of a wrong shape, optimizers of something else."""
    convolution = nnx.Conv(1, 2, (3, 3), strides=[2, 2], rngs=nnx.Rngs(0))
    model = connect([convolution, LIF(), lambda x: x.reshape(x.shape[0], -1)])
    optimizer = nnx.Optimizer(model, MOMENTUM, wrt=nnx.Param)
    images = [(np.ones((3, 2, 4, 4, 1), np.float32), np.array([0, 1]))]
    for call in (
        lambda: fit(model, optimizer, cross_entropy, images),
        lambda: evaluate(model, cross_entropy, images),
        lambda: predict(model, images[0][0]),
    ):
        with pytest.raises(TypeError, match=r"Got strides=\[2, 2\], expected hashable values"):
            call()
    model, optimizer = made()
    with pytest.raises(ValueError, match=r"SequenceLoss made \[6, 4\] of outputs for 4 samples"):
        evaluate(model, SequenceLoss(lambda y, labels: cross_entropy(y, labels)), BATCHES)
    rule = EProp(route=Adaptive(model, rngs=nnx.Rngs(3)))
    with pytest.raises(ValueError, match=r"nnx.Optimizer\(\(model, rule\), ...\)"):
        fit(model, optimizer, cross_entropy, BATCHES, rule=rule)
