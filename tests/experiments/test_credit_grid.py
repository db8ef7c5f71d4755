"""Every published rule for layers is a cell of the grid, and the experiment's numbers, tables and configuration obey laws."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from experiment_files import as_written, config_of, draw
from flax import nnx

from experiments.common.job import jobs_of
from experiments.common.schemas import validator
from experiments.common.training import make_model
from experiments.credit_grid import cost, data, grid, plot, run, trainer
from slax_data import spike_trains
from slax_data.storage.packed import arrays_of_sets
from slax_rules import RULES, accuracy, cross_entropy, gradients, train_offline

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SCHEMA = yaml.safe_load((ROOT / "config.schema.yaml").read_text())
TASK = {"dataset": "randman", "codes": {"time": 0.2, "rate": 0.5}, "layers": [12, 8, 7, 3], "n_steps": 6}
TINY = {
    "seeds": 2,
    "rate_seeds": 1,
    "steps": 3,
    "batch_size": 4,
    "learning_rates": [0.01, 0.1],
    "eval_batches": 2,
    "validation_size": 20,
    "test_size": 30,
    "temporal": ["sltt", "ostl"],
    "spatial": ["symmetric", "direct", "target", "local"],
}
CODE = {"code": "time", "input_rate": 0.2}
PUBLISHED = {
    "ostl": "ostl/symmetric",
    "hypr": "ostl/symmetric",
    "otpe": "otpe/symmetric",
    "approximate_otpe": "approximate_otpe/symmetric",
    "ottt": "ottt/symmetric",
    "sltt": "sltt/symmetric",
    "e_prop": "e_prop/symmetric",
    "e_prop_random": "e_prop/random",
    "e_prop_adaptive": "e_prop/adaptive",
    "e_prop_direct": "e_prop/direct",
    "pp_prop": "pp_prop/symmetric",
    "decolle": "ottt/local",
    "s_tllr": "s_tllr/symmetric",
    "tess": "s_tllr/fixed_bases",
    "osttp": "ostl/target",
    "etlp": "ottt/target",
    "dfa": "sltt/direct",
    "drtp": "sltt/target",
}


def settings(**changes):
    return (
        CONFIG["scales"]["quick"]
        | TINY
        | {"tasks": {"tiny": TASK}, "cost_tasks": ["tiny"], "cost_repeats": 2, "cost_window": 2}
        | changes
    )


def config(**changes):
    return config_of("credit_grid", "tiny", settings(**changes))


@pytest.fixture(scope="module")
def model():
    return make_model(config() | CODE, nnx.Rngs(3))


@pytest.fixture(scope="module")
def batch():
    spikes = jax.random.bernoulli(jax.random.key(0), 0.3, (6, 4, 12)).astype(jnp.float32)
    return spikes, jnp.array([0, 1, 2, 0])


@pytest.fixture(autouse=True, scope="module")
def _promotion():
    """Promotes types as JAX does by default, for Optax, whose step counter is an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def same(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))


