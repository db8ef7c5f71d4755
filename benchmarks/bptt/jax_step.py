"""A step of a contender that runs on JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


class JaxStep:
    """One jitted call, waited for.

    Args:
        step: maps weights and inputs to the loss and the gradient of the weights.
        weights: any tree of arrays.
        inputs: spikes, [T, B, N].
    """

    def __init__(self, step: Callable[[Any, jax.Array], tuple[jax.Array, Any]], weights: Any, inputs: Any):
        self.step = jax.jit(step)
        self.arguments = jax.tree.map(jnp.asarray, (weights, inputs))

    def __call__(self) -> jax.Array:
        loss, _ = jax.block_until_ready(self.step(*self.arguments))
        return loss

    def temporary_bytes(self) -> int:
        """What XLA reserves beside arguments and results; compiles the step once more."""
        return self.step.lower(*self.arguments).compile().memory_analysis().temp_size_in_bytes
