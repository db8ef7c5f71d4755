"""The procedure by which rules are compared: samples, training, the choice of a learning rate, and the test set."""

import dataclasses
import itertools
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import random

from experiments.common import samples as samples_module
from experiments.common import trainer as trainer_module
from experiments.common.agreement import make_agreement, model_state
from experiments.common.keys import key_of
from experiments.common.rate_curves import COLUMNS, Curve, draw, look_of, rows
from experiments.common.samples import make_sampler, number_of_parts
from experiments.common.tasks import task_maker
from experiments.common.trainer import Trained, Trainer, make_trainer, spikes_of_layers
from experiments.common.training import make_model, make_rule, online_window, updates_of_batch
from experiments.common.trials import (
    SecondTrials,
    Trials,
    choose,
    halfway,
    second_setting,
    start_of,
    train_seeds,
    with_setting,
)
from slax_neurons import connect
from slax_rules import RULES, cross_entropy, fptt, gradients, train_offline, train_online

CONFIG = {
    **{"task": "tiny", "dataset": "randman", "code": "time", "input_rate": 0.02, "layers": [12, 8, 7, 3], "n_steps": 6},
    **{"seeds": 2, "rate_seeds": 2, "steps": 4, "batch_size": 5, "learning_rates": [0.1, 0.01], "optimizer": "adamax"},
    **{"anneal": True, "online_window": 4, "optimizer_options": {"alpha": 0.05}, "initial_rate": 0.3, "decay": 0.9},
    **{"read_out_decay": 0.9, "validation_size": 20, "test_size": 30},
}
TRAININGS = [("bptt", "offline"), ("ottt", "online"), ("fptt", "online"), ("e_prop_adaptive", "online")]
RATE = 0.05


