"""The experiment with deep networks: its networks, its numbers, and its table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiment_files import as_written, config_of, draw
from flax import nnx

from experiments.common.job import jobs_of
from experiments.deep import choose, plot, run
from experiments.deep.networks import NETWORKS
from slax_data import spike_trains
from slax_data.storage.packed import arrays_of_sets
from slax_neurons import AdLIF, RunningNorm, Standardized
from slax_rules import RULES, cross_entropy, gradients

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


def test_numbers_of_each_seed():
    seeds = compute("digits", "ottt")
    assert [seed["seed"] for seed in seeds] == [0, 1]
    assert set(seeds[0]["spikes"]) == {"1", "2"}
    assert 0 <= seeds[0]["accuracy"] <= 1
    assert seeds[0]["loss"] != seeds[1]["loss"]


def test_a_recurrent_network_is_trained_online(lines):
    seeds = compute("lines", "ostl", lines)
    assert set(seeds[0]["spikes"]) == {"1"}


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


def test_table_and_picture(tmp_path):
    result = as_written(config("digits", "ottt"), {"seeds": compute("digits", "ottt")})
    table = draw("deep", [result], tmp_path)["deep"]
    assert {row["quantity"] for row in table} == {"accuracy", "spikes_1", "spikes_2"}
    assert plot.network_of(result["config"]) == "2c3-3c3-10, running"


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
