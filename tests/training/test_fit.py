"""The outer loop: it is the training step again and again, and nothing that looks at it changes it."""

import inspect
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import Dropout, unroll
from training.small import BATCHES, MOMENTUM, SAMPLER, B, C, Killed, T, batch, close, made, numbers, optimizer_of, same

RULES = {
    "random numbers": (sr.train_online, lambda model: sr.UORO(rngs=nnx.Rngs(3))),
    "parameters": (sr.train_offline, lambda model: sr.EProp(route=sr.Adaptive(model, rngs=nnx.Rngs(3)))),
}


@pytest.mark.parametrize("kind", RULES)
def test_training_is_the_step_again_and_again(kind):
    """Of a sampler, and of a list of NumPy arrays; model, rule and optimizer end the same."""
    step, make_rule = RULES[kind]

    def make():
        model, _ = made()
        rule = make_rule(model)
        return model, rule, optimizer_of(model, rule)

    model, rule, optimizer = make()
    before = numbers(model, rule)
    batches = list(SAMPLER(0))
    losses = [step(model, optimizer, sr.cross_entropy, *one, rule=rule, window=3) for one in batches]
    assert not any(np.array_equal(a, b) for a, b in zip(numbers(model, rule), before, strict=True) if a.size > 2)
    assert not same(numbers(rule), numbers(make_rule(model)))  # a stream of noise goes on
    update = "online" if step is sr.train_online else "offline"
    for source in (SAMPLER, [tuple(map(np.asarray, one)) for one in batches]):
        fitted, its_rule, its_optimizer = make()
        history = sr.fit(fitted, its_optimizer, sr.cross_entropy, source, rule=its_rule, update=update, window=3)
        assert close(numbers(fitted, its_rule, its_optimizer), numbers(model, rule, optimizer))
        np.testing.assert_allclose(history.losses, np.array(losses), rtol=1e-5)


OF_MEAN = sr.SequenceLoss(lambda outputs, labels, *mask: sr.cross_entropy(outputs.mean(axis=0), labels))


def test_outputs_are_those_of_the_model_in_evaluation_mode():
    """From a carry or at rest."""
    model, _ = made(modules=[Dropout(0.5, rngs=nnx.Rngs(1)), nnx.BatchNorm(6, rngs=nnx.Rngs(1))])
    before, (inputs, _) = numbers(model), batch(3)
    outputs = sr.predict(model, inputs)
    assert same(numbers(model), before) and not model.modules[2].use_running_average
    model.eval()
    carry, early = unroll(model, model.initialize_carry(inputs.shape[1:]), jnp.asarray(inputs[:3]))
    assert close([outputs[:3], outputs[3:]], [early, sr.predict(model, inputs[3:], carry=carry)])


def test_evaluation_is_that_of_the_whole_set_in_evaluation_mode():
    """The mean of a set weighs steps by the mask; the mean of a loss of a sequence weighs samples."""
    inputs, labels = batch(3)
    mask = np.asarray(sr.valid_steps(jnp.array([6, 2, 0, 5]), T))
    parts = [(inputs[:, :3], labels[:3], mask[:, :3]), (inputs[:, 3:], labels[3:], mask[:, 3:])]
    model, _ = made(modules=[nnx.BatchNorm(6, rngs=nnx.Rngs(1)), Dropout(0.5, rngs=nnx.Rngs(1))])
    before = numbers(model)
    whole = sr.evaluate(model, sr.cross_entropy, [(inputs, labels, mask)], metrics={"accuracy": sr.accuracy})
    pieces = sr.evaluate(model, sr.cross_entropy, parts, metrics={"accuracy": sr.accuracy})
    assert pieces == pytest.approx(whole, rel=1e-5) and 0 < whole["accuracy"] < 1
    outputs = sr.predict(model, inputs)
    losses = np.stack([sr.cross_entropy(output, jnp.asarray(labels)) for output in outputs])
    assert whole["loss"] == pytest.approx(losses[mask].mean(), rel=1e-5)
    of_samples = np.asarray(sr.cross_entropy(outputs.mean(axis=0), jnp.asarray(labels)))[mask.any(axis=0)]
    assert sr.evaluate(model, OF_MEAN, parts)["loss"] == pytest.approx(of_samples.mean(), rel=1e-5)
    assert same(numbers(model), before) and not model.modules[1].use_running_average


