"""The experiment on activity: its numbers, its tables and figures, and what stops it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from experiment_files import as_written, config_of, draw
from flax import nnx

from experiments.activity import run
from experiments.common import training
from experiments.common.keys import key_of
from experiments.common.samples import make_sampler
from slax_neurons import unroll
from slax_rules import cross_entropy, train_offline

CONFIG = yaml.safe_load(Path(run.__file__).with_name("config.yaml").read_text())
TINY = {"seeds": 2, "measure_at": [0, 2, 12], "test_size": 20, "n_steps": 12, "layers": [16, 12, 8, 4]}
TINY |= {"rules": ["bptt", "ottt"]}


def config(rule, **changes):
    return config_of("activity", rule, CONFIG["scales"]["quick"] | TINY | changes)


@pytest.fixture(scope="module")
def results():
    with jax.numpy_dtype_promotion("standard"):
        return {rule: run.compute(config(rule)) for rule in TINY["rules"]}


def test_all_rules_start_alike_and_end_apart(results):
    bptt, ottt = (results[rule]["seeds"] for rule in TINY["rules"])
    for one, other in zip(bptt, ottt, strict=True):
        assert [stage["step"] for stage in one["stages"]] == TINY["measure_at"]
        assert one["stages"][0] == other["stages"][0] and one["stages"][-1] != other["stages"][-1]
    assert bptt[0]["stages"][0] != bptt[1]["stages"][0]
    assert results["bptt"]["sample"]["before"]["2"]["spikes"] == results["ottt"]["sample"]["before"]["2"]["spikes"]
    assert results["bptt"]["sample"]["before"]["0"] == results["ottt"]["sample"]["after"]["0"]


def test_rates_and_silent_units_are_those_of_the_spikes():
    model = training.make_model(config("bptt"), nnx.Rngs(0))
    inputs = (jax.random.uniform(jax.random.key(0), (12, 5, 16)) < 0.3).astype(jnp.float32)
    numbers = run.measure(model, (inputs, jnp.zeros(5, int)))
    spikes = inputs
    for layer in ("1", "2"):
        block = training.connect([model.modules[2 * int(layer) - 2], model.modules[2 * int(layer) - 1]])
        _, spikes = unroll(block, block.initialize_carry(spikes.shape[1:]), spikes)
        assert float(numbers["rates"][layer]) == pytest.approx(float(np.mean(spikes)))
        assert float(numbers["silent"][layer]) == pytest.approx(np.mean(np.sum(spikes, (0, 1)) == 0))
    assert float(numbers["rates"]["0"]) == pytest.approx(float(inputs.mean()))


def test_membranes_cross_their_threshold_where_there_is_a_spike(results):
    for when in ("before", "after"):
        for layer in ("1", "2"):
            of = results["bptt"]["sample"][when][layer]
            fired = {tuple(spike) for spike in of["spikes"]}
            assert len(of["membranes"]) == CONFIG["scales"]["quick"]["shown_units"]
            for unit, membrane in of["membranes"].items():
                above = np.array(membrane) > np.array(of["threshold"][unit])
                assert [(step, int(unit)) in fired for step in range(TINY["n_steps"])] == above.tolist()


def test_each_stage_is_measured_after_its_number_of_batches(results):
    """Of a plain loop over the batches of the second seed."""
    settings = config("bptt") | {"steps": 12}
    samples = make_sampler(settings, None)(1)
    model = training.make_model(settings, nnx.Rngs(jax.random.split(key_of(1, "start"))[0]))
    found = {stage["step"]: stage for stage in results["bptt"]["seeds"][1]["stages"]}
    batches = [(x, y) for spikes, labels in samples.parts() for x, y in zip(spikes, labels, strict=True)]
    with jax.numpy_dtype_promotion("standard"):
        optimizer = nnx.Optimizer(model, optax.adamax(settings["learning_rate"]), wrt=nnx.Param)
        for step, (spikes, labels) in enumerate([*batches, batches[0]]):
            if step in TINY["measure_at"]:
                expected = jax.tree.map(float, run.measure(model, samples.test))
                assert found[step] == {"step": step} | {
                    name: pytest.approx(of, rel=1e-4) for name, of in expected.items()
                }
            train_offline(model, optimizer, cross_entropy, jnp.asarray(spikes, jnp.float32), labels)


def test_figures_and_tables_are_written(results, tmp_path):
    tables = draw("activity", [as_written(config(rule), numbers) for rule, numbers in results.items()], tmp_path)
    (row,) = (
        row
        for row in tables["activity"]
        if (row["rule"], row["training_steps"], row["layer"], row["quantity"]) == ("ottt", "12", "2", "rates")
    )
    numbers = [seed["stages"][2]["rates"]["2"] for seed in results["ottt"]["seeds"]]
    assert float(row["mean"]) == pytest.approx(np.mean(numbers), abs=1e-6)
    sample = results["bptt"]["sample"]["after"]["1"]["spikes"]
    found = [
        row for row in tables["activity_raster"] if (row["rule"], row["when"], row["layer"]) == ("bptt", "after", "1")
    ]
    assert [[int(row["step"]), int(row["unit"])] for row in found] == sample


def test_what_does_not_fit_stops():
    with pytest.raises(SystemExit, match=r"measure_at is \[3, 1\], expected steps in increasing order"):
        run.compute(config("bptt", measure_at=[3, 1]))
