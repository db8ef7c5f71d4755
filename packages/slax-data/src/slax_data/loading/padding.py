"""Sequences of unequal length, padded to a common length and sorted into buckets so that little padding is needed."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Bool, Float, Int, Int32, PRNGKeyArray, Shaped

from slax_data.checks import check_finite, check_labels, check_size

Sequences = Sequence[Float[Array, "_ N"] | Float[np.ndarray, "_ N"]]
PaddedBatch = tuple[Float[Array, "T B N"], Int[Array, " B"], Bool[Array, "T B"]]


def padded(sequences: Sequences, *, n_steps: int | None = None) -> tuple[Float[Array, "T B N"], Bool[Array, "T B"]]:
    """One batch of sequences [T_i, N], each followed by zeros: `inputs[t, i] = sequences[i][t]` where `mask[t, i]`.

    Args:
        sequences: finite arrays with the same number of units and the same type. A sequence of 0 steps becomes padding only.
        n_steps: T, by default the length of the longest sequence.

    Returns:
        The batch, and a mask that is true for t < T_i, as expected by `gradients`, `fit` and `accuracy` of slax_rules.

    Raises:
        ValueError: no sequences, no steps at all, sequences with different units or types, values that are not finite,
            or a sequence longer than `n_steps`.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import padded
        >>> inputs, mask = padded([jnp.ones((3, 2)), jnp.ones((1, 2))])
        >>> inputs.shape
        (3, 2, 2)
        >>> mask
        Array([[ True,  True],
               [ True, False],
               [ True, False]], dtype=bool)
    """
    _check_sequences(sequences)
    lengths = np.array([len(sequence) for sequence in sequences])
    steps = int(lengths.max()) if n_steps is None else n_steps
    check_size("number of steps to pad to", steps)
    if lengths.max() > steps:
        raise ValueError(
            f"n_steps got {steps}, expected at least the {lengths.max()} steps of the longest sequence. Nothing is cut off: "
            "cut sequences yourself, sequence[:n_steps]."
        )
    inputs = np.zeros((steps, len(sequences), sequences[0].shape[1]), sequences[0].dtype)
    for i, sequence in enumerate(sequences):
        inputs[: len(sequence), i] = sequence
    return jnp.asarray(inputs), jnp.asarray(np.arange(steps)[:, None] < lengths[None])


def buckets(
    lengths: Sequence[int] | Int[np.ndarray, " D"], *, boundaries: Sequence[int]
) -> list[Int[np.ndarray, " _"]]:
    """Sort sequences by length: bucket k holds boundaries[k - 1] < length <= boundaries[k], the first bucket all shorter ones.

    Args:
        lengths: number of steps of each sequence, at least 0.
        boundaries: the greatest length of each bucket, increasing. The last is at least the length of the longest sequence.

    Returns:
        The indices of the sequences in each bucket, increasing. A bucket may be empty.

    Raises:
        ValueError: no lengths, a length below 0 or beyond the last boundary, no boundaries, or boundaries that do not increase.

    Example:
        >>> from slax_data import buckets
        >>> buckets([3, 12, 7, 30], boundaries=[10, 30])
        [array([0, 2]), array([1, 3])]
    """
    steps, limits = np.asarray(lengths), np.asarray(boundaries)
    if limits.ndim != 1 or not limits.size or limits[0] < 1 or np.any(np.diff(limits) <= 0):
        raise ValueError(f"boundaries must be increasing numbers of steps, from 1, got {list(boundaries)}.")
    if steps.ndim != 1 or not steps.size or not np.issubdtype(steps.dtype, np.integer) or steps.min() < 0:
        raise ValueError(f"lengths must be whole numbers of steps, at least one of them, none below 0, got {steps}.")
    if steps.max() > limits[-1]:
        raise ValueError(
            f"The longest sequence has {steps.max()} steps, and the last of the boundaries is {limits[-1]}. "
            "Add a boundary, or cut the sequence."
        )
    bucket_of = np.searchsorted(limits, steps)
    return [np.flatnonzero(bucket_of == k) for k in range(len(limits))]


def bucketed_batches(
    key: PRNGKeyArray,
    sequences: Sequences,
    labels: Int[Array, " D"] | Int[np.ndarray, " D"],
    *,
    batch_size: int,
    boundaries: Sequence[int],
    drop_last: bool = False,
    n_classes: int | None = None,
) -> Iterator[PaddedBatch]:
    """One epoch of sequences of unequal length: each once, in batches of similar length padded to the bucket's boundary.

    The order within a bucket is random, and so is the order of the batches. All batches of a bucket have one shape, except for
    a smaller last one, so a jitted step is compiled for at most 2 shapes per bucket, or 1 with `drop_last`.

    Args:
        key: random key for the orders.
        sequences: [T_i, N], see `padded`.
        labels: one label per sequence.
        batch_size: sequences B per batch, at least 1.
        boundaries: see `buckets`.
        drop_last: leave out the last batch of each bucket if it is smaller.
        n_classes: if given, labels outside 0..n_classes-1 are an error.

    Returns:
        An iterator over (inputs [T, B, N], labels [B], mask [T, B]), T being one of the boundaries.

    Raises:
        ValueError: raised at the call, not at the first batch: the errors of `padded` and `buckets`, a batch size below 1,
            not as many labels as sequences, a label out of range, or no batch at all.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import bucketed_batches
        >>> sequences, labels = [jnp.ones((steps, 5)) for steps in (3, 12, 7, 30)], jnp.arange(4)
        >>> drawn = bucketed_batches(jax.random.key(0), sequences, labels, batch_size=2, boundaries=[10, 30])
        >>> sorted((inputs.shape, int(mask.sum())) for inputs, its_labels, mask in drawn)
        [((10, 2, 5), 10), ((30, 2, 5), 42)]
    """
    check_size("batch_size", batch_size)
    _check_sequences(sequences)
    classes = np.asarray(labels)
    if classes.shape != (len(sequences),):
        raise ValueError(
            f"Got {len(sequences)} sequences and labels of shape {list(classes.shape)}, expected one for each."
        )
    if n_classes is not None:
        check_labels(classes, n_classes=n_classes)
    order_key, batch_key = random.split(key)
    plan: list[tuple[int, Int32[np.ndarray, " B"]]] = []
    for k, members in enumerate(buckets([len(sequence) for sequence in sequences], boundaries=boundaries)):
        order = members[np.asarray(random.permutation(random.fold_in(order_key, k), len(members)))]
        stop = len(order) - len(order) % batch_size if drop_last else len(order)
        plan += [(boundaries[k], order[start : min(start + batch_size, stop)]) for start in range(0, stop, batch_size)]
    if not plan:
        raise ValueError(
            f"No bucket has the {batch_size} sequences of a batch. Draw smaller batches, or drop_last=False."
        )

    def batch(number: int) -> PaddedBatch:
        n_steps, chosen = plan[number]
        inputs, mask = padded([sequences[i] for i in chosen], n_steps=n_steps)
        return inputs, jnp.asarray(classes[chosen]), mask

    return (batch(number) for number in np.asarray(random.permutation(batch_key, len(plan))).tolist())


def _check_sequences(sequences: Sequence[Shaped[Array, "..."] | Shaped[np.ndarray, "..."]]) -> None:
    """Raise an error unless there are sequences, all finite arrays [T_i, N] with the same N and the same type."""
    if not len(sequences):
        raise ValueError("Got no sequences, expected arrays [T_i, N], at least one of them.")
    first = sequences[0]
    for i, sequence in enumerate(sequences):
        if sequence.ndim != 2 or sequence.shape[1] != first.shape[-1] or sequence.dtype != first.dtype:
            raise ValueError(
                f"Got sequences {sequence.dtype}{list(sequence.shape)} at {i} and {first.dtype}{list(first.shape)} at 0, "
                "expected arrays [T_i, N] of the same units and type."
            )
        check_finite(f"sequence {i}", sequence)
