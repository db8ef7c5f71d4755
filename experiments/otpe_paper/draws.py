"""Randman as the authors of OTPE draw it: their manifolds and their batches, without the samples that they draw and never use.

    y(x) = prod_m f_m(x_m)        f_m(x) = sum_i a_i sin(2 pi (w_i x + p_i))        for each class and unit

A draw has 1,000 points x, which all classes share, and standardizes y over them; a batch is the first 128 of these 10,000
samples in random order. So it needs the extremes of y over all points, and with alpha = 1 each f_m has 999 harmonics. Here f_m
is computed once, at 16,384 places, and interpolated between them. `slax_data.upstream_randman` draws the same samples by the
equation itself, which takes thousands of times as long.

JAX has two ways to generate random bits, and these are those of JAX before 0.5: draw within `random_bits()`. In the rate code
the numbers of spikes are the authors', and the steps at which they occur are draws of our own: theirs come out of the sorting
of all 10,000 samples.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, random

from slax_data.sets.manifolds import n_harmonics
from slax_data.sets.randman import _at_rate
from slax_data.sets.upstream_randman import MAX_SEED

POINTS = 1000  # of a draw, the same for each class
# A place is the sum of a coarse and a fine part, so that all sines come out of two products of matrices.
COARSE = FINE = 128
PLACES = COARSE * FINE


class Levels(NamedTuple):
    """Samples before they are spikes: floor(y T), [B, N], and labels, [B], each a byte."""

    levels: Any
    labels: Any


@partial(jax.jit, static_argnames=("n_classes", "n_units", "dim", "alpha"))
def curves(manifold_key: jax.Array, *, n_classes: int, n_units: int, dim: int, alpha: float) -> jax.Array:
    """The functions f_m at the places (k - 1) / PLACES for k = 0, 1, ..., [dim, places, n_classes * n_units]."""
    i = jnp.arange(n_harmonics(alpha), dtype=jnp.float32)
    spectrum = (1 / ((i + 1) ** alpha + 1)).at[0].set(0)  # harmonic 0 has no amplitude
    coarse, fine = (jnp.arange(COARSE + 1) * FINE - 1) / PLACES, jnp.arange(FINE) / PLACES

    def of_class(seed: jax.Array) -> jax.Array:
        drawn = random.uniform(random.key(seed), (n_units, dim, 3, len(i)), jnp.float32)
        return lax.map(of_dimension, drawn.swapaxes(0, 1))

    def of_dimension(drawn: jax.Array) -> jax.Array:
        u, v, phase = drawn.swapaxes(0, 1)  # [N, F] each
        amplitude, turns = u * spectrum[None], v * i[None]
        start = 2 * jnp.pi * ((jnp.einsum("nf,a->naf", turns, coarse) + phase[:, None]) % 1)
        rest = 2 * jnp.pi * jnp.einsum("nf,b->nbf", turns, fine)
        parts = (jnp.sin(start), jnp.cos(rest)), (jnp.cos(start), jnp.sin(rest))
        values = [jnp.einsum("naf,nbf->nab", amplitude[:, None] * left, right) for left, right in parts]
        return jnp.reshape(values[0] + values[1], (n_units, -1)).T

    seeds = random.randint(manifold_key, (n_classes, 1), 0, MAX_SEED, jnp.int32)[:, 0]
    by_class = lax.map(of_class, seeds)  # [classes, dim, places, units]
    return by_class.transpose(1, 2, 0, 3).reshape(dim, by_class.shape[2], -1)


def interpolated(curve: jax.Array, x: jax.Array) -> jax.Array:
    """The values of functions at points, [points, functions], by the cubic through the four nearest places."""
    place = jnp.floor(x * PLACES)
    t, rows = x * PLACES - place, place.astype(jnp.int32)
    weights = (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
    return jnp.sum(jnp.stack([weight[:, None] * curve[rows + k] for k, weight in enumerate(weights)]), axis=0)


def draw(table: jax.Array, key: jax.Array, *, n_classes: int, n_steps: int, size: int) -> Levels:
    """The first samples of a draw, from the table of `curves`."""
    point_key, order_key, _ = random.split(key, 3)
    points = random.uniform(point_key, (POINTS, len(table)), jnp.float32)
    values = jnp.prod(jnp.stack([interpolated(curve, x) for curve, x in zip(table, points.T, strict=True)]), axis=0)
    values = values.reshape(POINTS, n_classes, -1)
    low, high = values.min(axis=0), values.max(axis=0)
    order = random.permutation(order_key, n_classes * POINTS)[:size]
    labels, point = order // POINTS, order % POINTS
    standardized = (values[point, labels] - low[labels]) / (high[labels] - low[labels] + 1e-7)
    return Levels(jnp.floor(standardized * n_steps).astype(jnp.uint8), labels.astype(jnp.uint8))


def batch_keys(seed: int, count: int) -> jax.Array:
    """The keys of the batches that the authors train on from the weights of a seed."""
    first = random.split(random.key(seed))[0]  # of the weights; split again, it is what the keys of batches begin with

    def next_key(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        key = random.split(key)[0]
        return key, key

    return lax.scan(next_key, random.split(first)[0], length=count)[1]


def test_key(manifold_key: jax.Array) -> jax.Array:
    """The key of their test set."""
    return random.split(manifold_key, 1)[0]


@partial(jax.jit, static_argnames=("code", "n_steps"))
def spikes_of(samples: Levels, key: jax.Array, *, code: str, n_steps: int) -> jax.Array:
    """The spikes, [T, B, N]: one at step floor(y T), none if that is T; or min(floor(y T) + 1, T) at steps drawn by the key."""
    levels = samples.levels.astype(jnp.float32)
    if code == "rate":
        return _at_rate(key, jnp.minimum(levels + 1, n_steps), n_steps).astype(bool)
    return jnp.arange(n_steps, dtype=jnp.float32)[:, None, None] == levels[None]
