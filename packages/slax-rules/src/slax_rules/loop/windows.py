"""The loop over the windows of a sequence, with the gradients added up or used after each window."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.building_blocks import changes_when_called, scan_chunks
from slax_rules.loop.learner import Batch, Learner
from slax_rules.loop.objective import (
    KnownSignals,
    RunningMeans,
    RunningObjective,
    WithOutputs,
    all_reduce,
    counted,
)
from slax_rules.losses import SequenceLoss, sum_dtype
from slax_rules.rule import Heads, WindowGradient

# Up to this number of windows, computing traces that nothing reads costs enough to justify a second program, if the traces are
# as large as the gradient.
FEW_WINDOWS = 3


class Pair(NamedTuple):
    """A gradient w.r.t. the parameters of the model and of the rule."""

    model: nnx.State
    rule: nnx.State


def over_windows(
    visit: Callable[[Any, Batch], Any], start: Any, batch: Batch, size: int, *, traces_are_unread: bool = False
) -> Any:
    """Apply `carry = visit(carry, window)` to each window of `size` steps in turn; the last may be shorter.

    Args:
        traces_are_unread: true if nothing reads the rule's traces after the last window, and they are large. With few windows,
            the last one is then a program by itself, and XLA omits the computation of these traces.
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


def window_gradient(learner: Learner, state: Any, batch: Batch, before: RunningMeans | None = None) -> WindowGradient:
    """Compute the gradient of the mean loss of a window, over the batch and all devices; the loss comes with the outputs.

    Modules that change their own variables do so in place, in the learner's model.

    Args:
        before: the means that penalties refer to, before the window; the loss itself is then a pair with the means after it.
    """
    objective = learner.objective(batch)
    whole = WithOutputs(objective if before is None else RunningObjective(objective, before))
    found = learner.window(state, batch.inputs, whole)
    return found._replace(model=all_reduce(found.model, learner.axis), rule=all_reduce(found.rule, learner.axis))


def zero_means(learner: Learner, state: Any, batch: Batch) -> RunningMeans | None:
    """The means of penalties before a sequence; None if no penalty refers to a mean."""
    objective = learner.objective(batch)
    if not objective.has_means:
        return None
    graphdef, variables = nnx.split(learner.model)

    def sums(variables: nnx.State, state: Any, inputs: Array) -> list[Array | None]:
        heads, _ = learner.of(nnx.merge(graphdef, variables, copy=True)).forward(state, inputs)
        return dataclasses.replace(objective, mask=None, axis=None).sums(heads.hidden)

    shapes = jax.eval_shape(sums, variables, state, batch.inputs[:1])
    means = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return RunningMeans(means, jnp.zeros((), jax.tree.leaves(means)[0].dtype))


def sequence_gradient(learner: Learner, state: Any, batch: Batch, window: int | None) -> tuple[Float[Array, ""], Pair]:
    """Compute the mean loss of a sequence and its gradient at fixed parameters, added up over windows in float32 at least."""
    model, rule, axis, steps = learner.model, learner.rule, learner.axis, batch.inputs.shape[0]
    size = rule.offline_window(window, model, batch.inputs)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    mutates = changes_when_called(model)
    total_count = counted(batch.mask, batch.inputs.shape[:2], axis)
    known_loss, means = None, None
    if size < steps and isinstance(learner.losses.loss_fn, SequenceLoss):
        known_loss, batch = _with_signals(learner, state, batch, size)
    elif size < steps and learner.objective(batch).has_means:
        means = _means(learner, state, batch, size)

    def objective(piece: Batch) -> Any:
        window = learner.objective(piece, means)
        return window if piece.signals is None else KnownSignals(piece.signals, window, total_count)

    def add_window(total: tuple[Array, Pair, Any, Any], piece: Batch) -> tuple[Array, Pair, Any, Any]:
        loss, gradient, state, changed = total
        copy = nnx.merge(graphdef, params, changed if mutates else rest, copy=True)
        # The sum of the gradients over devices is taken once, below.
        found = learner.of(copy).window(state, piece.inputs, objective(piece))
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
    large = _numbers(rule.traces(state)) >= _numbers(params)
    loss, gradient, _, changed = over_windows(add_window, start, batch, size, traces_are_unread=large)
    if mutates:
        nnx.update(model, changed)
    gradient = jax.tree.map(lambda g, p: g.astype(p.dtype), all_reduce(gradient, axis), Pair(params, own))
    return loss if known_loss is None else known_loss, gradient


