"""Batches of a task without end, from any step on."""

import itertools
from collections.abc import Iterator

import jax
import numpy as np
from jax import random
from jaxtyping import Array, PRNGKeyArray

from slax_data.checks import check_size
from slax_data.task import Batch, Task


def stream(task: Task, key: PRNGKeyArray, *, batch_size: int, split: str = "train", start: int = 0) -> Iterator[Batch]:
    """An endless iterator over batches of a task: that of step i is `task.sample(fold_in(key, i), ...)`.

    The draw is jitted once. A run that was cut off goes on with the batches that it would have had, if it starts at the
    number of steps that are done.

    Args:
        task: from `make_task`, or your own.
        key: of all draws.
        batch_size: samples B per batch, at least 1.
        split: "train" or "test".
        start: the first step, at least 0.

    Returns:
        An iterator over (spikes [T, B, N], labels [B]).

    Raises:
        ValueError: at the call: a batch size that the task refuses, an unknown split, or a start below 0.
    """
    check_size("batch_size", batch_size)
    check_size("start", start, least=0)

    @jax.jit
    def draw(key: PRNGKeyArray, step: Array) -> Batch:
        return task.sample(random.fold_in(key, step), batch_size=batch_size, split=split)

    jax.eval_shape(draw, key, np.uint32(start))  # the task's own errors come now
    return (draw(key, np.uint32(step)) for step in itertools.count(start))
