"""Training steps: one batch, with one optimiser step for the sequence or one for each window."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.engine import check_sequence, scan_chunks
from slax_rules.gradients import LossFn, gradients, initial_carry, loss_dtype, targets_per_step, window_gradient


def train_offline(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    inputs: Float[Array, "T B ..."],
    targets: Array,
    *,
    window: int | None = None,
    carry: Any = None,
) -> Float[Array, ""]:
    """One optimiser step with the gradient of the whole sequence, as `gradients` makes it. Returns the loss.

    Updates `model` and `optimizer` in place, as Flax NNX does; use it under
    `nnx.jit(train_offline, static_argnames=("loss_fn", "window"))`.

    Args:
        model: a cell, plain (BPTT, TBPTT) or under a local rule.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`, made with this cell or with one that shares its
            parameters.
        loss_fn, inputs, targets, window, carry: see `gradients`.
    """
    loss, gradient = gradients(model, loss_fn, inputs, targets, window=window, carry=carry)
    optimizer.update(model, gradient)
    return loss


def train_online(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    inputs: Float[Array, "T B ..."],
    targets: Array,
    *,
    window: int = 1,
    carry: Any = None,
) -> Float[Array, ""]:
    """One optimiser step after each window of the sequence. Returns the mean loss over the sequence.

    Each step uses the gradient of the mean loss over its window and the batch. State and traces go on unchanged across
    updates, so they mix parameters of different age, as is usual. Otherwise like `train_offline`.

    Args:
        window: steps between updates, >= 1.
    """
    check_sequence(inputs)
    per_step = targets_per_step(inputs, targets)
    steps = inputs.shape[0]
    graphdef, state = nnx.split((model, optimizer))

    def update(total: tuple[Array, nnx.State, Any], piece: tuple[Array, Array | None]) -> tuple[Any, None]:
        loss, state, carry = total
        xs, ys = piece
        model, optimizer = nnx.merge(graphdef, state)
        new_loss, gradient, carry = window_gradient(model, loss_fn, carry, xs, targets if ys is None else ys)
        optimizer.update(model, gradient)
        return (loss + xs.shape[0] / steps * new_loss, nnx.state((model, optimizer)), carry), None

    start = (jnp.zeros((), loss_dtype(inputs)), state, initial_carry(model, inputs, carry))
    (loss, state, _), _ = scan_chunks(update, start, (inputs, targets if per_step else None), window)
    nnx.update((model, optimizer), state)
    return loss
