"""What the rules are trained and tested on: the authors' Randman, or the stored recordings of a set."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from experiments.common.samples import PART, Samples, key_of, number_of_parts
from experiments.common.tasks import task_maker
from experiments.otpe_paper import draws

TESTED = 1000  # samples that are tested together

Sets = dict[str, list[Samples]]


class Batches:
    """Batches that are the same each time: `batch(i)` for i = 0, 1, ...."""

    def __init__(self, batch: Callable[[int], Samples], count: int):
        self._batch, self._count = batch, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Samples:
        if index >= self._count:
            raise IndexError(index)
        return self._batch(index)

    def __iter__(self) -> Iterator[Samples]:
        return map(self._batch, range(self._count))


class Randman:
    """The manifolds of one seed, with their test set and the batches for the weights of each seed."""

    def __init__(self, config: dict[str, Any]):
        layers = config["layers"]
        self._config, self._key = config, random.key(config["manifold"])
        sizes = {"n_classes": layers[-1], "n_units": layers[0], "dim": config["dim"], "alpha": config["alpha"]}
        self._table = draws.curves(self._key, **sizes)
        self._draw = partial(draws.draw, n_classes=layers[-1], n_steps=config["n_steps"])
        self._spikes = partial(draws.spikes_of, code=config["code"], n_steps=config["n_steps"])

    def batches(self, seed: int) -> Batches:
        """The batches that all rules are trained on from the weights of a seed."""
        keys, draw = (
            draws.batch_keys(seed, self._config["batches"]),
            partial(self._draw, size=self._config["batch_size"]),
        )
        of_part = jax.jit(lambda table, keys: jax.lax.map(partial(draw, table), keys))
        parts = jnp.split(keys, number_of_parts(len(keys), PART))
        drawn = [jax.tree.map(np.asarray, of_part(self._table, part)) for part in parts]
        kept = draws.Levels(*map(np.concatenate, zip(*drawn, strict=True)))

        def batch(index: int) -> Samples:
            samples = draws.Levels(kept.levels[index], kept.labels[index])
            return self._spikes(samples, random.fold_in(keys[index], 1)), samples.labels.astype(np.int32)

        return Batches(batch, len(keys))

    @cached_property
    def sets(self) -> Sets:
        """The authors' test set, the whole of one further draw, or its first `test_size` samples."""
        key = draws.test_key(self._key)
        drawn = jax.tree.map(np.asarray, jax.jit(partial(self._draw, size=self._config["test_size"]))(self._table, key))
        parts = [
            draws.Levels(*(of[start : start + TESTED] for of in drawn)) for start in range(0, len(drawn.labels), TESTED)
        ]
        return {
            "test": [
                (self._spikes(part, random.fold_in(key, number)), part.labels.astype(np.int32))
                for number, part in enumerate(parts)
            ]
        }


class Recordings:
    """The recordings of a file of spikes, with the splits "validation" and "test"."""

    def __init__(self, config: dict[str, Any], spikes: Path | None):
        self._config, self._task = config, task_maker(config, spikes)(random.key(0))
        self._sample = jax.jit(partial(self._task.sample, batch_size=config["batch_size"]))

    def batches(self, seed: int) -> Batches:
        """Random recordings of the training split."""
        key = key_of(seed, "samples")
        return Batches(lambda index: self._sample(random.fold_in(key, index)), self._config["batches"])

    @cached_property
    def sets(self) -> Sets:
        return {split: tested_together(*self._task.full_split(split)) for split in ("validation", "test")}


def tested_together(spikes: Any, labels: Any) -> list[Samples]:
    """Samples in parts that are tested together."""
    starts = range(0, len(labels), TESTED)
    return [(spikes[:, start : start + TESTED], labels[start : start + TESTED]) for start in starts]


def source_of(config: dict[str, Any], spikes: Path | None) -> Randman | Recordings:
    return Recordings(config, spikes) if "spikes" in config else Randman(config)
