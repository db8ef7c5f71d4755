"""Batches drawn with a key: a single random batch, or all batches of an epoch.

Sets are stored with samples first, `[D, T, N]`, so that selected rows are batches `[B, T, N]`, whereas cells take time first,
`[T, B, N]`. `time_first` converts in either direction; other files swap these axes only by this function.
"""

from collections.abc import Iterator
from functools import partial

import jax
from jax import random
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from slax_data.checks import check_finite, check_labels, check_size


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
    _check_sizes(inputs, labels, batch_size)
    chosen = random.permutation(key, len(inputs))[:batch_size]
    return inputs[chosen], labels[chosen]


def batches(
    key: PRNGKeyArray,
    inputs: Shaped[Array, "D ..."],
    labels: Int[Array, " D"],
    *,
    batch_size: int,
    drop_last: bool = False,
    n_classes: int | None = None,
) -> Iterator[tuple[Shaped[Array, "B ..."], Int[Array, " B"]]]:
    """One epoch: every sample once, in random order, batch by batch.

    Args:
        key: random key for the order.
        inputs: the full data set, one sample per row.
        labels: its labels.
        batch_size: samples B per batch, in 1..D.
        drop_last: leave out the last batch if it is smaller.
        n_classes: if given, labels outside 0..n_classes-1 are an error.

    Returns:
        An iterator over (inputs, labels) of a batch.

    Raises:
        ValueError: raised at the call, not at the first batch: a batch larger than the set, not as many labels as inputs,
            inputs that are NaN or infinite, or a label out of range.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import batches
        >>> images, labels = jnp.zeros((5, 64)), jnp.arange(5)
        >>> [x.shape for x, y in batches(jax.random.key(0), images, labels, batch_size=2)]
        [(2, 64), (2, 64), (1, 64)]
    """
    _check_sizes(inputs, labels, batch_size)
    check_finite("inputs", inputs)
    if n_classes is not None:
        check_labels(labels, n_classes=n_classes)
    order = random.permutation(key, len(inputs))
    stop = len(inputs) - len(inputs) % batch_size if drop_last else len(inputs)
    rows = (order[start : start + batch_size] for start in range(0, stop, batch_size))
    return ((inputs[chosen], labels[chosen]) for chosen in rows)


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
    if batch.ndim < 2:
        raise ValueError(f"time_first expects samples and time [B, T, ...], got the shape {list(batch.shape)}.")
    return batch.swapaxes(0, 1)


def _check_sizes(inputs: Shaped[Array, "..."], labels: Shaped[Array, "..."], batch_size: int) -> None:
    check_size("batch_size", batch_size)
    if labels.ndim != 1 or inputs.ndim == 0 or len(inputs) != len(labels):
        raise ValueError(
            f"inputs [D, ...] and labels [D] must have one row per sample, got shapes {list(inputs.shape)} and "
            f"{list(labels.shape)}. Put the sample axis first, and give integer labels, not one-hot ones."
        )
    if batch_size > len(inputs):
        raise ValueError(
            f"batch_size got {batch_size}, expected at most the {len(inputs)} samples of the set. "
            "Draw smaller batches: no sample may come twice."
        )
