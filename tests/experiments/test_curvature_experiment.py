"""The experiment on curvature and windows: its numbers, its tables and figures, and what stops it."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw, watch
from flax import nnx

from experiments.common import training
from experiments.common.schemas import validator
from experiments.common.trials import Trials
from experiments.curvature import online, plot, solutions, windows
from slax_neurons import LI, LIF, connect, unroll
from slax_rules import cross_entropy
from slax_viz import hessian_product

CONFIG = yaml.safe_load(Path(plot.__file__).with_name("config.yaml").read_text())
TINY = {
    "seeds": 2,
    "layers": [8, 10, 10, 3],
    "input_rate": 0.05,
    "initial_rate": 0.3,
    "n_steps": 4,
    "batch_size": 6,
    "rate_seeds": 1,
    "learning_rates": [0.002, 0.02],
    "validation_size": 30,
    "test_size": 20,
}
SHALLOW = [8, 6, 3]
PARTS = {
    "solutions": {"rules": ["bptt"], "steps": 3, "samples": 7, "eigenvalues": 2, "products": 40, "trace_samples": 5},
    "online": {"rules": ["tbptt"], "steps": 6, "windows": [2, 4]},
    "windows": {"rules": ["tbptt", "sltt"], "windows": [1, 4], "steps": 3, "repeats": 2},
}


def config(part, rule=None, **changes):
    quick = CONFIG["scales"]["quick"]
    settings = quick | TINY | {name: quick[name] | PARTS[name] for name in PARTS} | changes
    return config_of("curvature", f"{part}/{rule}" if rule else "windows", settings)


@pytest.fixture(scope="module")
def by_window():
    with jax.numpy_dtype_promotion("standard"):
        return windows.compute(config("windows"))


@pytest.fixture(scope="module")
def at_solutions():
    with jax.numpy_dtype_promotion("standard"):
        return solutions.compute(config("solutions", "bptt", layers=SHALLOW))["seeds"]


@pytest.fixture(scope="module")
def accuracies():
    with jax.numpy_dtype_promotion("standard"):
        return online.compute(config("online", "tbptt", layers=SHALLOW))["cells"]


def cell(cells, **where):
    (found,) = (cell for cell in cells if where.items() <= cell.items())
    return found


def test_hessian_of_a_stack_in_chunks_is_symmetric_and_that_of_its_steps(x64):
    """JAX loses surrogates inside a scan from forward mode over reverse mode; the first order does not show it."""
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    stack = [nnx.Linear(4, 5, **options), LIF(param_dtype=jnp.float64, threshold=0.5)]
    model = connect([*stack, nnx.Linear(5, 3, **options), LI(param_dtype=jnp.float64)])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    inputs = jax.random.bernoulli(jax.random.key(1), 0.4, (6, 3, 4)).astype(jnp.float64)
    labels = jnp.arange(3)

    def in_chunks(params):
        network = nnx.merge(graphdef, params, rest)
        _, outputs = unroll(network, network.initialize_carry(inputs.shape[1:]), inputs, chunk=2)
        return cross_entropy(outputs, labels).mean()

    def in_steps(params):
        network = nnx.merge(graphdef, params, rest)
        carry, outputs = network.initialize_carry(inputs.shape[1:]), []
        for x in inputs:
            carry, output = network(carry, x)
            outputs.append(output)
        return cross_entropy(jnp.stack(outputs), labels).mean()

    leaves, structure = jax.tree.flatten(params)
    drawn = [jax.random.normal(jax.random.key(i), (2, *leaf.shape), leaf.dtype) for i, leaf in enumerate(leaves)]
    v, w = (jax.tree.unflatten(structure, [leaf[i] for leaf in drawn]) for i in (0, 1))
    with jax.numpy_dtype_promotion("standard"):
        hv, hw = (jax.jit(functools.partial(hessian_product, in_chunks))(params, vector) for vector in (v, w))
        by_steps = jax.jit(functools.partial(hessian_product, in_steps))(params, v)
    dot = lambda a, b: sum(float(jnp.vdot(x, y)) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))  # noqa: E731
    assert abs(dot(v, hv)) > 1e-3
    assert dot(w, hv) == pytest.approx(dot(v, hw), rel=1e-9)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12), hv, by_steps)


def test_both_ends_are_those_of_the_whole_hessian():
    settings = config("solutions", "bptt")
    model = training.make_model(settings | {"layers": [4, 3, 2]}, nnx.Rngs(1))
    inputs = (jax.random.uniform(jax.random.key(2), (4, 5, 4)) < 0.4).astype(jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        loss, params = training.loss_of_params(model, inputs, jnp.arange(5) % 2), nnx.state(model, nnx.Param)
        found = jax.jit(functools.partial(solutions.both_ends, settings, loss))(params, jax.random.key(0))
        vector, tree = jax.flatten_util.ravel_pytree(params)
        product = jax.jit(lambda one: jax.flatten_util.ravel_pytree(hessian_product(loss, params, tree(one)))[0])
        whole = np.stack([product(row) for row in np.eye(len(vector), dtype=np.float32)])
    values = np.linalg.eigvalsh(whole.astype(float))
    assert found["largest"]["values"] == pytest.approx(values[::-1][:2], abs=1e-4)
    assert found["smallest"]["values"] == pytest.approx(values[:2], abs=1e-4)
    assert values[0] < -1e-3 < 1e-3 < values[-1]
    assert found["largest"]["converged"].all() and found["smallest"]["converged"].all()


def test_numbers_of_a_solution(at_solutions):
    for seed in at_solutions:
        assert 0 <= seed["accuracy"] <= 1 and seed["loss"] > 0 and seed["gradient"] > 0
        assert seed["smallest"]["values"][0] < seed["largest"]["values"][0]
        for end in ("smallest", "largest"):
            assert seed[end]["asymmetry"] < 1e-4 * max(map(abs, seed[end]["values"]))
        assert seed["trace"]["mean"] == pytest.approx(np.mean(seed["trace"]["samples"]), abs=1e-4)
        assert len(seed["trace"]["samples"]) == 5
    assert at_solutions[0]["loss"] != at_solutions[1]["loss"]


def test_window_is_the_rule_of_tbptt_and_nothing_to_a_rule_for_layers(by_window):
    cells = by_window[0]["cells"]
    assert len(cells) == 2 * 2 * 2
    for stage in ("initial", "trained"):
        for i in (0, 1):
            bptt = cell(cells, rule="tbptt", window=4, stage=stage)["seeds"][i]
            assert bptt["change"] == 0
            for layer in ("1", "2", "3"):
                assert bptt["layers"][layer]["cosine"] == pytest.approx(1, abs=1e-5)
            step = cell(cells, rule="tbptt", window=1, stage=stage)["seeds"][i]
            assert step["change"] > 1e-2
            assert step["layers"]["1"]["cosine"] < 0.99
            sltt = cell(cells, rule="sltt", window=1, stage=stage)["seeds"][i]
            assert sltt["change"] < 1e-6
            for layer, numbers in sltt["layers"].items():
                assert step["layers"][layer] == pytest.approx(numbers, abs=1e-5)
    first, trained = (cell(cells, rule="sltt", window=1, stage=stage)["seeds"][0] for stage in ("initial", "trained"))
    assert first["layers"] != trained["layers"]


def test_costs_are_there_for_each_rule_and_window(by_window):
    costs = by_window[1]["cells"]
    assert [(cost["rule"], cost["window"]) for cost in costs] == [("tbptt", 1), ("tbptt", 4), ("sltt", 1), ("sltt", 4)]
    assert all(min(cost["milliseconds"]) > 0 and cost["temporary_bytes"] > 0 for cost in costs)
    assert {len(cost["milliseconds"]) for cost in costs} == {config("windows")["repeats"]}  # one for each round


def test_one_window_online_is_offline(accuracies):
    assert [(cell["mode"], cell["window"]) for cell in accuracies] == [
        (mode, window) for mode in ("offline", "online") for window in (2, 4)
    ]
    offline, online = (cell(accuracies, mode=mode, window=4) for mode in ("offline", "online"))
    assert [offline[name] == online[name] for name in ("trials", "accuracy")] == [True, True]
    other = cell(accuracies, mode="online", window=2)
    assert other["trials"]["validation"] != online["trials"]["validation"] or other["accuracy"] != online["accuracy"]


def test_each_window_is_that_of_the_updates_and_of_the_rule_tbptt(monkeypatch):
    made, real = [], online.make_trainer

    def make_trainer(config, update, network, rule):
        made.append((update, config["online_window"], getattr(rule(None, jax.random.key(0)), "steps", None)))
        return real(config, update, network, rule)

    monkeypatch.setattr(online, "make_trainer", make_trainer)
    monkeypatch.setattr(online, "choose", lambda config, make, *_: (Trials([0.01], [[0.5]]), make(config)))
    monkeypatch.setattr(online, "train_seeds", lambda *_: [])
    for rule in ("ottt", "tbptt"):
        online.compute(config("online", "tbptt", layers=SHALLOW) | {"rule": rule})
    assert made == [("online", 2, None), ("online", 4, None)] + [
        (update, window, window) for update in ("offline", "online") for window in (2, 4)
    ]


def test_the_test_samples_are_read_once_for_each_training_after_its_rate_is_chosen(monkeypatch):
    settings = config("online", "tbptt", layers=SHALLOW) | {"windows": [2]}
    done = watch(monkeypatch, online, settings)
    with jax.numpy_dtype_promotion("standard"):
        online.compute(settings)
    assert done == 2 * (["validation"] * 2 + ["chosen"] + ["test"] * 2)  # one update per sequence, or several


def test_figures_and_tables_are_written(at_solutions, accuracies, by_window, tmp_path):
    results = [
        as_written(config("online", "tbptt"), {"cells": accuracies}),
        as_written(config("windows"), by_window[0] | {"times": by_window[1]}),
        as_written(config("solutions", "bptt"), {"seeds": at_solutions}),
    ]
    tables = draw("curvature", results, tmp_path)

    def only(table, **where):
        (row,) = (row for row in tables[table] if where.items() <= row.items())
        return row

    values = [seed["smallest"]["values"][1] for seed in at_solutions]
    row = only("curvature", rule="bptt", quantity="eigenvalue", which="-2")
    assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-6)
    assert float(row["low"]) < float(row["mean"]) < float(row["high"])
    asymmetry = np.mean([max(seed[end]["asymmetry"] for end in plot.ENDS) for seed in at_solutions])
    assert float(only("curvature", quantity="asymmetry")["mean"]) == pytest.approx(asymmetry, rel=1e-2)
    where = {"rule": "tbptt", "window": "1", "stage": "trained"}
    cosines = [
        seed["layers"]["2"]["cosine"]
        for seed in cell(by_window[0]["cells"], rule="tbptt", window=1, stage="trained")["seeds"]
    ]
    assert float(only("curvature_windows", **where, layer="2", quantity="cosine")["mean"]) == pytest.approx(
        np.mean(cosines), abs=1e-6
    )
    change = only("curvature_windows", rule="sltt", window="1", stage="trained", quantity="change")
    assert 0 < float(change["mean"]) < 1e-4
    reached = only("curvature_windows", rule="tbptt", window="2", stage="online", quantity="accuracy")
    assert float(reached["mean"]) == pytest.approx(
        np.mean(cell(accuracies, mode="online", window=2)["accuracy"]), abs=1e-6
    )
    memory = only("curvature_windows", rule="sltt", window="4", quantity="temporary_bytes")
    assert float(memory["mean"]) > 0 and memory["values"] == memory["seeds"] == memory["rounds"] == ""
    time = only("curvature_windows", rule="sltt", window="4", quantity="milliseconds")
    rounds = cell(by_window[1]["cells"], rule="sltt", window=4)["milliseconds"]
    assert float(time["mean"]) == pytest.approx(np.mean(rounds), abs=1e-6)
    assert [float(text) for text in time["values"].split()] == pytest.approx(rounds, rel=1e-6)
    assert (time["seeds"], time["rounds"]) == ("", "2") and (change["seeds"], change["rounds"]) == ("2", "")


def test_legend_names_a_rule_that_is_in_one_panel_only():
    lines = {("tbptt", "trained", plot.LAYER, "cosine"): {4: [1.0]}, ("otpe", "online", "all", "accuracy"): {1: [0.6]}}
    figure = plot.draw_windows(plot.Data([], lines, config("windows")))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["TBPTT(K)", "OTPE"]
    plot.plt.close(figure)


@pytest.mark.parametrize(("part", "is_valid"), [("solutions", True), ("online", False), ("windows", False)])
def test_bptt_by_window_is_refused(part, is_valid):
    schema = yaml.safe_load(Path(plot.__file__).with_name("config.schema.yaml").read_text())
    settings = CONFIG["scales"]["quick"]
    settings = settings | {part: settings[part] | {"rules": ["bptt", "tbptt"]}}
    assert validator(schema).is_valid(settings) == is_valid


def test_the_largest_window_is_the_sequence():
    for scale in CONFIG["scales"].values():
        assert max(scale["windows"]["windows"]) == scale["n_steps"]
