"""The samples of a seed: batches to train on, and samples for the comparison of gradients, the validation and the test."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from experiments.common.tasks import task_maker
from slax_data import Task, held_out, stored_task
from slax_data.storage.packed import SpikeTrains, sets_of_arrays
from slax_data.storage.whole_files import load_arrays

LEFT_OUT = 10  # every tenth recording of a fixed training set is left out of the training, for the validation

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
    """A function that makes the task of a seed. Recordings get a split "validation", which is taken from the training split."""
    make = task_maker(config, spikes)
    if spikes is None:
        return make
    splits = sets_of_arrays(load_arrays(spikes))
    train = splits["train"]
    is_left_out = np.arange(len(train.labels)) % LEFT_OUT == 0

    def part(chosen: np.ndarray) -> SpikeTrains:
        return replace(train, packed=train.packed[chosen], labels=train.labels[chosen], lengths=train.lengths[chosen])

    parts = splits | {"train": part(~is_left_out), "validation": part(is_left_out)}
    stored = stored_task(parts, n_classes=config["layers"][-1])
    return lambda key: stored


def _listed(batches: Samples) -> list[Samples]:
    """The batches [M, T, B, N] one by one."""
    return list(zip(*map(np.asarray, batches), strict=True))
