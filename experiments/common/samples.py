"""The samples of a seed: batches to train on, samples for the choice of settings, and the test set."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax import random

from experiments.common.tasks import task_maker
from slax_data import Augmentation, Task, held_out

# Spikes [T, B, N], labels [B], and the mask [T, B] of a task that has one; of several batches, each with M in front.
Samples = tuple[Any, ...]

PART = 100  # batches that are drawn together, by one program
CACHE_BYTES = 2**30  # bytes of the batches of all seeds that are kept for the next training; more are drawn again

FIRST_SEED = "first_seed"  # `--set first_seed=2000` takes fresh seeds

Use = Literal["samples", "start", "measurements"]


def seeds_of(config: dict[str, Any], count: int | None = None) -> range:
    """The seeds of a configuration, or so many of them, from the first one: 0 unless `first_seed` says another."""
    first = config.get(FIRST_SEED, 0)
    return range(first, first + (config["seeds"] if count is None else count))


def key_of(seed: int, use: Use) -> jax.Array:
    """The key of a seed for its samples, for the arrays before training, or for measurements of the trained network, so that no
    two uses share random draws."""
    return random.fold_in(random.key(seed), get_args(Use).index(use))


class SeedSamples:
    """The samples of one seed, which are the same for all rules, ways of updating and learning rates.

    Spikes are booleans, and are kept as bits, so that they take little memory. Samples that are changed at random are not
    spikes alone.
    """

    def __init__(self, config: dict[str, Any], make: Callable[[jax.Array], Task], draw: Callable, seed: int):
        self._config, self._draw = config, draw
        self._task_key, self._train_key, self._validation_key, self._test_key, self._other_key = random.split(
            key_of(seed, "samples"), 5
        )
        self._task = make(self._task_key)
        self._others: dict[int, Samples] = {}

    def batches(self) -> Iterator[Samples]:
        """The batches to train on, in the same order each time."""
        return (batch() for batch in self._kept) if self._kept is not None else self._drawn()

    def others(self, count: int) -> Samples:
        """More batches of the training split, drawn by the program of the batches to train on."""
        if count not in self._others:
            draw, keys = partial(self._draw, self._task_key), random.split(self._other_key, count)
            drawn = in_parts(draw, keys, self._config["steps"])
            self._others[count] = tuple(map(np.stack, zip(*drawn, strict=True)))
        return self._others[count]

    @cached_property
    def validation(self) -> Samples:
        """The samples that settings are chosen by: the entire split, or `validation_size` new ones if the supply is endless."""
        if self._task.full_split:
            return self._task.full_split("validation")
        return self._task.sample(self._validation_key, batch_size=self._config["validation_size"])

    @cached_property
    def test(self) -> Samples:
        """The samples that are read once all settings are chosen: the entire split, or `test_size` new ones."""
        return held_out(self._task, self._test_key, self._config["test_size"])

    @property
    def has_common_test(self) -> bool:
        """True if all seeds have the same test set."""
        return self._task.full_split is not None

    def _drawn(self) -> Iterator[Samples]:
        return in_parts(partial(self._draw, self._task_key), random.split(self._train_key, self._config["steps"]))

    @cached_property
    def _kept(self) -> list[Callable[[], Samples]] | None:
        kept: list[Callable[[], Samples]] = []
        size = 0
        for spikes, *others in self._drawn():
            stored = np.packbits(spikes) if spikes.dtype == bool else spikes
            kept.append(partial(_batch, stored, spikes.shape, *others))
            size += stored.nbytes
            if size * self._config["seeds"] > CACHE_BYTES:
                return None
        return kept


def _batch(stored: np.ndarray, shape: tuple[int, ...], *others: np.ndarray) -> Samples:
    """A batch of spikes that were kept as bits, or of other samples."""
    is_packed = stored.shape != shape
    spikes = np.unpackbits(stored, count=math.prod(shape)).reshape(shape).astype(bool) if is_packed else stored
    return spikes, *others


def random_bits() -> contextlib.AbstractContextManager:
    """The context in which JAX draws as it did at the time of the authors of slax and OTPE."""
    return jax.threefry_partitionable(False)


def draws(function: Callable[..., Samples]) -> Callable[..., Samples]:
    """The program of a function that draws batches. Where programs are compiled without optimizations, as at the toy scale, it
    has a few of them: it would run far longer than it compiles."""
    few = {"xla_backend_optimization_level": 1} if jax.config.read("jax_disable_most_optimizations") else None
    return jax.jit(function, compiler_options=few)


def in_parts(draw: Callable[[jax.Array], Samples], keys: jax.Array, steps: int | None = None) -> Iterator[Samples]:
    """The batches of some keys [M]: when one is read, those of its part are drawn together, at most `PART` of them.

    Parts take little memory, and what all batches share, such as the manifolds of Randman, is drawn once for each part. The
    last part is filled up with batches that are not used, so that all parts have one program, that of `steps` batches.
    """
    steps = steps or len(keys)
    size = -(-steps // -(-steps // PART))
    for start in range(0, len(keys), size):
        part = keys[np.arange(start, start + size) % len(keys)]
        yield from itertools.islice(zip(*map(np.asarray, draw(part)), strict=True), len(keys) - start)


def make_sampler(
    config: dict[str, Any], spikes: Path | None, make: Callable[[jax.Array], Task] | None = None
) -> Callable[[int], SeedSamples]:
    """A function that maps a seed to its samples, each time the same object.

    The configuration provides `seeds`, `steps`, `batch_size`, `test_size`, for tasks without a fixed training set
    `validation_size`, perhaps `augmentation`, the options of `slax_data.Augmentation`, and the task, unless `make` makes it.
    """
    make = make or task_maker(config, spikes)
    augmented = config.get("augmentation")

    @draws
    def draw(task_key: jax.Array, keys: jax.Array) -> Samples:
        task = make(task_key)

        def one(key: jax.Array) -> Samples:
            batch_key, augment_key = random.split(key)
            inputs, *others = task.sample(batch_key, batch_size=config["batch_size"])
            return (Augmentation(**augmented)(augment_key, inputs) if augmented else inputs.astype(bool)), *others

        return jax.lax.map(one, keys)

    return cache(partial(SeedSamples, config, make, draw))