def test_published_rules_are_known_as_cells():
    assert {name: grid.cell_of(name) for name in RULES if grid.cell_of(name)} == PUBLISHED
    assert all(name in grid.published(cell) for name, cell in PUBLISHED.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rule_has_exactly_the_gradient_of_its_cell(name, model, batch):
    entry, key = RULES[name], jax.random.key(5)
    of_name = entry.make(rngs=nnx.Rngs(key), model=model)
    of_cell = dataclasses.replace(grid.make_cell(PUBLISHED[name], model, key), **entry.options)
    assert same(*(gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in (of_name, of_cell)))
    if name not in ("ostl", "hypr", "sltt"):
        # The comparison is not empty: another cell has another gradient.
        other = grid.make_cell("ostl/symmetric", model, key)
        assert not same(*(gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in (of_name, other)))


def test_only_options_of_etlp_are_not_those_of_its_cell():
    assert [name for name in PUBLISHED if RULES[name].options] == ["etlp"]


@pytest.mark.parametrize("cell", ["bptt", "ostl/symmetric", "e_prop/adaptive", "ottt/local"])
def test_training_is_that_of_train_offline(cell, model, batch):
    key = jax.random.key(1)
    made = trainer.make_trainer(config() | CODE, cell)
    trained, losses = trainer.train(made, made.start(model, key), 0.05, [batch] * 3)
    own, rule = nnx.clone(model), grid.make_cell(cell, model, key)
    both = (own, rule) if "adaptive" in cell else own
    optimizer = nnx.Optimizer(both, optax.adamax(0.05), wrt=nnx.Param)
    expected = [train_offline(own, optimizer, cross_entropy, *batch, rule=rule) for _ in range(3)]
    np.testing.assert_allclose(losses, jnp.stack(expected), rtol=1e-5)
    leaves = jax.tree.leaves(nnx.state(both, nnx.Param))
    assert len(trained) == len(leaves) == 6 + 3 * ("adaptive" in cell)
    for one, other in zip(trained, leaves, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_gradient_of_a_cell_is_that_of_its_rule(model, batch):
    key, (spikes, labels) = jax.random.key(1), batch
    made = trainer.make_trainer(config() | CODE, "otpe/direct")
    params, others = made.start(model, key)
    found = trainer.mean_gradient(made, params, others, [(spikes, labels), (spikes[::-1], labels)])
    rule = grid.make_cell("otpe/direct", model, key)
    pair = [gradients(model, cross_entropy, x, labels, rule=rule)[1] for x in (spikes, spikes[::-1])]
    for one, other in zip(found, jax.tree.leaves(jax.tree.map(lambda a, b: (a + b) / 2, *pair)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_fixed_hidden_layers_stay_as_drawn_and_the_read_out_learns(model, batch):
    made = trainer.make_trainer(config() | CODE, "fixed")
    start = made.start(model, jax.random.key(1))
    trained, _ = trainer.train(made, start, 0.05, [batch] * 3)
    assert [same(one, other) for one, other in zip(start[0], trained, strict=True)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("route", ["direct", "target", "local", "fixed_bases"])
def test_e_prop_and_otpe_differ_only_in_the_signal_that_they_pass_below(route, model, batch):
    rules = [grid.make_cell(f"{temporal}/{route}", model, jax.random.key(2)) for temporal in ("e_prop", "otpe")]
    pair = [gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in rules]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), *pair)


def test_carried_numbers_are_those_of_the_registry(model):
    # LIF and LI have one state each. A bias counts as one more input of eligibility; OTTT's trace of it is one for all samples.
    pairs = list(itertools.pairwise(TASK["layers"]))
    eligibility = [(i + 1) * n for i, n in pairs]
    carried = {
        cell: grid.carried_numbers(cell, model, 12)
        for cell in ("fixed", "sltt/local", "ottt/random", "ostl/target", "e_prop/direct")
    }
    assert carried["sltt/local"] == 0
    assert carried["fixed"] == eligibility[-1]
    assert carried["ottt/random"] == sum(i for i, _ in pairs)
    assert carried["ostl/target"] == sum(eligibility)
    assert carried["e_prop/direct"] == 2 * sum(eligibility[:-1]) + eligibility[-1]


@pytest.fixture(scope="module")
def results():
    return run.compute(config())


def test_results_obey_the_laws_of_the_rules(results):
    assert list(results["codes"]) == ["time", "rate"]
    for of_code in results["codes"].values():
        assert list(of_code) == ["bptt", "fixed", *grid.cells(config())]
        for cell, of_cell in of_code.items():
            assert [seed["seed"] for seed in of_cell["seeds"]] == [0, 1]
            for seed in of_cell["seeds"]:
                for stage, layers in seed["agreement"].items():
                    assert list(layers) == ["1", "2", "3"]
                    if cell in grid.REFERENCES or cell.startswith(
                        "ostl"
                    ):  # exact in the last layer, whatever the route
                        assert layers["3"]["cosine"] == pytest.approx(1, abs=1e-5), (cell, stage)
                    if cell == "fixed":
                        assert layers["1"]["cosine"] is None and layers["2"]["cosine"] is None
                    if cell == "bptt":
                        assert layers["1"]["cosine"] == pytest.approx(1, abs=1e-5)


def test_the_rate_with_the_best_validation_accuracy_is_chosen(results):
    for of_code in results["codes"].values():
        for of_cell in of_code.values():
            (accuracies,) = of_cell["validation"]
            chosen = TINY["learning_rates"].index(of_cell["learning_rate"])
            assert accuracies[chosen] == max(accuracies)


def test_the_test_split_is_read_once_for_each_cell_and_seed():
    read = []

    def count(params, spikes, labels):
        read.append(spikes.shape[1])
        return accuracy(jnp.zeros((*spikes.shape[:2], 3)), labels)

    own = config() | CODE
    trainers = {cell: trainer.make_trainer(own, cell) for cell in ("bptt", "sltt/symmetric")}
    measures = trainer.make_measures(own)._replace(accuracy=count)
    run.results_of_code(own, trainers, measures, None)
    assert read.count(TINY["test_size"]) == len(trainers) * TINY["seeds"]
    assert read.count(TINY["validation_size"]) == len(trainers) * len(TINY["learning_rates"]) * TINY["rate_seeds"]


def test_cells_start_from_the_same_network_and_seeds_differ():
    own = config() | CODE
    trainers = {cell: trainer.make_trainer(own, cell) for cell in ("bptt", "ostl/adaptive")}
    first, second = (run.starts(own, trainers, seed) for seed in (0, 1))
    assert same(first["bptt"][0], first["ostl/adaptive"][0][:6])
    assert not same(first["bptt"][0], second["bptt"][0])


def test_validation_is_a_tenth_of_the_training_and_not_in_it(tmp_path):
    # Recording r has a spike of unit r % 8 at step r // 8, so that it can be told from all others.
    spikes = np.zeros((40, 6, 8), bool)
    spikes[np.arange(40), np.arange(40) // 8, np.arange(40) % 8] = True
    splits = {"train": spike_trains(spikes, np.arange(40) // 10), "test": spike_trains(spikes[:8], np.arange(8) % 4)}
    np.savez(tmp_path / "some.npz", **arrays_of_sets(splits))
    own = {"task": "tiny", "spikes": "some", "layers": [8, 4, 4], "n_steps": 6}
    task = data.make_task(own | {"layers": [8, 4, 4]}, tmp_path / "some.npz")(jax.random.key(0))
    names = "train", "validation", "test"
    parts = {split: np.asarray(task.full_split(split)[0]).transpose(1, 0, 2).reshape(-1, 48) for split in names}
    assert [len(parts[split]) for split in names] == [36, 4, 8]
    assert len(np.unique(np.concatenate([parts["train"], parts["validation"]]), axis=0)) == 40


@pytest.fixture(scope="module")
def costs():
    made = config_of("credit_grid", "tiny_cost", settings())
    return as_written(made, cost.compute(made))


def test_tables_are_means_of_the_seeds(results, costs, tmp_path):
    tables = draw("credit_grid", [as_written(config(), results), costs], tmp_path)
    cells = grid.cells(config())
    assert len(tables["credit_grid"]) == 2 * (2 + len(cells))
    reached = {
        (code, cell): np.array([seed["accuracy"] for seed in of_cell["seeds"]])
        for code, of_code in results["codes"].items()
        for cell, of_cell in of_code.items()
    }
    for row in tables["credit_grid"]:
        cell = row["temporal"] if row["temporal"] in grid.REFERENCES else f"{row['temporal']}/{row['spatial']}"
        own, exact = reached[row["code"], cell], reached[row["code"], "bptt"]
        assert float(row["accuracy"]) == pytest.approx(own.mean(), abs=1e-6)
        fixed = reached[row["code"], "fixed"]
        assert float(row["minus_fixed"]) == pytest.approx((own - fixed).mean(), abs=1e-6)
        assert float(row["minus_bptt"]) == pytest.approx((own - exact).mean(), abs=1e-6)
    named = {(row["temporal"], row["spatial"]): row["rules"] for row in tables["credit_grid"]}
    assert named["ostl", "target"] == "osttp" and named["sltt", "direct"] == "dfa" and named["sltt", "local"] == ""
    assert len(tables["credit_grid_cosine"]) == 2 * len(cells) * 2 * 3
    assert [row["carried"] for row in tables["credit_grid_cost"]][:2] == [str(6 * (12 + 8 + 7) + 2 * (8 + 7 + 3)), "0"]
    assert float(tables["credit_grid_cost"][0]["times_bptt"]) == 1

    found = {(row["code"], row["comparison"]): float(row["mean"]) for row in tables["credit_grid_differences"]}
    for code in TASK["codes"]:
        whole = reached[code, "ostl/symmetric"]
        lost = {name: (whole - reached[code, f"ostl/{name}"]).mean() for name in ("direct", "target", "local")}
        temporal = (whole - reached[code, "sltt/symmetric"]).mean()
        for name, expected in (lost | {"temporal": temporal, "spatial": np.mean([*lost.values()])}).items():
            assert found[code, name] == pytest.approx(expected, abs=1e-6)
        assert found[code, "fixed"] == pytest.approx((whole - reached[code, "fixed"]).mean(), abs=1e-6)
        assert found[code, "local_minus_temporal"] == pytest.approx(lost["local"] - temporal, abs=1e-6)
        assert found[code, "spatial_minus_temporal"] == pytest.approx(np.mean([*lost.values()]) - temporal, abs=1e-6)


def test_costs_without_the_results_of_their_task_stop(costs):
    with pytest.raises(SystemExit, match="The costs of tiny are drawn with the numbers that its cells carry"):
        list(plot.cost_rows(plot.prepare([costs])))


def test_configuration_has_every_cell():
    for scale in ("quick", "paper"):
        assert CONFIG["scales"][scale]["spatial"] == list(grid.ROUTES)
        assert set(PUBLISHED.values()) <= set(grid.cells(CONFIG["scales"][scale]))
    routes = SCHEMA["properties"]["spatial"]["items"]["enum"]
    assert routes == list(grid.ROUTES) == list(plot.SPATIAL_LABELS)
    assert all(validator(SCHEMA).is_valid(scale) for scale in CONFIG["scales"].values())
    assert not validator(SCHEMA).is_valid(CONFIG["scales"]["quick"] | {"temporal": ["olst"]})
    assert set(plot.TEMPORAL_LABELS) == set(CONFIG["scales"]["quick"]["temporal"])


def test_a_job_for_each_task_and_its_costs():
    found = jobs_of("credit_grid", "quick", settings())
    assert list(found) == ["tiny", "tiny_cost"] and found["tiny_cost"].is_exclusive
    assert "learning_rates" not in found["tiny_cost"].config and found["tiny_cost"].config["repeats"] == 2
    with pytest.raises(SystemExit, match="There is no task 'tny' for cost_tasks, expected one of: tiny"):
        jobs_of("credit_grid", "quick", settings(cost_tasks=["tny"]))
