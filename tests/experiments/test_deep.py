"""The experiment with deep networks: its networks, its numbers, and its table."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from experiment_files import as_written, config_of, draw
from flax import nnx

from experiments.common.job import jobs_of
from experiments.common.tasks import task_maker
from experiments.deep import choose, run
from experiments.deep.networks import NETWORKS
from slax_data import Augmentation, spike_trains
from slax_data.storage.packed import arrays_of_sets
from slax_neurons import AdLIF, RunningNorm, Standardized, connect, health, unroll
from slax_rules import RULES, cross_entropy, gradients, train_offline, train_online

RATES = {"bptt": 0.01, "ottt": 0.02, "ostl": 0.01}
TINY = {
    "seeds": 2,
    "steps": 4,
    "batch_size": 8,
    "test_size": 20,
    "rules": ["bptt", "ottt"],
    "augmentation": {"channels": 1},
}
DIGITS = {
    **{"dataset": "digits", "code": "latency", "n_steps": 6, "layers": [64, 10], "network": "convolutional"},
    **{"norm": "running", "image": [8, 8, 1], "channels": [2, 3], "decay": 0.8, "read_out_decay": 0.9},
}
STORED = {
    **{"spikes": "lines", "n_steps": 8, "layers": [12, 3], "network": "recurrent", "hidden": [6], "tau_u": [5.0, 25.0]},
    **{"tau_w": [60.0, 300.0], "q": 120.0, "slope": 5.0, "read_out_decay": 0.9, "rules": ["bptt", "ostl"]},
}


def config(task, rule):
    return config_of(
        "deep",
        f"{task}/{rule}",
        TINY | {"online_window": 3, "learning_rates": RATES, "tasks": {"digits": DIGITS, "lines": STORED}},
    )


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    rng = np.random.default_rng(0)
    sets = {name: spike_trains(rng.random((30, 8, 12)) < 0.4, np.arange(30) % 3) for name in ("train", "test")}
    path = tmp_path_factory.mktemp("spikes") / "lines.npz"
    np.savez(path, **arrays_of_sets(sets))
    return path


@functools.cache
def compute(task, rule, spikes=None):
    with jax.numpy_dtype_promotion("standard"):
        return run.compute(config(task, rule), spikes)["seeds"]


TRAININGS = [("digits", "bptt"), ("digits", "ottt"), ("lines", "ostl")]
UPDATES = {
    ("digits", "bptt"): 1,
    ("digits", "ottt"): 2,
    ("lines", "ostl"): 3,
}  # per batch of 6 or 8 steps, in windows of 3


@pytest.mark.parametrize(("task", "rule"), TRAININGS)
def test_numbers_of_a_seed_are_those_of_training_by_hand(task, rule, lines):
    """With the keys of the second seed, which runs the program of the first one, and a rate that ends after all updates."""
    settings = config(task, rule)
    spikes = lines if task == "lines" else None
    found = compute(task, rule, spikes)
    assert [seed["seed"] for seed in found] == [0, 1]
    assert found[0]["loss"] != found[1]["loss"]
    keys = jax.random.split(jax.random.key(1), 5)
    data = task_maker(settings, spikes)(keys[0])
    model = NETWORKS[settings["network"]](settings, nnx.Rngs(keys[1]))
    made = RULES[rule].make(rngs=nnx.Rngs(keys[2]), model=model)
    updates = UPDATES[task, rule] * TINY["steps"]
    with jax.numpy_dtype_promotion("standard"):
        schedule = optax.cosine_decay_schedule(RATES[rule], updates)
        optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
        for key in jax.random.split(keys[3], TINY["steps"]):
            batch_key, augment_key = jax.random.split(key)
            inputs, labels = data.sample(batch_key, batch_size=TINY["batch_size"])
            batch = Augmentation(channels=1)(augment_key, inputs), labels
            if rule == "bptt":
                loss = train_offline(model, optimizer, cross_entropy, *batch, rule=made)
            else:
                loss = train_online(model, optimizer, cross_entropy, *batch, rule=made, window=3)
    assert int(optimizer.step[...]) == updates
    assert found[1]["loss"] == pytest.approx(float(loss), rel=1e-5)
    model.eval()
    inputs, labels = data.full_split("test")
    _, outputs = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    odds = np.exp(np.asarray(outputs, np.float64))
    guesses = (odds / odds.sum(axis=-1, keepdims=True)).sum(axis=0).argmax(axis=-1)
    assert found[1]["accuracy"] == pytest.approx(np.mean(guesses == np.asarray(labels)), abs=1e-6)
    rates = {str(number): layer.rate for number, layer in enumerate(health(model, inputs).layers, 1)}
    assert found[1]["spikes"] == pytest.approx(rates, rel=1e-5)


@pytest.mark.parametrize(("task", "rule"), TRAININGS)
def test_the_rate_is_zero_after_the_last_update(task, rule):
    """Adam moves a parameter whose gradient is one by the rate."""
    settings, model = config(task, rule), nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
    updates = UPDATES[task, rule] * TINY["steps"]
    moves = []
    with jax.numpy_dtype_promotion("standard"):
        optimizer = run.make_optimizer(settings, model)
        for _ in range(updates + 2):
            before = float(model.kernel[0, 0])
            optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
            moves.append(before - float(model.kernel[0, 0]))
    expected = RATES[rule] * (1 + np.cos(np.pi * np.arange(updates) / updates)) / 2
    np.testing.assert_allclose(moves, [*expected, 0, 0], atol=1e-6)


def test_the_test_split_is_read_once_for_each_network():
    settings = config("digits", "ottt")
    make, read, drawn = task_maker(settings, None), [], []

    def watched(key):
        task = make(key)

        def full_split(split):
            read.append(split)
            return task.full_split(split)

        def sample(key, *, batch_size, split="train"):
            drawn.append(split)
            return task.sample(key, batch_size=batch_size, split=split)

        return dataclasses.replace(task, sample=sample, full_split=full_split)

    with jax.numpy_dtype_promotion("standard"):
        run.results(settings, watched)
    assert read == ["test"] * TINY["seeds"]
    assert set(drawn) == {"train"}


@pytest.mark.parametrize(
    ("task", "norm", "kind"), [("digits", "running", RunningNorm), ("digits", "standardized", Standardized)]
)
def test_convolutions_are_normalized_and_take_every_rule_of_the_experiment(task, norm, kind):
    settings = config(task, "ottt") | {"norm": norm}
    model = NETWORKS["convolutional"](settings, nnx.Rngs(0))
    assert [type(module) for module in model.modules[1:5:2]] == [kind, kind]
    x, labels = jnp.ones((6, 2, 64)), jnp.array([0, 3])
    for rule in ("bptt", "sltt", "ottt"):
        _, gradient = gradients(model, cross_entropy, x, labels, rule=RULES[rule].make())
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_the_recurrent_network_trains_the_parameters_of_each_unit():
    model = NETWORKS["recurrent"](config("lines", "ostl"), nnx.Rngs(0))
    neuron = model.modules[1]
    assert isinstance(neuron, AdLIF)
    assert [leaf.shape for leaf in jax.tree.leaves(nnx.state(neuron, nnx.Param))] == [(6,)] * 4
    other = NETWORKS["recurrent"](config("lines", "ostl"), nnx.Rngs(1)).modules[1]
    for mine, theirs in zip(*(jax.tree.leaves(nnx.state(one, nnx.Param)) for one in (neuron, other)), strict=True):
        assert bool(jnp.all(mine != theirs))


def test_the_class_is_the_one_with_the_largest_sum_of_probabilities():
    """One sure step for class 0 counts less than three steps that lean to class 1, though its outputs have the larger sum."""
    outputs = jnp.array([[10.0, 0], [0, 1], [0, 1], [0, 1]])[:, None]
    model = connect([lambda x: x])
    np.testing.assert_array_equal(unroll(model, model.initialize_carry((1, 2)), outputs)[1], outputs)
    assert [float(run.accuracy_of(model, outputs, jnp.array([label]))) for label in (0, 1)] == [0, 1]


def test_table_has_the_means_of_the_seeds(tmp_path):
    numbers = {
        ("bptt", "accuracy"): [0.5, 0.875],
        ("bptt", "spikes_1"): [0.125, 0.25],
        ("bptt", "spikes_2"): [0.0625, 0.5],
        ("ottt", "accuracy"): [0.25, 0.625],
        ("ottt", "spikes_1"): [0.375, 0.0],
        ("ottt", "spikes_2"): [0.75, 0.125],
    }

    def seeds(rule):
        columns = (numbers[rule, name] for name in ("accuracy", "spikes_1", "spikes_2"))
        return [
            {"seed": seed, "loss": 1.0, "accuracy": accuracy, "spikes": {"1": first, "2": second}}
            for seed, (accuracy, first, second) in enumerate(zip(*columns, strict=True))
        ]

    results = [as_written(config("digits", rule), {"seeds": seeds(rule)}) for rule in ("bptt", "ottt")]
    table = draw("deep", results, tmp_path)["deep"]
    means = {(row["rule"], row["quantity"]): float(row["mean"]) for row in table}
    assert len(table) == len(means)
    assert means == pytest.approx({name: np.mean(of_seeds) for name, of_seeds in numbers.items()}, abs=1e-6)
    assert all(0 <= float(row["low"]) < float(row["mean"]) < float(row["high"]) for row in table)
    assert {(row["network"], row["seeds"]) for row in table} == {("2c3-3c3-10, running", "2")}


def test_each_rule_has_its_own_learning_rate():
    assert [config("digits", rule)["learning_rate"] for rule in ("bptt", "ottt")] == [0.01, 0.02]
    settings = TINY | {"online_window": 3, "learning_rates": {"bptt": 0.01}, "tasks": {"digits": DIGITS}}
    with pytest.raises(SystemExit, match="no rule 'ottt' in the learning_rates of digits"):
        jobs_of("deep", "quick", settings)


def test_learning_rates_are_tried_without_the_test_split(monkeypatch):
    split_sizes, held_out = [], run.held_out
    monkeypatch.setattr(
        run,
        "held_out",
        lambda task, key, size: split_sizes.append(task.full_split("test")[1].size) or held_out(task, key, size),
    )
    settings = TINY | {"online_window": 3, "learning_rates": RATES, "rates_to_try": [1e-9, 0.02], "rules": ["ottt"]}
    with jax.numpy_dtype_promotion("standard"):
        found = list(choose.validated(settings | {"tasks": {"digits": DIGITS}}, "quick", [], None))
    ((task, rule, accuracies),) = found
    assert (task, rule, len(accuracies)) == ("digits", "ottt", 2)
    assert accuracies[0] != accuracies[1]
    # digits has 1,442 training samples, of which every tenth is left out.
    assert split_sizes == [145, 145]
