"""The samples of a seed: batches to train on, and samples for the comparison of gradients, the validation and the test."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from experiments.common.tasks import task_maker, with_validation
from slax_data import Task, held_out

Samples = tuple[jax.Array, jax.Array]  # spikes [T, B, N], labels [B]


class Data(NamedTuple):
    """The samples of a seed.

    train, compared: batches to train on, and batches to compare gradients on, both drawn from the training split, with spikes
        as booleans.
    validation, test: all samples of these splits.
    """

    train: list[Samples]
    compared: list[Samples]
    validation: Samples
    test: Samples


def make_sampler(config: dict[str, Any], spikes: Path | None) -> Callable[[int], Data]:
    """A function that draws the data of a seed."""
    make = make_task(config, spikes)

    @jax.jit
    def draw(key: jax.Array) -> tuple[Samples, Samples, Samples, Samples]:
        task_key, train_key, compare_key, validation_key, test_key = random.split(key, 5)
        task = make(task_key)

        def batches(keys: jax.Array) -> Samples:
            spikes, labels = jax.lax.map(partial(task.sample, batch_size=config["batch_size"]), keys)
            return spikes.astype(bool), labels

        count = config["steps"]
        keys = jnp.concatenate([random.split(train_key, count), random.split(compare_key, config["eval_batches"])])
        inputs, labels = batches(keys)
        if task.full_split:
            validation = task.full_split("validation")
        else:
            validation = task.sample(validation_key, batch_size=config["validation_size"])
        test = held_out(task, test_key, config["test_size"])
        return (inputs[:count], labels[:count]), (inputs[count:], labels[count:]), validation, test

    def sample(seed: int) -> Data:
        train, compared, validation, test = draw(random.key(seed))
        return Data(_listed(train), _listed(compared), validation, test)

    return sample


def make_task(config: dict[str, Any], spikes: Path | None) -> Callable[[jax.Array], Task]:
    """A function that makes the task of a seed; a fixed training set gets a split "validation"."""
    make = task_maker(config, spikes)
    if make(random.key(0)).full_split is None:
        return make
    stored = with_validation(make(random.key(0)))
    return lambda key: stored


def _listed(batches: Samples) -> list[Samples]:
    """The batches [M, T, B, N] one by one."""
    return list(zip(*map(np.asarray, batches), strict=True))
