"""The problem shared by all rules of a task: data, the network before training, and the samples for all losses."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax import random

from experiments.common.tasks import demo_model, make_model
from slax_data import make_task
from slax_neurons import Connect

Batch = tuple[jax.Array, jax.Array]


class Problem(NamedTuple):
    """The data and network of one seed.

    sample: maps a key to a batch to train on.
    model: the network before training.
    test_set: the samples on which losses are computed, spikes [T, B, N] and labels [B].
    rule_key, train_key: keys for the random draws of rules and for batches.
    """

    sample: Callable[[jax.Array], Batch]
    model: Connect
    test_set: Batch
    rule_key: jax.Array
    train_key: jax.Array


def make_problem(config: dict[str, Any], key: jax.Array) -> Problem:
    """The common problem of all rules of a task. The key determines all draws."""
    task_key, model_key, rule_key, train_key, test_key = random.split(key, 5)
    layers = config["layers"]
    sizes = {"n_classes": layers[-1], "n_units": layers[0], "n_steps": config["n_steps"]}
    sample = make_task("randman", task_key, code="time", **sizes).sample
    rngs = nnx.Rngs(model_key)
    model = make_model(config, rngs) if config["read_out"] == "li" else demo_model(layers, rngs)
    test_set = sample(test_key, batch_size=config["test_size"])
    return Problem(partial(sample, batch_size=config["batch_size"]), model, test_set, rule_key, train_key)
