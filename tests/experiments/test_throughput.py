"""The experiment on throughput: what is checked before it is timed, its tables, and what stops it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, tables

from benchmarks.side_by_side import contenders, equations
from benchmarks.side_by_side.workload import DECAY, uniform
from experiments.common.job import jobs_of
from experiments.common.policy import with_peers
from experiments.throughput import libraries, run, shipped

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
TINY = {"n8": {"benchmark": "bptt", "size": 8, "batch": 2, "dtype": "bfloat16", "steps": 12}}
NAMES = ["slax:default", "plain:default", "spikingjelly:default"]
RECORD = {"record": {"machine": "Linux x86_64 a processor"}}


def test_what_runs_is_timed_in_rounds_and_what_does_not_has_its_reason(tmp_path):
    """With the interpreter at hand, in half precision: the same neuron, weights and inputs give the same loss."""
    small = {"rounds": 2, "own_environments": False, "contenders": {"bptt": NAMES, "rules": []}, "workloads": TINY}
    config = config_of("throughput", "n8", CONFIG["scales"]["quick"] | small)
    result = run.compute(config)
    ours, plain, other = result["records"]
    assert [record["name"] for record in (ours, plain, other)] == NAMES and result["load"] >= 0
    assert ours["error"] is plain["error"] is None and ours["loss"] == plain["loss"] > 0
    assert [len(turn) > 0 for record in (ours, plain) for turn in record["rounds"]] == [True] * 4
    assert "needs " in other["error"] and other["rounds"] == []
    found = tables("throughput", [as_written(config, result) | RECORD], tmp_path)
    measured = [row for row in found["throughput"] if row["source"] == "measured"]
    published = [row for row in found["throughput"] if row["source"] == "published"]
    bars = list(csv.DictReader((ROOT / "published.csv").read_text().splitlines()))
    assert [f"{row['peer']}:{row['variant']}" for row in measured] == NAMES and len(published) == len(bars)
    for row, bar in zip(published, bars, strict=True):
        assert (row["device"], row["n"]) == (bar["device"], bar["n_neurons"])
        assert float(row["seconds"] or 0) == float(bar["seconds_forward_backward"] or 0)
        assert bool(row["reason"]) == (row["seconds"] == "")
    times = [time for turn in plain["rounds"] for time in turn]
    assert float(measured[1]["seconds"]) == pytest.approx(np.median(times), abs=1e-6)
    assert measured[1]["equation"] == "subtract"
    ratios = found["throughput_speedup"]
    assert ratios[0]["ratio"] == "1.0" and ratios[2]["ratio"] == "" and "needs" in ratios[2]["reason"]


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
    made, everything = (
        {file for job in jobs_of("throughput", "quick", settings).values() for file in job.files if ".envs" in file}
        for settings in (quick, with_peers(quick, "all"))
    )
    assert made == {f"benchmarks/.envs/{peer}.json" for peer in ("slax_original", "spyx", "jaxpike")}
    assert {f"benchmarks/.envs/{peer}.json" for peer in ("norse", "snntorch", "slax")} <= everything
    known = shipped.shipped("n128")
    assert known["slax:default"] == 1 < known["norse:whole"] and "slax:otpe" in shipped.shipped("rules_n128")
    timed = {"error": None, "left_out": None, "neuron": None}
    records = [
        timed | {"name": "slax:default", "rounds": [[1.0], [4.0]], "shipped": 1.0},
        timed | {"name": "spyx:whole", "rounds": [[4.0], [1.0]], "shipped": 0.5},
        timed | {"name": "norse:whole", "rounds": [], "left_out": run.NOT_ASKED, "shipped": 11.3},
    ]
    ratios = shipped.ratios({"records": records}, "slax:default")
    assert ratios == {"slax:default": 1.0, "spyx:whole": pytest.approx(1.0)}
    result = as_written(config, {"load": 0.0, "records": records}) | RECORD
    rows = tables("throughput", [result], tmp_path)["throughput_speedup"]
    assert rows[0]["ratio"] == "1.0" and rows[2]["ratio"] == "" and "peers=all" in rows[2]["reason"]
