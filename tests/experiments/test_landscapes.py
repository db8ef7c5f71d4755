"""The experiment on landscapes: surfaces, lines and planes are those of what was trained; tables; and what stops it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, only, promotion, tables  # noqa: F401
from flax import nnx
from jax import random

from experiments.common.measures import loss_of_params
from experiments.common.networks import demo_model
from experiments.landscapes import plot, train
from experiments.landscapes.problem import make_problem
from experiments.landscapes.surfaces import compute as surfaces
from experiments.landscapes.surfaces import paths_of, read_checkpoints
from slax_neurons import LIF
from slax_rules.training.paths import by_path

# Networks so small may be silent, which `fit` warns about.
pytestmark = pytest.mark.filterwarnings("ignore:.*silent:UserWarning")
CONFIG = yaml.safe_load(Path(plot.__file__).with_name("config.yaml").read_text())
SMALL = {"layers": [12, 6, 4], "n_steps": 5, "batch_size": 4, "checkpoint_every": 2, "checkpoints": 3}
SMALL |= {"rules": {"rtrl": "online", "bptt": "offline"}, "random_planes": True}
TINY = {"seeds": 2, "test_size": 9, "grid": {"points": 3, "margin": 0.1}, "random": {"points": 3, "radius": 0.5}}
RULES = ("rtrl", "bptt")


def settings(**changes):
    demo = CONFIG["scales"]["quick"]["tasks"]["demo"] | SMALL | changes
    return CONFIG["scales"]["quick"] | TINY | {"line_points": 3, "tasks": {"demo": demo}}


def config(**changes):
    return config_of("landscapes", "demo", settings(**changes), "tiny")


def of_rule(rule, **changes):
    return config_of("landscapes", f"demo/{rule}", settings(**changes), "tiny")


@pytest.fixture(scope="module")
def trained():
    """By rule, numbers and checkpoints."""
    return {rule: train.compute(of_rule(rule)) for rule in RULES}


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for rule, (_, checkpoints) in trained.items():
        np.savez(folder / f"{rule}.npz", **checkpoints)
    return surfaces(config(), *sorted(folder.iterdir()))


def solutions(trained, seed):
    """By rule the last checkpoint of a seed as one vector."""
    return {
        rule: np.concatenate([of[seed, -1].ravel() for of in checkpoints.values()])
        for rule, (_, checkpoints) in trained.items()
    }


def test_all_rules_start_alike_and_end_apart(trained):
    for rtrl, bptt in zip(trained["rtrl"][1].values(), trained["bptt"][1].values(), strict=True):
        assert rtrl.shape[:2] == (2, 4)
        np.testing.assert_array_equal(rtrl[:, 0], bptt[:, 0])
        assert (rtrl[0, 0] != rtrl[1, 0]).any() or not rtrl[:, 0].any()  # seeds differ, but for biases at zero
    apart = [np.linalg.norm(ends["rtrl"] - ends["bptt"]) for ends in (solutions(trained, seed) for seed in (0, 1))]
    assert min(apart) > 1e-3


def test_offline_rtrl_takes_the_steps_of_bptt(trained):
    _, checkpoints = train.compute(of_rule("rtrl", rules={"rtrl": "offline", "bptt": "offline"}))
    for rtrl, bptt in zip(checkpoints.values(), trained["bptt"][1].values(), strict=True):
        np.testing.assert_allclose(rtrl, bptt, atol=2e-4)


def test_losses_are_those_of_the_checkpoints(trained):
    problem = make_problem(config(), random.key(1))
    loss = jax.jit(loss_of_params(problem.model, *problem.test_set))
    for numbers, checkpoints in trained.values():
        expected = [float(loss(params)) for params in paths_of(problem.model, checkpoints, 1)]
        assert numbers["seeds"][1]["loss"] == pytest.approx(expected, abs=1e-5)


def test_parameters_are_found_by_path_where_ten_layers_sort_before_two():
    """Six layers of one shape, and checkpoints as jit hands them back: sorted as text, modules/10 before modules/2."""
    model = demo_model([4] * 7, nnx.Rngs(0))
    params = by_path(nnx.state(model, nnx.Param))
    arrays = {path: np.stack([leaf, leaf + 1])[None] for path, leaf in sorted(params.items())}
    assert list(arrays) != list(params)
    start, end = paths_of(model, arrays, 0)
    jax.tree.map(np.testing.assert_array_equal, start, nnx.state(model, nnx.Param))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), end, start)
    renamed = {path.replace("modules/10", "modules/12"): array for path, array in arrays.items()}
    with pytest.raises(SystemExit, match="modules/12/bias"):
        paths_of(model, renamed, 0)


def test_lines_and_planes_go_through_the_solutions(trained, made):
    numbers, arrays = made
    losses = {rule: [seed["loss"] for seed in of["seeds"]] for rule, (of, _) in trained.items()}
    for seed in (0, 1):
        line = arrays["line/rtrl"][seed]
        assert line[[0, -1]] == pytest.approx([losses["bptt"][seed][-1], losses["rtrl"][seed][-1]], abs=1e-5)
        ends = solutions(trained, seed)
        assert numbers["seeds"][seed]["distance"]["rtrl"] == pytest.approx(np.linalg.norm(ends["rtrl"] - ends["bptt"]))
        for rule in RULES:
            around = arrays[f"random/{rule}"][seed]
            assert around[1, 1] == pytest.approx(losses[rule][seed][-1], abs=1e-5)
            assert numbers["seeds"][seed]["rise"][rule] == pytest.approx(around.mean() - around[1, 1], abs=1e-6)
    assert arrays["upstream/rtrl/at"][-1] == pytest.approx([0, 0], abs=1e-5)
    assert arrays["upstream/rtrl/losses"][-1] == pytest.approx(losses["rtrl"][0][-1], abs=1e-5)


def test_both_planes_have_the_principal_directions_of_all_checkpoints(trained, made):
    numbers, arrays = made
    points = np.concatenate(
        [np.concatenate([a[0].reshape(4, -1) for a in of.values()], 1) for _, of in trained.values()]
    )
    lengths = np.linalg.svd(points.astype(float) - points.mean(0), compute_uv=False)
    assert numbers["seeds"][0]["explained"] == pytest.approx((lengths**2 / np.sum(lengths**2))[:2], abs=1e-6)
    assert numbers["seeds"][0]["explained"] != numbers["seeds"][1]["explained"]
    for rule in RULES:
        shift = arrays[f"upstream/{rule}/at"] - arrays[f"nearest/{rule}/at"]
        np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-4)
    assert np.concatenate([arrays[f"nearest/{rule}/at"] for rule in RULES]).mean(0) == pytest.approx([0, 0], abs=1e-4)


def test_demonstration_has_the_network_of_slax():
    problem = make_problem(config(layers=[12, 6, 4]), random.key(3))
    assert [type(module) for module in problem.model.modules] == [nnx.Linear, LIF, nnx.Linear, LIF]
    assert float(jnp.std(problem.model.modules[0].kernel[...])) == pytest.approx(12**-0.5, rel=0.3)


def test_figures_and_tables_are_written(trained, made, tmp_path):
    results = [as_written(of_rule(rule), numbers) for rule, (numbers, _) in trained.items()]
    found = tables("landscapes", [*results, as_written(config(), *made)], tmp_path)
    numbers, arrays = made
    losses = [seed["loss"][1] for seed in trained["bptt"][0]["seeds"]]
    row = only(found["landscapes"], rule="bptt", training_steps="2", quantity="loss")
    assert float(row["mean"]) == pytest.approx(np.mean(losses), abs=1e-6)
    row = only(found["landscapes"], plane="nearest", rule="rtrl", training_steps="4", quantity="y")
    assert float(row["mean"]) == pytest.approx(arrays["nearest/rtrl/at"][2, 1], abs=1e-6)
    row = only(found["landscapes_interpolation"], rule="rtrl", quantity="barrier")
    barriers = [seed["barrier"]["rtrl"] for seed in numbers["seeds"]]
    assert float(row["mean"]) == pytest.approx(np.mean(barriers), abs=1e-6)


def test_what_does_not_fit_stops(trained, tmp_path):
    with pytest.raises(SystemExit, match=r"Got checkpoints bptt, expected one file of each of: rtrl, bptt"):
        read_checkpoints(config(), [tmp_path / "bptt.npz"])
    with pytest.raises(SystemExit, match="they were made with another configuration"):
        paths_of(make_problem(config(layers=[12, 7, 4]), random.key(0)).model, trained["bptt"][1], 0)
    results = [{"config": {"task": "demo", "rule": "bptt"}}, {"config": {"task": "rules"}, "reference": "bptt"}]
    with pytest.raises(SystemExit, match="Got trainings of demo and surfaces of rules, expected the same"):
        plot.prepare(results)