def test_a_batch_without_a_true_entry_does_not_count_in_a_metric():
    (inputs, labels), (model, _) = BATCHES[0], made()
    batches = [(inputs, labels, np.ones((T, B), bool)), (inputs, labels, np.zeros((T, B), bool))]
    metrics = {
        "rate": lambda outputs, labels, mask: jnp.where(mask[..., None], outputs, 0).sum() / mask.sum(dtype=jnp.float32)
    }
    found, expected = (sr.evaluate(model, sr.cross_entropy, some, metrics=metrics) for some in (batches, batches[:1]))
    assert found == expected


def test_a_metric_may_be_an_array():
    """Of batches of unequal size; its record can be written as JSON."""
    (first, labels), (second, _) = BATCHES[:2]
    held_out = [(first, labels), (second[:, :3], labels[:3])]
    shares = lambda outputs, labels: jax.nn.one_hot(labels, C).mean(axis=0)  # noqa: E731
    options = {"held_out": held_out, "metrics": {"shares": shares}}
    history = sr.fit(*made(), sr.cross_entropy, BATCHES[:1], **options)
    counts = np.bincount(np.concatenate([labels, labels[:3]]), minlength=C)
    np.testing.assert_allclose(history.series("shares")[1], [counts / 7], rtol=1e-6)
    assert json.loads(json.dumps(history.records)) == history.records


def test_looking_on_changes_nothing_bit_for_bit_and_info_is_of_its_step():
    def make():
        return made(modules=[Dropout(0.3, rngs=nnx.Rngs(1))])

    seen = []

    def scribble(info):
        assert info.learning_rate is None
        seen.append((info.step, info.epoch, info.loss, info.rule, info.update, info.window, info.batch))
        info.model.modules[0].kernel[...] *= 0
        info.optimizer.step[...] *= 0
        return {"steps": info.step, "none": None}

    plain, watched = make(), make()
    expected = sr.fit(*plain, sr.cross_entropy, SAMPLER, epochs=2)
    options = {"held_out": [batch(2)], "evaluate_every": 3, "callbacks": [sr.Every(2, scribble)]}
    history = sr.fit(*watched, sr.cross_entropy, SAMPLER, epochs=2, **options)
    assert same(numbers(*watched), numbers(*plain)) and same([history.losses], [expected.losses])
    assert [one[:2] for one in seen] == [(2, 0), (4, 0), (6, 1), (8, 1)]
    assert [one[2] for one in seen] == history.losses[1::2].tolist()
    assert seen[0][3:6] == (sr.BPTT(), "offline", None) and same(seen[2][6], SAMPLER.batch(1, 1))
    assert history.series("steps")[0].tolist() == [2, 4, 6, 8] and history.series("none")[0].size == 0
    assert history.series("loss")[0].tolist() == [3, 6]


def test_info_has_the_norm_of_the_gradient_the_learning_rate_and_the_time_of_a_step():
    schedule, seen = optax.linear_schedule(0.1, 0.02, 4), []

    def look(info):
        before = numbers(info.model)
        seen.append((info.gradient_norm, info.learning_rate, info.seconds))
        assert same(numbers(info.model), before)  # with the key of the masks
        time.sleep(0.05)

    transformation = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    model, _ = made()
    model.modules.insert(0, Dropout(0.5, rngs=nnx.Rngs(1)))
    optimizer = optimizer_of(model, transformation=transformation)
    batches, start = [BATCHES[0], *[BATCHES[1]] * 3], time.perf_counter()
    sr.fit(model, optimizer, sr.cross_entropy, batches, rule=sr.OTTT(), callbacks=[sr.Every(2, look)])
    passed = time.perf_counter() - start
    gradient = sr.gradients(model, sr.cross_entropy, *map(jnp.asarray, BATCHES[1]), rule=sr.OTTT())[1]
    norms, rates, seconds = zip(*seen, strict=True)
    whole = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])
    assert norms[1] == pytest.approx(np.linalg.norm(whole), rel=1e-5)
    assert rates == pytest.approx([0.08, 0.04]) and 0 < 2 * sum(seconds) < passed - 0.1  # without callbacks


