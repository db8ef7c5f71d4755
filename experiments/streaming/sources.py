"""Streams of samples that change from segment to segment: other speakers, other manifolds, manifolds that drift."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from slax_data import Manifolds, SpikeTrains, randman, random_manifolds
from slax_data.storage.packed import sets_of_arrays, unpacked
from slax_data.storage.whole_files import load_arrays


class Source(NamedTuple):
    """A stream as a function of a key.

    plan: `plan(key, segments, choosing)`, what all samples of a stream share and what distinguishes them, a tree of arrays with
        an entry for each sample. Streams that learning rates are chosen by share no recording with the others.
    sample: `sample(shared, item)`, the spikes [T, N] of a sample and its label.
    is_common: whether the streams of all seeds share the same.
    """

    plan: Callable[[jax.Array, int, bool], tuple[Any, Any]]
    sample: Callable[[Any, Any], tuple[jax.Array, jax.Array]]
    is_common: bool


def make_source(config: dict[str, Any], spikes: Any) -> Source:
    """The source that a configuration names."""
    if config["source"] == "speakers":
        return speakers(config, sets_of_arrays(load_arrays(spikes)))
    return manifolds_that_change(config, drifts=config["source"] == "drift")


def speakers(config: dict[str, Any], sets: dict[str, SpikeTrains]) -> Source:
    """Spoken digits, one speaker after the other in an order that the key draws, each with recordings in random order.

    Until a recording comes again, all others of its speaker have come.
    """
    names = sorted({name.partition("_")[0] for name in sets})
    parts = {part: [sets[f"{name}_{part}"] for name in names] for part in ("choice", "stream")}
    data = {part: _together(of_part) for part, of_part in parts.items()}
    counts = {part: [len(one.labels) for one in of_part] for part, of_part in parts.items()}
    n_units = parts["stream"][0].n_units

    def plan(key: jax.Array, segments: int, choosing: bool) -> tuple[Any, Any]:
        part = "choice" if choosing else "stream"
        starts = np.cumsum([0, *counts[part][:-1]])
        draws = np.random.default_rng(np.asarray(random.key_data(key)))
        rounds = -(-segments // len(names))
        order = np.concatenate([draws.permutation(len(names)) for _ in range(rounds)])[:segments]
        decks: dict[int, list[int]] = {speaker: [] for speaker in range(len(names))}
        items = []
        for speaker in order:
            while len(decks[speaker]) < config["segment"]:
                decks[speaker] += (starts[speaker] + draws.permutation(counts[part][speaker])).tolist()
            items += decks[speaker][: config["segment"]]
            decks[speaker] = decks[speaker][config["segment"] :]
        return data[part], jnp.asarray(items, jnp.int32)

    def sample(shared: Any, item: jax.Array) -> tuple[jax.Array, jax.Array]:
        packed, labels = shared
        return unpacked(packed[item], n_units), labels[item]

    return Source(plan, sample, is_common=True)


def _together(sets: list[SpikeTrains]) -> tuple[jax.Array, jax.Array]:
    return jnp.concatenate([one.packed for one in sets]), jnp.concatenate([one.labels for one in sets])


def manifolds_that_change(config: dict[str, Any], *, drifts: bool) -> Source:
    """Randman in the time code, with other manifolds in each segment, or with parameters that move linearly from the manifolds
    of a segment to those of the next one."""
    n_units, n_classes = config["layers"][0], config["layers"][-1]

    def plan(key: jax.Array, segments: int, choosing: bool) -> tuple[Any, Any]:
        manifold_key, sample_key = random.split(random.fold_in(key, int(choosing)))
        keys = random.split(manifold_key, segments + 1)
        every = jax.vmap(lambda key: random_manifolds(key, n_classes=n_classes, n_units=n_units, dim=1))(keys)
        number = segments * config["segment"]
        place = jnp.arange(number) / config["segment"] if drifts else jnp.arange(number) // config["segment"]
        return every, (place.astype(jnp.float32), random.split(sample_key, number))

    def sample(shared: Manifolds, item: Any) -> tuple[jax.Array, jax.Array]:
        place, key = item
        before = jnp.floor(place).astype(jnp.int32)
        share = place - before.astype(place.dtype)
        now = jax.tree.map(lambda all_of: (1 - share) * all_of[before] + share * all_of[before + 1], shared)
        spikes, labels = randman(key, now, n_steps=config["n_steps"], batch_size=1, code="time")
        return spikes[:, 0], labels[0]

    return Source(plan, sample, is_common=False)
