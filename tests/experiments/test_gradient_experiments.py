"""The experiments that compare gradients: what their terms, shares, cells and windows are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from experiment_files import config_of
from flax import nnx

from experiments.certificates import plot as certificates_plot
from experiments.common import learning
from experiments.common.tasks import make_model
from experiments.credit_grid import grid
from experiments.depth import cause, plot_cause
from experiments.depth import plot as depth_plot
from experiments.pipeline.job import settings_of
from experiments.windows import windows
from slax_rules import RULES, cross_entropy, gradients

BATCHES = (10, 20, 30, 40)
TRAININGS = ("clipped", "longer", "larger")
DEEP = {"layers": [10, 8, 7, 4], "input_rate": 0.1, "initial_rate": 0.05, "decay": 0.9, "read_out_decay": 0.9}


def test_cells_of_published_rules_have_their_gradient():
    model, rng = make_model(DEEP, nnx.Rngs(3)), np.random.default_rng(0)
    inputs, labels = (rng.random((6, 4, 10)) < 0.3).astype(np.float32), np.array([0, 1, 2, 0])

    rules = []
    for name in ("decolle", "osttp", "rflo", "etlp", "tess", "e_prop_random"):  # read-outs, targets, random matrices
        cell = grid.make_cell(grid.cell_of(name), rngs=nnx.Rngs(5), model=model)
        of_cell = dataclasses.replace(cell, **RULES[name].options)
        rules.append((RULES[name].make(rngs=nnx.Rngs(5), model=model), of_cell))

    @nnx.jit
    def gradient(model, rules, *batch):
        return [[gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in pair] for pair in rules]

    for pair in gradient(model, rules, inputs, labels):
        jax.tree.map(np.testing.assert_array_equal, *pair)


def test_window_is_the_rule_of_tbptt_and_nothing_to_a_rule_for_layers():
    small = {"seeds": 1, "layers": [8, 6, 3], "input_rate": 0.05, "initial_rate": 0.3, "batch_size": 6}
    few = {"rules": ["tbptt", "sltt"], "windows": [1, 4], "steps": 3, "repeats": 2}
    tiny = settings_of("windows", "tiny")
    config = config_of("windows", "windows", tiny | small | {"windows": tiny["windows"] | few})
    numbers, times = windows.compute(config)
    found = {(cell["rule"], cell["window"], cell["stage"]): cell["seeds"][0] for cell in numbers["cells"]}
    for stage in ("initial", "trained"):
        bptt, step, sltt = (found[rule, window, stage] for rule, window in (("tbptt", 4), ("tbptt", 1), ("sltt", 1)))
        assert bptt["change"] == 0 and sltt["change"] < 1e-6 < 1e-2 < step["change"]
        assert all(layer["cosine"] == pytest.approx(1, abs=1e-5) for layer in bptt["layers"].values())
        for layer, of_layer in sltt["layers"].items():
            assert step["layers"][layer] == pytest.approx(of_layer, abs=1e-5)
    assert found["sltt", 1, "initial"] != found["sltt", 1, "trained"]
    assert all(len(cost["milliseconds"]) == 2 and cost["temporary_bytes"] > 0 for cost in times["cells"])


@pytest.mark.parametrize(
    ("training", "long", "short"),
    [
        ("clipped", 5 / 25.25**0.5, 0.5 / 25.25**0.5),
        ("unclipped", 5, 0.5),
        ("clipped_by_array", 1, 0.5),
        ("length_one", 1, 1),
    ],
)
def test_a_training_has_the_lengths_that_it_is_named_after(training, long, short, monkeypatch):
    monkeypatch.setitem(learning.OPTIMIZERS, "plain", optax.sgd)
    made = cause.optimizer_of({"training": training, "optimizer": "plain", "clip": 1.0}, 1.0)
    gradient = {"long": jnp.array([3.0, 4.0]), "short": jnp.array([0.3, 0.4]), "zero": jnp.zeros(2)}
    (updates, _) = made.update(gradient, made.init(gradient))
    for name, length in (("long", long), ("short", short), ("zero", 0)):
        np.testing.assert_allclose(updates[name], -length * np.array([0.6, 0.8]), rtol=1e-6)


def test_longer_and_larger_trainings_change_what_they_are_called_after():
    settings = settings_of("depth", "full")
    plain, longer, larger = (config_of("depth", f"cause/{name}/otpe", settings, "full") for name in TRAININGS)
    names = {"training": "longer", "steps": settings["cause"]["longer"]}
    assert longer == plain | names and longer["steps"] != plain["steps"]
    assert larger == plain | {"training": "larger", "batch_size": settings["cause"]["larger"]}


@pytest.mark.parametrize(
    ("ahead", "start"), [([1, -1, 1, 1], 30), ([1, 1, 1, 1], 10), ([1, 1, 1, 0], None), ([1, 1, 1, -1], None)]
)
def test_otpe_is_ahead_from_where_it_stays_ahead_to_the_end(ahead, start):
    """Seed by seed: each accuracy varies more than the two differ."""
    bptt = np.array([[0.3], [0.6], [0.9]])
    gaps = [0.05 * sign + 0.01 * np.array([[-1], [0], [1]]) for sign in ahead]
    courses = {"bptt": [bptt] * 4, "otpe": [bptt + gap for gap in gaps]}
    tested = {rule: dict(zip(BATCHES, of, strict=True)) for rule, of in courses.items()}
    assert depth_plot.ahead_from(tested["otpe"], tested["bptt"]) == start

    def seed(accuracies):
        lengths = [{"batches": at, "accuracy": share} for at, share in zip(BATCHES, accuracies, strict=True)]
        return {"lengths": lengths, "gradients": {}}

    trained = {rule: {"seeds": [seed(of_seed) for of_seed in np.hstack(of)]} for rule, of in courses.items()}
    minus = [row for row in plot_cause.rows(plot_cause.Data({}, {"clipped": trained})) if row[3] == "minus_bptt"]
    assert {row[1] for row in minus} == {"otpe"} and [row[6] for row in minus] == pytest.approx(0.05 * np.array(ahead))


def test_ranks_of_sketched_rtrl_are_in_the_order_of_numbers():
    """A result has them in the order of letters, and the line of the figure goes from rank to rank."""
    cost = {"milliseconds": [1.0, 2.0], "temporary_bytes": 8}
    costs = {"rules": {"bptt": cost}, "ranks": dict.fromkeys(["0", "16", "8"], cost), "bounds": {}}
    rows = certificates_plot.rank_cost_rows(certificates_plot.Data({}, {}, costs, 5))
    assert [row[0] for row in rows] == ["0", "8", "16"]
