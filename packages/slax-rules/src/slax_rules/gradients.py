"""The one loop: gradients window by window, added up."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, unroll
from slax_neurons.engine import check_sequence, scan_chunks
from slax_neurons.modules import changes_itself
from slax_rules.losses import sum_dtype
from slax_rules.masks import check_mask, mean_of_valid
from slax_rules.online import OnlineCell, traces_of, with_traces

# Up to so many windows, the making of the traces that nothing reads is a share worth a second program.
FEW_WINDOWS = 3

LossFn = Callable[[Array, Array], Array]


def gradients(
    model: nnx.RNNCellBase,
    loss_fn: LossFn,
    inputs: Float[Array, "T B ..."],
    targets: Array,
    *,
    window: int | None = None,
    carry: Any = None,
    mask: Array | None = None,
) -> tuple[Float[Array, ""], nnx.State]:
    """The loss of a sequence and its gradient under the model's learning rule, at fixed parameters.

    The loss is the mean over time and batch, or over the entries of `mask` that are true. State and traces enter each window
    as numbers, so memory does not grow with the number of windows. Wrap it in
    `nnx.jit(gradients, static_argnames=("loss_fn", "window"))`. It changes nothing of the model but what modules change
    themselves, in place: the statistics of a BatchNorm in training (of each window), random streams.

    Args:
        model: a cell. The rule that wraps it, if any, makes the gradient.
        loss_fn: maps outputs [K, B, C] and targets to losses [K, B].
        inputs: time first, [T, B, features...].
        targets: one per sequence, [B, ...], given to each window whole, or one per step, [T, B, ...], cut like the inputs.
            They count as one per step if their first two axes are T and B.
        window: steps between which gradients flow. For a plain cell it is the rule: the whole sequence (the default) is
            BPTT, K is TBPTT(K), 1 is SLTT. For a cell under a local rule it only sets how many steps are worked on at once.
        carry: to start with; `model.initialize_carry(inputs.shape[1:])` by default. Some Flax cells need a key for it.
        mask: bool [T, B], true where a loss counts: `valid_steps(lengths, T)` for sequences of unequal length, whose padding
            then changes neither loss nor gradient, `last_step(lengths, T)` for a loss at the end. All count by default.

    Returns:
        The loss, and the gradient in the structure of `nnx.state(model, nnx.Param)`. Both are zero if no entry of the mask is
        true, which only `jit` lets through.

    Raises:
        ValueError: inputs, targets, mask or losses of a wrong shape, a mask without a true entry, or a window below 1.

    Note:
        Over windows, losses and gradients are added up in float32 at least, and the gradient is handed out in the dtype of the
        parameters. Within a window, reverse mode adds in the dtype that the model computes in.
    """
    check_sequence(inputs)
    per_step = targets_per_step(inputs, targets)
    if mask is not None:
        check_mask(mask, inputs.shape[:2])
    carry = initial_carry(model, inputs, carry)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def add_window(
        total: tuple[Array, Any, Any, Any], piece: tuple[Array, Array | None, Array | None]
    ) -> tuple[Any, None]:
        loss, gradient, carry, rest = total
        xs, ys, valid = piece
        copy = nnx.merge(graphdef, params, rest, copy=True)
        new_loss, new_gradient, carry = window_gradient(copy, loss_fn, carry, xs, targets if ys is None else ys, valid)
        share = window_share(xs, valid, inputs, mask)
        return (
            loss + share * new_loss,
            jax.tree.map(lambda g, new: g + share.astype(g.dtype) * new.astype(g.dtype), gradient, new_gradient),
            carry,
            nnx.state(copy, nnx.Not(nnx.Param)),
        ), None

    zero = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), params)
    start = (jnp.zeros((), sum_dtype(inputs.dtype)), zero, carry, rest)
    pieces = (inputs, targets if per_step else None, mask)
    size, steps = default_window(model, inputs, window), inputs.shape[0]
    # With few windows of a rule with traces the last by itself: nothing reads those at its end, and XLA leaves them out.
    few = 1 <= size < steps <= FEW_WINDOWS * size and jax.tree.leaves(traces_of(carry))
    before = (steps - 1) // size * size if few else 0
    if before:
        start, _ = scan_chunks(add_window, start, jax.tree.map(lambda x: x[:before], pieces), size)
    (loss, gradient, _, rest), _ = scan_chunks(add_window, start, jax.tree.map(lambda x: x[before:], pieces), size)
    if changes_itself(model):
        nnx.update(model, rest)
    return loss, jax.tree.map(lambda g, p: g.astype(p.dtype), gradient, params)


def window_gradient(
    model: nnx.RNNCellBase,
    loss_fn: LossFn,
    carry: Any,
    inputs: Float[Array, "K B ..."],
    targets: Array,
    mask: Array | None = None,
) -> tuple[Float[Array, ""], nnx.State, Any]:
    """Mean loss over one window, its gradient, and the carry at its end; `carry` enters as a number.

    The mean is over the entries of `mask` [K, B] that are true, if there is a mask; without a true entry loss and gradient are
    zero. Modules that change their own variables do so in place.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    # A rule keeps the traces of each chunk for its reverse pass: one chunk, so that it keeps one.
    chunk = inputs.shape[0] if any(isinstance(cell, OnlineCell) for cell in _cells(model)) else None

    def mean_loss(params: nnx.State, traces: list[Any]) -> tuple[Array, Any]:
        copy = nnx.merge(graphdef, params, rest, copy=True)
        new_carry, outputs = unroll(copy, with_traces(carry, traces), inputs, chunk=chunk)
        losses = loss_fn(outputs, targets)
        if losses.shape != outputs.shape[:2]:
            raise ValueError(
                f"loss_fn made {list(losses.shape)} of outputs {list(outputs.shape)}, expected one loss per step and sample, "
                f"{list(outputs.shape[:2])}. The mean over both is taken for it."
            )
        return mean_of_valid(losses, mask, sum_dtype(inputs.dtype)), (new_carry, nnx.state(copy, nnx.Not(nnx.Param)))

    # The reverse pass of a rule hands the traces at the end of the window out as if they were cotangents (`engine.py`).
    (loss, (carry, rest)), (gradient, traces) = jax.value_and_grad(mean_loss, (0, 1), has_aux=True)(
        params, traces_of(carry)
    )
    if changes_itself(model):
        nnx.update(model, rest)
    return loss, gradient, with_traces(carry, traces)


