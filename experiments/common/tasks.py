"""The task named in a configuration, either drawn for each seed or read from stored spikes."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import random

from slax_data import Task, make_task, stored_task
from slax_data.sets.images import stratified_holdout_mask
from slax_data.storage.packed import sets_of_arrays
from slax_data.storage.whole_files import load_arrays


def task_maker(config: dict[str, Any], spikes: Path | None) -> Callable[[jax.Array], Task]:
    """A function that makes a seed's task from a key, with the splits "train", "validation" and "test".

    A task with samples without end has the splits "train" and "test" alone: new samples of the training split are its
    validation. If the configuration names a file of spikes, all seeds share its task.
    """
    if "spikes" in config:
        if spikes is None:
            raise SystemExit(
                f"The task {config['task']} reads spikes, expected the file {config['spikes']}.npz: `snakemake data` makes it."
            )
        sets = sets_of_arrays(load_arrays(spikes))
        stored = stored_task(sets, n_classes=config["layers"][-1], padding="silence")
        check_layers(config, stored)
        return for_all_seeds(stored if "validation" in sets else with_validation(stored))
    sizes = (
        {"n_units": config["layers"][0], "n_classes": config["layers"][-1]} if config["dataset"] == "randman" else {}
    )
    made = partial(make_task, config["dataset"], n_steps=config["n_steps"], code=config["code"], **sizes)
    some = made(random.key(0))
    check_layers(config, some)
    return made if some.full_split is None else for_all_seeds(with_validation(some))


def for_all_seeds(task: Task) -> Callable[[jax.Array], Task]:
    """A function that gives each seed the same task, whose splits are unpacked once."""
    same = replace(task, full_split=cache(task.full_split))
    return lambda key: same


def with_validation(task: Task) -> Task:
    """The task with the fifth, tenth, ... training sample of each class in a split "validation", and no longer in "train".

    Its spikes are those of `full_split`, also in a code that draws them.

    The program stops if the inputs are not spikes, zeros and ones.
    """
    train, labels = recordings("train", *task.full_split("train"))
    is_left_out = stratified_holdout_mask(labels)
    splits = {
        "train": (train[~is_left_out], labels[~is_left_out]),
        "validation": (train[is_left_out], labels[is_left_out]),
        "test": recordings("test", *task.full_split("test")),
    }
    return stored_task(splits, n_classes=task.n_classes)


def recordings(split: str, spikes: jax.Array, labels: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The spikes [T, D, N] of a split as booleans [D, T, N], and its labels [D]."""
    inputs = np.asarray(spikes)
    others = inputs[(inputs != 0) & (inputs != 1)]
    if others.size:
        raise SystemExit(
            f"The split {split!r} of the task has an input of {others[0]:g}, expected spikes, which are 0 or 1: only these are "
            "stored with a split for validation. Choose a code that makes spikes."
        )
    return inputs.astype(bool).swapaxes(0, 1), np.asarray(labels)


def check_layers(config: dict[str, Any], task: Task) -> None:
    """Stop unless the layers and steps of the configuration match the data."""
    got, expected = (config["layers"][0], config["layers"][-1]), (task.n_units, task.n_classes)
    if got != expected or config["n_steps"] != task.n_steps:
        raise SystemExit(
            f"The layers of {config['task']} are {config['layers']}, in {config['n_steps']} steps, but its data have "
            f"{task.n_units} units and {task.n_classes} classes, in {task.n_steps} steps, which they have to match."
        )
