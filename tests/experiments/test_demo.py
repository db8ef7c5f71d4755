"""The experiment on slax's demonstrations: the draws and steps of slax 0.0.1, the published cosines, tables, and the figure.

`git show 66018c2:tests/experiments/record_original_demo.py` wrote down what slax 0.0.1 itself computes.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, promotion, tables  # noqa: F401
from flax import nnx
from jax import random

from experiments.common.learning import transformation
from experiments.common.measures import loss_of_params
from experiments.demo import cosines, plane, plot, train
from experiments.demo.notebooks import first_keys, first_network, random_bits, sampler
from slax_rules import BPTT, RTRL, cross_entropy, train_offline, train_online
from slax_rules.training.paths import by_path

# Networks so small may be silent, which `fit` warns about.
pytestmark = pytest.mark.filterwarnings("ignore:.*silent:UserWarning")
CONFIG = yaml.safe_load(Path(plot.__file__).with_name("config.yaml").read_text())["scales"]
ORIGINAL = dict(np.load(Path(__file__).parent / "original_demo.npz"))
FIRST = CONFIG["paper"]["first"]
SAME_BATCHES = 4  # after which a hidden spike differs under RTRL


def flat(model):
    """The parameters in the order of slax 0.0.1: biases before weights, the first layer before the second."""
    params = by_path(nnx.state(model, nnx.Param))
    return np.concatenate([np.ravel(params[path]) for path in sorted(params)])


def test_the_weights_of_the_first_notebook_are_those_of_slax():
    with random_bits():
        model = first_network(FIRST["layers"], random.key(0))
    np.testing.assert_allclose(flat(model), ORIGINAL["start"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("rule", ["rtrl", "bptt"])
def test_the_first_batches_train_as_in_slax(rule):
    """40 updates of RTRL and 4 of BPTT, from the draws of the notebook alone: no weight or spike comes from slax."""
    with random_bits():
        model = first_network(FIRST["layers"], random.key(0))
        optimizer = nnx.Optimizer(model, transformation(FIRST, FIRST["learning_rate"]), wrt=nnx.Param)
        keys, _ = first_keys(random.key(0), SAME_BATCHES)
        sample = partial(sampler(FIRST["layers"], FIRST["n_steps"]), batch_size=FIRST["batch_size"])

        @nnx.jit
        def step(model, optimizer, key):
            if rule == "bptt":
                return train_offline(model, optimizer, cross_entropy, *sample(key), rule=BPTT())
            return train_online(model, optimizer, cross_entropy, *sample(key), rule=RTRL(), window=1)

        losses = [step(model, optimizer, key) for key in keys]
    np.testing.assert_allclose(losses, ORIGINAL[f"{rule}/losses"][:SAME_BATCHES], rtol=0, atol=1e-5)
    moved = np.abs(ORIGINAL[f"{rule}/params"] - ORIGINAL["start"]).max()
    assert moved > 0.03
    np.testing.assert_allclose(flat(model), ORIGINAL[f"{rule}/params"], rtol=0, atol=1e-5)


def test_the_cosines_of_the_second_notebook_are_the_published_ones():
    config = config_of("demo", "second", CONFIG["quick"]) | {"training_steps": 5}
    found = cosines.compute(config)["cosines"]
    published = {key: value for key, value in plot.published().items() if key[0] == "second"}
    assert len(published) == 6
    for (_, _, rule, layer, after), value in published.items():
        assert found[rule][after][str(layer)] == pytest.approx(value, abs=1e-4)
        assert layer == 3 or abs(found[rule][after - 1][str(layer)] - value) > 1e-4  # nor do other steps have them


SMALL = {"seeds": 2, "layers": [12, 6, 10], "n_steps": 5, "batch_size": 8, "test_size": 40, "checkpoint_every": 3}
SMALL |= {"checkpoints": 2, "grid": {"points": 4, "margin": 0.1}}


def settings():
    second = CONFIG["tiny"]["second"] | {"layers": [12, 8, 10], "n_steps": 8, "training_steps": 5}
    return {"first": CONFIG["tiny"]["first"] | SMALL, "second": second}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The numbers and arrays of all jobs by name."""
    folder, found = tmp_path_factory.mktemp("checkpoints"), {}
    for rule in SMALL_RULES:
        found[f"first/{rule}"] = train.compute(config_of("demo", f"first/{rule}", settings()))
        np.savez(folder / f"{rule}.npz", **found[f"first/{rule}"][1])
    files = [folder / f"{rule}.npz" for rule in SMALL_RULES]
    found["first"] = plane.compute(config_of("demo", "first", settings()), *files)
    found["second"] = cosines.compute(config_of("demo", "second", settings())), {}
    return found


