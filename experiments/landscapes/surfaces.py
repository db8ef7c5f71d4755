"""The losses of a task on planes and lines through the solutions of its rules.

For the first seed, a surface with the paths of all rules on each plane of the task:

    nearest     the plane that lies nearest to all checkpoints of all rules, through their mean
    upstream    the same directions, through the last checkpoint of the rule `origin`, as slax 0.0.1 draws it

For each seed, the shares of the checkpoints' variance along the two directions, which both planes share; the line
from the solution of BPTT to the solution of each other rule; and a filter-normalized plane through each solution, along the
same random directions for all rules.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import random

from experiments.common.measures import loss_of_params
from experiments.common.samples import seeds_of
from experiments.common.tasks import Trajectory, paths_of
from experiments.landscapes.problem import make_problem
from slax_viz import barrier, grid_around, interpolation, losses_at, pca_plane, random_plane, surface

REFERENCE = "bptt"  # where all lines start

Summary = dict[str, Any]
Arrays = dict[str, np.ndarray]


def compute(config: dict[str, Any], *files: Path) -> tuple[Summary, Arrays]:
    """The numbers of each seed, and the arrays of all seeds.

    Args:
        config: configuration of the task.
        files: the arrays of `experiments.landscapes.train`, RULE.npz for each rule of the task.

    Returns:
        The numbers: under "seeds" the numbers of `of_each_seed`, and under "reference" the rule where lines start. The arrays:
        the result of `on_planes` for the first seed; the arrays of `of_each_seed`, with a leading axis of seeds; and the
        coordinates of lines, "ts", and of random planes, "steps".
    """
    by_rule = {file.stem: dict(np.load(file)) for file in files}
    checkpoints = {rule: by_rule[rule] for rule in config["rules"]}
    seeds, arrays, stacked = [], {}, []
    for place, seed in enumerate(seeds_of(config)):
        problem = make_problem(config, random.key(seed))
        paths = {rule: paths_of(problem.model, of_rule, place) for rule, of_rule in checkpoints.items()}
        loss = loss_of_params(problem.model, *problem.test_set)
        if place == 0:
            arrays |= on_planes(config, loss, paths)
        numbers, of_seed = of_each_seed(config, loss, paths, random.fold_in(problem.rule_key, 1))
        seeds.append({"seed": seed} | numbers)
        stacked.append(of_seed)
    arrays |= {name: np.stack([of_seed[name] for of_seed in stacked]) for name in stacked[0]}
    return {"reference": REFERENCE, "seeds": seeds}, arrays | {"ts": line(config), "steps": steps(config)}


def on_planes(config: dict[str, Any], loss: Any, paths: Mapping[str, Trajectory]) -> Arrays:
    """The grid of each plane, "PLANE/xs" [X] and "PLANE/ys" [Y], with "PLANE/losses" [Y, X], and for each rule the points of
    the plane nearest to its checkpoints, "PLANE/RULE/at" [n, 2], with the losses there, "PLANE/RULE/losses" [n]."""
    arrays: Arrays = {}
    for name in config["planes"]:
        plane = pca_plane(paths)
        if name == "upstream":
            plane = pca_plane(paths, origin=paths[config["origin"]][-1], centered=True)
        at = {rule: plane.coordinates(path) for rule, path in paths.items()}
        xs, ys = grid_around(at, n_points=config["grid"]["points"], margin=config["grid"]["margin"])
        there = np.split(losses_at(loss, plane, np.concatenate(list(at.values())), batch=config["batch"]), len(paths))
        arrays |= {f"{name}/xs": xs, f"{name}/ys": ys}
        arrays[f"{name}/losses"] = surface(loss, plane, xs=xs, ys=ys, batch=config["batch"])
        for (rule, points), losses in zip(at.items(), there, strict=True):
            arrays |= {f"{name}/{rule}/at": points, f"{name}/{rule}/losses": losses}
    return arrays


def of_each_seed(
    config: dict[str, Any], loss: Any, paths: Mapping[str, Trajectory], key: jax.Array
) -> tuple[Summary, Arrays]:
    """The numbers and arrays that are computed for every seed.

    Returns:
        Numbers: "explained" [2]; for each rule "from_start", the distances of its checkpoints from the first; for each rule
        except BPTT "distance" and "barrier" between its solution and the solution of BPTT; for each rule "rise", the mean
        excess of the loss on the random plane's grid over the loss of the solution. Arrays: "line/RULE" [n], and
        "random/RULE" [Y, X].
    """
    ends = {rule: path[-1] for rule, path in paths.items()}
    lines = {
        rule: interpolation(loss, ends[REFERENCE], end, line(config), batch=config["batch"])
        for rule, end in ends.items()
        if rule != REFERENCE
    }
    around = {}
    for rule, end in ends.items() if config["random_planes"] else ():
        plane = random_plane(end, key)
        around[rule] = surface(loss, plane, xs=steps(config), ys=steps(config), batch=config["batch"])
    numbers = {
        "explained": list(pca_plane(paths).explained),
        "from_start": {rule: [distance(path[0], params) for params in path] for rule, path in paths.items()},
        "distance": {rule: distance(ends[REFERENCE], ends[rule]) for rule in lines},
        "barrier": {rule: barrier(losses, line(config)) for rule, losses in lines.items()},
        "rise": {rule: rise(losses) for rule, losses in around.items()},
    }
    arrays = {f"line/{rule}": losses for rule, losses in lines.items()}
    return numbers, arrays | {f"random/{rule}": losses for rule, losses in around.items()}


def line(config: dict[str, Any]) -> np.ndarray:
    return np.linspace(0, 1, config["line_points"])


def steps(config: dict[str, Any]) -> np.ndarray:
    return config["random"]["radius"] * np.linspace(-1, 1, config["random"]["points"])


def distance(one: nnx.State, other: nnx.State) -> float:
    """The Euclidean distance between two sets of parameters."""
    squares = jax.tree.map(lambda a, b: np.sum(np.square(np.asarray(a, float) - np.asarray(b, float))), one, other)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))


def rise(losses: np.ndarray) -> float:
    """The mean of a square grid of losses minus the loss at its center."""
    middle = len(losses) // 2
    return float(np.mean(losses, dtype=float) - losses[middle, middle])
