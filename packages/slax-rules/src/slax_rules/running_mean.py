"""A mean over the steps so far, in which each counts less than the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Mean(NamedTuple):
    """g, a tree of arrays, and w of `running_mean`."""

    value: Any
    weight: Float[Array, ""]


def zero_mean(like: Any) -> Mean:
    """Of no steps."""
    return Mean(jax.tree.map(jnp.zeros_like, like), jnp.zeros((), jax.tree.leaves(like)[0].dtype))


def running_mean(mean: Mean, values: Any, decay: Float[Array, ""]) -> tuple[Mean, Any]:
    """The mean after K steps, and after each of them, of arrays [K, ...].

    w_t = decay w_{t-1} + 1        g_t = (decay w_{t-1} g_{t-1} + value_t) / w_t
    """

    def step(mean: Mean, value: Any) -> tuple[Mean, Any]:
        before = decay * mean.weight
        value = jax.tree.map(lambda g, new: (before * g + new) / (before + 1), mean.value, value)
        return Mean(value, before + 1), value

    return jax.lax.scan(step, mean, values)
