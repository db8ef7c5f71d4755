"""A mean over time in which earlier steps have less weight."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class LeakyMean(NamedTuple):
    """A mean g, a tree of arrays, and its weight w."""

    mean: Any
    weight: Float[Array, ""]


def init_leaky_mean(like: Any) -> LeakyMean:
    """The mean of no steps, for arrays shaped like these."""
    return LeakyMean(jax.tree.map(jnp.zeros_like, like), jnp.zeros((), jax.tree.leaves(like)[0].dtype))


def leaky_means(before: LeakyMean, values: Any, decay: Float[Array, ""]) -> tuple[LeakyMean, Any]:
    """The mean of arrays [K, ...] after all K steps, and after each step.

    w_t = decay w_{t-1} + 1        g_t = (decay w_{t-1} g_{t-1} + value_t) / w_t
    """

    def step(before: LeakyMean, value: Any) -> tuple[LeakyMean, Any]:
        weight = decay * before.weight
        mean = jax.tree.map(lambda g, new: (weight * g + new) / (weight + 1), before.mean, value)
        return LeakyMean(mean, weight + 1), mean

    return jax.lax.scan(step, before, values)
