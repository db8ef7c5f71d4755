"""The experiment with deep networks: its networks, its numbers, and its table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from experiment_files import as_written, config_of, draw, watch
from flax import nnx

from experiments.common.keys import key_of
from experiments.common.tasks import task_maker
from experiments.common.trials import Trials
from experiments.deep import run
from experiments.deep.networks import NETWORKS
from slax_data import Augmentation, spike_trains
from slax_data.storage.packed import arrays_of_sets
from slax_neurons import AdLIF, RunningNorm, Standardized, health, unroll
from slax_rules import RULES, TBPTT, accuracy, cross_entropy, gradients, train_offline, train_online

RATES = [0.002, 0.02]
TINY = {
    **{"seeds": 2, "rate_seeds": 1, "learning_rates": RATES, "optimizer": "adam", "anneal": True, "steps": 4},
    **{
        "batch_size": 8,
        "online_window": 3,
        "test_size": 20,
        "rules": ["bptt", "ottt"],
        "augmentation": {"channels": 1},
    },
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
    return config_of("deep", f"{task}/{rule}", TINY | {"tasks": {"digits": DIGITS, "lines": STORED}})


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
        return run.compute(config(task, rule), spikes)


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
    result = compute(task, rule, spikes)
    found, chosen = result["seeds"], result["trials"]["chosen"]["learning_rate"]
    assert [seed["seed"] for seed in found] == [0, 1]
    assert found[0]["loss"] != found[1]["loss"]
    network_key, rule_key = jax.random.split(key_of(1, "start"))
    keys = jax.random.split(key_of(1, "samples"), 5)
    data = task_maker(settings, spikes)(keys[0])
    model = NETWORKS[settings["network"]](settings, nnx.Rngs(network_key))
    made = RULES[rule].make(rngs=nnx.Rngs(rule_key), model=model)
    updates = UPDATES[task, rule] * TINY["steps"]
    with jax.numpy_dtype_promotion("standard"):
        schedule = optax.cosine_decay_schedule(chosen, updates)
        optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
        for key in jax.random.split(keys[1], TINY["steps"]):
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


def test_the_test_split_is_read_once_for_each_network_after_the_rate_is_chosen(lines, monkeypatch):
    """The stored samples of `lines` are 24 to train on, 6 for validation and 30 for the test."""
    settings = config("lines", "bptt")
    done = watch(monkeypatch, run, settings | {"validation_size": 6, "test_size": 30})
    with jax.numpy_dtype_promotion("standard"):
        run.compute(settings, lines)
    assert done == ["validation"] * len(RATES) + ["chosen"] + ["test"] * TINY["seeds"]


def test_the_pieces_of_tbptt_are_the_windows_of_the_online_rules(monkeypatch):
    made = []
    real = run.make_trainer

    def make_trainer(config, update, network, rule, **options):
        made.append((update, rule(None, jax.random.key(0))))
        return real(config, update, network, rule, **options)

    monkeypatch.setattr(run, "make_trainer", make_trainer)
    monkeypatch.setattr(run, "choose", lambda config, make, *_: (Trials([0.01], [[0.5]]), make(config)))
    monkeypatch.setattr(run, "train_seeds", lambda *_: [])
    run.compute(config("digits", "ottt") | {"rule": "tbptt"})
    assert made == [("online", TBPTT(steps=3))]


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
    assert float(accuracy(outputs, jnp.array([0]))) == 1
    assert [float(run.summed_accuracy(outputs, jnp.array([label]))) for label in (0, 1)] == [0, 1]


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

    trials = {
        rule: {
            "learning_rates": RATES,
            "validation": [[0.5, share]],
            "second": None,
            "chosen": {"learning_rate": RATES[0]},
        }
        for rule, share in (("bptt", 0.25), ("ottt", 0.375))
    }
    results = [as_written(config("digits", rule), {"trials": trials[rule], "seeds": seeds(rule)}) for rule in trials]
    tables = draw("deep", results, tmp_path)
    tried = [(row["rule"], float(row["learning_rate"]), row["chosen"], row["mean"]) for row in tables["deep_rates"]]
    assert tried == [
        ("bptt", 0.002, "1", "0.5"),
        ("bptt", 0.02, "0", "0.25"),
        ("ottt", 0.002, "1", "0.5"),
        ("ottt", 0.02, "0", "0.375"),
    ]
    table = tables["deep"]
    means = {(row["rule"], row["quantity"]): float(row["mean"]) for row in table}
    assert len(table) == len(means)
    assert means == pytest.approx({name: np.mean(of_seeds) for name, of_seeds in numbers.items()}, abs=1e-6)
    assert all(0 <= float(row["low"]) < float(row["mean"]) < float(row["high"]) for row in table)
    assert {(row["network"], row["seeds"]) for row in table} == {("2c3-3c3-10, running", "2")}
