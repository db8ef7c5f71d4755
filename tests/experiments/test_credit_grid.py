"""Every published rule for layers is a cell of the grid, and the experiment's numbers, tables and configuration obey laws."""

import copy
import dataclasses
import itertools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from experiment_files import as_written, config_of, draw, watch
from experiments.common.agreement import make_agreement, model_state
from experiments.common.trainer import make_trainer
from experiments.common.training import make_model
from experiments.common.trials import start_of
from flax import nnx

from experiments.common.job import jobs_of
from experiments.common.schemas import validator
from experiments.credit_grid import cost, grid, plot, references, run
from slax_rules import RULES, cross_entropy, gradients, train_offline

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
CODES = ("time", "rate")
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


def config(row="sltt", code="time", **changes):
    return config_of("credit_grid", f"tiny/{code}/{row}", settings(**changes))


ROWS = ("references", *TINY["temporal"])
CELLS = [f"{temporal}/{spatial}" for temporal in TINY["temporal"] for spatial in TINY["spatial"]]


def trainer_of(cell):
    return make_trainer(config(), "offline", make_model, partial(grid.make_cell, cell))


@pytest.fixture(scope="module")
def model():
    return make_model(config(), nnx.Rngs(3))


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
def test_training_is_that_of_train_offline(cell, batch):
    made = trainer_of(cell)
    start = made.start(jax.random.key(1))
    trained, losses = made.train(start, 0.05, [(batch[0][None], batch[1][None])] * 3)
    own, rule = made.network(start)
    both = (own, rule) if "adaptive" in cell else own
    optimizer = nnx.Optimizer(both, optax.adamax(0.05), wrt=nnx.Param)
    expected = [train_offline(own, optimizer, cross_entropy, *batch, rule=rule) for _ in range(3)]
    np.testing.assert_allclose(losses, jnp.stack(expected), rtol=1e-5)
    found, leaves = (jax.tree.leaves(nnx.state(of, nnx.Param)) for of in (made.network(trained), (own, rule)))
    assert len(found) == len(leaves) == 6 + 3 * ("adaptive" in cell)
    for one, other in zip(found, leaves, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_agreement_of_a_cell_is_that_of_its_rule_at_the_parameters_of_bptt(batch):
    made, key = trainer_of("otpe/direct"), jax.random.key(1)
    start, bptt = made.start(key), trainer_of("bptt")
    batches = jnp.stack([batch[0], batch[0][::-1]]), jnp.stack([batch[1]] * 2)
    trained, _ = bptt.train(bptt.start(key), 0.05, [batches] * 3)
    found = make_agreement(made)(start, model_state(bptt, trained), batches)
    model, _ = bptt.network(trained)
    _, rule = made.network(start)
    mean = lambda *pair: jax.tree.map(lambda a, b: (a + b) / 2, *pair)  # noqa: E731
    own, exact = (
        mean(*(gradients(model, cross_entropy, x, batch[1], **of)[1] for x in batches[0]))
        for of in ({"rule": rule}, {})
    )
    for layer, module in (("1", 0), ("2", 2), ("3", 4)):
        a, b = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(of["modules"][module])]) for of in (own, exact)
        )
        cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        assert found[layer]["cosine"] == pytest.approx(cosine, abs=1e-5)
        assert found[layer]["norm_ratio"] == pytest.approx(np.linalg.norm(a) / np.linalg.norm(b), rel=1e-4)


def test_fixed_hidden_layers_stay_as_drawn_and_the_read_out_learns(batch):
    made = trainer_of("fixed")
    start = made.start(jax.random.key(1))
    trained, _ = made.train(start, 0.05, [(batch[0][None], batch[1][None])] * 3)
    before, after = (jax.tree.leaves(nnx.state(made.network(of)[0], nnx.Param)) for of in (start, trained))
    assert [same(one, other) for one, other in zip(before, after, strict=True)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("route", ["direct", "target", "local", "fixed_bases"])
def test_e_prop_and_otpe_differ_only_in_the_signal_that_they_pass_below(route, model, batch):
    rules = [grid.make_cell(f"{temporal}/{route}", model, jax.random.key(2)) for temporal in ("e_prop", "otpe")]
    pair = [gradients(model, cross_entropy, *batch, rule=rule)[1] for rule in rules]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), *pair)


