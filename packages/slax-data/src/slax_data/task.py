"""What an experiment needs to know of a data set."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Array, Float, Int32

SPLITS = ("train", "test")

Batch = tuple[Float[Array, "T B N"], Int32[Array, " B"]]


@dataclass(frozen=True)
class Task:
    """Spike trains to classify.

    n_units, n_classes, n_steps: the sizes N, number of classes and T of its batches.
    sample: `sample(key, *, batch_size, split="train") -> (spikes [T, B, N], labels [B])` draws a batch of the split
        "train" or "test". It can be called inside `jax.jit`; `batch_size` and `split` are static.
    test_set: the whole test split as (spikes [T, B, N], labels [B]), or None where new samples can be drawn for ever.
    """

    n_units: int
    n_classes: int
    n_steps: int
    sample: Callable[..., Batch]
    test_set: Batch | None = None
