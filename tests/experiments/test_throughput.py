"""The experiment on throughput: what is checked before it is timed, its tables, and what stops it."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, tables
from scipy import stats

from benchmarks.side_by_side import equations
from benchmarks.side_by_side.workload import DECAY, uniform
from experiments.throughput import plot, plot_order, plot_times, run
from experiments.throughput.plot_times import Timed

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
TINY = {"n8": {"benchmark": "bptt", "size": 8, "batch": 2, "dtype": "float32", "steps": 12}}
NAMES = ["slax:default", "matmul:default", "spikingjelly:default"]
RECORD = {"record": {"machine": "Linux x86_64 a processor"}}


def test_what_runs_is_timed_in_rounds_and_what_does_not_has_its_reason(tmp_path):
    """With the interpreter at hand: the loss is the number of spikes of three layers of the neuron that the file states."""
    small = {"rounds": 2, "own_environments": False, "contenders": {"bptt": NAMES, "rules": []}, "workloads": TINY}
    config = config_of("throughput", "n8", CONFIG["scales"]["quick"] | small)
    result = run.compute(config)
    ours, products, other = result["records"]
    assert [record["name"] for record in (ours, products, other)] == NAMES and result["load"] >= 0
    workload = uniform(12, 8, 2)
    spikes = workload.inputs()
    for weight in workload.weights():
        spikes = np.stack([equations.spikes_by("subtract", (spikes @ weight)[:, sample]) for sample in (0, 1)], axis=1)
    assert ours["error"] is products["error"] is None and ours["loss"] == spikes.sum() > 0
    assert [bool(turn) for record in (ours, products) for turn in record["rounds"]] == [True] * 4
    assert "needs " in other["error"] and other["rounds"] == []
    found = tables("throughput", [as_written(config, result) | RECORD], tmp_path)
    measured = [row for row in found["throughput"] if row["source"] == "measured"]
    published = [row for row in found["throughput"] if row["source"] == "published"]
    bars = list(csv.DictReader((ROOT / "published.csv").read_text().splitlines()))
    assert [f"{row['peer']}:{row['variant']}" for row in measured] == NAMES
    for row, bar in zip(published, bars, strict=True):
        assert (row["device"], row["n"]) == (bar["device"], bar["n_neurons"])
        assert float(row["seconds"] or 0) == float(bar["seconds_forward_backward"] or 0)
    times = [time for turn in products["rounds"] for time in turn]
    assert float(measured[1]["seconds"]) == pytest.approx(np.median(times), abs=1e-6)
    assert [row["equation"] for row in measured] == ["subtract", "", "subtract"]
    ratios = found["throughput_speedup"]
    assert ratios[0]["ratio"] == "1.0" and ratios[2]["ratio"] == "" and "needs" in ratios[2]["reason"]


def test_claims_on_the_time_of_a_rule_name_one_row():
    """A rule in windows of 32 steps has a row of its own, which the rule's name alone would also select."""
    figures = yaml.safe_load((ROOT / "claims.yaml").read_text())["figures"]
    claims = next(figure["claims"] for figure in figures if figure["stem"] == "throughput_rules")
    assert claims and all("variant" in claim["left"] for claim in claims)


def test_neuron_that_is_not_as_stated_is_refused():
    currents = equations.test_currents()
    assert equations.spikes_by("subtract", currents).mean() > 0.05
    equations.check("subtract", lambda xs: equations.spikes_by("subtract", xs[:, 0])[:, None])
    for name in equations.EQUATIONS:
        if name != "subtract":
            with pytest.raises(ValueError, match=r"not as stated \(subtract\): \d+ of 3840 spikes differ, the first"):
                equations.check("subtract", lambda xs, name=name: equations.spikes_by(name, xs[:, 0])[:, None])


