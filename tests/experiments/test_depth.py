"""The experiment on depth: whose parameters the cosines belong to, which rate is taken, tables, and the figure."""

from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw

from experiments.common.job import jobs_of
from experiments.depth import plot, run

CONFIG = yaml.safe_load(Path(plot.__file__).with_name("config.yaml").read_text())["scales"]
SMALL = {"seeds": 2, "steps": 3, "batch_size": 8, "eval_batches": 2, "validation_size": 20, "test_size": 20}
SMALL |= {"learning_rates": [0.01, 0.03], "n_steps": 6, "n_units": 12, "n_classes": 4, "width": 6}
SMALL |= {"rules": ["otpe", "bptt", "ostl"], "tasks": {"time": {"code": "time", "input_rate": 0.2, "depths": [1, 2]}}}


def settings(**changes):
    return CONFIG["tiny"] | SMALL | changes


@pytest.fixture(scope="module")
def results():
    with jax.numpy_dtype_promotion("standard"):
        return {depth: run.compute(config_of("depth", f"time/{depth}", settings())) for depth in (1, 2)}


def test_a_job_has_as_many_hidden_layers_as_its_name_says():
    assert config_of("depth", "time/2", settings())["layers"] == [12, 6, 6, 4]
    full = jobs_of("depth", "full", CONFIG["full"])
    assert [len(full[f"rate/{depth}"].config["layers"]) - 2 for depth in range(1, 6)] == [1, 2, 3, 4, 5]


def test_rules_agree_with_bptt_where_they_are_exact(results):
    """OSTL is exact in the read-out, and OTPE also in the layer below a read-out that does not spike."""
    for depth, result in results.items():
        assert result["rules"]["bptt"]["seeds"][0].keys() == {"seed", "accuracy"}
        for stage in ("initial", "trained"):
            for seed in result["rules"]["ostl"]["seeds"]:
                assert seed[stage][str(depth + 1)]["cosine"] == pytest.approx(1, abs=1e-5)
            assert min(seed[stage][str(depth)]["cosine"] for seed in result["rules"]["ostl"]["seeds"]) < 0.999
            for seed in result["rules"]["otpe"]["seeds"]:
                assert seed[stage][str(depth)]["cosine"] == pytest.approx(1, abs=1e-5)


def test_cosines_after_training_are_at_the_parameters_of_bptt(results):
    """They do not depend on the rates of the other rules, nor on their order."""
    changed = settings(rules=["bptt", "ostl"])
    with jax.numpy_dtype_promotion("standard"):
        other = run.compute(config_of("depth", "time/1", changed))
        rate = results[1]["rules"]["bptt"]["trials"]["chosen"]["learning_rate"]
        (unused,) = (number for number in SMALL["learning_rates"] if number != rate)
        moved = run.compute(config_of("depth", "time/1", changed | {"learning_rates": [unused]}))
    for one, same, apart in zip(*(of["rules"]["ostl"]["seeds"] for of in (results[1], other, moved)), strict=True):
        assert one["initial"] == same["initial"] == apart["initial"] and one["trained"] == same["trained"]
        assert one["trained"] != apart["trained"] and one["trained"] != one["initial"]


def test_the_rate_with_the_best_validation_accuracy_is_taken(results):
    for rule in SMALL["rules"]:
        trials = results[2]["rules"][rule]["trials"]
        means = np.mean(trials["validation"], axis=0)
        assert (
            trials["chosen"] == {"learning_rate": trials["learning_rates"][int(np.argmax(means))]} and len(means) == 2
        )


def test_the_table_has_the_means(results, tmp_path):
    written = [as_written(config_of("depth", f"time/{d}", settings()), numbers) for d, numbers in results.items()]
    rows = draw("depth", written, tmp_path)["depth"]

    def mean(**where):
        (row,) = (row for row in rows if all(row[name] == value for name, value in where.items()))
        assert row["seeds"] == "2"
        return float(row["mean"])

    seeds = results[2]["rules"]["ostl"]["seeds"]
    found = mean(depth="2", rule="ostl", quantity="trained", layer="1")
    assert found == pytest.approx(np.mean([seed["trained"]["1"]["cosine"] for seed in seeds]), abs=1e-6)
    assert mean(depth="2", rule="ostl", quantity="accuracy") == pytest.approx(
        np.mean([seed["accuracy"] for seed in seeds]), abs=1e-6
    )
