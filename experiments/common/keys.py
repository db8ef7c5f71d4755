"""The keys of a seed, one for each use, so that no two uses share random draws."""

from typing import Literal, get_args

import jax
from jax import random

Use = Literal["samples", "start", "measurements"]


def key_of(seed: int, use: Use) -> jax.Array:
    """The key of a seed for its samples, for the arrays before training, or for measurements of the trained network."""
    return random.fold_in(random.key(seed), get_args(Use).index(use))
