"""Batches: drawn with a key, padded to a common length, and prefetched by a thread while the device works on earlier ones.

Sets are stored with samples first, `[D, T, N]`, so that selected rows are batches `[B, T, N]`, whereas cells take time first,
`[T, B, N]`. `time_first` converts in either direction; other files swap these axes only by this function.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from slax_data.checks import check_finite, check_size


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

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import time_first
        >>> time_first(jnp.zeros((32, 100, 700))).shape
        (100, 32, 700)
    """
    return batch.swapaxes(0, 1)


def padded(
    sequences: Sequence[Float[Array, "_ N"] | Float[np.ndarray, "_ N"]], *, n_steps: int | None = None
) -> tuple[Float[Array, "T B N"], Bool[Array, "T B"]]:
    """Pad sequences [T_i, N] with zeros to one batch: `inputs[t, i] = sequences[i][t]` where `mask[t, i]`.

    Args:
        sequences: finite arrays with the same number of units and the same type. A sequence of 0 steps becomes padding only.
        n_steps: T, by default the length of the longest sequence.

    Returns:
        The batch, and a mask that is true for t < T_i, as expected by `gradients`, `fit` and `accuracy` of slax_rules.

    Raises:
        ValueError: no steps at all, sequences with different units or types, values that are not finite,
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
        raise ValueError(f"n_steps got {steps}, expected at least {lengths.max()}. Or cut: sequence[:n_steps].")
    inputs = np.zeros((steps, len(sequences), sequences[0].shape[1]), sequences[0].dtype)
    for i, sequence in enumerate(sequences):
        inputs[: len(sequence), i] = sequence
    return jnp.asarray(inputs), jnp.asarray(np.arange(steps)[:, None] < lengths[None])


def _check_sequences(sequences: Sequence[Shaped[Array, "..."] | Shaped[np.ndarray, "..."]]) -> None:
    """Raise an error unless there are sequences, all finite arrays [T_i, N] with the same N and the same type."""
    first = sequences[0]
    for i, sequence in enumerate(sequences):
        if sequence.ndim != 2 or sequence.shape[1] != first.shape[-1] or sequence.dtype != first.dtype:
            got = f"{sequence.dtype}{list(sequence.shape)} at {i} and {first.dtype}{list(first.shape)} at 0"
            raise ValueError(f"Got sequences {got}, expected arrays [T_i, N] of the same units and type.")
        check_finite(f"sequence {i}", sequence)


def prefetched(batches: Iterable[Any], size: int = 2, *, sharding: Any = None) -> Iterator[Any]:
    """Yield the same batches in the same order, with up to `size` of them on the device before they are requested.

    From the first request on, a thread takes them from `batches`. The thread ends with the batches, with an error, or when
    the consumer stops: at the latest when the iterator is closed or deleted, which waits for the batch in preparation.
    An error in `batches` is raised in place of the batch that failed.

    Args:
        batches: trees of arrays, such as (inputs, labels) or (inputs, labels, mask). The iterable runs in the thread, where
            contexts of the caller, such as `jax.default_device(...)`, do not apply.
        size: number of batches prepared ahead, at least 1; they are held in memory in addition to the batch in use.
        sharding: destination, as for `jax.device_put`: None for the default device, a device, a `jax.sharding.Sharding`
            for all arrays, or one for each array. To split the batch over the devices of a mesh with the axis "batch":
            `(NamedSharding(mesh, P(None, "batch")), NamedSharding(mesh, P("batch")))` for (inputs [T, B, N], labels [B]).

    Raises:
        ValueError: raised at the call: a size below 1.

    Example:
        >>> import numpy as np
        >>> from slax_data import prefetched
        >>> loader = ((np.full((20, 4, 8), i, np.float32), np.arange(4)) for i in range(3))
        >>> [float(inputs.max()) for inputs, labels in prefetched(loader)]
        [0.0, 1.0, 2.0]
    """
    check_size("size", size)
    return _ahead(batches, size, sharding)


def _ahead(batches: Iterable[Any], size: int, sharding: Any) -> Iterator[Any]:
    source, end = iter(batches), object()

    def make() -> Any:
        batch = next(source, end)
        return end if batch is end else jax.device_put(batch, sharding)

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetched")
    try:
        waiting: deque[Future] = deque(thread.submit(make) for _ in range(size))
        while (batch := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(make))
            yield batch
    finally:
        thread.shutdown(cancel_futures=True)
