"""Tasks of which a count of the spikes says nothing: binary adding and delayed recall, drawn by key, and permuted MNIST.

In the first two the loss and the prediction are of the last steps alone, after all that has to be known is over.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from experiments.common.samples import Samples, SeedSamples, make_sampler
from experiments.common.tasks import check_layers, with_validation
from slax_data import Task, mnist_5k, stored_task

ACTIVE, BACKGROUND = 0.5, 0.02  # spikes per step of a unit of an active group, and of each unit besides
BIT = 4  # steps of a bit


def in_counts(samples: SeedSamples) -> Any:
    """The samples of a seed, with the number of spikes of each unit in a single step in place of its spikes."""
    parts = {part: counted(getattr(samples, part)) for part in ("validation", "test")}
    common = samples.has_common_test
    return SimpleNamespace(batches=lambda: map(counted, samples.batches()), has_common_test=common, **parts)


def counted(batch: Samples) -> Samples:
    """The counts [1, B, N] and the labels."""
    spikes, labels, *_ = batch
    return np.asarray(spikes).sum(axis=0, keepdims=True, dtype=np.float32), labels


def sampler_of(config: dict[str, Any]) -> Callable[[int], SeedSamples]:
    """A function that maps a seed to its samples."""
    makers = {"adding": adding, "recall": recall, "permuted_mnist": permuted_mnist}
    if config["dataset"] not in makers:
        return make_sampler(config, None)
    task = makers[config["dataset"]](*(config["layers"][place] for place in (0, -1)), config["n_steps"])
    check_layers(config, task)
    return make_sampler(config, None, lambda key: task)


def adding(n_units: int, n_classes: int, n_steps: int) -> Task:
    """Binary adding: a sequence of bits, of which two are marked, one early and one late; the label is their sum.

    A bit takes four steps, in which the group of units of its value is active; a third group is active while it is marked. The
    marks are in the first and in the second half of the first three quarters of the bits, and the last quarter of the steps
    counts. Half of the bits before these steps are ones, and half of the bits in them, so that neither number says anything.
    """
    if n_classes != 3 or n_steps % 32 or n_units % 3:
        raise SystemExit(
            f"Adding has 3 classes, 32, 64, ... steps and 3, 6, ... units, got {n_classes}, {n_steps}, {n_units}."
        )
    n_bits = n_steps // BIT
    part = 3 * n_bits // 8

    def one(key: jax.Array, label: jax.Array) -> jax.Array:
        early, late, which, order = random.split(key, 4)
        marks = jnp.stack([random.randint(early, (), 0, part), random.randint(late, (), part, 2 * part)])
        first = jnp.where(label == 1, random.bernoulli(which).astype(int), label // 2)
        before_key, counting_key = random.split(order)
        others = random.permutation(before_key, jnp.arange(2 * part - 2) < part - label).astype(int)
        places = jnp.arange(2 * part)
        skipped = places - (places > marks[0]) - (places > marks[1])  # how many bits before are not marked
        before = others[jnp.minimum(skipped, 2 * part - 3)].at[marks].set(jnp.stack([first, label - first]))
        counting = n_bits - 2 * part
        last = random.permutation(counting_key, jnp.arange(counting) < counting // 2).astype(int)
        bits = jnp.concatenate([before, last])
        marked = jnp.zeros(n_bits, int).at[marks].set(1)
        return jnp.repeat(jnp.stack([1 - bits, bits, marked], axis=1), BIT, axis=0)

    return drawn_task(one, n_units, n_classes, n_steps, n_steps // 4)


def recall(n_units: int, n_classes: int, n_steps: int) -> Task:
    """Delayed recall: each of C symbols comes once, in random order; the label is the one that is flagged.

    A symbol takes T / (C + 1) steps, in which its group of units is active; one more group is active with the flag. The flagged
    symbol is the first or the second one, and the last T / (C + 1) steps count, in which no group is active.
    """
    if n_steps % (n_classes + 1) or n_units % (n_classes + 1):
        raise SystemExit(
            f"Recall of {n_classes} symbols needs steps and units that {n_classes + 1} divides, got {n_steps} and {n_units}."
        )
    lasts = n_steps // (n_classes + 1)

    def one(key: jax.Array, label: jax.Array) -> jax.Array:
        place_key, order_key = random.split(key)
        place = random.randint(place_key, (), 0, 2)
        others = random.permutation(order_key, n_classes - 1)
        others = others + (others >= label)
        places = jnp.arange(n_classes)
        order = jnp.where(places == place, label, others[jnp.clip(places - (places > place), 0, n_classes - 2)])
        active = jnp.concatenate(
            [jax.nn.one_hot(order, n_classes, dtype=int), (places == place).astype(int)[:, None]], axis=1
        )
        return jnp.repeat(jnp.pad(active, ((0, 1), (0, 0))), lasts, axis=0)

    return drawn_task(one, n_units, n_classes, n_steps, lasts)


def drawn_task(
    one: Callable[[jax.Array, jax.Array], jax.Array], n_units: int, n_classes: int, n_steps: int, counting: int
) -> Task:
    """A task without end, of which the last steps count.

    one: `one(key, label)`, 1 for each step and group of units [T, G] that is active in a sample, and 0 otherwise.
    """

    def sample(key: jax.Array, *, batch_size: int, split: str = "train") -> Samples:
        label_key, group_key, spike_key = random.split(key, 3)
        labels = random.randint(label_key, (batch_size,), 0, n_classes)
        active = jax.vmap(one, out_axes=1)(random.split(group_key, batch_size), labels)
        rates = BACKGROUND + (ACTIVE - BACKGROUND) * jnp.repeat(active, n_units // active.shape[-1], axis=-1)
        spikes = random.bernoulli(spike_key, rates).astype(jnp.float32)
        counts = jnp.broadcast_to(jnp.arange(n_steps)[:, None] >= n_steps - counting, (n_steps, batch_size))
        return spikes, labels, counts

    return Task(n_units=n_units, n_classes=n_classes, n_steps=n_steps, sample=sample)


def permuted_mnist(n_units: int, n_classes: int, n_steps: int) -> Task:
    """Permuted sequential MNIST: T steps with N pixels each, in one random order of all pixels, of the 5,000 images.

    A pixel above one half is a spike. Every fifth training image of a class is for validation.
    """
    if n_units * n_steps != 784:
        raise SystemExit(f"An image has 784 pixels, got {n_steps} steps of {n_units} units.")
    order, spikes = np.random.default_rng(0).permutation(784), {}
    for split in ("train", "test"):
        images, labels = map(np.asarray, mnist_5k(split=split))
        spikes[split] = images[:, order].reshape(-1, n_steps, n_units) > 0.5, labels
    return with_validation(stored_task(spikes, n_classes=n_classes))
