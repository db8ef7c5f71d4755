"""`sweep` is the plain loop over rules, rates and seeds, chooses on validation samples, and reads the test samples last."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import stats

import slax_rules as sr
from slax_neurons import LI, LIF, connect
from slax_rules.train.intervals import interval
from slax_rules.train.sweep import _choose
from slax_rules.train.sweep_training import RESERVED
from training.small import optimizer_of

pytestmark = pytest.mark.usefixtures("standard_promotion")
RATES, STEPS = (0.01, 0.1), 4
BPTT = {"bptt": sr.BPTT()}
RULES = BPTT | {"ottt": sr.OTTT()}


def make_model(rngs):
    return connect([nnx.Linear(5, 6, rngs=rngs), LIF(), nnx.Linear(6, 3, rngs=rngs), LI()])


def batches(seed, count=STEPS, size=4):
    rng = np.random.default_rng(seed)
    return [((rng.random((7, size, 5)) < 0.4).astype(np.float32), rng.integers(0, 3, size)) for _ in range(count)]


def score(outputs, labels):
    """A score that tells networks apart, in place of an accuracy of few samples."""
    return -sr.cross_entropy(outputs, labels).mean()


def held_out(seed):
    return batches(100 + seed, 1, 20)


def final_set(seed):
    return batches(200 + seed, 1, 20)


def run(*, make_model=make_model, optimizer=optax.adam, batches=batches, **changes):
    sets = {"validation": held_out, "test": final_set, "metric": score, "mode": "max"}
    given = {"rules": RULES, "rates": RATES[::-1], "seeds": 2, "progress": False, **sets}
    return sr.sweep(make_model, optimizer, sr.cross_entropy, batches, **given | changes)


def run_bptt(*, rates=(0.1,), **changes):
    return run(rules=BPTT, rates=rates, **changes)


@pytest.fixture(scope="module")
def found(standard_promotion):
    return run(evaluate_at=(0, 3))


@functools.cache
def transformation_of(optimizer, rate):
    """One object for all seeds: another one would be another program."""
    return optimizer(rate)


def by_hand(rule, rate, seed, update="offline", optimizer=optax.adam, **options):
    """A plain loop with the documented draws: the weights are drawn before the rule, from a key that only the seed gives.

    Returns the score on validation samples after each step, the losses, and the numbers at the end.
    """
    model_key, rule_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))
    model = make_model(nnx.Rngs(model_key))
    rule = rule(rngs=nnx.Rngs(rule_key), model=model) if callable(rule) else rule
    optimizer = optimizer_of(model, rule, transformation_of(optimizer, rate))
    step = sr.train_offline if update == "offline" else sr.train_online
    scores, losses = [], []
    for batch in batches(seed):
        losses.append(step(model, optimizer, sr.cross_entropy, *map(jnp.asarray, batch), rule=rule, **options))
        scores.append(value(model, held_out(seed)))
    return scores, np.array(losses), jax.tree.leaves(nnx.state(model))


def value(model, samples):
    return sr.evaluate(model, sr.cross_entropy, samples, metrics={"score": score})["score"]


@pytest.mark.parametrize("name", RULES)
def test_runs_are_those_of_a_plain_loop(found, name):
    for rate, runs in zip(RATES, found.trials[name], strict=True):
        for seed, got in enumerate(runs):
            scores, losses, numbers = by_hand(RULES[name], rate, seed)
            np.testing.assert_allclose(got.losses, losses, rtol=1e-5)
            assert (got.rule, got.rate, got.seed, got.not_finite) == (name, rate, seed, None)
            assert [got.validation[3], got.validation[STEPS]] == pytest.approx(scores[2:], rel=1e-4)
            for one, other in zip(jax.tree.leaves(nnx.state(got.network()[0])), numbers, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_best_mean_on_validation_is_chosen_and_tested_alone(found):
    for name, trials in found.trials.items():
        means = found.validation(name).mean(axis=1)
        assert found.validation(name).shape == (2, 2) and found.rates == RATES
        best = int(np.argmax(means))
        assert found.chosen[name] == {"rate": RATES[best]} and found.best[name] == trials[best]
        assert not any(run.test for run in trials[1 - best])
        for run in trials[best]:
            assert run.test.keys() == {0, 3, STEPS} == set(run.steps)
            assert run.test[STEPS] == pytest.approx(value(run.network()[0], final_set(run.seed)), rel=1e-6)
        np.testing.assert_array_equal(found.test(name, 3), [run.test[3] for run in trials[best]])


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_scores_that_are_equal_but_for_rounding_the_first_is_chosen(mode, found, monkeypatch):
    best = 0.5 + (1e-7 if mode == "max" else -1e-7)
    for means, chosen in (([0.5, best], 0), ([0.5, 0.5 + 1e3 * (best - 0.5)], 1), ([np.nan, best], 1)):
        monkeypatch.setattr(type(found), "validation", lambda self, name, means=means: np.array(means)[:, None])
        assert _choose("bptt", found, True, mode) == chosen


def test_tests_are_read_after_all_choices_and_once_for_each_run_that_was_chosen():
    read = []

    def logged(name, samples):
        return lambda seed: read.append((name, seed)) or samples(seed)

    sets = {"validation": logged("v", held_out), "test": logged("t", final_set)}
    found = run_bptt(rates=RATES, seeds=(7, 3, 5), trial_seeds=2, **sets)
    assert read == [("v", seed) for seed in (7, 3, 7, 3, 5)] + [("t", seed) for seed in (7, 3, 5)]
    assert [run.seed for run in found.best["bptt"]] == [7, 3, 5] and found.validation("bptt").shape == (2, 2)


def test_the_table_has_intervals_of_the_scores(found):
    """Differences and their tests: test_paired_tests.py."""
    one, row = found.test("ottt"), found.rows()[1]
    low, high = stats.t.interval(0.95, 1, one.mean(), stats.sem(one))
    expected = {"rule": "ottt", **found.chosen["ottt"], "seeds": 2, "not_finite": []}
    expected |= {"low": pytest.approx(low), "high": pytest.approx(high), "test": pytest.approx(one.mean())}
    expected |= {"validation": found.validation("ottt").mean(axis=1).max()}
    assert {name: row[name] for name in expected} == expected and {*row} == RESERVED
    assert dataclasses.replace(found, limits=(one.mean(), 0.0)).rows()[1]["low"] == one.mean()


def test_learning_curves_are_means_of_runs_within_the_limits(found):
    limits = found.validation("bptt").min(), found.validation("bptt").max()
    found = dataclasses.replace(found, limits=limits)
    for rule, curve in found.curves("test").items():
        assert curve["batches"].tolist() == [0, 3, STEPS]
        scores = [[run.test[step] for run in found.best[rule]] for step in (0, 3, STEPS)]
        np.testing.assert_allclose(curve["mean"], np.mean(scores, axis=1))
        ends = [[interval(np.array(of))[end] for of in scores] for end in ("low", "high")]
        np.testing.assert_allclose([curve["low"], curve["high"]], np.clip(ends, *limits))


def test_any_setting_can_be_swept():
    """Each point is the training with this setting alone, and the best one is chosen."""

    def make(rngs, decay, width=4):
        return connect([nnx.Linear(5, width, rngs=rngs), LIF(decay=decay), nnx.Linear(width, 3, rngs=rngs), LI()])

    found = run_bptt(make_model=make, rates=RATES, settings={"decay": [0.5, 0.9], "width": [4]})
    assert found.points == tuple({"rate": rate, "decay": d, "width": 4} for d in (0.5, 0.9) for rate in RATES)
    assert found.validation("bptt").shape == (4, 2) and found.rates == RATES
    alone = run_bptt(make_model=lambda rngs: make(rngs, 0.9), rates=RATES)
    for point, index in ((2, 0), (3, 1)):
        for one, other in zip(found.trials["bptt"][point], alone.trials["bptt"][index], strict=True):
            np.testing.assert_array_equal(one.losses, other.losses)
    best = int(np.argmax(found.validation("bptt").mean(axis=1)))
    assert found.chosen["bptt"] == found.points[best] and found.best["bptt"] == found.trials["bptt"][best]
    assert found.rows()[0]["decay"] == found.chosen["bptt"]["decay"] and "decay" in str(found).splitlines()[0]


def test_online_rules_have_windows_optimizers_and_draws_of_their_own():
    own = {"fptt": lambda rate: sr.fptt(optax.adam(rate)), "decolle": optax.adam}
    windows = {"fptt": 1, "decolle": 3}
    makers = {name: sr.RULES[name].make for name in own}
    found = run(rules=makers, rates=[0.02], optimizer=own, window=windows, update="online", validation=None)
    for name, make in makers.items():
        for got in found.best[name]:
            options = {"optimizer": own[name], "window": windows[name], "update": "online"}
            np.testing.assert_allclose(got.losses, by_hand(make, 0.02, got.seed, **options)[1], rtol=1e-4)
    one, two = (jax.tree.leaves(nnx.state(run.network()[1])) for run in found.best["decolle"])
    assert not all(np.array_equal(*pair) for pair in zip(one, two, strict=True))


def test_an_interruption_keeps_the_runs_so_far():
    """While the second rule is trained: the table has the first."""
    read = []

    def interrupted(seed):
        read.append(seed)
        if len(read) == 6:
            raise KeyboardInterrupt
        return batches(seed)

    with pytest.raises(KeyboardInterrupt) as raised:
        run(batches=interrupted)
    found = raised.value.sweep
    assert {name: [len(runs) for runs in trials] for name, trials in found.trials.items()} == {
        "bptt": [2, 2], "ottt": [1, 0],
    }  # fmt: skip
    assert [row["rule"] for row in found.rows()] == ["bptt"] and "bptt" in str(found)


def test_lists_and_samplers_are_batches_of_all_seeds_and_of_each():
    def sample(key):
        return jax.random.bernoulli(key, 0.4, (7, 4, 5)), np.arange(4) % 3

    sampler = sr.Sampler(sample, jax.random.key(1), steps=2)
    drawn, listed = (
        [by_seed.losses for by_seed in run_bptt(batches=each, validation=held_out(0), test=None).best["bptt"]]
        for each in (sampler, list(sampler(0)))
    )
    np.testing.assert_allclose(drawn[0], listed[0], rtol=1e-6)
    assert len(drawn[1]) == 2 and not np.allclose(drawn[1], listed[1])


def breaks(rate):
    """Above a rate of 1, the first updates leave the finite numbers."""
    return optax.chain(optax.sgd(rate), optax.scale(jnp.where(rate > 1, jnp.inf, 1.0)))


def test_a_run_that_is_not_finite_is_told_and_its_rate_not_chosen():
    found = run_bptt(optimizer=breaks, rates=[0.1, 10.0])
    assert found.chosen == {"bptt": {"rate": 0.1}} and np.isnan(found.validation("bptt")[1]).all()
    assert [entry[:2] for entry in found.rows()[0]["not_finite"]] == [({"rate": 10.0}, 0), ({"rate": 10.0}, 1)]
    assert "rate 10, seed 0, batch 1; rate 10, seed 1, batch 1" in str(found)


def broken(seed):
    """Inputs that are not finite in the third batch, for a seed without trials."""
    return [(inputs * (np.nan if (seed, i) == (1, 2) else 1), y) for i, (inputs, y) in enumerate(batches(seed))]


def test_scores_before_a_run_is_not_finite_are_kept_and_those_after_it_are_nan():
    found = run_bptt(batches=broken, trial_seeds=1, evaluate_at=(2,))
    assert [one.not_finite for one in found.best["bptt"]] == [None, 3]
    assert np.isfinite(found.test("bptt", 2)).all() and list(np.isnan(found.test("bptt"))) == [False, True]


def wrong(seed):
    """Held-out samples with a label that is not there, for seed 1."""
    ((x, labels),) = final_set(seed)
    return [(x, labels + (7 if seed else 0))]


def test_held_out_losses_that_are_not_finite_mark_their_run_alone():
    found = run_bptt(test=wrong, seeds=np.int64(2))
    assert list(np.isnan(found.test("bptt"))) == [False, True] and np.isfinite(found.validation("bptt")).all()
    assert found.rows()[0]["not_finite"] == [({"rate": 0.1}, 1, STEPS)] and "rate 0.1, seed 1, batch 4" in str(found)


STOPPED = {  # the first is at the last update, of one batch
    "update": ({"optimizer": breaks, "rates": [10.0], "batches": lambda seed: batches(seed, 1)}, "rate 10, seed 0, .* batch 1"),
    "label": ({"validation": wrong}, "rate 0.1, seed 1, .* batch 4"),
    "metric": ({"metric": lambda outputs, labels: jnp.nan * outputs.sum(), "rates": RATES}, "the metric is not a number"),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_a_sweep_that_cannot_choose_says_why(name):
    changes, told = STOPPED[name]
    with pytest.raises(FloatingPointError, match=told):
        run_bptt(**changes)