def raises(error, step=3):
    def look(info):
        if info.step == step:
            raise error

    return sr.Every(1, look)


def test_a_callback_can_end_a_run_and_an_exception_keeps_its_history():
    """At the third step, after the evaluation that is due then; at the end of an epoch, after its evaluation."""
    short, stopped = made(), made()
    expected = sr.fit(*short, sr.cross_entropy, BATCHES[:3])
    options = {"epochs": 5, "held_out": BATCHES[:1]}
    every = options | {"evaluate_every": 3}
    history = sr.fit(*stopped, sr.cross_entropy, BATCHES, callbacks=[raises(sr.StopTraining)], **every)
    assert history.stopped_early and not expected.stopped_early
    assert same([history.losses], [expected.losses]) and same(numbers(*stopped), numbers(*short))
    assert [record["step"] for record in history.records] == [3]
    whole = sr.fit(*made(), sr.cross_entropy, BATCHES, callbacks=[raises(sr.StopTraining, 4)], **options)
    assert [record["step"] for record in whole.records] == [len(whole.losses)] == [4]
    for error in (Killed, KeyboardInterrupt):
        with pytest.raises(error) as raised:
            sr.fit(*made(), sr.cross_entropy, BATCHES, callbacks=[raises(error)], **every)
        assert same([raised.value.history.losses], [expected.losses])


def test_early_stopping_waits_and_gives_back_the_best():
    """Steps uphill make it worse each time, so the first evaluation is the best."""
    model, optimizer = made(optax.sgd(-0.5))
    best = []
    looks = {"callbacks": [sr.Every(1, lambda info: best.append(numbers(info.model)))], "held_out": [batch(5)]}
    stopping = {"evaluate_every": 2, "early_stopping": sr.EarlyStopping(patience=3, restore_best=True)}
    history = sr.fit(model, optimizer, sr.cross_entropy, [batch(5)] * 5, epochs=50, **looks, **stopping)
    assert history.stopped_early and len(history.losses) == 8 and history.best_step == 2
    assert same(numbers(model), best[1]) and not same(best[1], best[2])
    assert history.series("loss")[1][0] == min(history.series("loss")[1])


@pytest.mark.parametrize("mode, sign", [("min", 1), ("max", -1)])
def test_patience_counts_evaluations_without_a_gain_above_min_delta(mode, sign):
    stopping = sr.EarlyStopping(patience=2, min_delta=0.1, mode=mode)
    found = [None]
    for step, value in enumerate([1.0, 0.95, 0.8, 0.9, 0.75]):
        found.append(stopping.update(found[-1], sign * value, step))
    assert [waited for _, _, waited in found[1:]] == [0, 1, 0, 1, 2] and found[-1][:2] == (sign * 0.8, 2)


def test_a_bar_is_for_terminals_and_elsewhere_an_epoch_is_a_line(capsys):
    bar, line = ("8/8", "loss=", "held-out accuracy="), ("fit: epoch 2 of 2, step 8, loss ", ", held-out accuracy ")
    ways = (BATCHES, None, line), (BATCHES, False, ()), (BATCHES, True, bar), (SAMPLER, True, bar)
    for source, progress, told in ways:
        options = {"held_out": BATCHES[:], "metrics": {"accuracy": sr.accuracy}, "progress": progress}
        sr.fit(*made(), sr.cross_entropy, source, epochs=2, **options)
        shown = capsys.readouterr().err
        assert [text for text in (*bar, *line) if text in shown] == list(told)