def test_carried_numbers_are_those_of_the_registry(model):
    # LIF and LI have one state each. A bias counts as one more input, for eligibilities and for OTTT's traces.
    pairs = list(itertools.pairwise(TASK["layers"]))
    eligibility = [(i + 1) * n for i, n in pairs]
    carried = {
        cell: grid.carried_numbers(cell, model, 12)
        for cell in ("fixed", "sltt/local", "ottt/random", "ostl/target", "e_prop/direct")
    }
    assert carried["sltt/local"] == 0
    assert carried["fixed"] == eligibility[-1]
    assert carried["ottt/random"] == sum(i + 1 for i, _ in pairs)
    assert carried["ostl/target"] == sum(eligibility)
    assert carried["e_prop/direct"] == 2 * sum(eligibility[:-1]) + eligibility[-1]


@pytest.fixture(scope="module")
def of_bptt(tmp_path_factory):
    """The result of the references for the time code, and the file of BPTT's parameters."""
    numbers, arrays = references.compute(config("references"))
    file = tmp_path_factory.mktemp("references") / "references.npz"
    np.savez(file, **arrays)
    return numbers, file


@pytest.fixture(scope="module")
def results(of_bptt):
    """By code and row, what the pipeline would write for the time code, and other accuracies for the rate code, whose programs
    are the same."""
    numbers, file = of_bptt
    of_time = {"references": numbers} | {row: run.compute(config(row), file) for row in TINY["temporal"]}
    of_rate = copy.deepcopy(of_time)
    for of_row in of_rate.values():
        for of_cell in of_row["cells"].values():
            for seed in of_cell["seeds"]:
                seed["accuracy"] = 1 - seed["accuracy"] / 2
    return {"time": of_time, "rate": of_rate}


def cells_of(of_code):
    """The results of all cells of a code."""
    return {cell: of_cell for of_row in of_code.values() for cell, of_cell in of_row["cells"].items()}


def written(results, rows=ROWS):
    """The results of some rows as `experiments.plot` reads them."""
    return [as_written(config(row, code), results[code][row]) for code in results for row in rows]


def test_results_obey_the_laws_of_the_rules(results):
    for of_rows in results.values():
        of_code = cells_of(of_rows)
        assert list(of_code) == ["bptt", "fixed", *CELLS]
        for cell, of_cell in of_code.items():
            assert [seed["seed"] for seed in of_cell["seeds"]] == [0, 1]
            for seed in of_cell["seeds"]:
                for stage, layers in seed["agreement"].items():
                    assert list(layers) == ["1", "2", "3"]
                    if cell in grid.REFERENCES or cell.startswith("ostl"):
                        # Exact in the last layer, whatever the route.
                        assert layers["3"]["cosine"] == pytest.approx(1, abs=1e-5), (cell, stage)
                    if cell == "fixed":
                        assert layers["1"]["cosine"] is None and layers["2"]["cosine"] is None
                    if cell == "bptt":
                        assert layers["1"]["cosine"] == pytest.approx(1, abs=1e-5)
                        assert layers["1"]["norm_ratio"] == pytest.approx(1, abs=1e-5)


def test_the_rate_with_the_best_validation_accuracy_is_chosen(results):
    for of_code in results.values():
        for of_cell in cells_of(of_code).values():
            trials = of_cell["trials"]
            (accuracies,) = trials["validation"]
            assert accuracies[TINY["learning_rates"].index(trials["chosen"]["learning_rate"])] == max(accuracies)


def test_the_test_split_is_read_once_for_each_cell_and_seed_after_its_rate_is_chosen(monkeypatch, tmp_path):
    """And the gradients of all cells are compared at the parameters of BPTT, before and after its training."""
    own, compared = config(spatial=["symmetric"]), []
    done = watch(monkeypatch, run, own)
    monkeypatch.setattr(run, "make_agreement", lambda _: lambda trained, state, batches: compared.append(state))
    _, arrays = references.compute(config("references"))
    np.savez(tmp_path / "references.npz", **arrays)
    run.compute(own, tmp_path / "references.npz")
    rates, seeds = len(TINY["learning_rates"]), TINY["seeds"]
    assert done == 3 * (["validation"] * rates * TINY["rate_seeds"] + ["chosen"] + ["test"] * seeds)
    bptt, fixed, sltt = (compared[first : first + 2 * seeds] for first in (0, 2 * seeds, 4 * seeds))
    for one, *others in zip(bptt, fixed, sltt, strict=True):
        assert all(same(one, other) for other in others)
    assert not any(same(*pair) for pair in itertools.combinations(bptt, 2))


def test_rows_of_the_grid_are_put_together_whatever_their_order(results):
    for rows in (ROWS, ROWS[::-1]):
        panels = plot.prepare(written(results, rows)).panels
        assert [panel.code for panel in panels] == list(CODES)
        for panel in panels:
            assert panel.config["temporal"] == TINY["temporal"] and panel.config["spatial"] == TINY["spatial"]
            expected = as_written({}, {"cells": cells_of(results[panel.code])})["cells"]
            assert panel.results == expected and panel.carried.keys() == expected.keys()
    with pytest.raises(SystemExit, match="The figures of tiny, time need its references: name the job tiny/time/ref"):
        plot.prepare(written(results, ["ostl"]))


