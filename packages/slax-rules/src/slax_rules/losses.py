"""Losses per step and sample, and the accuracy of a read-out.

A loss function maps the outputs [K, B, ...] of a window and the targets to losses [K, B]. `gradients` takes their mean, over
all of them or over the true entries of a mask: `last_step(lengths, T)` makes it the loss at the end.

The loss of an output that is summed, averaged or maximised over time is not of this form, and an online rule cannot have it:
the derivative of such a loss by the output of step t is known only after the last step, and the rule needs it in step t. There
are two ways to have what is meant by it. One is a state that holds the sum: let the stack end in an `LI` with a decay close to
1, and take the loss of its last step. The other is the loss of every step: `cross_entropy` and `squared_error` are convex, so
its mean over time is at least the loss of the mean output.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, DTypeLike, Float

from slax_rules.masks import check_mask


def cross_entropy(outputs: Float[Array, "T B C"], labels: Array) -> Float[Array, "T B"]:
    """Softmax cross entropy of each step's output: -log softmax(outputs_t)[label], in float32 at least.

    Args:
        outputs: logits of each step.
        labels: integers 0..C-1, [B], one for the sequence, or [T, B], one per step. Steps that a mask leaves out need one too.

    Returns:
        The loss of each step and sample. Under `jit`, where a value cannot raise, a label out of range makes it NaN.

    Raises:
        ValueError: labels out of range.
    """
    valid = _valid("cross_entropy", labels, outputs.shape[-1])
    steps = jnp.broadcast_to(jnp.where(valid, labels, 0), outputs.shape[:-1])
    logits = outputs.astype(sum_dtype(outputs.dtype))
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, steps)
    return jnp.where(jnp.broadcast_to(valid, losses.shape), losses, jnp.nan)


def squared_error(outputs: Float[Array, "T B ..."], targets: Array) -> Float[Array, "T B"]:
    """Mean squared error of each step's output over its features: mean((outputs_t - target)^2), in float32 at least.

    Args:
        outputs: of each step.
        targets: [B, features...], one for the sequence, or [T, B, features...], one per step, in a floating dtype.

    Returns:
        The loss of each step and sample.

    Raises:
        ValueError: targets of another shape, or integers.
    """
    if targets.shape not in (outputs.shape, outputs.shape[1:]) or not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ValueError(
            f"squared_error got targets of {targets.dtype}{list(targets.shape)} for outputs of {list(outputs.shape)}, expected "
            f"floating-point numbers of shape {list(outputs.shape[1:])} or {list(outputs.shape)}. Of labels, make targets with "
            "jax.nn.one_hot."
        )
    dtype = sum_dtype(outputs.dtype)
    errors = outputs.astype(dtype) - jnp.broadcast_to(targets.astype(dtype), outputs.shape)
    return jnp.mean(errors**2, axis=tuple(range(2, errors.ndim)))


def accuracy(outputs: Float[Array, "T B C"], labels: Array, mask: Array | None = None) -> Float[Array, ""]:
    """Share of samples whose label has the largest output, summed over time; a tie counts as wrong.

    A silent read-out is a tie of all classes, so it is wrong, as in the OTPE paper's evaluation.

    Args:
        outputs: of each step.
        labels: integers 0..C-1, [B]. One out of range is an error, or makes the result NaN under `jit`.
        mask: bool [T, B], true where a step counts. Samples without a true step are left out; without any sample left, which
            only `jit` lets through, the result is 0.

    Raises:
        ValueError: labels out of range, a mask of a wrong shape or without a true entry.
    """
    valid = _valid("accuracy", labels, outputs.shape[-1])
    if mask is None:
        counted = jnp.ones(labels.shape, bool)
    else:
        check_mask(mask, outputs.shape[:2])
        counted = mask.any(axis=0)
        outputs = jnp.where(mask[..., None], outputs, 0)
    labels = jnp.where(valid, labels, 0)
    totals = jnp.sum(outputs, axis=0, dtype=sum_dtype(outputs.dtype))
    of_label = jnp.take_along_axis(totals, labels[:, None], axis=-1)
    others = jnp.where(jnp.arange(totals.shape[-1])[None] == labels[:, None], -jnp.inf, totals)
    right = (of_label > others).all(axis=-1).astype(totals.dtype)
    # A sample that is left out is silent here, and so adds 0.
    return jnp.sum(jnp.where(valid, right, jnp.nan)) / jnp.maximum(jnp.sum(counted), 1).astype(right.dtype)


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
