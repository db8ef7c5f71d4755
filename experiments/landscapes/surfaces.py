"""The losses of a task on planes through the checkpoints of its rules.

For the first seed, a surface with the paths of all rules on each plane of the task:

    nearest     the plane that lies nearest to all checkpoints of all rules, through their mean
    upstream    the same directions, through the last checkpoint of the rule `origin`, as slax 0.0.1 draws it

For each seed, the shares of the checkpoints' variance along the two directions, which both planes share.
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
from slax_viz import grid_around, losses_at, pca_plane, surface

Summary = dict[str, Any]
Arrays = dict[str, np.ndarray]


def compute(config: dict[str, Any], *files: Path) -> tuple[Summary, Arrays]:
    """The numbers of each seed, "seeds", see `of_each_seed`, and the arrays of the first one, see `on_planes`.

    Args:
        config: configuration of the task.
        files: the arrays of `experiments.landscapes.train`, RULE.npz for each rule of the task.
    """
    by_rule = {file.stem: dict(np.load(file)) for file in files}
    checkpoints = {rule: by_rule[rule] for rule in config["rules"]}
    seeds, arrays = [], {}
    for place, seed in enumerate(seeds_of(config)):
        problem = make_problem(config, random.key(seed))
        paths = {rule: paths_of(problem.model, of_rule, place) for rule, of_rule in checkpoints.items()}
        if place == 0:
            arrays = on_planes(config, loss_of_params(problem.model, *problem.test_set), paths)
        seeds.append({"seed": seed} | of_each_seed(paths))
    return {"seeds": seeds}, arrays


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


def of_each_seed(paths: Mapping[str, Trajectory]) -> Summary:
    """The share of the variance that each direction of the plane has, "explained" [2], and for each rule the distances of its
    checkpoints from the first, "from_start"."""
    return {
        "explained": list(pca_plane(paths).explained),
        "from_start": {rule: [distance(path[0], params) for params in path] for rule, path in paths.items()},
    }


def distance(one: nnx.State, other: nnx.State) -> float:
    """The Euclidean distance between two sets of parameters."""
    squares = jax.tree.map(lambda a, b: np.sum(np.square(np.asarray(a, float) - np.asarray(b, float))), one, other)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))
