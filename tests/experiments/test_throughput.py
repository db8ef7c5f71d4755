"""The experiment on throughput: what is checked before it is timed, its tables, and what stops it."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw
from scipy import stats

from benchmarks.peers import slax
from benchmarks.side_by_side import contenders, equations
from benchmarks.side_by_side.workload import DECAY, Workload, uniform
from experiments import plot as figures
from experiments.common.job import figures_of, jobs_of
from experiments.common.policy import with_peers
from experiments.throughput import libraries, plot, run

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


def test_forms_of_a_library_are_ranked_by_their_time_and_those_without_one_come_last(results, tmp_path):
    """Only the fastest form of another library is drawn, at each size; the table has all."""

    def record(name, *rounds, **why):
        empty = {"error": None, "left_out": None, "neuron": None}
        return empty | why | {"name": name, "rounds": [[time] for time in 3 * rounds]}

    ours = record("slax:default", 1.0, 1.0)
    layers, whole = record("spyx:layers", 3.0, 3.0), record("spyx:whole", 2.0, 9.0)
    broken, other = record("sparx:default", error="broken"), record("jaxpike:unroll_1", left_out="slow")
    checkpointed = record("jaxpike:checkpointed_32", 4.0, 4.0)
    first = results[0] | {"records": [ours, layers, whole, broken, other, checkpointed]}
    ranks = {"slax:default": 1, "spyx:layers": 1, "spyx:whole": 2, "sparx:default": 1, "jaxpike:unroll_1": 2}
    assert plot.ranks_of(first) == ranks | {"jaxpike:checkpointed_32": 1}
    second = first | {"config": first["config"] | {"size": 16}}
    second["records"] = [ours, layers, record("spyx:whole", 2.0, 2.0)]
    table = draw("throughput", [first, second], tmp_path)["throughput_speedup"]
    rank = {(f"{row['peer']}:{row['variant']}", row["n"]): int(row["rank"]) for row in table}
    assert rank["spyx:layers", "8"] == rank["spyx:whole", "16"] == 1 and rank["spyx:whole", "8"] == 2

    ax = plot.plt.figure().add_subplot()
    assert plot.draw_measured(ax, [first, second]) == ["slax", "spyx", "jaxpike"]
    drawn = [list(zip(*bars.lines[0].get_data(), strict=True)) for bars in ax.containers]
    assert drawn == [[(8, 1.0), (16, 1.0)], [(8, 3.0), (16, 2.0)], [(8, 4.0)]]


def test_a_ratio_is_the_geometric_mean_of_the_rounds(tmp_path, results):
    """Of a time that varies by a factor of four, in turn with ours: neither is faster."""
    empty = {"error": None, "left_out": None, "neuron": None}
    ours = empty | {"name": "slax:default", "rounds": [[1.0], [4.0], [1.0], [4.0]]}
    other = empty | {"name": "spyx:layers", "rounds": [[4.0], [1.0], [4.0], [1.0]]}
    (_, row) = draw("throughput", [results[0] | {"records": [ours, other]}], tmp_path)["throughput_speedup"]
    assert float(row["ratio"]) == pytest.approx(1.0, abs=1e-6) and row["ratio_mean"] == "geometric"
    assert row["ratio_values"] == "4 0.25 4 0.25"
    low, high = np.exp(stats.t.interval(0.95, 3, 0.0, stats.sem(np.log([4, 0.25, 4, 0.25]))))
    assert (float(row["ratio_low"]), float(row["ratio_high"])) == pytest.approx((low, high), abs=1e-5)


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


def test_a_rule_in_kernels_has_its_color_and_says_so():
    assert libraries.rule_of("slax:ostl_fused") == "ostl"
    assert libraries.rule_label("slax:ostl_fused") == libraries.rule_label("slax:ostl").replace(")", ", in kernels)")


def test_a_rule_in_kernels_is_timed_in_kernels():
    step = slax.rules("ottt_fused", uniform(12, 8, 2))
    with slax.FUSED:  # until the end of this test
        assert "pallas_call" in str(jax.make_jaxpr(step.step)(*step.arguments))
    assert "pallas_call" not in str(jax.make_jaxpr(slax.rules("ottt", uniform(12, 8, 2)).step)(*step.arguments))


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


def test_peer_that_needs_more_than_there_is_is_left_out_with_its_reason():
    (cupy,) = contenders.contenders("bptt", ["spikingjelly_cuda:cupy"])
    if not Path("/dev/nvidia0").exists():
        with pytest.raises(contenders.BenchmarkError, match="needs a CUDA device"):
            contenders.python_of(cupy)
    (spyx,) = contenders.contenders("bptt", ["spyx:layers"])
    assert spyx.unsupported_reason(uniform(8, 8)) is None
    assert spyx.unsupported_reason(uniform(8, 8, dtype="bfloat16")) == "not set up here for bfloat16"
    with pytest.raises(contenders.BenchmarkError, match="needs spyx; this run was made without environments"):
        contenders.python_of(spyx._replace(here=True))


def test_peer_that_a_scale_leaves_out_says_so_and_no_other():
    def refused(workload: str) -> dict[str, str]:
        config = config_of("throughput", workload, CONFIG["scales"]["quick"] | {"own_environments": True})
        reasons = {
            c.peer: c.unsupported_reason(uniform(config["steps"], config["size"])) for c in run.chosen_of(config)
        }
        return {peer: reason for peer, reason in reasons.items() if reason}

    assert set(refused("n512")) == {"sinabs", "rockpool_torch", "lava_dl"}
    assert refused("n512")["sinabs"] == "left out at the scale 'quick' for the time that it takes"
    assert set(refused("n1024")) == {*refused("n512"), "norse", "rockpool_jax"}
    assert refused("n1024")["norse"] == "left out at the scale 'quick' for the time that it takes above N = 512"
    assert CONFIG["scales"]["paper"]["left_out"] == {}


NEED_TORCH = {"lava_dl", "norse", "rockpool_torch", "sinabs", "snntorch", "spikingjelly", "spikingjelly_cuda"}


def test_scale_quick_runs_no_peer_that_needs_torch_and_says_how_to_run_it():
    assert {peer.stem for peer in contenders.PEERS.glob("*.py") if contenders.needs_torch(peer.stem)} == NEED_TORCH
    config = config_of("throughput", "n128", CONFIG["scales"]["quick"])
    told = {c.peer: c.unsupported_reason(uniform(256, 128)) for c in run.chosen_of(config)}
    reason = "not run: it needs PyTorch, which is asked for with --config peers=all"
    assert told == {peer: reason if peer in NEED_TORCH else None for peer in told} and told.keys() > NEED_TORCH
    files = {file for job in jobs_of("throughput", "quick", CONFIG["scales"]["quick"]).values() for file in job.files}
    assert not {f"benchmarks/.envs/{peer}.json" for peer in NEED_TORCH} & files
    assert {"benchmarks/.envs/spyx.json", "benchmarks/.envs/sparx.json"} <= files


def test_peers_that_are_asked_for_replace_those_of_the_scale():
    """The scale full, whose results are shipped, has all of them without being asked."""
    quick, full = (CONFIG["scales"][scale] for scale in ("quick", "full"))
    assert with_peers(quick, None) == quick == with_peers(quick, "light") != with_peers(quick, "all")
    assert with_peers(full, None) == full == with_peers(full, "all") != with_peers(full, "light")
    assert with_peers({"seeds": 2}, "all") == {"seeds": 2}
    files = {file for job in jobs_of("throughput", "quick", with_peers(quick, "all")).values() for file in job.files}
    assert {f"benchmarks/.envs/{peer}.json" for peer in ("norse", "snntorch", "spikingjelly")} <= files


def test_figure_says_why_there_is_no_time():
    assert plot._why("needs a CUDA device") == "not timed: needs a CUDA device"
    assert plot._why(run.NEEDS_TORCH) == run.NEEDS_TORCH and len(run.NEEDS_TORCH) < 90


def test_jax_gets_its_wheels_where_there_is_a_gpu():
    needs = ["jaxpike==0.1.4", "jax==0.10.2"]
    assert contenders.with_wheels(needs, gpu=True) == ["jaxpike==0.1.4", "jax[cuda12]==0.10.2"]
    assert contenders.with_wheels(needs, gpu=False) == needs


def test_published_bars_and_forms_of_a_library_have_their_names():
    assert libraries.published_library("spikingjelly (cupy on GPU)", "A100") == "spikingjelly_cuda"
    assert libraries.published_library("spikingjelly (cupy on GPU)", "M3 Max") == "spikingjelly"
    assert libraries.published_library("norse", "T4") == "norse"
    names = [
        "spikingjelly_cuda:cupy",
        "spikingjelly_cuda:triton",
        "spikingjelly:default",
        "norse:whole",
        "norse:whole_1_thread",
    ]
    assert [libraries.row_label(name, names) for name in names] == [
        "SpikingJelly, CUDA, cupy",
        "SpikingJelly, CUDA, triton",
        "SpikingJelly",
        "Norse, whole",
        "Norse, whole 1 thread",
    ]


def test_contender_of_another_name_is_the_rule_that_it_computes():
    names = ["jaxpike:e_prop", "sparx:e_prop", "spikingjelly:ottt_1_thread", "slax_original_jax04:ostl"]
    assert [libraries.rule_of(name) for name in names] == ["ottt", "e_prop", "ottt", "ostl"]
    assert libraries.rule_label("jaxpike:e_prop") == "OTTT (jaxpike)"
    assert libraries.rule_of("slax:ostl_window_32") == "ostl"
    assert libraries.rule_label("slax:ostl_window_32") == "OSTL (slax, here, windows of 32 steps)"
    assert libraries.rule_label("braintrace:d_rtrl_chunk_32") == "OSTL (braintrace, BPTT within chunks of 32 steps)"


def test_figure_says_at_which_sizes_a_contender_was_not_timed():
    def result(size, **errors):
        names = ("slax:default", "sinabs:default", "snnax:default")
        records = [{"name": name, "error": errors.get(name.split(":")[0]), "left_out": None} for name in names]
        return {"config": {"size": size}, "records": records}

    line = [result(128, snnax="broken"), result(512, snnax="broken", sinabs="slow"), result(1024, snnax="broken")]
    assert plot.not_timed(line) == "snnax; sinabs at 512"
    assert plot.not_timed([result(128)]) == ""


@pytest.mark.parametrize("given", [0, 1])
def test_figures_of_one_benchmark_alone_say_what_is_missing(given, results, tmp_path):
    figures.draw("throughput", figures_of("throughput"), [results[given]], tmp_path)
    assert len(list(tmp_path.glob("*.svg"))) == 3
    missing = tmp_path / ("throughput_rules.csv", "throughput_speedup.csv")[given]
    assert len(missing.read_text().splitlines()) == 1


def test_job_needs_the_environments_of_the_peers_that_are_timed():
    settings = CONFIG["scales"]["quick"] | {"own_environments": True}
    found = jobs_of("throughput", "quick", settings)
    assert "benchmarks/.envs/norse.json" in found["n512"].files
    assert "benchmarks/.envs/norse.json" not in found["n1024"].files
    assert "benchmarks/peers/slax.py" in found["rules_n128"].files
    here = jobs_of("throughput", "quick", settings | {"own_environments": False})
    assert not any(".envs" in file for job in here.values() for file in job.files)


def test_workload_survives_json():
    assert Workload(*json.loads(json.dumps(uniform(3, 4, 5, "bfloat16")))) == Workload(3, 5, [4] * 4, "bfloat16")