def test_cells_start_from_the_same_network_and_seeds_differ():
    one, other = trainer_of("bptt"), trainer_of("ostl/adaptive")
    assert same(*(model_state(made, start_of(made, 0)) for made in (one, other)))
    assert not same(*(model_state(one, start_of(one, seed)) for seed in (0, 1)))


@pytest.fixture(scope="module")
def costs():
    made = config_of("credit_grid", "tiny_cost", settings())
    return as_written(made, cost.compute(made))


def test_tables_are_means_of_the_seeds(results, costs, tmp_path):
    tables = draw("credit_grid", [*written(results), costs], tmp_path)
    cells = CELLS
    assert len(tables["credit_grid"]) == 2 * (2 + len(cells))
    reached = {
        (code, cell): np.array([seed["accuracy"] for seed in of_cell["seeds"]])
        for code, of_rows in results.items()
        for cell, of_cell in cells_of(of_rows).items()
    }
    for row in tables["credit_grid"]:
        cell = row["temporal"] if row["temporal"] in grid.REFERENCES else f"{row['temporal']}/{row['spatial']}"
        own, exact = reached[row["code"], cell], reached[row["code"], "bptt"]
        assert float(row["accuracy"]) == pytest.approx(own.mean(), abs=1e-6)
        fixed = reached[row["code"], "fixed"]
        assert float(row["minus_fixed"]) == pytest.approx((own - fixed).mean(), abs=1e-6)
        assert float(row["minus_bptt"]) == pytest.approx((own - exact).mean(), abs=1e-6)
    curves = {tuple(row.values())[:3] for row in tables["credit_grid_rates"]}
    assert len(tables["credit_grid_rates"]) == 2 * len(curves) == 2 * 2 * (2 + len(cells))
    assert ("tiny time", "ostl", "target") in curves and ("tiny rate", "references", "fixed") in curves
    named = {(row["temporal"], row["spatial"]): row["rules"] for row in tables["credit_grid"]}
    assert named["ostl", "target"] == "osttp" and named["sltt", "direct"] == "dfa" and named["sltt", "local"] == ""
    assert len(tables["credit_grid_cosine"]) == 2 * len(cells) * 2 * 3
    assert [row["carried"] for row in tables["credit_grid_cost"]][:2] == [str(6 * (12 + 8 + 7) + 2 * (8 + 7 + 3)), "0"]
    assert float(tables["credit_grid_cost"][0]["times_bptt"]) == 1

    found = {(row["code"], row["comparison"]): float(row["mean"]) for row in tables["credit_grid_differences"]}
    for code in CODES:
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
    for scale in ("full", "paper"):
        assert CONFIG["scales"][scale]["spatial"] == list(grid.ROUTES)
        assert set(PUBLISHED.values()) <= set(grid.cells(CONFIG["scales"][scale]))
    routes = SCHEMA["properties"]["spatial"]["items"]["enum"]
    assert routes == list(grid.ROUTES) == list(plot.SPATIAL_LABELS)
    assert all(validator(SCHEMA).is_valid(scale) for scale in CONFIG["scales"].values())
    assert not validator(SCHEMA).is_valid(CONFIG["scales"]["quick"] | {"temporal": ["olst"]})
    assert set(plot.TEMPORAL_LABELS) == set(CONFIG["scales"]["full"]["temporal"])


def test_a_job_for_each_task_and_code_and_its_costs():
    found = jobs_of("credit_grid", "quick", settings())
    assert list(found) == [*(f"tiny/{code}/{row}" for code in CODES for row in ROWS), "tiny_cost"]
    assert found["tiny_cost"].is_exclusive
    assert [found[f"tiny/{code}/ostl"].config["input_rate"] for code in CODES] == [0.2, 0.5]
    assert found["tiny/rate/ostl"].reads == ("tiny/rate/references",)
    assert found["tiny/time/ostl"].config["temporal"] == ["ostl"]
    assert not {"temporal", "spatial"} & found["tiny/time/references"].config.keys()
    costs = found["tiny_cost"].config
    assert not {"learning_rates", "rate_seeds", "optimizer"} & costs.keys() and costs["repeats"] == 2
    with pytest.raises(SystemExit, match="There is no task 'tny' for cost_tasks, expected one of: tiny"):
        jobs_of("credit_grid", "quick", settings(cost_tasks=["tny"]))
