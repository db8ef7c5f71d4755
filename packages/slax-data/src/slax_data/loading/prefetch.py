"""Prefetching: a thread makes batches and moves them to the device while the device works on earlier ones."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from slax_data.checks import check_size


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
