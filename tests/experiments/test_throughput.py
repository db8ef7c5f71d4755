"""The experiment on throughput: what is checked before it is timed, its tables, and what stops it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw

from benchmarks.side_by_side import contenders, equations
from benchmarks.side_by_side.workload import DECAY, uniform
from experiments.common.job import jobs_of
from experiments.common.policy import with_peers
from experiments.throughput import libraries, plot, run, shipped

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
TINY = {"n8": {"benchmark": "bptt", "size": 8, "batch": 2, "dtype": "float32", "steps": 12}}
TINY |= {"rules_n8": TINY["n8"] | {"benchmark": "rules"}}
CHOSEN = {
    "bptt": ["slax:default", "plain:default", "snnax:default", "matmul:default"],
    "rules": ["slax:bptt", "slax:ottt"],
}


def cell(workload):
    changes = {"rounds": 3, "own_environments": False, "contenders": CHOSEN, "workloads": TINY}
    return config_of("throughput", workload, CONFIG["scales"]["quick"] | changes)


@pytest.fixture(scope="module")
def results():
    """Two workloads, timed with the interpreter at hand."""
    record = {"record": {"machine": "Linux x86_64 a processor"}}
    return [as_written(cell(name), run.compute(cell(name))) | record for name in TINY]


def test_what_runs_is_timed_in_rounds_and_what_does_not_has_its_reason(results):
    bptt, rules = (result["records"] for result in results)
    assert all(result["load"] >= 0 for result in results)
    assert [record["name"] for record in bptt] == CHOSEN["bptt"] and [r["name"] for r in rules] == CHOSEN["rules"]
    for record in bptt + rules:
        if record["name"] == "snnax:default":
            assert "needs equinox, snnax" in record["error"] and record["rounds"] == []
        else:
            assert record["error"] is None and [len(turn) > 0 for turn in record["rounds"]] == [True] * 3
    assert bptt[0]["loss"] == bptt[1]["loss"] > 0  # the same neuron, weights and inputs


def test_half_precision_runs_and_the_same_neuron_gives_the_same_loss():
    half = cell("n8") | {"dtype": "bfloat16", "rounds": 1, "contenders": ["slax:default", "plain:default"]}
    ours, by_hand = run.compute(half)["records"]
    assert ours["error"] is by_hand["error"] is None
    assert ours["loss"] == by_hand["loss"] > 0


def test_tables_have_a_row_for_each_contender_and_bar(results, tmp_path):
    tables = list(draw("throughput", results, tmp_path).values())
    measured = [row for row in tables[0] if row["source"] == "measured"]
    published = [row for row in tables[0] if row["source"] == "published"]
    bars = list(csv.DictReader((ROOT / "published.csv").read_text().splitlines()))
    assert [f"{row['peer']}:{row['variant']}" for row in measured] == CHOSEN["bptt"] and len(published) == len(bars)
    for row, bar in zip(published, bars, strict=True):
        assert (row["device"], row["n"]) == (bar["device"], bar["n_neurons"])
        assert float(row["seconds"] or 0) == float(bar["seconds_forward_backward"] or 0)
        assert bool(row["reason"]) == (row["seconds"] == "")
    record = results[0]["records"][1]
    times = [time for turn in record["rounds"] for time in turn]
    assert float(measured[1]["seconds"]) == pytest.approx(np.median(times), abs=1e-6)
    assert measured[1]["equation"] == "subtract" and measured[3]["equation"] == ""
    assert tables[1][0]["ratio"] == "1.0" and tables[1][2]["ratio"] == "" and "needs" in tables[1][2]["reason"]
    assert tables[2][0]["times_bptt"] == "1.0" and tables[2][1]["rule"] == "ottt"


def test_a_ratio_is_that_of_the_same_round():
    mine, theirs = ({"error": None, "left_out": None, "rounds": turns} for turns in ([[2.0], [6.0]], [[1.0], [2.0]]))
    assert plot.ratios_of(mine, theirs) == [2.0, 3.0]
    assert plot.ratios_of(mine | {"error": "broken"}, theirs) == [] == plot.ratios_of(mine, None)


def test_neuron_that_is_not_as_stated_is_refused():
    currents = equations.test_currents()
    assert equations.subtract(currents).mean() > 0.05
    equations.check("subtract", lambda xs: equations.subtract(xs[:, 0].astype(np.float64))[:, None])
    for name, other in equations.EQUATIONS.items():
        if name != "subtract":
            with pytest.raises(
                ValueError, match=r"not as stated \(subtract\): \d+ of 3840 spikes differ, the first at step"
            ):
                equations.check("subtract", lambda xs, other=other: other(xs[:, 0].astype(np.float64))[:, None])


def test_equations_are_those_by_hand():
    """Two steps of one unit, worked out: the first current crosses the threshold, the second is zero."""
    currents = np.array([[1.5], [0.0], [0.0]])
    assert equations.subtract(currents)[:, 0].tolist() == [1, 0, 0]
    assert equations.late_spike(currents)[:, 0].tolist() == [0, 1, 0]
    assert equations.late_reset(currents)[:, 0].tolist() == [1, 0, 0]
    assert equations.fixed_point_to_zero(currents)[:, 0].tolist() == [1, 0, 0]
    assert 1.5 * DECAY > 1  # with the reset a step later it would cross again without it
    strong = np.array([[6.0], [0.0], [0.0]])
    assert equations.synapse_subtract(strong)[:, 0].tolist() == [1, 1, 0]  # membranes 1.2, 1.136 and 0.888
    assert equations.synapse_to_zero(strong)[:, 0].tolist() == [1, 0, 1]


@pytest.mark.parametrize("benchmark", ["bptt", "rules"])
def test_configuration_names_contenders_that_there_are(benchmark):
    known = {contender.name: contender for contender in contenders.contenders(benchmark, [])}
    for scale in CONFIG["scales"].values():
        assert set(scale["contenders"][benchmark]) <= set(known)
    peers = {name.split(":")[0] for name in CONFIG["scales"]["quick"]["contenders"][benchmark]}
    assert {name.removesuffix("_jax04") for name in peers} <= set(libraries.LIBRARIES)
    if benchmark == "bptt":  # matmul has no neuron
        assert [name for name, contender in known.items() if contender.neuron is None] == ["matmul:default"]
        assert {contender.neuron["equation"] for contender in known.values() if contender.neuron} <= set(
            equations.EQUATIONS
        )


def test_scale_quick_runs_the_closest_libraries_and_shows_the_others_from_the_shipped_results(tmp_path):
    """A shipped ratio is the geometric mean of the ratios of all rounds, and has its place in the figures."""
    quick = CONFIG["scales"]["quick"]
    config = config_of("throughput", "n128", quick)
    told = {c.peer: c.unsupported_reason(uniform(256, 128)) for c in run.chosen_of(config)}
    timed = {peer for peer, reason in told.items() if reason is None}
    assert timed == {"slax", "plain", "matmul", "slax_original", "spyx", "jaxpike"}
    assert {told[peer] for peer in told.keys() - timed} == {"not run: asked for with --config peers=all"}
    files = {file for job in jobs_of("throughput", "quick", quick).values() for file in job.files}
    made = {file for file in files if file.startswith("benchmarks/.envs/")}
    assert made == {f"benchmarks/.envs/{peer}.json" for peer in ("slax_original", "spyx", "jaxpike")}
    everything = {
        file for job in jobs_of("throughput", "quick", with_peers(quick, "all")).values() for file in job.files
    }
    assert {f"benchmarks/.envs/{peer}.json" for peer in ("norse", "snntorch", "slax")} <= everything
    rounds = {"error": None, "left_out": None}
    records = [
        rounds | {"name": "slax:default", "rounds": [[1.0], [4.0]]},
        rounds | {"name": "spyx:whole", "rounds": [[4.0], [1.0]]},
    ]
    assert shipped.ratios({"records": records}, "slax:default") == {
        "slax:default": 1.0,
        "spyx:whole": pytest.approx(1.0),
    }
    known = shipped.shipped("n128")
    assert known["slax:default"] == 1 < known["norse:whole"] and "slax:otpe" in shipped.shipped("rules_n128")
    absent = {
        "name": "norse:whole",
        "rounds": [],
        "error": None,
        "left_out": run.NOT_ASKED,
        "neuron": None,
        "shipped": 11.3,
    }
    ours = {
        "name": "slax:default",
        "rounds": [[1.0], [1.0]],
        "error": None,
        "left_out": None,
        "neuron": None,
        "shipped": 1.0,
    }
    result = as_written(config, {"load": 0.0, "records": [ours, absent]}) | {"record": {"machine": "Linux x86_64 a"}}
    rows = draw("throughput", [result], tmp_path)["throughput_speedup"]
    assert [row["ratio"] for row in rows] == ["1.0", ""] and "peers=all" in rows[1]["reason"]
