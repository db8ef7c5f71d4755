"""The plane of the first notebook: the variance of the checkpoints that it explains, and the loss on it, as slax draws it.

The plane goes along the two principal directions of the checkpoints of all rules, through the last checkpoint of ORIGIN.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random

from experiments.common.measures import loss_of_params
from experiments.demo.notebooks import first_keys, first_network, random_bits, sampler
from slax_neurons import Connect
from slax_rules.training.paths import by_path
from slax_viz import grid_around, pca_plane, surface

ORIGIN = "rtrl"
LOSSES_AT_ONCE = 8

Params = dict[str, np.ndarray]  # by path


def compute(config: dict[str, Any], *files: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The shares of each seed, and the surface of seed 0.

    Args:
        config: the settings of the first notebook.
        files: the arrays of `experiments.demo.train`, RULE.npz for each rule.

    Returns:
        The numbers: "explained" [2] of each seed. The arrays of the first seed: "xs" [X], "ys" [Y], "losses" [Y, X], and for
        each rule the coordinates of its checkpoints, "at/RULE" [checkpoints + 1, 2].
    """
    trained = {file.stem: dict(np.load(file)) for file in files}
    planes = []
    for seed in range(config["seeds"]):
        paths = {rule: checkpoints_of(trained[rule], seed) for rule in config["rules"]}
        planes.append((paths, pca_plane(paths, origin=paths[ORIGIN][-1], centered=True)))
    paths, plane = planes[0]
    at = {rule: plane.coordinates(path) for rule, path in paths.items()}
    xs, ys = grid_around(at, n_points=config["grid"]["points"], margin=config["grid"]["margin"])
    with random_bits():
        losses = surface(test_loss(config), plane, xs=xs, ys=ys, batch=LOSSES_AT_ONCE)
    numbers = {"seeds": [{"seed": seed, "explained": list(plane.explained)} for seed, (_, plane) in enumerate(planes)]}
    return numbers, {"xs": xs, "ys": ys, "losses": losses} | {f"at/{rule}": points for rule, points in at.items()}


def checkpoints_of(arrays: Mapping[str, np.ndarray], seed: int) -> Sequence[Params]:
    """The checkpoints of one seed in order."""
    (count,) = {len(array[seed]) for array in arrays.values()}
    return [{path: array[seed, number] for path, array in arrays.items()} for number in range(count)]


def test_loss(config: dict[str, Any]) -> Callable[[Params], jax.Array]:
    """The loss on the test samples of the notebook, as a function of parameters by path."""
    key = random.key(0)
    model: Connect = first_network(config["layers"], key)
    training, _ = first_keys(key, config["checkpoints"] * config["checkpoint_every"])
    samples = sampler(config["layers"], config["n_steps"])(training[-1], batch_size=config["test_size"])
    loss, like = loss_of_params(model, *samples), nnx.state(model, nnx.Param)
    paths, structure = list(by_path(like)), jax.tree.structure(like)
    return lambda params: loss(jax.tree.unflatten(structure, [jnp.asarray(params[path]) for path in paths]))
