"""A mean over the steps so far, in which each counts less than the next."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Mean(NamedTuple):
    """g and w of `running_mean`."""

    value: Float[Array, "*N"]
    weight: Float[Array, ""]


def zero_mean(like: Float[Array, "*N"]) -> Mean:
    """Of no steps."""
    return Mean(jnp.zeros_like(like), jnp.zeros((), like.dtype))


def running_mean(mean: Mean, values: Float[Array, "K *N"], decay: Float[Array, ""]) -> tuple[Mean, Array]:
    """w_t = decay w_{t-1} + 1, g_t = (decay w_{t-1} g_{t-1} + value_t) / w_t: the mean after K steps, and after each of them."""

    def step(mean: Mean, value: Array) -> tuple[Mean, Array]:
        before = decay * mean.weight
        new = Mean((before * mean.value + value) / (before + 1), before + 1)
        return new, new.value

    return jax.lax.scan(step, mean, values)