def loss_dtype(model: nnx.RNNCellBase, inputs: Array) -> Any:
    """The dtype for adding up losses: the widest of inputs and parameters, float32 at least."""
    dtypes = [leaf.dtype for leaf in (inputs, *jax.tree.leaves(nnx.state(model, nnx.Param)))]
    floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return sum_dtype(max(floats, key=lambda dtype: dtype.itemsize)) if floats else jnp.dtype(jnp.float32)


def _share(window: Batch, batch: Batch, total_count: Array, axis: str | None, dtype: Any) -> Float[Array, ""]:
    """The share of a window in the losses that count."""
    if window.mask is None:
        return jnp.asarray(window.inputs.shape[0] / batch.inputs.shape[0], dtype)
    return all_reduce(jnp.sum(window.mask, dtype=dtype), axis) / total_count.astype(dtype)


def _with_signals(learner: Learner, state: Any, batch: Batch, size: int) -> tuple[Array, Batch]:
    """Return the loss of entire sequences, and the batch with its gradient w.r.t. the heads: a first, forward-only pass."""

    def visit(_: tuple[()], heads: Heads, piece: Batch) -> tuple[tuple[()], Heads]:
        return (), heads

    _, heads = _first_pass(visit, (), learner, state, batch, size)
    loss, signals = learner.objective(batch)(heads)
    return loss, batch._replace(signals=signals)


def _means(learner: Learner, state: Any, batch: Batch, size: int) -> list[Array | None]:
    """For each penalty of a mean, the mean over the sequence: a first, forward-only pass."""

    def visit(sums: list[Array | None], heads: Heads, piece: Batch) -> tuple[list[Array | None], None]:
        # The sum over devices is taken once, below.
        objective = dataclasses.replace(learner.objective(piece), axis=None)
        return jax.tree.map(jnp.add, sums, objective.sums(heads.hidden)), None

    zero = zero_means(learner, state, batch)
    assert zero is not None
    sums, _ = _first_pass(visit, zero.means, learner, state, batch, size)
    count = counted(batch.mask, batch.inputs.shape[:2], learner.axis)
    return jax.tree.map(lambda total: total / count.astype(total.dtype), all_reduce(sums, learner.axis))


def _first_pass(
    visit: Callable[[Any, Heads, Batch], tuple[Any, Any]],
    start: Any,
    learner: Learner,
    state: Any,
    batch: Batch,
    size: int,
) -> tuple[Any, Any]:
    """Run a sequence forward in windows with `carry, result = visit(carry, heads, window)`; the model keeps its variables."""
    graphdef, params, rest = nnx.split(learner.model, nnx.Param, ...)

    def step(carry: tuple[Any, Any, Any], piece: Any) -> tuple[Any, Any]:
        found, state, rest = carry
        inputs, steps, mask = piece
        copy = nnx.merge(graphdef, params, rest, copy=True)
        heads, state = learner.of(copy).forward(state, inputs)
        found, result = visit(found, heads, Batch(inputs, batch.targets.with_steps(steps), mask))
        return (found, state, nnx.state(copy, nnx.Not(nnx.Param))), result

    pieces = (batch.inputs, batch.targets.steps, batch.mask)
    (found, _, _), results = scan_chunks(step, (start, state, rest), pieces, size)
    return found, results


def _numbers(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
