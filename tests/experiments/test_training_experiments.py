"""The experiments that train rules: each runs once at a toy size, and its numbers and tables obey the laws of the rules."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, only, promotion, tables  # noqa: F401
from flax import nnx

from experiments.accuracy import run as accuracy
from experiments.activity import run as activity
from experiments.common.measures import spikes_of_layers
from experiments.common.networks import make_model
from experiments.deep import run as deep
from experiments.deep.networks import NETWORKS
from experiments.depth import run as depth
from experiments.neurobench import run as neurobench
from experiments.rules_table import cost
from experiments.rules_table import run as rules_table
from slax_data.sets.mackey_glass import NEUROBENCH_SERIES, mackey_glass
from slax_neurons import AdLIF, RunningNorm, Standardized
from slax_rules import RULES, TBPTT
from slax_rules import accuracy as share_right

EXPERIMENTS = Path(accuracy.__file__).parents[1]
FEW = {"seeds": 2, "rate_seeds": 1, "learning_rates": [0.003, 0.03], "steps": 3, "batch_size": 4, "eval_batches": 2}
FEW |= {
    "validation_size": 20,
    "test_size": 10,
    "online_window": 3,
    "optimizer": "adamax",
    "optimizer_options": {"alpha": 0.05},
}
RANDMAN = {"dataset": "randman", "code": "time", "input_rate": 0.2, "layers": [12, 8, 8, 3], "n_steps": 6}
DIGITS = {"dataset": "digits", "code": "latency", "n_steps": 6}
CONVOLUTIONS = DIGITS | {
    "layers": [64, 10],
    "network": "convolutional",
    "norm": "running",
    "image": [8, 8, 1],
    "channels": [2, 3],
}
CONVOLUTIONS |= {"decay": 0.8, "read_out_decay": 0.9, "augmentation": {}}


def settings(experiment, **changes):
    return yaml.safe_load((EXPERIMENTS / experiment / "config.yaml").read_text())["scales"]["tiny"] | FEW | changes


def config(experiment, job, **changes):
    return config_of(experiment, job, settings(experiment, **changes))


def of_rules_table(rule, **task):
    rules = {
        "rules": ["bptt", "ostl", "fptt"],
        "tasks": {"tiny": RANDMAN | task},
        "cost_tasks": ["tiny"],
        "cost_repeats": 2,
    }
    return config("rules_table", f"tiny/{rule}" if rule else "tiny", **rules)


@pytest.fixture(scope="module")
def table():
    return {rule: rules_table.compute(of_rules_table(rule)) for rule in ("bptt", "fptt")}


def test_rules_start_alike_and_agree_with_bptt_where_they_are_bptt(table):
    for bptt, fptt in zip(table["bptt"]["seeds"], table["fptt"]["seeds"], strict=True):
        assert bptt.keys() == {"seed", "initial", "offline"} and fptt.keys() == {"seed", "initial", "online"}
        for stage in (bptt["initial"], bptt["offline"]):
            for layer in stage["layers"].values():
                assert layer == {"cosine": pytest.approx(1, abs=1e-5), "norm_ratio": pytest.approx(1, abs=1e-5)}
            assert stage["spikes"].keys() == {"1", "2"} and stage["layers"].keys() == {"1", "2", "3"}
        assert fptt["initial"]["layers"]["1"]["cosine"] < 0.999
        assert fptt["online"]["layers"] != fptt["initial"]["layers"]
        assert {name: bptt["initial"][name] for name in ("accuracy", "spikes")} == {
            name: fptt["initial"][name] for name in ("accuracy", "spikes")
        }
    assert table["bptt"]["seeds"][0]["offline"] != table["bptt"]["seeds"][1]["offline"]


def test_the_chosen_rate_has_the_best_validation_accuracy_and_tables_are_means(table, tmp_path):
    for rule, update in (("bptt", "offline"), ("fptt", "online")):
        trials = table[rule]["trials"][update]
        scores = trials["validation"][0]
        assert scores[trials["learning_rates"].index(trials["chosen"]["learning_rate"])] == max(scores)
    costs = cost.compute(of_rules_table(None))
    results = [as_written(of_rules_table(rule), table[rule]) for rule in table] + [
        as_written(of_rules_table(None), costs)
    ]
    found = tables("rules_table", results, tmp_path)
    cosines = [seed["online"]["layers"]["2"]["cosine"] for seed in table["fptt"]["seeds"]]
    row = only(found["rules_table"], rule="fptt", mode="online", quantity="cosine", layer="2")
    assert float(row["mean"]) == pytest.approx(np.mean(cosines), abs=1e-6) and row["seeds"] == "2"
    assert len(found["rules_table_rates"]) == 2 * 2
    times = [costs["rules"][rule]["milliseconds"] for rule in ("ostl", "bptt")]
    ratio = float(only(found["rules_table_cost"], rule="ostl")["times_bptt"])
    assert ratio == pytest.approx(np.mean(np.divide(*times)), abs=1e-5) and np.shape(times) == (2, 2)


def test_accuracy_of_the_chosen_rate_is_that_of_its_trial(tmp_path):
    own = config(
        "accuracy",
        "digits/ottt",
        rules=["ottt"],
        tasks={"digits": DIGITS | {"layers": [64, 8, 10], "input_rate": 0.05}},
    )
    result = accuracy.compute(own)
    assert list(result["updates"]) == ["offline", "online"]
    for of_update in result["updates"].values():
        trials, seeds = of_update["trials"], of_update["seeds"]
        chosen = trials["learning_rates"].index(trials["chosen"]["learning_rate"])
        assert seeds[0]["validation_accuracy"] == trials["validation"][0][chosen] == max(trials["validation"][0])
        assert [seed["seed"] for seed in seeds] == [0, 1] and seeds[0]["spikes"].keys() == {"1"}
    row = only(tables("accuracy", [as_written(own, result)], tmp_path)["accuracy"], mode="online", quantity="accuracy")
    reached = [seed["accuracy"] for seed in result["updates"]["online"]["seeds"]]
    assert float(row["mean"]) == pytest.approx(np.mean(reached), abs=1e-6)
    with pytest.raises(SystemExit, match=r"its data have 64 units and 10 classes"):
        accuracy.compute(own | {"layers": [64, 8, 5]})


def test_depth_compares_rules_at_the_parameters_of_bptt(tmp_path):
    """OSTL is exact in the read-out, and OTPE also in the layer below a read-out that does not spike."""
    task = {"tasks": {"time": {"code": "time", "input_rate": 0.2, "depths": [2]}}, "rules": ["otpe", "bptt", "ostl"]}
    own = config("depth", "time/2", n_steps=6, n_units=12, n_classes=4, width=6, learning_rates=[0.03], **task)
    assert own["layers"] == [12, 6, 6, 4]
    result = depth.compute(own)
    for ostl, otpe in zip(*(result["rules"][rule]["seeds"] for rule in ("ostl", "otpe")), strict=True):
        for stage in ("initial", "trained"):
            assert ostl[stage]["3"]["cosine"] == pytest.approx(1, abs=1e-5) != ostl[stage]["2"]["cosine"]
            assert otpe[stage]["3"] == {
                name: pytest.approx(value, abs=1e-5) for name, value in ostl[stage]["3"].items()
            }
            assert otpe[stage]["2"]["cosine"] == pytest.approx(1, abs=1e-5)
        assert ostl["trained"] != ostl["initial"]
    assert result["rules"]["bptt"]["seeds"][0].keys() == {"seed", "accuracy"}
    rows = tables("depth", [as_written(own, result)], tmp_path)["depth"]
    cosines = [seed["trained"]["1"]["cosine"] for seed in result["rules"]["ostl"]["seeds"]]
    row = only(rows, depth="2", rule="ostl", quantity="trained", layer="1")
    assert float(row["mean"]) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_deep_networks_learn_by_windows_and_sum_probabilities(tmp_path):
    own = config("deep", "digits/ottt", rules=["ottt"], tasks={"digits": CONVOLUTIONS})
    result = deep.compute(own)
    assert [seed["seed"] for seed in result["seeds"]] == [0, 1] and result["seeds"][0] != result["seeds"][1]
    assert result["seeds"][0]["spikes"].keys() == {"1", "2"}
    assert tables("deep", [as_written(own, result)], tmp_path)["deep"][0]["network"] == "2c3-3c3-10, running"
    assert [deep.update_of({"rule": rule}) for rule in ("bptt", "ottt", "tbptt")] == ["offline", "online", "online"]
    assert deep.rule_of({"rule": "tbptt", "online_window": 3})() == TBPTT(steps=3)
    # One sure step for class 0 counts less than three that lean to class 1, though its outputs have the larger sum.
    outputs = jnp.array([[10.0, 0], [0, 1], [0, 1], [0, 1]])[:, None]
    assert float(share_right(outputs, jnp.array([0]))) == 1
    assert [float(deep.summed_accuracy(outputs, jnp.array([label]))) for label in (0, 1)] == [0, 1]


def test_deep_networks_are_normalized_and_have_parameters_of_each_unit():
    for norm, kind in (("running", RunningNorm), ("standardized", Standardized)):
        model = NETWORKS["convolutional"](CONVOLUTIONS | {"norm": norm}, nnx.Rngs(0))
        assert [type(module) for module in model.modules[1:5:2]] == [kind, kind]
    recurrent = {
        "layers": [12, 3],
        "hidden": [6],
        "tau_u": [5.0, 25.0],
        "tau_w": [60.0, 300.0],
        "q": 120.0,
        "slope": 5.0,
    }
    one, other = (
        NETWORKS["recurrent"](recurrent | {"read_out_decay": 0.9}, nnx.Rngs(seed)).modules[1] for seed in (0, 1)
    )
    leaves = [nnx.to_flat_state(nnx.state(neuron, nnx.Param)) for neuron in (one, other)]
    assert isinstance(one, AdLIF) and [leaf[...].shape for _, leaf in leaves[0]] == [(6,)] * 4
    assert all((a[1][...] != b[1][...]).all() for a, b in zip(*leaves, strict=True))


def test_activity_is_measured_after_each_number_of_batches(tmp_path):
    changes = {"measure_at": [0, 2, 4], "n_steps": 12, "layers": [16, 12, 8, 4], "rules": ["bptt", "ottt"]}
    configs = {rule: config("activity", rule, **changes) for rule in ("bptt", "ottt")}
    results = {rule: activity.compute(own) for rule, own in configs.items()}
    bptt, ottt = (results[rule]["seeds"] for rule in results)
    for one, other in zip(bptt, ottt, strict=True):
        assert [stage["step"] for stage in one["stages"]] == [0, 2, 4]
        assert one["stages"][0] == other["stages"][0] and one["stages"][-1] != other["stages"][-1]
    for when in ("before", "after"):
        for layer in ("1", "2"):
            of = results["bptt"]["sample"][when][layer]
            fired = {tuple(spike) for spike in of["spikes"]}
            for unit, membrane in of["membranes"].items():
                above = np.array(membrane) > np.array(of["threshold"][unit])
                assert [(step, int(unit)) in fired for step in range(12)] == above.tolist()
    model = make_model(configs["bptt"], nnx.Rngs(0))
    inputs = (np.random.default_rng(0).random((12, 5, 16)) < 0.3).astype(np.float32)
    measured = activity.measure(model, jnp.asarray(inputs))
    rates = spikes_of_layers(model, inputs) | {"0": float(inputs.mean())}
    assert {layer: float(rate) for layer, rate in measured["rates"].items()} == pytest.approx(rates, rel=1e-5)
    assert 0 <= float(measured["silent"]["2"]) <= 1
    found = tables("activity", [as_written(configs[rule], results[rule]) for rule in results], tmp_path)
    row = only(found["activity"], rule="ottt", training_steps="4", layer="2", quantity="rates")
    assert float(row["mean"]) == pytest.approx(np.mean([seed["stages"][2]["rates"]["2"] for seed in ottt]), abs=1e-6)
    with pytest.raises(SystemExit, match=r"measure_at is \[3, 1\], expected steps in increasing order"):
        activity.compute(configs["bptt"] | {"measure_at": [3, 1]})


SHARED = {"batches": 12, "batch_size": 8, "learning_rate": 0.02, "n_steps": 8}
NEUROBENCH = {
    "randman": RANDMAN | {"layers": [12, 8, 3], "test_size": 20} | SHARED,
    "mackey_glass": {"dataset": "mackey_glass", "tau": 17, "horizon": 2, "layers": [1, 20, 1]}
    | SHARED
    | {"batches": 60},
}


def of_neurobench(task, **changes):
    return config_of(
        "neurobench", task, {"seeds": 2, "initial_rate": 0.05, "tasks": {task: NEUROBENCH[task] | changes}}
    )


def test_neurobench_counts_the_network_and_learns_the_forecast(tmp_path):
    results = {task: neurobench.compute(of_neurobench(task)) for task in NEUROBENCH}
    for seed in results["randman"]["seeds"]:
        assert (seed["footprint"], seed["dense"]) == (4 * (12 * 8 + 8 + 8 * 3 + 3), 8 * (12 * 8 + 8 * 3))
        assert seed["effective_macs"] == 0 < seed["effective_acs"] < seed["dense"] and seed[
            "baseline"
        ] == pytest.approx(1 / 3)
    for seed in results["mackey_glass"]["seeds"]:
        assert (seed["n_steps"], seed["effective_macs"]) == (750, 750 * 20)
        assert seed["loss"] < 0.5  # 0.9 for a forecast of zero
    rows = tables("neurobench", [as_written(of_neurobench(task), results[task]) for task in results], tmp_path)[
        "neurobench"
    ]
    row = only(rows, task="randman", quantity="dense")
    assert len(rows) == 2 * 9 and float(row["mean"]) == results["randman"]["seeds"][0]["dense"]
    with pytest.raises(SystemExit, match=r"layers of mackey_glass are \[2, 20, 1\], but its data have 1 inputs"):
        neurobench.compute(of_neurobench("mackey_glass", layers=[2, 20, 1]))


def test_forecast_is_of_the_point_that_is_so_far_ahead_and_seeds_start_later():
    options = {"history": NEUROBENCH_SERIES[17].history, "interval": NEUROBENCH_SERIES[17].interval}
    points = mackey_glass(1502, start=17 + 197 / 2, **options)
    own = of_neurobench("mackey_glass")
    inputs, targets = neurobench.forecast(own, neurobench.series_of(own, 1)).test_set
    np.testing.assert_allclose(inputs[:, 0, 0], points[750:1500], rtol=1e-6)
    np.testing.assert_allclose(targets[:, 0, 0], points[752:1502], rtol=1e-6)


def test_training_that_is_not_finite_stops_with_name_rule_and_step():
    """At an infinite learning rate, under `sweep` and under `fit`."""
    infinite = {"learning_rates": [np.inf], "learning_rate": np.inf, "seeds": 1}
    with pytest.raises(SystemExit, match=r"rules_table of tiny: under bptt offline, .* seed 0, .* of batch 2 is not"):
        rules_table.compute(of_rules_table("bptt") | infinite)
    own = config("activity", "bptt", measure_at=[0, 2, 4], n_steps=6, layers=[16, 6, 4]) | infinite
    with pytest.raises(SystemExit, match=r"activity: under bptt, .* seed 0, .* of batch 2 is not"):
        activity.compute(own)
    with pytest.raises(SystemExit, match=r"neurobench of randman: under bptt, seed 0: .*[Ss]tep"):
        neurobench.compute(of_neurobench("randman", learning_rate=np.inf))


@pytest.mark.parametrize("experiment", ["rules_table", "accuracy"])
def test_configurations_name_rules_that_there_are(experiment):
    for name, scale in yaml.safe_load((EXPERIMENTS / experiment / "config.yaml").read_text())["scales"].items():
        rules = set(scale["rules"])
        assert rules < set(RULES)
        if experiment == "rules_table" and name in ("full", "paper"):
            assert rules == set(RULES) - {"ostl_with_recurrence", "hypr"}
