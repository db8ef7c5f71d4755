"""Losses per step and sample, and the accuracy of a read-out."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, DTypeLike, Float


def cross_entropy(outputs: Float[Array, "T B C"], labels: Array) -> Float[Array, "T B"]:
    """Softmax cross entropy of each step's output: -log softmax(outputs_t)[label].

    Args:
        outputs: logits of each step.
        labels: integers 0..C-1, [B], one for the sequence, or [T, B], one per step.

    Returns:
        The loss of each step and sample. Under `jit`, where a value cannot raise, a label out of range makes it NaN.

    Raises:
        ValueError: labels out of range.
    """
    valid = _valid("cross_entropy", labels, outputs.shape[-1])
    steps = jnp.broadcast_to(jnp.where(valid, labels, 0), outputs.shape[:-1])
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(outputs, steps)
    return jnp.where(jnp.broadcast_to(valid, losses.shape), losses, jnp.nan)


def accuracy(outputs: Float[Array, "T B C"], labels: Array) -> Float[Array, ""]:
    """Share of samples whose label has the largest output, summed over time; a tie counts as wrong.

    A silent read-out is a tie of all classes, so it is wrong, as in the OTPE paper's evaluation. Labels [B] out of range are
    an error, or make it NaN under `jit`.
    """
    valid = _valid("accuracy", labels, outputs.shape[-1])
    labels = jnp.where(valid, labels, 0)
    totals = jnp.sum(outputs, axis=0)
    of_label = jnp.take_along_axis(totals, labels[:, None], axis=-1)
    others = jnp.where(jnp.arange(totals.shape[-1])[None] == labels[:, None], -jnp.inf, totals)
    right = (of_label > others).all(axis=-1).astype(totals.dtype)
    return jnp.mean(jnp.where(valid, right, jnp.nan))


def sum_dtype(dtype: DTypeLike) -> jnp.dtype:
    """The dtype to add up numbers of `dtype` in: float32 at least."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.dtype(dtype).itemsize >= 4
    return jnp.dtype(dtype if wide else jnp.float32)


def _valid(name: str, labels: Array, n_classes: int) -> Array:
    """Where labels are in range; raises if some are not and a value can be looked at."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"{name} got labels of {labels.dtype}, expected integers 0 to {n_classes - 1}, not one-hot vectors."
        )
    valid = (labels >= 0) & (labels < n_classes)
    if not isinstance(valid, jax.core.Tracer) and not valid.all():
        raise ValueError(
            f"{name} got labels from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1} for outputs of "
            f"{n_classes} classes. Widen the read-out or renumber the labels."
        )
    return valid
