"""A mean over time in which earlier steps have less weight."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_neurons.building_blocks import scan_units


class LeakyMean(NamedTuple):
    """A mean g, a tree of arrays [B, *N], and its weight w for each sample, which may have started at another step."""

    mean: Any
    weight: Float[Array, " B"]


def init_leaky_mean(like: Any) -> LeakyMean:
    """The mean of no steps, for arrays shaped like these."""
    first = jax.tree.leaves(like)[0]
    return LeakyMean(jax.tree.map(jnp.zeros_like, like), jnp.zeros(first.shape[:1], first.dtype))


def leaky_means(before: LeakyMean, values: Any, decay: Float[Array, ""]) -> tuple[LeakyMean, Any]:
    """The mean of arrays [K, B, *N] after all K steps, and after each step.

    w_t = decay w_{t-1} + 1        g_t = (decay w_{t-1} g_{t-1} + value_t) / w_t
    """

    def step(decay: Array, before: LeakyMean, value: Any) -> tuple[LeakyMean, Any]:
        weight = decay * before.weight
        mean = jax.tree.map(lambda g, new: (weight * g + new) / (weight + 1), before.mean, value)
        return LeakyMean(mean, weight + 1), mean

    axes = range(1, jax.tree.leaves(values)[0].ndim - 1)
    (mean, weight), means = scan_units(
        step, decay, before._replace(weight=jnp.expand_dims(before.weight, axes)), values
    )
    return LeakyMean(mean, weight.reshape(-1)), means