def test_equations_are_those_by_hand():
    """Two steps of one unit, worked out: the first current crosses the threshold, the second is zero."""
    currents = np.array([[1.5], [0.0], [0.0]])
    assert equations.spikes_by("subtract", currents)[:, 0].tolist() == [1, 0, 0]
    assert equations.spikes_by("late_spike", currents)[:, 0].tolist() == [0, 1, 0]
    assert equations.spikes_by("late_reset", currents)[:, 0].tolist() == [1, 0, 0]
    assert 1.5 * DECAY > 1  # with the reset a step later it would cross again without it
    strong = np.array([[6.0], [0.0], [0.0]])
    assert equations.spikes_by("synapse_subtract", strong)[:, 0].tolist() == [1, 1, 0]  # membranes 1.2, 1.136 and 0.888


def test_what_starts_differ_by_is_in_the_interval():
    """The samples are the means of the starts, whatever their rounds; of a single start, its rounds."""
    within = [1.0, 1.1, 1.3]
    assert plot_times.samples_of(within, 1) == within
    shifts = np.exp([0.3, -0.3, 0.1, -0.1])
    apart = plot_times.samples_of([float(one * shift) for shift in shifts for one in within], 4)
    assert apart == pytest.approx(stats.gmean(within) * shifts)


def timed(name, *rounds):
    return {"name": name, "error": None, "left_out": None, "neuron": None, "rounds": [[one] for one in rounds]}


def test_order_of_libraries_is_compared_pair_by_pair_with_each_published_device():
    """slax 0.0.1 and spyx at 2,048 units: equal on a T4 and an A100, 0.31 to 0.36 s on an M3 Max, 0.07 to 0.11 s on a TPU."""
    config = {"size": 2048, "batch": 32, "dtype": "float32", "steps": 256}
    config |= {"rounds": 2, "starts": 2, "inputs": "gaussian"}
    records = [
        timed("slax_original:layers", 1.0, 2.0, 1.0, 2.0),
        timed("slax_original:whole", 9.0, 9.0, 9.0, 9.0),
        timed("spyx:layers", 2.0, 4.0, 4.0, 8.0),
        timed("snntorch:whole", 0.5, 1.0, 0.5, 1.0),
        timed("norse:whole") | {"left_out": "too large"},
        timed("jaxpike:unroll_1", 1.0, 1.0, 1.0, 1.0),  # not in the paper
    ]
    one_start = Timed({"config": config | {"starts": 1}, "records": records[2:3]})
    many = Timed({"config": config, "records": records})
    assert plot_order.workloads([many, one_start]) == [many]
    rows = plot_order.rows([many, one_start])
    found = {(row[0], row[1]): dict(zip(plot_order.COLUMNS, row, strict=True)) for row in rows}
    assert set(found) == set(itertools.combinations(["slax_original", "spyx", "snntorch", "norse"], 2))
    pair = found["slax_original", "spyx"]
    assert pair["ratio"] == pytest.approx(2**-1.5)
    assert [pair[f"published_{device}"] for device in ("t4", "a100")] == [1.0, 1.0]
    assert pair["published_m3_max"] == pytest.approx(31 / 36) and pair["published_tpu_v3"] == pytest.approx(7 / 11)
    assert (pair["same_side"], pair["devices"], pair["reason"]) == (2, 2, "")
    assert (found["spyx", "snntorch"]["same_side"], found["spyx", "snntorch"]["devices"]) == (0, 4)
    assert found["slax_original", "norse"]["ratio"] is None
    assert plot_order.agreement(many) == "T4 0/2, A100 0/2, M3 Max 1/3, TPU v3 1/3"


def test_a_library_without_a_look_is_no_gap_in_the_figure():
    """An error names it, and the file."""
    records = [timed("slax:default", 1.0), timed("new:whole", 1.0)]
    one = Timed({"config": TINY["n8"] | {"rounds": 1}, "records": records})
    with pytest.raises(ValueError, match=r"times of new, expected a row for each in libraries\.csv"):
        plot.draw_speedup(plot.Data([one], [one], []))