@pytest.fixture(autouse=True, scope="module")
def _promotion():
    """Promotes types as JAX does by default, for Optax, whose step counter is an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def sampler():
    return make_sampler(CONFIG, None)


def trainer_of(rule, update, **changes):
    return make_trainer(CONFIG | changes | {"rule": rule}, update, make_model, partial(make_rule, rule))


def batches_of(samples):
    """The batches to train on one by one, with spikes as numbers."""
    return [
        (jnp.asarray(x, jnp.float32), jnp.asarray(y))
        for spikes, labels in samples.parts()
        for x, y in zip(spikes, labels, strict=True)
    ]


def leaves_of(*objects):
    return [np.asarray(leaf) for leaf in jax.tree.leaves([nnx.state(one, nnx.Param) for one in objects])]


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (one, other)), strict=True))


# Training


def trained_by_hand(rule_name, update, samples, seed, **changes):
    """The model, the rule and the losses of a plain loop, and the number of updates."""
    config = CONFIG | changes
    model_key, rule_key = random.split(key_of(seed, "start"))
    model = make_model(config, nnx.Rngs(model_key))
    rule = RULES[rule_name].make(rngs=nnx.Rngs(rule_key), model=model)
    window = {"fptt": 1}.get(rule_name, 4)
    updates = config["steps"] * (1 if update == "offline" else {1: 6, 4: 2}[window])
    rate = optax.cosine_decay_schedule(RATE, updates) if config["anneal"] else RATE
    transformation = {"adam": optax.adam, "adamax": optax.adamax}[config["optimizer"]](rate)
    if rule_name == "fptt":
        transformation = fptt(transformation, alpha=0.05)
    trained = (model, rule) if rule_name == "e_prop_adaptive" else model
    optimizer = nnx.Optimizer(trained, transformation, wrt=nnx.Param)
    losses = []
    for batch in batches_of(samples):
        if update == "offline":
            losses.append(train_offline(model, optimizer, cross_entropy, *batch, rule=rule))
        else:
            losses.append(train_online(model, optimizer, cross_entropy, *batch, rule=rule, window=window))
    assert int(optimizer.step[...]) == updates
    return model, rule, jnp.stack(losses)


@pytest.mark.parametrize(
    ("rule", "update", "changes"),
    [*((*training, {}) for training in TRAININGS), ("bptt", "offline", {"optimizer": "adam", "anneal": False})],
    ids=str,
)
def test_training_is_a_plain_loop(rule, update, changes, sampler):
    """To a rounding error: the loop compiles each update on its own, the trainer all of them as one program."""
    trainer = trainer_of(rule, update, **changes)
    start = start_of(trainer, 1)
    trained, losses = trainer.train(start, RATE, sampler(1).parts())
    *objects, expected = trained_by_hand(rule, update, sampler(1), 1, **changes)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    found, by_hand, before = (leaves_of(*of) for of in (trainer.network(trained), objects, trainer.network(start)))
    assert len(found) == len(by_hand) == 6 + 3 * (rule == "e_prop_adaptive")
    for one, other in zip(found, by_hand, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert all(np.abs(one - first).max() > 1e-3 for one, first in zip(found, before, strict=True))


def test_score_is_that_of_the_outputs_at_the_trained_parameters(sampler):
    trainer = trainer_of("bptt", "offline", anneal=False)
    trained, _ = trainer.train(start_of(trainer, 0), 0.1, sampler(0).parts())
    spikes, labels = sampler(0).test
    model, _ = trainer.network(trained)
    carry, sums = model.initialize_carry(spikes.shape[1:]), 0.0
    for x in spikes:
        carry, output = model(carry, x)
        sums += np.asarray(output)
    share = np.mean(sums.argmax(-1) == np.asarray(labels))
    assert 0 < share < 1 and float(trainer.score(trained, spikes, labels)) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("rule", "window", "updates"), [("ottt", 4, 2), ("sltt", 4, 2), ("tbptt", 5, 2), ("fptt", 1, 6)]
)
def test_window_between_two_updates_is_that_of_the_rule_or_else_that_of_the_configuration(rule, window, updates):
    config = CONFIG | {"rule": rule}
    made = make_rule(rule, None, random.key(0), **({"steps": 5} if rule == "tbptt" else {}))
    assert online_window(config, made) == window
    assert [updates_of_batch(config, update, made) for update in ("offline", "online")] == [1, updates]


def test_scores_and_activity_are_those_of_the_network_in_evaluation(sampler):
    """A dropout of everything, which is off in evaluation, would leave the second hidden layer silent."""

    def with_dropout(config, rngs):
        first, *others = make_model(config, rngs).modules
        return connect([first, others[0], nnx.Dropout(1.0), *others[1:]])

    trainers = [
        make_trainer(CONFIG, "offline", make, partial(make_rule, "bptt")) for make in (make_model, with_dropout)
    ]
    spikes, labels = sampler(0).test
    starts = [start_of(trainer, 0) for trainer in trainers]
    one, other = (float(trainer.score(start, spikes, labels)) for trainer, start in zip(trainers, starts, strict=True))
    assert one == other > 0
    plain, dropped = (spikes_of_layers(trainer, start, spikes) for trainer, start in zip(trainers, starts, strict=True))
    assert plain == dropped and plain.keys() == {"1", "2"} and min(plain.values()) > 0


def test_one_program_serves_all_seeds_rates_and_parts(sampler, monkeypatch):
    traced = []
    monkeypatch.setattr(trainer_module, "cross_entropy", lambda *a: traced.append("train") or cross_entropy(*a))
    score = lambda outputs, labels: traced.append("score") or jnp.mean(outputs)  # noqa: E731
    parts = make_sampler(CONFIG, None, 2)
    trainer = make_trainer(CONFIG | {"rule": "ottt"}, "online", make_model, partial(make_rule, "ottt"), score=score)
    counts = []
    for seed, rate in itertools.product(range(2), (0.01, 0.1)):
        trained, _ = trainer.train(start_of(trainer, seed), rate, parts(seed).parts())
        trainer.score(trained, *parts(seed).validation)
        counts.append((traced.count("train"), traced.count("score")))
    assert counts == [counts[0]] * 4 and counts[0][0] > 0 and counts[0][1] == 1


@pytest.mark.parametrize("part", [1, 2, 3])
def test_parts_of_any_size_give_the_same_arrays(part, sampler):
    """The batches are the same bit for bit; programs for parts of other lengths may round otherwise."""
    trainer = trainer_of("ottt", "online")
    start, others = start_of(trainer, 0), make_sampler(CONFIG, None, part)(0)
    assert {len(labels) for _, labels in others.parts()} == {{1: 1, 2: 2, 3: 2}[part]}
    assert same(batches_of(others), batches_of(sampler(0)))
    whole, losses = trainer.train(start, RATE, sampler(0).parts())
    *_, (last, _) = stages = list(trainer.train_in_parts(start, RATE, others.parts()))
    np.testing.assert_allclose(jnp.concatenate([of_part for _, of_part in stages]), losses, rtol=1e-5)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), last, whole)
    assert not same(stages[0][0], last)


# The samples of a seed


def test_a_seed_has_the_same_weights_and_batches_for_all_rules_and_ways_of_updating():
    trainers = [trainer_of(*training) for training in [*TRAININGS, ("ottt", "offline"), ("uoro", "online")]]
    first, second = ([model_state(trainer, start_of(trainer, seed)) for trainer in trainers] for seed in (0, 1))
    assert all(same(state, first[0]) for state in first) and all(same(state, second[0]) for state in second)
    assert not same(first[0], second[0])
    given = [make_sampler(CONFIG | {"rule": rule}, None)(0) for rule in ("bptt", "ottt")]
    for name in ("validation", "test"):
        assert same(*(getattr(samples, name) for samples in given))
    assert same(*map(batches_of, given)) and same(*(samples.others(2) for samples in given))


def test_seeds_differ_and_each_gives_the_same_object_each_time(sampler):
    assert sampler(0) is sampler(0)
    assert not same(batches_of(sampler(0)), batches_of(sampler(1)))
    assert not same(sampler(0).test, sampler(1).test)
    assert same(batches_of(sampler(0)), batches_of(sampler(0)))


def watched(monkeypatch, config):
    """A sampler, and the draws from its task: the split, the number of samples, and the key."""
    drawn = []

    def make(key):
        task = task_maker(config, None)(key)

        def sample(key, *, batch_size, split="train"):
            drawn.append((split, batch_size, key))
            return task.sample(key, batch_size=batch_size, split=split)

        return dataclasses.replace(task, sample=sample)

    monkeypatch.setattr(samples_module, "task_maker", lambda config, spikes: make)
    return make_sampler(config, None), drawn


def test_samples_are_drawn_when_they_are_needed_and_once(monkeypatch):
    sampler, drawn = watched(monkeypatch, CONFIG)
    sampler(0)
    assert drawn == []
    for _ in range(2):
        list(sampler(0).parts())
    assert [draw[:2] for draw in drawn] == [("train", 5)]  # in a program, which is traced once
    for _ in range(2):
        assert len(sampler(0).validation[1]) == 20
    assert [draw[:2] for draw in drawn[1:]] == [("train", 20)]
    for _ in range(2):
        assert len(sampler(0).test[1]) == 30
    assert [draw[:2] for draw in drawn[2:]] == [("test", 30)]


def bits_of(key):
    return tuple(random.key_data(key).tolist())


def test_no_two_uses_of_a_seed_have_the_same_key(monkeypatch):
    """The keys of a split are those of `fold_in` with their numbers, so that keys made in both ways can be the same."""
    seen = []
    monkeypatch.setattr(jax.lax, "map", lambda function, keys: [function(key) for key in keys])
    monkeypatch.setattr(jax, "jit", lambda function: function)
    config = CONFIG | {"augmentation": {"channels": 1}}
    sampler, drawn = watched(monkeypatch, config)
    for seed in (0, 1):
        samples = sampler(seed)
        with pytest.raises(ValueError, match="unpack"):  # the stand-in for map stacks nothing
            list(samples.parts())
        samples.others(3), samples.validation, samples.test
        start = key_of(seed, "start")
        seen += [start, *random.split(start), key_of(seed, "measurements")]
    keys = [bits_of(key) for key in seen] + [bits_of(key) for *_, key in drawn]
    assert len(drawn) == 2 * (4 + 3 + 1 + 1)
    assert len(set(keys)) == len(keys)


def test_train_validation_other_and_test_samples_are_disjoint_where_the_supply_is_endless():
    config = CONFIG | {"layers": [64, 8, 10], "n_steps": 50, "steps": 10, "batch_size": 20}
    samples = make_sampler(config, None)(0)
    groups = [*samples.parts(), samples.others(3), samples.validation, samples.test]
    found = [np.asarray(spikes, bool).reshape(-1, *spikes.shape[-3:]).swapaxes(1, 2) for spikes, _ in groups]
    everything = np.concatenate([group.reshape(-1, 50 * 64) for group in found])
    assert len(everything) == 10 * 20 + 3 * 20 + 20 + 30
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_batches_that_take_too_much_memory_are_drawn_again_and_are_the_same(sampler, monkeypatch):
    bytes_of_seed = 4 * 6 * 5 * 12  # batches, steps, samples and units, a byte for each spike
    for bound, kept in ((2 * bytes_of_seed, True), (2 * bytes_of_seed - 1, False)):  # for both seeds
        monkeypatch.setattr(samples_module, "MOST_KEPT", bound)
        samples = make_sampler(CONFIG, None, 2)(0)
        first, again = (list(samples.parts()) for _ in range(2))
        assert (first[0][0] is again[0][0]) == kept
        assert first[0][0].dtype == bool and same(first, again)
        assert same(batches_of(samples), batches_of(sampler(0)))


def test_augmented_samples_are_those_of_the_training_alone():
    config = CONFIG | {"augmentation": {"drop": 0.5}}
    plain, augmented = (make_sampler(of, None)(0) for of in (CONFIG, config))
    for (one, labels), (other, same_labels) in zip(batches_of(plain), batches_of(augmented), strict=True):
        assert other.sum() < one.sum() and np.array_equal(labels, same_labels)
    assert same(plain.validation, augmented.validation) and same(plain.test, augmented.test)


@pytest.mark.parametrize("largest", range(1, 13))
def test_parts_have_one_size_and_are_as_few_as_possible(largest):
    for steps in range(1, 61):
        fitting = [count for count in range(1, steps + 1) if steps % count == 0 and steps // count <= largest]
        assert number_of_parts(steps, largest) == min(fitting)


# The choice of a learning rate


def stand_in(scores, losses=lambda rate: 1.0):
    """A trainer that records what it is given: its score of a seed at a rate is `scores[seed][rate]`."""
    calls = []

    def train_part(trained, rate, spikes, labels):
        seed, _ = trained
        calls.append(("train", seed, rate))
        return Trained(seed, rate), jnp.full(len(labels), losses(rate))

    def score(trained, spikes, labels):
        seed, rate = trained
        calls.append(("score", seed, rate, spikes))
        return scores[seed][rate]

    seeds = {bits_of(key_of(seed, "start")): seed for seed in range(9)}
    return Trainer(lambda key: Trained(seeds[bits_of(key)], 0.0), None, train_part, score), calls


class WithoutTest(SimpleNamespace):
    """Samples that stop a procedure that looks at the test set."""

    @property
    def test(self):
        raise AssertionError("the test samples were read")


def samples_of(seed):
    return WithoutTest(parts=lambda: iter([(None, [0, 1, 2])]), validation=(f"validation of {seed}", None))


@pytest.mark.parametrize(
    ("rates", "scores", "chosen"),
    [
        ([0.1, 0.2, 0.3], [[0.5, 0.75, 0.25]], 0.2),
        ([0.1, 0.2, 0.3], [[0.5, 0.75, 0.25], [1.0, 0.5, 0.25]], 0.1),  # in the mean, not for the first or most seeds
        ([0.1, 0.2], [[1.0, 0.75], [0.25, 0.75]], 0.2),  # not for the best seed
        ([0.1, 0.2, 0.3], [[0.25, 0.5, 0.5]], 0.2),  # the smaller of equals
        ([0.3, 0.1, 0.2], [[0.5, 0.5, 0.25]], 0.1),  # also where the rates are in another order
        ([0.1], [[0.0]], 0.1),
    ],
)
def test_the_rate_with_the_best_mean_validation_score_is_chosen(rates, scores, chosen):
    table = [dict(zip(rates, of_seed, strict=True)) for of_seed in scores]
    trainer, calls = stand_in(table)
    config = {"learning_rates": rates, "rate_seeds": len(scores)}
    found, used = choose(config, lambda own: trainer, samples_of, "a rule")
    assert found.chosen == {"learning_rate": chosen} and used is trainer
    assert found.learning_rates == sorted(rates)
    assert found.validation == [[of_seed[rate] for rate in sorted(rates)] for of_seed in table]
    assert found.as_json() == {
        **{"learning_rates": sorted(rates), "validation": found.validation},
        **{"second": None, "chosen": {"learning_rate": chosen}},
    }
    pairs = list(itertools.product(range(len(scores)), sorted(rates)))
    assert [call[1:] for call in calls if call[0] == "train"] == pairs
    assert [call[1:] for call in calls if call[0] == "score"] == [(s, rate, f"validation of {s}") for s, rate in pairs]


def test_a_rate_that_diverges_does_not_stop_the_trials_and_a_final_training_that_does_stops():
    trainer, _ = stand_in([{0.1: 0.8, 9.0: 0.1}] * 2, losses=lambda rate: np.nan if rate > 1 else 1.0)
    config = {"learning_rates": [0.1, 9.0], "rate_seeds": 1}
    trials, _ = choose(config, lambda own: trainer, samples_of, "a rule")
    assert trials.chosen == {"learning_rate": 0.1}
    assert len(list(train_seeds({"seeds": 2}, trainer, samples_of, 0.1, "a rule"))) == 2
    with pytest.raises(SystemExit, match="a rule, seed 0, the loss of training step 1 of 3 is nan: it or its gradient"):
        list(train_seeds({"seeds": 2}, trainer, samples_of, 9.0, "a rule"))


def test_a_network_that_diverged_is_scored(sampler):
    trainer = trainer_of("bptt", "offline")
    config = CONFIG | {"learning_rates": [0.01, float("inf")]}
    trials, _ = choose(config, lambda own: trainer, sampler, "a rule")
    assert trials.chosen == {"learning_rate": 0.01} and [of_seed[1] for of_seed in trials.validation] == [0, 0]


def test_each_seed_is_trained_at_the_chosen_rate_from_its_own_start(sampler):
    trainer = trainer_of("ottt", "offline")
    trainings = list(train_seeds(CONFIG, trainer, sampler, RATE, "a rule"))
    assert [training.seed for training in trainings] == [0, 1]
    for seed, training in enumerate(trainings):
        assert training.samples is sampler(seed) and same(training.start, start_of(trainer, seed))
        trained, losses = trainer.train(training.start, RATE, sampler(seed).parts())
        assert same(training.trained, trained) and same(training.losses, losses) and losses.shape == (4,)
    assert not same(trainings[0].trained, trainings[1].trained)


def test_trials_are_the_scores_of_trainings_on_the_validation_samples(sampler):
    trainer = trainer_of("ottt", "online")
    trials, _ = choose(CONFIG, lambda own: trainer, sampler, "a rule")
    expected = [
        [
            float(trainer.score(trainer.train(start_of(trainer, seed), rate, sampler(seed).parts())[0], *validation))
            for rate in (0.01, 0.1)
        ]
        for seed in (0, 1)
        for validation in [sampler(seed).validation]
    ]
    assert trials == Trials([0.01, 0.1], expected)


# The second trials


RATES = [0.01, 0.04, 0.16]


@pytest.mark.parametrize(
    ("best", "expected"),
    [(0.04, [0.02, 0.08]), (0.01, [0.005, 0.02]), (0.16, [0.08, 0.32])],  # outwards as far as inwards
)
def test_rates_of_second_trials_are_halfway_to_the_neighbors(best, expected):
    assert halfway(RATES, best) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([{0.01: 0.5, 0.04: 0.7, 0.16: 0.6, 0.02: 0.9, 0.08: 0.8}], 0.02),
        ([{0.01: 0.5, 0.04: 0.7, 0.16: 0.6, 0.02: 0.7, 0.08: 0.6}], 0.04),  # no better than the rates before it
        (
            [{0.01: 0, 0.04: 0.9, 0.16: 0, 0.02: 0.8, 0.08: 1}, {0.01: 0, 0.04: 0.9, 0.16: 0, 0.02: 0.8, 0.08: 0.7}],
            0.04,
        ),  # in the mean
    ],
)
def test_a_rule_without_a_setting_of_its_own_tries_two_more_rates(scores, chosen):
    trainer, calls = stand_in(scores)
    rounded = dataclasses.replace(
        trainer, train_part=lambda trained, rate, *batch: trainer.train_part(trained, round(rate, 9), *batch)
    )
    config = {"learning_rates": RATES, "rate_seeds": len(scores), "second_trials": {}}
    trials, used = choose(config, lambda own: rounded, samples_of, "a rule")
    assert used is rounded and trials.chosen == {"learning_rate": pytest.approx(chosen)}
    assert trials.second.setting == "learning_rate" and trials.second.values == pytest.approx([0.02, 0.08])
    assert trials.second.validation == [[of_seed[0.02], of_seed[0.08]] for of_seed in scores]
    assert len([call for call in calls if call[0] == "train"]) == 5 * len(scores)


@pytest.mark.parametrize("best", [2, 4, 8])
def test_another_value_of_a_setting_is_tried_at_the_best_rate(best):
    windows = {4: {0.01: 0.5, 0.04: 0.7}, 2: {0.04: 0.6}, 8: {0.04: 0.6}}
    windows[best][0.04] = 0.8
    made = {}

    def make(config):
        made[config["online_window"]] = stand_in([windows[config["online_window"]]])
        return made[config["online_window"]][0]

    second = {"online_window": [2, 8], "alpha": [1.0, 2.0]}
    config = {"learning_rates": [0.01, 0.04], "rate_seeds": 1, "online_window": 4, "second_trials": second}
    trials, used = choose(config, make, samples_of, "a rule", "online_window")
    assert used is made[best][0]
    assert trials.chosen == {"learning_rate": 0.04} | ({} if best == 4 else {"online_window": best})
    assert trials.second == SecondTrials("online_window", [2, 8], [[windows[2][0.04], windows[8][0.04]]])
    rates = {window: [call[2] for call in calls if call[0] == "train"] for window, (_, calls) in made.items()}
    assert rates == {4: [0.01, 0.04], 2: [0.04], 8: [0.04]}
    assert trials.as_json()["second"] == {
        **{"setting": "online_window", "values": [2, 8]},
        **{"validation": trials.second.validation},
    }


def test_each_rule_has_the_same_number_of_trials(sampler):
    """FPTT tries its alpha, online rules their window, and all others more rates; each has an effect on the training."""
    config = CONFIG | {"rate_seeds": 1, "second_trials": {"alpha": [0.01, 0.9], "online_window": [2, 3]}}
    found = {}
    for rule, update in [*TRAININGS, ("tbptt", "online"), ("ottt", "offline")]:

        def make(own, rule=rule, update=update):
            return make_trainer(own | {"rule": rule}, update, make_model, partial(make_rule, rule))

        trials, _ = choose(config, make, sampler, "a rule", second_setting(rule, update))
        found[rule, update] = trials.second.setting
        assert len(trials.validation[0]) == len(trials.second.validation[0]) == 2
    assert found == {
        **{("bptt", "offline"): "learning_rate", ("ottt", "offline"): "learning_rate"},
        **{("tbptt", "online"): "learning_rate", ("fptt", "online"): "alpha"},
        **{("ottt", "online"): "online_window", ("e_prop_adaptive", "online"): "online_window"},
    }


def test_the_alpha_of_fptt_reaches_its_optimizer(sampler):
    config = CONFIG | {"rule": "fptt"}
    ends = []
    for alpha in (0.05, 0.9):
        own = with_setting(config, "alpha", alpha)
        trainer = make_trainer(own, "online", make_model, partial(make_rule, "fptt"))
        ends.append(trainer.train(start_of(trainer, 0), RATE, sampler(0).parts())[0])
    assert not same(*ends)


# The agreement with BPTT


def cosine_and_ratio(one, other):
    """Of two gradients, by layer of the stack: the cosine, and the length of the first divided by that of the second."""
    found = {}
    for layer, module in enumerate((0, 2, 4), 1):
        a, b = (
            np.concatenate([np.ravel(of.modules[module][name][...]) for name in ("kernel", "bias")])
            for of in (one, other)
        )
        a, b = a.astype(float), b.astype(float)
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        found[str(layer)] = {"cosine": a @ b / np.prod(lengths), "norm_ratio": lengths[0] / lengths[1]}
    return found


@pytest.mark.parametrize("rule", ["ottt", "e_prop_adaptive"])
def test_agreement_is_that_of_gradients_at_the_given_parameters(rule, sampler):
    """With the matrices of the rule as they are in `trained`, and at the parameters of another training."""
    trainer, bptt = trainer_of(rule, "online"), trainer_of("bptt", "offline", anneal=False)
    start = start_of(trainer, 0)
    other, _ = bptt.train(start_of(bptt, 0), 0.1, sampler(0).parts())
    compare, batches = make_agreement(trainer), sampler(0).others(3)
    inputs = jnp.concatenate([x.astype(jnp.float32) for x in batches[0]], axis=1)
    labels = jnp.concatenate(list(batches[1]))
    assert inputs.shape == (6, 15, 12)
    for state in (model_state(trainer, start), model_state(bptt, other)):
        model, own = trainer.network(start)
        nnx.update(model, state)
        pair = (gradients(model, cross_entropy, inputs, labels, **of)[1] for of in ({"rule": own}, {}))
        found = compare(start, state, batches)
        assert found.keys() == {"1", "2", "3"}
        for layer, numbers in cosine_and_ratio(*pair).items():
            assert found[layer] == pytest.approx(numbers, abs=1e-5)
    first, later = (compare(start, model_state(bptt, at), batches) for at in (start_of(bptt, 0), other))
    assert abs(first["1"]["cosine"] - later["1"]["cosine"]) > 1e-3 and abs(first["1"]["cosine"]) < 0.999


def test_agreement_of_another_rule_than_that_of_the_training(sampler):
    trainer = trainer_of("ottt", "offline")
    start = start_of(trainer, 0)
    found = make_agreement(trainer, lambda rule: RULES["bptt"].make())(
        start, model_state(trainer, start), sampler(0).others(1)
    )
    assert [numbers["cosine"] for numbers in found.values()] == pytest.approx([1, 1, 1], abs=1e-5)


# The figure of all trials


def curve(validation, chosen, rates=(0.01, 0.03, 0.1), rule="ottt", column="offline", second=None):
    trials = {"learning_rates": list(rates), "validation": validation, "second": second}
    trials |= {"chosen": chosen if second else {"learning_rate": chosen}}
    return Curve("some_task", column, rule, look_of(rule), trials)


@pytest.mark.parametrize(
    ("validation", "basin"),
    [
        ([[0.5, 0.9, 0.5]], 1),
        ([[0.5, 0.9, 0.86]], 10 / 3),
        ([[0.86, 0.9, 0.86]], 10),
        ([[0.86, 0.9, 0.5], [0.8, 0.9, 0.5]], 1),  # in the mean over seeds
    ],
)
def test_basin_is_the_ratio_of_the_largest_and_the_smallest_good_rate(validation, basin):
    assert curve(validation, 0.03).basin == pytest.approx(basin)


def test_basin_ends_at_the_first_worse_rate_on_each_side():
    rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    assert curve([[0.88, 0.5, 0.9, 0.88, 0.88]], 0.01, rates).basin == pytest.approx(10)
    assert curve([[0.88, 0.88, 0.9, 0.5, 0.88]], 0.01, rates).basin == pytest.approx(10)
    assert curve([[0.9, 0.88, 0.5, 0.88, 0.88]], 0.001, rates).basin == pytest.approx(3)


def test_rows_have_each_rate_and_mark_the_chosen_one():
    found = list(rows([curve([[0.5, 0.9, 0.8], [0.7, 0.9, 0.6]], 0.03), curve([[0.5, 0.9, 0.9]], 0.03, rule="bptt")]))
    names = ["task", "mode", "rule", *COLUMNS]
    table = [dict(zip(names, row, strict=True)) for row in found]
    assert [(row["rule"], row["learning_rate"], row["chosen"], row["mean"], row["seeds"]) for row in table] == [
        ("ottt", 0.01, 0, pytest.approx(0.6), 2),
        ("ottt", 0.03, 1, pytest.approx(0.9), 2),
        ("ottt", 0.1, 0, pytest.approx(0.7), 2),
        ("bptt", 0.01, 0, 0.5, 1),
        ("bptt", 0.03, 1, 0.9, 1),
        ("bptt", 0.1, 0, 0.9, 1),
    ]
    assert {(row["task"], row["mode"]) for row in table} == {("some_task", "offline")}
    assert table[0]["low"] <= 0.6 <= table[0]["high"] and table[3]["low"] is None
    assert [row["basin"] for row in table[::3]] == pytest.approx([1, 10 / 3])


SECOND = {
    "learning_rate": {"setting": "learning_rate", "values": [0.017, 0.055], "validation": [[0.95, 0.6], [0.85, 0.4]]},
    "online_window": {"setting": "online_window", "values": [2, 8], "validation": [[0.95, 0.6], [0.95, 0.4]]},
}
CHOSEN = {
    "learning_rate": {"learning_rate": 0.017},
    "online_window": {"learning_rate": 0.03, "online_window": 2},
}


@pytest.mark.parametrize("setting", SECOND)
def test_second_trials_are_rows_and_open_marks(setting):
    one = curve([[0.5, 0.9, 0.8], [0.7, 0.8, 0.6]], CHOSEN[setting], second=SECOND[setting])
    table = [dict(zip(["task", "mode", "rule", *COLUMNS], row, strict=True)) for row in rows([one])]
    assert [row["setting"] for row in table] == [None] * 3 + [setting] * 2
    assert [row["value"] for row in table] == [None] * 3 + SECOND[setting]["values"]
    rates = [0.017, 0.055] if setting == "learning_rate" else [0.03, 0.03]
    assert [row["learning_rate"] for row in table] == [0.01, 0.03, 0.1, *rates]
    assert [row["chosen"] for row in table] == [0, 0, 0, 1, 0]
    first = 0.9 if setting == "learning_rate" else 0.95
    assert [row["mean"] for row in table[3:]] == pytest.approx([first, 0.5])
    assert {row["basin"] for row in table} == {1.0}  # of the rates that all rules tried
    (ax,) = draw("some_rates", [one]).axes
    _, mark, ring, other = ax.lines
    assert [line.get_fillstyle() for line in (mark, ring, other)] == ["none"] * 3
    assert [(*line.get_xdata(), *line.get_ydata()) for line in (mark, ring, other)] == [
        *[pytest.approx((rates[0], 100 * first))] * 2,
        pytest.approx((rates[1], 50)),
    ]


def test_figure_has_a_line_for_each_rule_and_a_ring_at_the_chosen_rate():
    curves = [curve([[0.5, 0.9, 0.8]], 0.03), curve([[0.5, 0.6, 0.7]], 0.1, rule="bptt", column="online")]
    figure = draw("some_rates", curves)
    assert [ax.get_title() for ax in figure.axes] == ["Some task\noffline", "Some task\nonline"]
    for ax, one in zip(figure.axes, curves, strict=True):
        line, ring = ax.lines
        assert list(line.get_xdata()) == [0.01, 0.03, 0.1] and line.get_color() == one.look["color"]
        assert list(line.get_ydata()) == pytest.approx([100 * share for share in one.trials["validation"][0]])
        assert list(ring.get_xdata()) == [one.trials["chosen"]["learning_rate"]]
        assert list(ring.get_ydata()) == pytest.approx([90 if one.name == "ottt" else 70])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["OTTT", "BPTT"]
    with pytest.raises(SystemExit, match="The figure some_rates needs results of trials, and got none"):
        draw("some_rates", [])