SMALL_RULES = ("rtrl", "bptt")


def test_the_last_checkpoint_is_the_best_on_validation(results):
    """Trained again batch by batch, and the best chosen by hand."""
    config = config_of("demo", "first/bptt", settings())
    numbers, arrays = results["first/bptt"]
    with random_bits():
        model = first_network(config["layers"], random.key(0))
        sample = sampler(config["layers"], config["n_steps"])
        training, validation = first_keys(random.key(0), 6)
        test = loss_of_params(model, *sample(training[-1], batch_size=40))
        optimizer = nnx.Optimizer(model, transformation(config, config["learning_rate"]), wrt=nnx.Param)
        ends = [nnx.clone(nnx.state(model, nnx.Param))]
        scores = []
        for train_key, validation_key in zip(training, validation, strict=True):
            train_offline(model, optimizer, cross_entropy, *sample(train_key, batch_size=8), rule=BPTT())
            ends.append(nnx.clone(nnx.state(model, nnx.Param)))
            scores.append(loss_of_params(model, *sample(validation_key, batch_size=8))(ends[-1]))
        best = int(np.argmin(scores)) + 1
        chosen = [ends[0], ends[3], ends[best]]
        (seed, other) = numbers["seeds"]
        assert seed["best_after"] == best
        np.testing.assert_allclose(seed["loss"], [test(params) for params in chosen], rtol=1e-5)
        assert seed["loss_at_the_end"] == pytest.approx(float(test(ends[-1])), rel=1e-5)
    for number, params in enumerate(chosen):
        for path, leaf in by_path(params).items():
            np.testing.assert_allclose(arrays[path][0, number], leaf, rtol=0, atol=1e-5)
    assert other["loss"] != seed["loss"]


def test_the_surface_has_the_test_loss_at_the_end_of_rtrl(results):
    numbers, arrays = results["first"]
    trained, checkpoints = results["first/rtrl"]
    last = plane.checkpoints_of(checkpoints, 0)[-1]
    with random_bits():
        loss = plane.test_loss(config_of("demo", "first", settings()))
        assert float(loss(last)) == pytest.approx(trained["seeds"][0]["loss"][-1], rel=1e-5)
    np.testing.assert_allclose(arrays["at/rtrl"][-1], 0, atol=1e-6)
    matrix = np.concatenate(
        [
            np.concatenate(
                [array[0].reshape(len(array[0]), -1) for array in results[f"first/{rule}"][1].values()], axis=1
            )
            for rule in SMALL_RULES
        ]
    )
    variances = np.linalg.svd(matrix - matrix.mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(numbers["seeds"][0]["explained"], (variances / variances.sum())[:2], rtol=1e-3)


def test_the_table_puts_our_numbers_beside_the_published_ones(results, tmp_path):
    written = [as_written(config_of("demo", name, settings()), *parts) for name, parts in results.items()]
    rows = tables("demo", written, tmp_path)["demo"]
    (row,) = (row for row in rows if (row["rule"], row["layer"], row["after"]) == ("sltt", "1", "5"))
    assert float(row["published"]) == pytest.approx(0.377975)
    assert float(row["ours"]) == pytest.approx(results["second"][0]["cosines"]["sltt"][5]["1"], abs=1e-6)
    (best,) = (row for row in rows if (row["quantity"], row["rule"]) == ("loss_of_the_best", "rtrl"))
    assert int(best["after"]) == results["first/rtrl"][0]["seeds"][0]["best_after"]
    assert [row["published"] for row in rows if row["quantity"] == "explained_1"] == [""]  # not after so few batches
