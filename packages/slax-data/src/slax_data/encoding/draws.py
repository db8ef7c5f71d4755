"""Uniform random numbers whose program compiles quickly."""

import math

import jax.numpy as jnp
from jax import random
from jaxtyping import Array, Float, PRNGKeyArray


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """The numbers of `jax.random.uniform` in [0, 1), drawn flat: on a CPU, 5 axes took 5 times as long to compile."""
    return random.uniform(key, (math.prod(shape),), dtype).reshape(shape)
