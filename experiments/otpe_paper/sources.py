"""What the rules are trained and tested on: the authors' Randman, or the stored recordings of a set."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import random

from experiments.common.samples import Samples, in_parts, key_of
from experiments.common.tasks import task_maker
from experiments.otpe_paper import draws

TESTED = 1000  # samples that are tested together

Batch = Callable[[int], Samples]  # maps 0, 1, ... to a batch, which is the same each time
Sets = dict[str, list[Samples]]
Source = tuple[Callable[[int], Batch], Sets]  # the batches that all rules are trained on from the weights of a seed


def source_of(config: dict[str, Any], spikes: Path | None) -> Source:
    return recordings(config, spikes) if "spikes" in config else randman(config)


def randman(config: dict[str, Any]) -> Source:
    """The manifolds of one seed. The test set is the whole of one further draw, or its first `test_size` samples."""
    key, layers, n_steps = random.key(config["manifold"]), config["layers"], config["n_steps"]
    sizes = {"n_classes": layers[-1], "n_units": layers[0], "dim": config["dim"], "alpha": config["alpha"]}
    table = draws.curves(key, **sizes)
    draw = partial(draws.draw, n_classes=layers[-1], n_steps=n_steps)

    def samples(drawn: draws.Levels, key: jax.Array) -> Samples:
        return draws.spikes_of(drawn, key, code=config["code"], n_steps=n_steps), drawn.labels.astype(np.int32)

    def batches(seed: int) -> Batch:
        keys = draws.batch_keys(seed, config["batches"])
        of_part = jax.jit(lambda table, keys: jax.lax.map(partial(draw, table, size=config["batch_size"]), keys))
        kept = [draws.Levels(*of) for of in in_parts(partial(of_part, table), keys)]
        return lambda index: samples(kept[index], random.fold_in(keys[index], 1))

    test_key = draws.test_key(key)
    drawn = jax.tree.map(np.asarray, jax.jit(partial(draw, size=config["test_size"]))(table, test_key))
    starts = range(0, len(drawn.labels), TESTED)
    parts = [draws.Levels(*(of[start : start + TESTED] for of in drawn)) for start in starts]
    return batches, {"test": [samples(part, random.fold_in(test_key, number)) for number, part in enumerate(parts)]}


def recordings(config: dict[str, Any], spikes: Path | None) -> Source:
    """The recordings of a file of spikes: random ones of the training split, and the splits "validation" and "test"."""
    task = task_maker(config, spikes)(random.key(0))
    sample = jax.jit(partial(task.sample, batch_size=config["batch_size"]))

    def batches(seed: int) -> Batch:
        return lambda index: sample(random.fold_in(key_of(seed, "samples"), index))

    def parts(inputs: Any, labels: Any) -> list[Samples]:
        starts = range(0, len(labels), TESTED)
        return [(inputs[:, start : start + TESTED], labels[start : start + TESTED]) for start in starts]

    return batches, {split: parts(*task.full_split(split)) for split in ("validation", "test")}