def window_share(xs: Array, valid: Array | None, inputs: Array, mask: Array | None) -> Float[Array, ""]:
    """The share of a window in the entries that count: of its steps, or of the true entries of its part of the mask."""
    if valid is None or mask is None:
        return jnp.asarray(xs.shape[0] / inputs.shape[0], sum_dtype(inputs.dtype))
    return (jnp.sum(valid) / jnp.maximum(jnp.sum(mask), 1)).astype(sum_dtype(inputs.dtype))


def default_window(model: nnx.RNNCellBase, inputs: Array, window: int | None) -> int:
    """The whole sequence for a plain cell, where the window is the rule; a fast length if all cells are under local rules."""
    if window is not None:
        return window
    cells = _cells(model)
    if not cells or not all(isinstance(cell, OnlineCell) for cell in cells):
        return inputs.shape[0]
    return min(cell.default_window for cell in cells if isinstance(cell, OnlineCell))


def _cells(model: nnx.RNNCellBase) -> list[nnx.RNNCellBase]:
    """The cells of a model, plain stacks written out."""
    if isinstance(model, OnlineCell) or not isinstance(model, Connect):
        return [model]
    return [cell for part in model.modules if isinstance(part, nnx.RNNCellBase) for cell in _cells(part)]


def initial_carry(model: nnx.RNNCellBase, inputs: Array, carry: Any) -> Any:
    return model.initialize_carry(inputs.shape[1:]) if carry is None else carry


def targets_per_step(inputs: Array, targets: Array) -> bool:
    """Whether targets are one per step, [T, B, ...], and not one per sequence, [B, ...].

    Raises:
        ValueError: they are neither.
    """
    steps, batch = inputs.shape[:2]
    if targets.shape[:2] == (steps, batch):
        return True
    if targets.shape[:1] == (batch,):
        return False
    raise ValueError(
        f"Got targets of shape {list(targets.shape)} for inputs of {steps} steps and {batch} samples, expected "
        f"[{batch}, ...], one per sequence, or [{steps}, {batch}, ...], one per step."
    )
