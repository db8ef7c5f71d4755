"""Which steps of which samples count: sequences of unequal length, and losses at the end of a sequence.

A mask is boolean, [T, B], and true where a loss counts. It acts on losses alone: the network runs over all steps, so padding
belongs behind a sequence, where nothing that counts comes after it, and has to be finite.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def valid_steps(lengths: Int[Array, " B"], n_steps: int) -> Bool[Array, "T B"]:
    """The steps before the end of each sequence: mask[t, b] = t < lengths[b].

    Args:
        lengths: steps of each sample, 0 to n_steps; a sample of 0 steps does not count.
        n_steps: T, steps of the padded batch.

    Returns:
        A mask for `gradients`, `train_offline`, `train_online` and `accuracy`.

    Raises:
        ValueError: lengths out of range. Under `jit`, where a value cannot raise, one beyond n_steps counts as n_steps.
    """
    _check_lengths("valid_steps", lengths, n_steps)
    return jnp.arange(n_steps, dtype=lengths.dtype)[:, None] < lengths[None]


def last_step(lengths: Int[Array, " B"], n_steps: int) -> Bool[Array, "T B"]:
    """The last step of each sequence alone: mask[t, b] = (t == lengths[b] - 1).

    With it the loss is that of the read-out at the end of each sequence. Under BPTT its gradient flows back to all steps;
    an online rule makes the same of it for every window, since the traces carry what the steps before contribute. For
    sequences that are not padded, `last_step(jnp.full(B, T), T)`.

    Args:
        lengths: steps of each sample, 0 to n_steps; a sample of 0 steps does not count.
        n_steps: T, steps of the padded batch.

    Returns:
        A mask, true once per sample.

    Raises:
        ValueError: lengths out of range. Under `jit`, where a value cannot raise, a sample longer than n_steps does not count.
    """
    _check_lengths("last_step", lengths, n_steps)
    return jnp.arange(n_steps, dtype=lengths.dtype)[:, None] == lengths[None] - 1


def check_mask(mask: Array, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless a mask is boolean, of `shape` [T, B], and true somewhere if its values can be looked at."""
    if mask.dtype != jnp.bool_ or mask.shape != shape:
        raise ValueError(
            f"Got a mask of {mask.dtype}{list(mask.shape)}, expected bool{list(shape)}, true where the loss of a step and "
            "sample counts. Make it with valid_steps(lengths, n_steps)."
        )
    some = mask.any()
    if not isinstance(some, jax.core.Tracer) and not some:
        raise ValueError(
            "Got a mask without a single true entry, expected at least one: there is no loss to take the mean of. Leave such "
            "batches out."
        )


def mean_of_valid(losses: Float[Array, "T B"], mask: Array | None, dtype: jnp.dtype) -> Float[Array, ""]:
    """The mean of the losses that count, added up in `dtype`; 0 if none does."""
    if mask is None:
        return jnp.mean(losses, dtype=dtype)
    return jnp.sum(jnp.where(mask, losses, 0), dtype=dtype) / jnp.maximum(jnp.sum(mask), 1).astype(dtype)


def _check_lengths(name: str, lengths: Array, n_steps: int) -> None:
    wrong = ((lengths < 0) | (lengths > n_steps)).any()
    if not isinstance(wrong, jax.core.Tracer) and wrong:
        raise ValueError(
            f"{name} got lengths from {lengths.min()} to {lengths.max()} for {n_steps} steps, expected 0 to {n_steps}. Give "
            "the length that the batch is padded to as n_steps."
        )
