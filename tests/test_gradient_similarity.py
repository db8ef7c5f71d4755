"""The experiment's numbers obey the rules' laws, and table and figure hold what the results hold."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from experiments.gradient_similarity import plot, run
from experiments.record import recorded
from slax_rules import RULES

ROOT = Path(run.__file__).parent
TASK = {"dataset": "randman", "code": "time", "layers": [12, 8, 3], "n_steps": 6}
TINY = {
    "measure_at": [0, 4],
    "batch_size": 4,
    "learning_rate": 0.05,
    "eval_batches": 2,
    "test_size": 10,
    "rules": ["ostl", "sltt"],
}


def config(**changes):
    settings = (
        TINY | {"seeds": 2, "tasks": {"tiny": TASK | {k: changes.pop(k) for k in TASK if k in changes}}} | changes
    )
    return run.cell_config({"scales": {"quick": settings}}, "quick", "tiny")


@pytest.fixture(scope="module")
def stages():
    with run.jax.numpy_dtype_promotion("standard"):
        return [run.compute(config(), seed) for seed in range(2)]


def test_ostl_is_exact_in_the_read_out_and_sltt_is_not(stages):
    for stage in stages[0] + stages[1]:
        assert stage["rules"]["ostl"]["2"]["cosine"] == pytest.approx(1, abs=1e-5)
        assert stage["rules"]["ostl"]["2"]["norm_ratio"] == pytest.approx(1, abs=1e-5)
        assert stage["rules"]["ostl"]["1"]["cosine"] < 0.9999
        assert stage["rules"]["sltt"]["2"]["norm_ratio"] < 0.99
    assert [stage["step"] for stage in stages[0]] == [0, 4]
    assert stages[0] != stages[1]


def test_all_rules_agree_in_a_sequence_of_one_step():
    with run.jax.numpy_dtype_promotion("standard"):
        (stage,) = run.compute(config(n_steps=1, measure_at=[0]), 0)
    cosines = [layer["cosine"] for rule in stage["rules"].values() for layer in rule.values()]
    np.testing.assert_allclose(cosines, 1, atol=1e-5)


def test_table_is_the_mean_of_the_results(stages, tmp_path):
    for seed in range(2):
        with recorded(tmp_path / f"{seed}.json", config=config(), seed=seed) as result:
            result["stages"] = stages[seed]
    results = [json.loads((tmp_path / f"{seed}.json").read_text()) for seed in (1, 0)]
    assert set(json.loads((tmp_path / "0.record.json").read_text())) >= {"commit", "device", "wall_seconds", "date"}
    plot.write_table(plot.by_task(results), tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        stage = [0, 4].index(int(row["training_steps"]))
        of_seeds = [stages[seed][stage]["rules"][row["rule"]][row["layer"]]["cosine"] for seed in range(2)]
        assert float(row["cosine"]) == pytest.approx(np.mean(of_seeds), abs=1e-6)
        assert row["seeds"] == "2"


def test_seed_without_a_cosine_is_left_out_of_table_and_figure_alike():
    layer = {"cosine": 0.5, "norm_ratio": 1.0}
    whole, lacking = ({"1": layer, "2": second} for second in (layer, {"cosine": None, "norm_ratio": None}))
    results = [{"stages": [{"rules": {"ostl": rules}}]} for rules in (whole, lacking)]
    np.testing.assert_array_equal(plot.numbers(results, 0, "ostl", "cosine"), [[0.5, 0.5]])
    with pytest.raises(SystemExit, match="No seed has a cosine of ostl in every layer"):
        plot.numbers(results[1:], 0, "ostl", "cosine")


def test_layers_are_counted_from_one():
    assert [run.layer_of(path) for path in ("modules/0/kernel", "modules/1/decay/unconstrained", "modules/4/bias")] == [
        *"113"
    ]


def test_schema_knows_the_rules_of_the_table():
    schema = yaml.safe_load((ROOT / "config.schema.yaml").read_text())
    alone = {name for name, rule in RULES.items() if not rule.options and rule.optimizer is None}
    assert set(schema["properties"]["rules"]["items"]["enum"]) == alone - {"bptt"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure_at": [20, 5]}, r"measure_at is \[20, 5\], expected steps in rising order"),
        ({"rules": ["nonsense"]}, "There is no rule nonsense, expected some of: bptt, tbptt, rtrl"),
        ({"rules": ["uoro"]}, "There is no rule uoro, expected some of: bptt"),
    ],
)
def test_config_that_would_give_wrong_numbers_stops(changes, message):
    with pytest.raises(SystemExit, match=message):
        config(**changes)


def test_layers_that_do_not_match_the_data_stop():
    with pytest.raises(SystemExit, match=r"its data have 64 units and 10 classes"):
        run.compute(config(dataset="digits", code="latency", layers=[64, 8, 5]), 0)


def test_results_of_two_scales_are_not_mixed():
    with pytest.raises(SystemExit, match="scales paper, quick, expected one"):
        plot.by_task([{"seed": 0, "config": {"scale": scale}} for scale in ("quick", "paper")])
