"""Batches ahead of use: made and moved to the device in a thread, while the device works on those before."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from slax_data.checks import check_size


def prefetched(batches: Iterable[Any], size: int = 2, *, sharding: Any = None) -> Iterator[Any]:
    """The same batches in the same order, of which up to `size` are on the device before they are asked for.

    A thread takes them from `batches` from the first request on. It ends with the batches, with an error, and when the
    consumer stops: at the latest when the iterator is closed or dropped, which waits for the batch that is being made.
    An error in `batches` is raised where its batch would have come.

    Args:
        batches: trees of arrays, as (inputs, labels) or (inputs, labels, mask). It runs in the thread, where contexts of the
            caller, as `jax.default_device(...)`, do not hold.
        size: batches ahead of use, at least 1: what is held in memory beside the batch in use.
        sharding: where they go, as `jax.device_put` takes it: None for the default device, a device, a `jax.sharding.Sharding`
            for all arrays, or one for each, as for shares of the batch of each device of a mesh with the axis "batch":
            `(NamedSharding(mesh, P(None, "batch")), NamedSharding(mesh, P("batch")))` for (inputs [T, B, N], labels [B]).

    Raises:
        ValueError: at the call: a size below 1.
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
