"""An endless stream of batches from a task, starting at any step."""

import itertools
from collections.abc import Iterator

import jax
import numpy as np
from jax import random
from jaxtyping import Array, PRNGKeyArray

from slax_data.checks import check_size
from slax_data.task import Task


def stream(
    task: Task, key: PRNGKeyArray, *, batch_size: int, split: str = "train", start: int = 0
) -> Iterator[tuple[Array, ...]]:
    """An endless iterator over batches of a task: the batch of step i is `task.sample(fold_in(key, i), ...)`.

    The draw is jitted once. An interrupted run continues with the batches that it would have had if it starts at the
    number of completed steps.

    Args:
        task: a task made by `make_task`, or one of your own.
        key: random key for all draws.
        batch_size: samples B per batch, at least 1.
        split: "train" or "test".
        start: the first step, at least 0.

    Returns:
        An iterator over (spikes [T, B, N], labels [B]).

    Raises:
        ValueError: at the call: a batch size that the task rejects, an unknown split, or a start below 0.

    Example:
        >>> import jax
        >>> from slax_data import make_task, stream
        >>> task = make_task("randman", jax.random.key(0), n_steps=20, n_classes=3, n_units=5)
        >>> batches = stream(task, jax.random.key(1), batch_size=8)
        >>> spikes, labels = next(batches)
        >>> spikes.shape, labels.shape
        ((20, 8, 5), (8,))
    """
    check_size("batch_size", batch_size)
    check_size("start", start, least=0)

    @jax.jit
    def draw(key: PRNGKeyArray, step: Array) -> tuple[Array, ...]:
        return task.sample(random.fold_in(key, step), batch_size=batch_size, split=split)

    jax.eval_shape(draw, key, np.uint32(start))  # raises the task's own errors now
    return (draw(key, np.uint32(step)) for step in itertools.count(start))
