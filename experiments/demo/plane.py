"""The plane of the first notebook: the variance of the checkpoints that it explains, and the loss on it, as slax draws it.

The plane goes along the two principal directions of the checkpoints of all rules, through the last checkpoint of ORIGIN.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jax import random

from experiments.common.measures import loss_of_params
from experiments.common.samples import random_bits
from experiments.common.tasks import paths_of
from experiments.demo.notebooks import first_keys, first_network, sampler
from slax_viz import grid_around, pca_plane, surface

ORIGIN = "rtrl"
LOSSES_AT_ONCE = 8


def compute(config: dict[str, Any], *files: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The shares of each seed, and the surface of seed 0.

    Args:
        config: the settings of the first notebook.
        files: the arrays of `experiments.demo.train`, RULE.npz for each rule.

    Returns:
        The numbers: "explained" [2] of each seed. The arrays of the first seed: "xs" [X], "ys" [Y], "losses" [Y, X], and for
        each rule the coordinates of its checkpoints, "at/RULE" [checkpoints + 1, 2].
    """
    trained, key = {file.stem: dict(np.load(file)) for file in files}, random.key(0)
    with random_bits():
        model = first_network(config["layers"], key)
        training, _ = first_keys(key, config["checkpoints"] * config["checkpoint_every"])
        test_set = sampler(config["layers"], config["n_steps"])(training[-1], batch_size=config["test_size"])
    seeds = range(config["seeds"])
    paths = [{rule: paths_of(model, trained[rule], seed) for rule in config["rules"]} for seed in seeds]
    planes = [pca_plane(of_seed, origin=of_seed[ORIGIN][-1], centered=True) for of_seed in paths]
    at = {rule: planes[0].coordinates(path) for rule, path in paths[0].items()}
    xs, ys = grid_around(at, n_points=config["grid"]["points"], margin=config["grid"]["margin"])
    losses = surface(loss_of_params(model, *test_set), planes[0], xs=xs, ys=ys, batch=LOSSES_AT_ONCE)
    numbers = {"seeds": [{"seed": seed, "explained": list(planes[seed].explained)} for seed in seeds]}
    return numbers, {"xs": xs, "ys": ys, "losses": losses} | {f"at/{rule}": points for rule, points in at.items()}
