"""The experiment on landscapes: surfaces, lines and planes are those of what was trained; tables; and what stops it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw
from experiments.common.training import demo_model, loss_of_params
from flax import nnx
from jax import random

from experiments.common.schemas import validator
from experiments.landscapes import plot, train
from experiments.landscapes.problem import make_problem
from experiments.landscapes.surfaces import compute as surfaces
from experiments.landscapes.surfaces import paths_of, read_checkpoints
from slax_neurons import LI, LIF
from slax_rules.training.paths import by_path

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
    with jax.numpy_dtype_promotion("standard"):
        return {rule: train.compute(of_rule(rule)) for rule in RULES}


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for rule, (_, checkpoints) in trained.items():
        np.savez(folder / f"{rule}.npz", **checkpoints)
    with jax.numpy_dtype_promotion("standard"):
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
    with jax.numpy_dtype_promotion("standard"):
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


def test_tbptt_is_trained_with_its_steps():
    rules = {"tbptt": "offline", "bptt": "offline"}
    with jax.numpy_dtype_promotion("standard"):
        tbptt, bptt = (
            train.compute(of_rule(rule, rules=rules, n_steps=14) | {"seeds": 1})[1] for rule in ("tbptt", "bptt")
        )
    assert any((tbptt[path][:, -1] != bptt[path][:, -1]).any() for path in bptt)


@pytest.mark.parametrize(("mode", "is_valid"), [("offline", True), ("online", False)])
def test_bptt_online_is_refused(mode, is_valid):
    schema = yaml.safe_load(Path(plot.__file__).with_name("config.schema.yaml").read_text())
    assert validator(schema).is_valid(settings(rules={"bptt": mode, "tbptt": "online"})) == is_valid


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


def test_rules_have_the_networks_of_the_other_experiments():
    few = {"test_size": 3, "layers": [8, 5, 4]}
    problem = make_problem(config_of("landscapes", "rules", CONFIG["scales"]["quick"]) | few, random.key(0))
    assert [type(module) for module in problem.model.modules[-2:]] == [nnx.Linear, LI]
    assert problem.test_set[0].shape == (20, 3, 8)


def test_figures_and_tables_are_written(trained, made, tmp_path):
    results = [as_written(of_rule(rule), numbers) for rule, (numbers, _) in trained.items()]
    tables = draw("landscapes", [*results, as_written(config(), *made)], tmp_path)

    def only(table, column, **where):
        (row,) = (row for row in tables[table] if all(row[name] == value for name, value in where.items()))
        return float(row[column])

    numbers, arrays = made
    seeds = numbers["seeds"]
    assert only("landscapes", "mean", plane="", quantity="explained_1") == pytest.approx(
        np.mean([seed["explained"][0] for seed in seeds]), abs=1e-6
    )
    losses = [seed["loss"][1] for seed in trained["bptt"][0]["seeds"]]
    assert only("landscapes", "mean", rule="bptt", training_steps="2", quantity="loss") == pytest.approx(
        np.mean(losses), abs=1e-6
    )
    assert only("landscapes", "mean", plane="nearest", rule="rtrl", training_steps="4", quantity="y") == pytest.approx(
        arrays["nearest/rtrl/at"][2, 1], abs=1e-6
    )
    grid = [row for row in tables["landscapes_3d"] if (row["plane"], row["rule"]) == ("upstream", "")]
    shown = [[float(row[name]) for name in ("x", "y", "loss")] for row in grid]
    (xs, ys), surface = (arrays[f"upstream/{name}"] for name in ("xs", "ys")), arrays["upstream/losses"]
    expected = [[xs[i], ys[j], surface[j, i]] for j in range(3) for i in range(3)]
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert only(
        "landscapes_random", "mean", rule="rtrl", quantity="loss_of_first_seed", x="-0.5", y="0.5"
    ) == pytest.approx(arrays["random/rtrl"][0, 2, 0], abs=1e-6)
    assert only("landscapes_interpolation", "mean", rule="rtrl", quantity="barrier") == pytest.approx(
        np.mean([seed["barrier"]["rtrl"] for seed in seeds]), abs=1e-6
    )
    assert only("landscapes_interpolation", "mean", rule="rtrl", quantity="loss", t="0.5") == pytest.approx(
        arrays["line/rtrl"][:, 1].mean(), abs=1e-6
    )


def task(made, name="demo", **changes):
    numbers, arrays = made
    return plot.Task(name, config(**changes), dict.fromkeys(RULES), numbers["reference"], numbers["seeds"], arrays)


def test_figure_of_random_planes_has_two_rows_for_each_task_that_has_some(made):
    tasks = [task(made), task(made, "another_one"), task(made, random_planes=False)]
    for shown, panels in ((tasks, 6), (tasks[:1], 3), (tasks[2:], 0)):
        figure = plot.draw_random(shown)
        titles = [ax.get_title() for ax in figure.axes]
        assert sum(title.startswith("around the solution of") for title in titles) == panels * 2 / 3
        assert sum("mean rise" in ax.get_xlabel() for ax in figure.axes) == panels / 3
        plot.plt.close(figure)
    assert [plot.network(of)[:11] for of in tasks[:2]] == ["network as ", "another one"]


def test_what_does_not_fit_stops(trained, tmp_path):
    with pytest.raises(SystemExit, match=r"Got checkpoints bptt, expected one file of each of: rtrl, bptt"):
        read_checkpoints(config(), [tmp_path / "bptt.npz"])
    with pytest.raises(SystemExit, match="they were made with another configuration"):
        paths_of(make_problem(config(layers=[12, 7, 4]), random.key(0)).model, trained["bptt"][1], 0)
    results = [{"config": {"task": "demo", "rule": "bptt"}}, {"config": {"task": "rules"}, "reference": "bptt"}]
    with pytest.raises(SystemExit, match="Got trainings of demo and surfaces of rules, expected the same"):
        plot.prepare(results)
