"""The loss of a window, and its gradient w.r.t. the heads that a rule reads from the model.

Losses refer to the full batch, even if each device has only a share of it: `axis` is then the name of the mesh axis over the
batch, else None.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.loop.targets import Targets
from slax_rules.losses import LossFn, SequenceLoss, sum_dtype
from slax_rules.rule import SignalFn


def all_reduce(tree: Any, axis: str | None) -> Any:
    """Sum a tree over devices."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def step_losses(loss_fn: LossFn, outputs: Any, targets: Targets) -> Float[Array, "K B"]:
    """The loss of each step and sample.

    Raises:
        ValueError: a loss function that does not return one loss per sample of a step.
    """
    losses = jax.vmap(loss_fn, in_axes=(0, targets.step_axes))(outputs, targets.tree)
    steps, batch = jax.tree.leaves(outputs)[0].shape[:2]
    if not isinstance(losses, jax.Array) or losses.shape != (steps, batch):
        shapes = jax.tree.map(lambda leaf: list(leaf.shape[1:]), outputs)
        got = list(losses.shape[1:]) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(
            f"loss_fn made {got} of the outputs {shapes} of one step, expected one loss per sample, [{batch}]. It is the loss "
            "of one step, as Optax's losses are; a loss of the whole sequence is SequenceLoss(function)."
        )
    return losses


def sequence_losses(loss_fn: SequenceLoss, outputs: Any, targets: Targets, mask: Array | None) -> Float[Array, " B"]:
    """The loss of each sample.

    Raises:
        ValueError: a loss function that does not return one loss per sample.
    """
    losses = loss_fn(outputs, targets.tree, *(() if mask is None else (mask,)))
    batch = jax.tree.leaves(outputs)[0].shape[1]
    if not isinstance(losses, jax.Array) or losses.shape != (batch,):
        got = list(losses.shape) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(
            f"SequenceLoss made {got} of outputs for {batch} samples, expected one loss per sample, [{batch}]: its function "
            "maps outputs [T, B, ...] and targets to losses [B]."
        )
    return losses


def counted(mask: Array | None, shape: tuple[int, ...], axis: str | None) -> Array:
    """The number of losses that count in the full batch, at least 1."""
    number = jnp.asarray(shape[0] * shape[1], jnp.int32) if mask is None else jnp.sum(mask, dtype=jnp.int32)
    return jnp.maximum(all_reduce(number, axis), 1)


def step_signal_fn(loss_fn: LossFn, targets: Targets, mask: Array | None, axis: str | None) -> SignalFn:
    """Make the function for the mean loss of a window over steps and samples that count, and its gradient w.r.t. the heads."""

    def signal_fn(heads: list[Any]) -> tuple[Array, list[Any]]:
        leaf = _first_leaf(heads)
        dtype = sum_dtype(leaf.dtype)
        count = counted(mask, leaf.shape[:2], axis).astype(dtype)

        def total(heads: list[Any]) -> tuple[Array, Array]:
            losses = [step_losses(loss_fn, head, targets) for head in heads]
            valid = [one if mask is None else jnp.where(mask, one, 0) for one in losses]
            means = [jnp.sum(one, dtype=dtype) / count for one in valid]
            return sum(means[1:], start=means[0]), means[0]

        (_, loss), signals = jax.value_and_grad(total, has_aux=True)(heads)
        return all_reduce(loss, axis), _where_counted(mask, signals)

    return signal_fn


def sequence_signal_fn(loss: SequenceLoss, targets: Targets, mask: Array | None, axis: str | None) -> SignalFn:
    """Make the function for the mean loss of entire sequences over samples that count, and its gradient w.r.t. the heads."""

    def signal_fn(heads: list[Any]) -> tuple[Array, list[Any]]:
        leaf = _first_leaf(heads)
        dtype, batch = sum_dtype(leaf.dtype), leaf.shape[1]
        valid = None if mask is None else mask.any(axis=0, keepdims=True)
        count = counted(valid, (1, batch), axis).astype(dtype)

        def total(heads: list[Any]) -> tuple[Array, Array]:
            losses = [sequence_losses(loss, head, targets, mask) for head in heads]
            losses = [one if valid is None else jnp.where(valid[0], one, 0) for one in losses]
            means = [jnp.sum(one, dtype=dtype) / count for one in losses]
            return sum(means[1:], start=means[0]), means[0]

        (_, value), signals = jax.value_and_grad(total, has_aux=True)(heads)
        return all_reduce(value, axis), _where_counted(valid, signals)

    return signal_fn


def _first_leaf(heads: list[Any]) -> Array:
    """Return the first array of the heads; all must be floating-point, since the loss has a gradient w.r.t. each."""
    for leaf in jax.tree.leaves(heads):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"Got outputs of {leaf.dtype}{list(leaf.shape[2:])} per sample, expected floating-point numbers: a loss has "
                "a gradient w.r.t. all outputs of the model. Cast them, or leave them out of the outputs."
            )
    return jax.tree.leaves(heads)[0]


def _where_counted(mask: Array | None, signals: list[Any]) -> list[Any]:
    """Set the signals of losses that do not count to zero: 0 times the slope of such a loss may be NaN instead of 0."""
    if mask is None:
        return signals
    return jax.tree.map(lambda s: jnp.where(mask.reshape(*mask.shape, *[1] * (s.ndim - 2)), s, 0), signals)
