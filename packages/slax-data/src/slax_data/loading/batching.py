"""Batches drawn with a key.

Sets are stored with samples first, `[D, T, N]`, so that selected rows are batches `[B, T, N]`, whereas cells take time first,
`[T, B, N]`. `time_first` converts in either direction; other files swap these axes only by this function.
"""

from functools import partial

import jax
from jax import random
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from slax_data.checks import check_size


@partial(jax.jit, static_argnames="batch_size")
def take_batch(
    key: PRNGKeyArray, inputs: Shaped[Array, "D ..."], labels: Int[Array, " D"], *, batch_size: int
) -> tuple[Shaped[Array, "B ..."], Int[Array, " B"]]:
    """Draw a batch without replacement.

    Args:
        key: random key for the draw.
        inputs: the full data set, one sample per row.
        labels: its labels; their range is not checked, see `check_labels`.
        batch_size: samples B, in 1..D.

    Returns:
        B different rows of the inputs, in random order, and their labels.

    Raises:
        ValueError: a batch larger than the set, or not as many labels as inputs.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import take_batch
        >>> images, labels = jnp.zeros((100, 64)), jnp.arange(100) % 10
        >>> batch, its_labels = take_batch(jax.random.key(0), images, labels, batch_size=32)
        >>> batch.shape, its_labels.shape
        ((32, 64), (32,))
    """
    check_size("batch_size", batch_size)
    if labels.ndim != 1 or inputs.ndim == 0 or len(inputs) != len(labels):
        raise ValueError(f"Got inputs {list(inputs.shape)} and labels {list(labels.shape)}, expected [D, ...] and [D].")
    if batch_size > len(inputs):
        raise ValueError(f"batch_size got {batch_size}, expected at most the {len(inputs)} samples of the set.")
    chosen = random.permutation(key, len(inputs))[:batch_size]
    return inputs[chosen], labels[chosen]


def time_first(batch: Shaped[Array, "B T ..."]) -> Shaped[Array, "T B ..."]:
    """Swap the first two axes of a batch, so that samples first becomes time first.

    Raises:
        ValueError: fewer than two axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import time_first
        >>> time_first(jnp.zeros((32, 100, 700))).shape
        (100, 32, 700)
    """
    return batch.swapaxes(0, 1)
