"""The outer loop: it is the training step again and again, and nothing that looks at it changes it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Dropout, connect
from slax_rules import accuracy, cross_entropy, ostl, train_offline, train_online
from slax_rules.callbacks import Every
from slax_rules.evaluation import evaluate
from slax_rules.fit import fit
from slax_rules.history import History
from slax_rules.masks import valid_steps
from slax_rules.sampling import Sampler
from slax_rules.stopping import EarlyStopping

T, B, N, C = 6, 4, 5, 3


def sample(key):
    inputs = jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float32)
    return inputs, jnp.arange(B) % C


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


@pytest.mark.parametrize("update", ["offline", "online"])
def test_training_is_the_step_again_and_again(update):
    model, optimizer = made()
    step = nnx.jit(train_offline if update == "offline" else train_online, static_argnames=("loss_fn", "window"))
    batches = [batch for epoch in range(2) for batch in SAMPLER(epoch)]
    losses = [step(ostl(model), optimizer, cross_entropy, *batch, window=3) for batch in batches]
    for source in (SAMPLER, lambda epoch: [tuple(map(np.asarray, batch)) for batch in SAMPLER(epoch)]):
        fitted, its_optimizer = made()
        history = fit(ostl(fitted), its_optimizer, cross_entropy, source, epochs=2, update=update, window=3)
        assert close(numbers(fitted, its_optimizer), numbers(model, optimizer))
        np.testing.assert_allclose(history.losses, np.array(losses), rtol=1e-5)


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

    assert traces(epochs=3, callbacks=[Every(3, lambda view: None)]) == traces(epochs=1)


def test_looking_on_changes_nothing_bit_for_bit():
    model, optimizer = made(modules=[Dropout(0.3, rngs=nnx.Rngs(1))])
    plain = fit(model, optimizer, cross_entropy, SAMPLER, epochs=2)
    watched, its_optimizer = made(modules=[Dropout(0.3, rngs=nnx.Rngs(1))])

    def scribble(view):
        view.model.modules[0].kernel[...] *= 0
        view.optimizer.step[...] *= 0

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


def test_view_is_of_its_step():
    seen = []
    model, optimizer = made()
    history = fit(
        model,
        optimizer,
        cross_entropy,
        SAMPLER,
        epochs=2,
        callbacks=[
            Every(3, lambda view: seen.append(view) or {"norm": optax.tree.norm(nnx.state(view.model)), "no": None})
        ],
    )
    assert [(view.step, view.epoch) for view in seen] == [(3, 0), (6, 1)]
    assert [view.loss for view in seen] == [history.losses[2], history.losses[5]]
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
        callbacks=[Every(1, lambda view: best.append(numbers(view.model)))],
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
    assert patience.step == 2 and stopping.is_over(patience) and not stopping.is_over(None)


@pytest.mark.parametrize(
    "source", [lambda draw: Sampler(draw, jax.random.key(0), 4), lambda draw: lambda epoch: map(draw, range(4))]
)
def test_a_loss_that_is_not_finite_stops_at_its_step(source):
    def draw(key):
        last = (
            key == 2
            if isinstance(key, int)
            else (key == jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 2))
        )
        return jnp.ones((T, B, N)), jnp.where(last, C, 0) + jnp.zeros(B, jnp.int32)

    with pytest.raises(FloatingPointError, match=r"loss of step 3 is nan, expected .* lower the learning rate"):
        fit(*made(), cross_entropy, source(draw), callbacks=[Every(4, lambda view: pytest.fail("went on"))])


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


def test_series_names_what_there_is():
    history = History(np.zeros(0), [{"step": 1, "epoch": 0, "loss": 0.5}])
    with pytest.raises(KeyError, match="expected one of: loss"):
        history.series("accuracy")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epochs": 0}, "epochs=0"),
        ({"metrics": {"accuracy": accuracy}}, "expected held_out"),
        ({"evaluate_every": 3}, "expected held_out"),
        ({"held_out": [], "early_stopping": EarlyStopping("accuracy")}, "expected one of: loss"),
        ({"held_out": []}, "evaluate got no batches"),
        ({"held_out": [sample(jax.random.key(0))], "metrics": {"loss": accuracy}}, 'a metric named "loss"'),
        ({"callbacks": [Every(0, print)]}, "every 0 steps"),
        ({"batches": lambda epoch: []}, r"batches\(0\) gave no batches"),
    ],
)
def test_fit_refuses(options, message):
    arguments = {"batches": lambda epoch: [sample(jax.random.key(0))]} | options
    with pytest.raises(ValueError, match=message):
        fit(*made(), cross_entropy, **arguments)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="patience=0"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="NaN"):
        EarlyStopping().update(None, float("nan"), 1)
    with pytest.raises(ValueError, match="0 steps per epoch"):
        Sampler(sample, jax.random.key(0), 0)
