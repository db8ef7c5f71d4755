"""The loop over the windows of a sequence, with the gradients added up or used after each window."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.internal import changes_when_called, scan_chunks
from slax_rules.loop.objective import all_reduce, counted, sequence_signal_fn, step_signal_fn
from slax_rules.loop.targets import Targets
from slax_rules.losses import LossFn, SequenceLoss, sum_dtype
from slax_rules.rule import LearningRule, SignalFn, WindowGradient

# Up to this number of windows, computing traces that nothing reads costs enough to justify a second program.
FEW_WINDOWS = 3


class Batch(NamedTuple):
    """A batch of sequences, or the part of it in a window.

    Args:
        inputs: inputs [T, B, ...].
        targets: see `Targets`.
        mask: mask [T, B], or None.
        signals: the gradient of the loss w.r.t. the heads of the rule if it is known beforehand, else None.
    """

    inputs: Array
    targets: Targets
    mask: Array | None
    signals: list[Any] | None = None


class Pair(NamedTuple):
    """A gradient w.r.t. the parameters of the model and of the rule."""

    model: nnx.State
    rule: nnx.State


def over_windows(
    visit: Callable[[Any, Batch], Any], start: Any, batch: Batch, size: int, *, traces_are_unread: bool = False
) -> Any:
    """Apply `carry = visit(carry, window)` to each window of `size` steps in turn; the last may be shorter.

    Args:
        traces_are_unread: true if nothing reads the rule's traces after the last window. With few windows, the last one is
            then a program by itself, and XLA omits the computation of these traces.
    """
    pieces = (batch.inputs, batch.targets.steps, batch.mask, batch.signals)

    def step(carry: Any, piece: Any) -> tuple[Any, None]:
        inputs, steps, mask, signals = piece
        return visit(carry, Batch(inputs, batch.targets.with_steps(steps), mask, signals)), None

    steps = batch.inputs.shape[0]
    few = traces_are_unread and 1 <= size < steps <= FEW_WINDOWS * size
    before = (steps - 1) // size * size if few else 0
    carry = start
    if before:
        carry, _ = scan_chunks(step, carry, jax.tree.map(lambda x: x[:before], pieces), size)
    carry, _ = scan_chunks(step, carry, jax.tree.map(lambda x: x[before:], pieces), size)
    return carry


def window_gradient(
    model: nnx.RNNCellBase, rule: LearningRule, plan: Any, state: Any, loss_fn: Any, batch: Batch, axis: str | None
) -> WindowGradient:
    """Compute the gradient of the mean loss of a window, over the batch and all devices.

    Modules that change their own variables do so in place, in `model`.
    """
    found = rule.window(plan, model, state, batch.inputs, _signal_fn(loss_fn, batch, axis))
    return found._replace(model=all_reduce(found.model, axis), rule=all_reduce(found.rule, axis))


def sequence_gradient(
    model: nnx.RNNCellBase,
    rule: LearningRule,
    plan: Any,
    state: Any,
    loss_fn: LossFn | SequenceLoss,
    batch: Batch,
    window: int | None,
    axis: str | None,
) -> tuple[Float[Array, ""], Pair]:
    """Compute the mean loss of a sequence and its gradient at fixed parameters, added up over windows in float32 at least."""
    steps = batch.inputs.shape[0]
    size = rule.offline_window(window, steps)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    mutates = changes_when_called(model)
    total_count = counted(batch.mask, batch.inputs.shape[:2], axis)
    known_loss = None
    if isinstance(loss_fn, SequenceLoss) and size < steps:
        known_loss, batch = _with_signals(model, rule, plan, state, loss_fn, batch, size, axis)

    def add_window(total: tuple[Array, Pair, Any, Any], piece: Batch) -> tuple[Array, Pair, Any, Any]:
        loss, gradient, state, changed = total
        copy = nnx.merge(graphdef, params, changed if mutates else rest, copy=True)
        # The sum of the gradients over devices is taken once, below.
        found = rule.window(plan, copy, state, piece.inputs, _signal_fn(loss_fn, piece, axis))
        share = (
            _share(piece, batch, total_count, axis, loss.dtype) if piece.signals is None else jnp.ones((), loss.dtype)
        )
        new = Pair(found.model, found.rule)
        gradient = jax.tree.map(lambda g, n: g + share.astype(g.dtype) * n.astype(g.dtype), gradient, new)
        changed = nnx.state(copy, nnx.Not(nnx.Param)) if mutates else None
        return loss + share * found.loss.astype(loss.dtype), gradient, found.state, changed

    own = nnx.state(rule, nnx.Param)
    zero = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), Pair(params, own))
    start = (jnp.zeros((), loss_dtype(model, batch.inputs)), zero, state, rest if mutates else None)
    has_traces = bool(jax.tree.leaves(rule.traces(state)))
    loss, gradient, _, changed = over_windows(add_window, start, batch, size, traces_are_unread=has_traces)
    if mutates:
        nnx.update(model, changed)
    gradient = jax.tree.map(lambda g, p: g.astype(p.dtype), all_reduce(gradient, axis), Pair(params, own))
    return loss if known_loss is None else known_loss, gradient


def loss_dtype(model: nnx.RNNCellBase, inputs: Array) -> Any:
    """The dtype for adding up losses: the widest of inputs and parameters, float32 at least."""
    dtypes = [leaf.dtype for leaf in (inputs, *jax.tree.leaves(nnx.state(model, nnx.Param)))]
    floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return sum_dtype(max(floats, key=lambda dtype: dtype.itemsize)) if floats else jnp.dtype(jnp.float32)


def _signal_fn(loss_fn: Any, batch: Batch, axis: str | None) -> SignalFn:
    """Make the function that maps the heads of a window to its loss and signals."""
    signals = batch.signals
    if signals is not None:
        return lambda heads: (jnp.zeros((), sum_dtype(batch.inputs.dtype)), signals)
    make = sequence_signal_fn if isinstance(loss_fn, SequenceLoss) else step_signal_fn
    return make(loss_fn, batch.targets, batch.mask, axis)


def _share(window: Batch, batch: Batch, total_count: Array, axis: str | None, dtype: Any) -> Float[Array, ""]:
    """The share of a window in the losses that count."""
    if window.mask is None:
        return jnp.asarray(window.inputs.shape[0] / batch.inputs.shape[0], dtype)
    return all_reduce(jnp.sum(window.mask, dtype=dtype), axis) / total_count.astype(dtype)


def _with_signals(
    model: nnx.RNNCellBase,
    rule: LearningRule,
    plan: Any,
    state: Any,
    loss_fn: SequenceLoss,
    batch: Batch,
    size: int,
    axis: str | None,
) -> tuple[Array, Batch]:
    """Return the loss of entire sequences, and the batch with its gradient w.r.t. the heads: a first, forward-only pass."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def step(carry: tuple[Any, Any], inputs: Array) -> tuple[Any, list[Any]]:
        state, rest = carry
        copy = nnx.merge(graphdef, params, rest, copy=True)
        heads, state = rule.forward(plan, copy, state, inputs)
        return (state, nnx.state(copy, nnx.Not(nnx.Param))), heads

    _, heads = scan_chunks(step, (state, rest), batch.inputs, size)
    loss, signals = sequence_signal_fn(loss_fn, batch.targets, batch.mask, axis)(heads)
    return loss, batch._replace(signals=signals)
