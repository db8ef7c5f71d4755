"""A step of a contender that runs on JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


class JaxStep:
    """One jitted call, including the wait for its result.

    Args:
        step: maps the arguments to the loss and the gradient of the weights.
        arguments: trees of arrays: the weights, the inputs [T, B, N], and any other data that the step reads.
        jit: `jax.jit`, or a library's equivalent.
        dtype: type of all floating-point numbers among the arguments.
    """

    def __init__(
        self,
        step: Callable[..., tuple[jax.Array, Any]],
        *arguments: Any,
        jit: Callable[[Callable], Any] = jax.jit,
        dtype: str = "float32",
    ):
        def placed(leaf: Any) -> jax.Array:
            array = jnp.asarray(leaf)
            return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array

        self.step = jit(step)
        self.arguments = jax.tree.map(placed, arguments)

    def __call__(self) -> jax.Array:
        loss, _ = jax.block_until_ready(self.step(*self.arguments))
        return loss

    def release(self) -> None:
        """Do nothing: JAX keeps the device memory that it has allocated until its process ends."""

    def temporary_bytes(self) -> int | None:
        """The memory that XLA reserves beyond arguments and results, None if JAX reports 0; this compiles the step again."""
        return self.step.lower(*self.arguments).compile().memory_analysis().temp_size_in_bytes or None

    def device(self) -> str:
        return jax.devices()[0].device_kind

    def peak_device_bytes(self) -> int | None:
        """The peak memory of a separate device so far; None on a CPU."""
        statistics = jax.devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] if statistics else None
