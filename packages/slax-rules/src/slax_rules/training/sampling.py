"""Batches drawn by key: an endless stream, cut into epochs."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jaxtyping import Array, Key

# Inputs [T, B, ...], targets, and a mask [T, B] if there is one.
Batch = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Sampler:
    """Batches drawn by key: batch i of epoch e is `sample(fold_in(fold_in(key, e), i))`.

    `fit` draws them inside its jitted steps, many steps in one call.

    Args:
        sample: maps a key to (inputs, targets) or (inputs, targets, mask), under `jit`, as in
            `functools.partial(task.sample, batch_size=32)`.
        key: key of all draws.
        steps: number of batches per epoch, >= 1.

    Raises:
        ValueError: steps below 1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_rules import Sampler
        >>> def sample(key):
        ...     return jax.random.bernoulli(key, 0.3, (20, 32, 8)), jnp.arange(32) % 4
        >>> batches = Sampler(sample, jax.random.key(0), steps=100)
        >>> batches.batch(epoch=0, index=99)[0].shape
        (20, 32, 8)
    """

    sample: Callable[[Array], tuple[Any, ...]]
    key: Key[Array, ""]
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Sampler got {self.steps} steps per epoch, expected at least 1.")

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, one by one."""
        return (self.batch(epoch, index) for index in range(self.steps))

    def batch(self, epoch: int, index: int) -> Batch:
        """Draw one batch."""
        return self.sample(jax.random.fold_in(self.epoch_key(epoch), index))

    def epoch_key(self, epoch: int) -> Key[Array, ""]:
        """The key of an epoch."""
        return jax.random.fold_in(self.key, epoch)