def with_biases_of(bias, transformation):
    model, _ = made()
    model.modules[0].bias[...] = jnp.full(6, bias)
    return model, optimizer_of(model, transformation=transformation)


def test_parameters_without_a_gradient_are_named_once_at_the_line_of_the_call():
    """Below silent neurons."""
    nodes = with_biases_of(-100.0, MOMENTUM)
    with pytest.warns(UserWarning, match="zero in each of the first 10 steps for 2 Linear/kernel.") as warned:
        inspect.unwrap(sr.fit)(*nodes, sr.cross_entropy, BATCHES, epochs=4)
    assert [warning.filename for warning in warned if "exactly zero" in str(warning.message)] == [__file__]


def test_nothing_is_told_of_parameters_that_had_a_gradient_or_are_not_trained():
    """Warnings are errors here. The optimizer makes neurons spike within a few steps."""
    upward = optax.stateless(lambda updates, params: jax.tree.map(lambda leaf: jnp.full_like(leaf, 10.0), updates))
    sr.fit(*with_biases_of(-20.0, upward), sr.cross_entropy, BATCHES, epochs=2)
    model, _ = with_biases_of(-100.0, MOMENTUM)
    only_bias = nnx.All(nnx.Param, nnx.PathContains(2), nnx.PathContains("bias"))
    sr.fit(model, nnx.Optimizer(model, MOMENTUM, wrt=only_bias), sr.cross_entropy, BATCHES)


# ----------------------------------------------------------------------------------------------------------------- loggers


RATE = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(0.1, 0.0, 10))


class SummaryWriter:
    """The writer of torch.utils.tensorboard and tensorboardX."""

    def __init__(self):
        self.logged = []

    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None):
        self.logged.append((global_step, tag, scalar_value))


def confusion(outputs, labels):
    return jnp.zeros((3, 3))


def fitted(logger, **options):
    model, _ = made()
    norm = sr.Every(3, lambda info: {"norm": optax.tree.norm(nnx.state(info.model, nnx.Param)), "none": None})
    given = {"epochs": 2, "held_out": [batch(2)], "metrics": {"accuracy": sr.accuracy, "confusion": confusion}}
    given |= {"evaluate_every": 4, "callbacks": [sr.LogTo(logger, every=2), norm]}
    return sr.fit(model, nnx.Optimizer(model, RATE, wrt=nnx.Param), sr.cross_entropy, BATCHES, **given | options)


@pytest.mark.parametrize("is_function", [False, True])
def test_a_logger_has_the_losses_and_the_records_of_the_history(is_function):
    """A writer, or a function as the `log` of a run of wandb, whose steps must not decrease."""
    logger, steps_logged = SummaryWriter(), []

    def log(data, step):
        steps_logged.append(step)
        for name, value in data.items():
            logger.add_scalar(name, value, step)

    history = fitted(log if is_function else logger)
    assert steps_logged == sorted(steps_logged)
    logged = {(step, name): value for step, name, value in logger.logged}
    assert len(logged) == len(logger.logged) and all(type(value) is float for value in logged.values())
    steps = range(2, len(history.losses) + 1, 2)
    expected = {(step, "training/loss"): history.losses[step - 1] for step in steps}
    expected |= {(step, "training/learning_rate"): 0.1 * (1 - (step - 1) / 10) for step in steps}
    for name, logs_as in {"loss": "held_out/loss", "accuracy": "held_out/accuracy", "norm": "norm"}.items():
        expected |= {(step, logs_as): value for step, value in zip(*history.series(name), strict=True)}
    assert {where: of for where, of in logged.items() if where[1] != "training/seconds"} == pytest.approx(expected)
    assert [step for step, name in logged if name == "training/seconds"] == list(steps)
