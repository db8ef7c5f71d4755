"""The outer loop: it is the training step again and again, and nothing that looks at it changes it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Dropout, Trainable, connect, unroll
from slax_rules import (
    BPTT,
    OSTL,
    OTTT,
    RULES,
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
from slax_rules.loop.objective import WindowObjective, read_targets
from slax_rules.rule import Heads

T, B, N, C = 6, 4, 5, 3


def sample(key):
    inputs = jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float32)
    return inputs, jnp.arange(B) % C


MOMENTUM = optax.sgd(0.1, momentum=0.9)


def made(*, learning_rate=0.1, modules=()):
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(N, 6, rngs=rngs), *modules, LIF(threshold=0.5), nnx.Linear(6, C, rngs=rngs), LI()])
    return model, nnx.Optimizer(model, optax.sgd(learning_rate, momentum=0.9), wrt=nnx.Param)


SAMPLER = Sampler(sample, jax.random.key(1), steps=4)


def numbers(*nodes):
    leaves = jax.tree.leaves(nnx.state(nodes))
    return [
        np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x) for x in leaves
    ]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def close(ours, theirs):
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def adaptive(model):
    return EProp(route=Adaptive(model, rngs=nnx.Rngs(3)))


RULE_MAKERS = {
    "bptt": lambda model: BPTT(),
    "ostl": lambda model: OSTL(),
    "one per layer": lambda model: [OTTT(), OSTL()],
    "random numbers": lambda model: UORO(rngs=nnx.Rngs(3)),
    "parameters": adaptive,
}


@pytest.mark.parametrize("update", ["offline", "online"])
@pytest.mark.parametrize("kind", RULE_MAKERS)
def test_training_is_the_step_again_and_again(kind, update):
    """Of a sampler, of a list of NumPy arrays; model, rule and optimizer end the same."""

    def make():
        model, _ = made()
        rule = RULE_MAKERS[kind](model)
        own = nnx.state(rule, nnx.Param)
        both = (model, rule) if jax.tree.leaves(own) else model
        return model, rule, nnx.Optimizer(both, MOMENTUM, wrt=nnx.Param)

    model, rule, optimizer = make()
    before = numbers(model, rule)
    step = train_offline if update == "offline" else train_online
    batches = list(SAMPLER(0))
    losses = [step(model, optimizer, cross_entropy, *batch, rule=rule, window=3) for batch in batches]
    assert not any(np.array_equal(a, b) for a, b in zip(numbers(model, rule), before, strict=True) if a.size > 2)
    for source in (SAMPLER, [tuple(map(np.asarray, batch)) for batch in batches]):
        fitted, its_rule, its_optimizer = make()
        history = fit(fitted, its_optimizer, cross_entropy, source, rule=its_rule, update=update, window=3)
        assert close(numbers(fitted, its_rule, its_optimizer), numbers(model, rule, optimizer))
        np.testing.assert_allclose(history.losses, np.array(losses), rtol=1e-5)


@pytest.mark.parametrize("window", [None, 2])
def test_a_loss_of_the_whole_sequence(window):
    """It is trained offline, evaluated as a mean over samples, and refused online."""
    loss_fn = SequenceLoss(lambda outputs, labels, *mask: cross_entropy(outputs.mean(axis=0), labels))
    batch = sample(jax.random.key(3))
    model, optimizer = made()
    loss, _ = gradients(model, loss_fn, *batch, rule=OSTL())
    assert evaluate(model, loss_fn, [batch])["loss"] == pytest.approx(float(loss), rel=1e-6)
    half = jnp.arange(B)[None] < jnp.full((T, 1), 2)
    masked = evaluate(model, loss_fn, [(*batch, half), batch])["loss"]
    first = evaluate(model, loss_fn, [(batch[0][:, :2], batch[1][:2])])["loss"]
    assert masked == pytest.approx((2 * first + B * float(loss)) / (2 + B), rel=1e-6)
    history = fit(model, optimizer, loss_fn, [batch] * 2, rule=OSTL(), window=window)
    assert history.losses[0] == pytest.approx(float(loss), rel=1e-6) and history.losses[1] < history.losses[0]
    with pytest.raises(TypeError, match="got a SequenceLoss, expected the loss of one step"):
        fit(model, optimizer, loss_fn, [batch], update="online")


def test_targets_per_step_in_floating_point():
    """They are evaluated as they are trained on; T = B is left open by the shape, and said by a mark."""
    inputs, _ = sample(jax.random.key(3))
    targets = jnp.sin(jnp.arange(T * B * C, dtype=jnp.float32)).reshape(T, B, C)
    model, optimizer = made()
    batch = (inputs[:B], PerStep(targets[:B]))
    before = evaluate(model, squared_error, [batch])["loss"]
    outputs = predict(model, inputs[:B])
    assert before == pytest.approx(float(((outputs - targets[:B]) ** 2).mean()), rel=1e-6)
    history = fit(model, optimizer, squared_error, [batch] * 3)
    assert history.losses[0] == pytest.approx(before, rel=1e-6) and history.losses[2] < before


def test_outputs_are_those_of_the_model_in_evaluation_mode():
    """In one batch or in several, from a carry or at rest, compiled once for each structure."""
    model, _ = made(modules=[Dropout(0.5, rngs=nnx.Rngs(1)), nnx.BatchNorm(6, rngs=nnx.Rngs(1))])
    before = numbers(model)
    inputs, labels = sample(jax.random.key(3))
    outputs = predict(model, inputs)
    assert same(numbers(model), before) and not model.modules[2].use_running_average
    model.eval()
    _, expected = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    carry, _ = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs[:3])
    np.testing.assert_allclose(predict(model, inputs[3:], carry=carry), outputs[3:], rtol=1e-5)
    several = predict(model, [(inputs, labels), np.asarray(inputs[:, :2])])
    np.testing.assert_allclose(several[0], outputs, rtol=1e-5)
    np.testing.assert_allclose(several[1], outputs[:, :2], rtol=1e-5)
    with pytest.raises(ValueError, match="a carry for several batches, expected it for one batch"):
        predict(model, [inputs], carry=carry)


def test_no_batch_of_a_sampler_comes_twice():
    batches = [np.asarray(inputs).tobytes() for epoch in range(3) for inputs, _ in SAMPLER(epoch)]
    assert len(set(batches)) == len(batches) == 12


@pytest.mark.parametrize("source", [SAMPLER, lambda epoch: SAMPLER(epoch)])
def test_number_of_traces_does_not_depend_on_what_happens_between_steps(source):
    def traces(**options):
        count = 0

        def loss_fn(outputs, labels):
            nonlocal count
            count += 1
            return cross_entropy(outputs, labels)

        fit(*made(), loss_fn, source, **options)
        return count

    assert traces(epochs=3, callbacks=[Every(3, lambda info: None)]) == traces(epochs=1)


def test_looking_on_changes_nothing_bit_for_bit():
    model, optimizer = made(modules=[Dropout(0.3, rngs=nnx.Rngs(1))])
    plain = fit(model, optimizer, cross_entropy, SAMPLER, epochs=2)
    watched, its_optimizer = made(modules=[Dropout(0.3, rngs=nnx.Rngs(1))])

    def scribble(info):
        info.model.modules[0].kernel[...] *= 0
        info.optimizer.step[...] *= 0

    history = fit(
        watched,
        its_optimizer,
        cross_entropy,
        SAMPLER,
        epochs=2,
        held_out=[sample(jax.random.key(2))],
        evaluate_every=3,
        callbacks=[Every(2, scribble)],
    )
    assert same(numbers(watched, its_optimizer), numbers(model, optimizer))
    assert same([history.losses], [plain.losses])


def test_info_is_of_its_step():
    seen = []
    model, optimizer = made()
    history = fit(
        model,
        optimizer,
        cross_entropy,
        SAMPLER,
        epochs=2,
        callbacks=[
            Every(3, lambda info: seen.append(info) or {"norm": optax.tree.norm(nnx.state(info.model)), "no": None})
        ],
    )
    assert [(info.step, info.epoch) for info in seen] == [(3, 0), (6, 1)]
    assert [info.loss for info in seen] == [history.losses[2], history.losses[5]]
    assert {(info.rule, info.update, info.window) for info in seen} == {(BPTT(), "offline", None)}
    assert same(seen[1].batch, SAMPLER.batch(1, 1))
    steps, norms = history.series("norm")
    assert steps.tolist() == [3, 6] and norms[0] != norms[1]
    assert history.series("no")[0].size == 0


def test_evaluation_is_that_of_the_whole_set_in_evaluation_mode():
    inputs, labels = sample(jax.random.key(3))
    mask = valid_steps(jnp.array([6, 2, 0, 5]), T)
    parts = [(inputs[:, :3], labels[:3], mask[:, :3]), (inputs[:, 3:], labels[3:], mask[:, 3:])]
    model, _ = made(modules=[nnx.BatchNorm(6, rngs=nnx.Rngs(1)), Dropout(0.5, rngs=nnx.Rngs(1))])
    before = numbers(model)
    whole = evaluate(model, cross_entropy, [(inputs, labels, mask)], metrics={"accuracy": accuracy})
    pieces = evaluate(model, cross_entropy, parts, metrics={"accuracy": accuracy})
    assert pieces == pytest.approx(whole, rel=1e-5)
    assert same(numbers(model), before)
    assert not model.modules[1].use_running_average
    model.eval()
    assert evaluate(model, cross_entropy, parts, metrics={"accuracy": accuracy}) == pieces


def test_masked_steps_of_a_batch_change_nothing():
    inputs, labels = sample(jax.random.key(3))
    mask = valid_steps(jnp.array([6, 2, 3, 5]), T)
    model, optimizer = made()
    fit(model, optimizer, cross_entropy, lambda epoch: [(inputs, labels, mask)])
    other, its_optimizer = made()
    padded = jnp.where(mask[..., None], inputs, 1 - inputs)
    fit(other, its_optimizer, cross_entropy, lambda epoch: [(padded, labels, mask)])
    assert same(numbers(other), numbers(model))


def test_a_cell_of_flax_is_trained_and_evaluated():
    model = nnx.GRUCell(6, 3, rngs=nnx.Rngs(0))
    batches = [(jax.random.normal(jax.random.key(0), (5, 4, 6)), jnp.array([0, 1, 2, 0]))]
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    before = evaluate(model, cross_entropy, batches)
    fit(model, optimizer, cross_entropy, batches, epochs=20)
    assert evaluate(model, cross_entropy, batches)["loss"] < before["loss"]


def test_early_stopping_waits_and_gives_back_the_best():
    """Steps uphill make it worse each time, so the first evaluation is the best."""
    model, optimizer = made(learning_rate=-0.5)
    best = []
    history = fit(
        model,
        optimizer,
        cross_entropy,
        lambda epoch: [sample(jax.random.key(5))] * 5,
        epochs=50,
        held_out=[sample(jax.random.key(5))],
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


def test_bar_is_for_terminals(capsys):
    fit(*made(), cross_entropy, SAMPLER)
    assert capsys.readouterr().err == ""
    fit(
        *made(),
        cross_entropy,
        SAMPLER,
        progress=True,
        held_out=[sample(jax.random.key(2))],
        metrics={"accuracy": accuracy},
    )
    shown = capsys.readouterr().err
    assert "4/4" in shown and "loss=" in shown and "held-out accuracy=" in shown


def test_a_history_prints_in_a_line():
    """Whoever prints it does not want all losses."""
    records = [{"step": 1, "epoch": 0, "loss": 0.5, "accuracy": 1.0}] * 2
    history = History(np.linspace(1, 0.25, 10_000), records, best_step=1, stopped_early=True)
    assert str(history) == (
        "History(10000 steps; last loss 0.25; 2 records of accuracy, loss; best step 1; stopped early)"
    )
    assert repr(History(np.zeros(0), [])) == "History(0 steps)"


def silent(bias, *, spikes_after=False):
    """A model whose first layer has a bias, and an optimizer that brings it up within an epoch, or does nothing."""
    model, _ = made()
    model.modules[0].bias[...] = jnp.full(6, bias)
    return model, nnx.Optimizer(model, optax.sgd(0.0) if not spikes_after else raise_biases(), wrt=nnx.Param)


def raise_biases():
    def update(updates, state, params=None):
        return jax.tree.map(lambda gradient: jnp.full_like(gradient, 10.0), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def test_a_layer_that_stays_silent_is_told_once_at_the_line_of_the_call():
    with pytest.warns(UserWarning, match="Layer 1 LIF is silent: .*fluctuation_driven") as warned:
        inspect.unwrap(fit)(*silent(-100.0), cross_entropy, SAMPLER, epochs=3)
    assert [warning.filename for warning in warned if "silent" in str(warning.message)] == [__file__]


@pytest.mark.parametrize(
    "arguments",
    [
        silent(0.0),
        silent(-20.0, spikes_after=True),
        (lambda model: (model, nnx.Optimizer(model, optax.sgd(0.0), wrt=nnx.Param)))(
            LIF(decay=Trainable(0.9), threshold=1e9)
        ),
    ],
)
def test_nothing_is_told_of_a_layer_that_spikes_or_of_no_stack(arguments):
    """Warnings are errors here."""
    loss_fn = cross_entropy
    fit(*arguments, loss_fn, SAMPLER, epochs=2)


def test_series_names_what_there_is():
    history = History(np.zeros(0), [{"step": 1, "epoch": 0, "loss": 0.5}])
    with pytest.raises(KeyError, match="expected one of: loss"):
        history.series("accuracy")


BATCHES = [sample(jax.random.key(0))]


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"epochs": 2.5}, ValueError, "epochs=2.5"),
        ({"update": "deferred"}, ValueError, 'update=\'deferred\', expected .* "offline" or "online"'),
        ({"window": 0}, ValueError, "window=0, expected at least 1"),
        ({"rule": OSTL}, TypeError, "Got the class OSTL as the rule, expected a rule such as .* rule=OSTL\\(\\)"),
        ({"rule": "otpe"}, TypeError, "By name: rule=RULES"),
        ({"loss_fn": 3}, TypeError, "got int as loss_fn, expected a function such as cross_entropy"),
        ({"optimizer": optax.adam(1e-3)}, TypeError, "Wrap the Optax transformation: nnx.Optimizer"),
        ({"metrics": {"accuracy": accuracy}}, ValueError, "expected held_out"),
        (
            {"metrics": accuracy, "held_out": BATCHES},
            TypeError,
            "got the function accuracy as metrics, expected a table",
        ),
        ({"metrics": {"loss": accuracy}, "held_out": BATCHES}, ValueError, 'a metric named "loss"'),
        ({"evaluate_every": 3}, ValueError, "expected held_out"),
        (
            {"held_out": BATCHES, "early_stopping": EarlyStopping("accuracy")},
            ValueError,
            "'accuracy', expected one of: loss",
        ),
        ({"held_out": BATCHES, "checkpoints": Checkpoints("x", best="accuracy")}, ValueError, "expected one of: loss"),
        ({"checkpoints": Checkpoints("x", best="loss")}, ValueError, "expected held_out"),
        ({"checkpoints": "runs"}, TypeError, "expected Checkpoints\\('runs'\\)"),
        (
            {"early_stopping": 5, "held_out": BATCHES},
            TypeError,
            "got 5 as early_stopping, expected one such as EarlyStopping",
        ),
        ({"held_out": []}, ValueError, "evaluate got no batches"),
        ({"held_out": BATCHES[0]}, ValueError, r"Got one batch as batches, expected many"),
        ({"held_out": iter(BATCHES)}, ValueError, "as held_out, but it can be read only once"),
        ({"callbacks": [Every(0, print)]}, ValueError, "every 0 steps"),
        ({"callbacks": [print]}, TypeError, r"got print among the callbacks, .* Every\(100, print\)"),
        ({"callbacks": Every(1, print)}, TypeError, r"got one Every as callbacks, expected a list"),
        ({"callbacks": [Every]}, TypeError, r"Make one: Every\(...\)"),
        ({"batches": lambda epoch: []}, ValueError, "Epoch 0 gave no batches, expected at least one"),
        (
            {"batches": BATCHES[0]},
            ValueError,
            r"Got one batch as batches, expected many .* batches=\[\(inputs, targets\)\]",
        ),
        ({"batches": BATCHES[0][0]}, ValueError, "Got one array as batches"),
        ({"batches": [(BATCHES[0][0],)]}, TypeError, r"a batch of 1 entries, expected \(inputs, targets\)"),
        ({"batches": [{"inputs": 1}]}, TypeError, r"a batch of a dict, expected .*: \(batch\['inputs'\], "),
        ({"batches": [("abc", BATCHES[0][1])]}, TypeError, "Got str 'abc' as inputs, expected an array of numbers"),
        ({"batches": 7}, TypeError, "Got int 7 as batches, expected a list of batches"),
        ({"batches": Sampler}, TypeError, r"Got the class Sampler as batches, .* Make one: Sampler\(...\)"),
    ],
)
def test_fit_refuses(options, error, message):
    """As it is without the check of types that the tests have everywhere else."""
    model, optimizer = made()
    arguments = {"optimizer": optimizer, "loss_fn": cross_entropy, "batches": BATCHES} | options
    with pytest.raises(error, match=message):
        inspect.unwrap(fit)(model, **arguments)


def test_evaluate_refuses():
    """Metrics that are no table, one batch, and what cannot be a mean."""
    model, _ = made()
    plain = inspect.unwrap(evaluate)
    with pytest.raises(TypeError, match="evaluate got the function accuracy as metrics"):
        plain(model, cross_entropy, BATCHES, metrics=accuracy)
    with pytest.raises(ValueError, match="Got one batch as batches"):
        plain(model, cross_entropy, BATCHES[0])
    with pytest.raises(TypeError, match="Got int 3 as batches"):
        plain(model, cross_entropy, 3)
    with pytest.raises(ValueError, match="masks without a single true entry"):
        evaluate(model, cross_entropy, [(*BATCHES[0], jnp.zeros((T, B), bool))])


@pytest.mark.parametrize("kind", [np, jnp])
def test_fit_refuses_a_batch_of_which_no_step_counts(kind):
    model, optimizer = made()
    with pytest.raises(ValueError, match="Got a mask without a single true entry, expected at least one"):
        fit(
            model,
            optimizer,
            cross_entropy,
            [(*BATCHES[0], kind.ones((T, B), bool)), (*BATCHES[0], kind.zeros((T, B), bool))],
        )


def test_a_rule_with_parameters_needs_an_optimizer_of_both():
    model, optimizer = made()
    with pytest.raises(ValueError, match=r"nnx.Optimizer\(\(model, rule\), ...\)"):
        fit(model, optimizer, cross_entropy, BATCHES, rule=adaptive(model))


def test_an_unknown_name_of_a_rule_says_which_there_are():
    with pytest.raises(KeyError, match="Did you mean 'otpe'"):
        RULES["OTPE"]


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="patience=0"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="got mode=None for the metric 'error'"):
        EarlyStopping("error")
    with pytest.raises(ValueError, match="NaN"):
        EarlyStopping().update(None, float("nan"), 1)
    with pytest.raises(ValueError, match="0 steps per epoch"):
        Sampler(sample, jax.random.key(0), 0)
    assert [EarlyStopping().mode, EarlyStopping("accuracy").mode] == ["min", "max"]


def test_a_batch_without_a_true_entry_does_not_count_in_a_metric():
    model, _ = made()
    inputs, labels = sample(jax.random.key(0))
    batches = [(inputs, labels, jnp.ones((T, B), bool)), (inputs, labels, jnp.zeros((T, B), bool))]
    rate = {
        "rate": lambda outputs, labels, mask: jnp.where(mask[..., None], outputs, 0).sum() / mask.sum(dtype=jnp.float32)
    }
    found = evaluate(model, cross_entropy, batches, metrics=rate)
    assert found == evaluate(model, cross_entropy, batches[:1], metrics=rate)


def test_what_does_not_fit_is_named_where_it_is_given():
    """Options that cannot be hashed, losses and labels of a wrong shape, optimizers of something else."""
    convolution = nnx.Conv(1, 2, (3, 3), strides=[2, 2], rngs=nnx.Rngs(0))
    model = connect([convolution, LIF(), lambda x: x.reshape(x.shape[0], -1), LI()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    images = [(jnp.ones((3, 2, 4, 4, 1)), jnp.array([0, 1]))]
    for call in (
        lambda: fit(model, optimizer, cross_entropy, images),
        lambda: evaluate(model, cross_entropy, images),
        lambda: predict(model, images[0][0]),
    ):
        with pytest.raises(TypeError, match=r"Got strides=\[2, 2\], expected hashable values"):
            call()
    model, optimizer = made()
    inputs, labels = BATCHES[0]
    with pytest.raises(ValueError, match=r"SequenceLoss made \[6, 4\] of outputs for 4 samples"):
        evaluate(model, SequenceLoss(lambda y, labels: cross_entropy(y, labels)), BATCHES)
    with pytest.raises(ValueError, match=r"accuracy got labels of shape \[6, 4\] .* one label per sequence, \[4\]"):
        accuracy(predict(model, inputs), jnp.zeros((T, B), jnp.int32))
    of_both = nnx.Optimizer((model, OSTL()), optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    with pytest.raises(ValueError, match=r"expected one made with them: nnx.Optimizer\(model, ...\)"):
        train_offline(model, of_both, cross_entropy, inputs, labels, rule=OSTL())
    with pytest.raises(TypeError, match="train_offline got ModelAndOptimizer as the optimizer"):
        train_offline(model, nnx.ModelAndOptimizer(model, optax.sgd(0.1), wrt=nnx.Param), cross_entropy, inputs, labels)


def test_outputs_of_integers_are_refused():
    """As it is without the check of types that the tests have everywhere else."""
    objective = WindowObjective(
        lambda y, t: cross_entropy(y["logits"], t), read_targets(BATCHES[0][1], T, B), None, None
    )
    outputs = {"logits": jnp.zeros((T, B, C)), "count": jnp.zeros((T, B, C), jnp.int32)}
    with pytest.raises(TypeError, match=r"Got outputs of int32\[3\] per sample, expected floating-point numbers"):
        objective(Heads(outputs))
