"""The loop over the windows of a sequence: the gradient added up over windows, or a step of the optimizer after each.

gradients, train_offline    sequence_gradient: windows one after the other, at fixed parameters
train_online, streams       online_window: a gradient of one window, and a step of the optimizer with it
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from slax_neurons.building_blocks import changes_when_called, scan_chunks
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.objective import RunningMeans, Targets, WindowObjective, all_reduce, counted
from slax_rules.losses import LossFn, SequenceLoss, sum_dtype
from slax_rules.penalties import LayerPenalty
from slax_rules.rule import Heads, LearningRule, WindowGradient

# Up to this number of windows, computing traces that nothing reads costs enough to justify a second program, if the traces are
# as large as the gradient.
FEW_WINDOWS = 3


class Batch(NamedTuple):
    """A batch of sequences, or the part of it in a window.

    Args:
        inputs: inputs [T, B, ...].
        targets: see `Targets`.
        mask: mask [T, B], or None.
        signals: the gradient of the losses w.r.t. the heads of the rule if it is known beforehand, else None.
    """

    inputs: Array
    targets: Targets
    mask: Array | None
    signals: Heads | None = None


class Losses(NamedTuple):
    """The losses of a sequence: that of the model's outputs, and the penalties of hidden layers with the probes they read."""

    loss_fn: LossFn | SequenceLoss
    penalties: tuple[LayerPenalty, ...] = ()
    probes: tuple[int, ...] = ()


class Gradients(NamedTuple):
    """A gradient w.r.t. the parameters of the model and of the rule."""

    model: nnx.State
    rule: nnx.State


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """A model with the rule and the losses that it learns by.

    Args:
        model: a cell.
        rule: a rule for the entire model.
        plan: the rule's plan for the model.
        losses: the losses of a sequence.
        axis: the name of the mesh axis over the batch, or None for one device.
    """

    model: nnx.RNNCellBase
    rule: LearningRule
    plan: Any
    losses: Losses
    axis: str | None = None

    def of(self, model: nnx.RNNCellBase, rule: LearningRule | None = None) -> "Learner":
        """The same for a copy of the model, and of the rule if there is one."""
        return dataclasses.replace(self, model=model, rule=self.rule if rule is None else rule)

    def objective(self, batch: Batch, **options: Any) -> WindowObjective:
        """The objective of a batch, or of a window of it, with options such as `means`."""
        loss_fn, penalties, probes = self.losses
        return WindowObjective(
            loss_fn, batch.targets, batch.mask, self.axis, penalties, probes, known=batch.signals, **options
        )

    def forward(self, state: Any, inputs: Array) -> tuple[Heads, Any]:
        """The heads of a window, and the state with the model's carry after it."""
        return self.rule.forward(self.plan, self.model, state, inputs, self.losses.probes)

    def window(self, state: Any, inputs: Array, objective: WindowObjective) -> WindowGradient:
        """The gradient of a window by the rule, whose loss is a `WindowLoss`; on several devices, for the share of this device.

        The rule is `Layerwise` for rules for layers such as OTPE, an `Autodiff` rule such as BPTT, or an `InfluenceRule`.
        """
        return self.rule.window(self.plan, self.model, state, inputs, objective)


def sequence_gradient(
    learner: Learner, state: Any, batch: Batch, window: int | None
) -> tuple[Float[Array, ""], Gradients]:
    """Compute the mean loss of a sequence and its gradient at fixed parameters, added up over windows in float32 at least."""
    model, rule, axis, steps = learner.model, learner.rule, learner.axis, batch.inputs.shape[0]
    size = rule.offline_window(window, model, batch.inputs)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    changes = changes_when_called(model)
    total_count = counted(batch.mask, batch.inputs.shape[:2], axis)
    known_loss: Array | None = None
    options: dict[str, Any] = {}
    if size < steps and isinstance(learner.losses.loss_fn, SequenceLoss):
        known_loss, batch = _with_signals(learner, state, batch, size)
        options = {"count": total_count}
    elif size < steps and learner.objective(batch).has_means:
        options = {"means": _means(learner, state, batch, size)}

    def add_window(total: tuple[Array, Gradients, Any, Any], piece: Batch) -> tuple[Array, Gradients, Any, Any]:
        loss, gradient, state, changed = total
        copy = nnx.merge(graphdef, params, changed if changes else rest, copy=True)
        # The sum of the gradients over devices is taken once, below.
        found = learner.of(copy).window(state, piece.inputs, learner.objective(piece, **options))
        if piece.signals is not None:
            share = jnp.ones((), loss.dtype)
        elif piece.mask is None:
            share = jnp.asarray(piece.inputs.shape[0] / steps, loss.dtype)
        else:
            share = all_reduce(jnp.sum(piece.mask, dtype=loss.dtype), axis) / total_count.astype(loss.dtype)
        new = Gradients(found.model, found.rule)
        gradient = jax.tree.map(lambda g, n: g + share.astype(g.dtype) * n.astype(g.dtype), gradient, new)
        changed = nnx.state(copy, nnx.Not(nnx.Param)) if changes else None
        return loss + share * found.loss.value.astype(loss.dtype), gradient, found.state, changed

    own = nnx.state(rule, nnx.Param)
    zero = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), Gradients(params, own))
    start = (jnp.zeros((), loss_dtype(model, batch.inputs)), zero, state, rest if changes else None)
    large = _numbers(rule.traces(state)) >= _numbers(params)
    loss, gradient, _, changed = over_windows(add_window, start, batch, size, traces_are_unread=large)
    if changes:
        nnx.update(model, changed)
    gradient = jax.tree.map(lambda g, p: g.astype(p.dtype), all_reduce(gradient, axis), Gradients(params, own))
    return loss if known_loss is None else known_loss, gradient


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


def loss_dtype(model: nnx.RNNCellBase, inputs: Array) -> Any:
    """The dtype for adding up losses: the widest of inputs and parameters, float32 at least."""
    dtypes = [leaf.dtype for leaf in (inputs, *jax.tree.leaves(nnx.state(model, nnx.Param)))]
    floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return sum_dtype(max(floats, key=lambda dtype: dtype.itemsize)) if floats else jnp.dtype(jnp.float32)


def _with_signals(learner: Learner, state: Any, batch: Batch, size: int) -> tuple[Array, Batch]:
    """Return the loss of entire sequences, and the batch with its gradient w.r.t. the heads: a first, forward-only pass."""
    _, heads = _first_pass(lambda _, heads, piece: ((), heads), (), learner, state, batch, size)
    loss, signals = learner.objective(batch)(heads)
    return loss.value, batch._replace(signals=signals)


def _means(learner: Learner, state: Any, batch: Batch, size: int) -> list[Array | None]:
    """For each penalty of a mean, the mean over the sequence: a first, forward-only pass."""

    def visit(sums: list[Array | None], heads: Heads, piece: Batch) -> tuple[list[Array | None], None]:
        # The sum over devices is taken once, below.
        objective = dataclasses.replace(learner.objective(piece), axis=None)
        return jax.tree.map(jnp.add, sums, objective.sums(heads.probes)), None

    zero = zero_means(learner, state, batch)
    assert zero is not None
    sums, _ = _first_pass(visit, zero.means, learner, state, batch, size)
    count = counted(batch.mask, batch.inputs.shape[:2], learner.axis)
    return jax.tree.map(lambda total: total / count.astype(total.dtype), all_reduce(sums, learner.axis))


def zero_means(learner: Learner, state: Any, batch: Batch) -> RunningMeans | None:
    """The means of penalties before a sequence; None if no penalty refers to a mean."""
    objective = dataclasses.replace(learner.objective(batch), mask=None, axis=None)
    if not objective.has_means:
        return None
    graphdef, variables = nnx.split(learner.model)

    def sums(variables: nnx.State, state: Any, inputs: Array) -> list[Array | None]:
        heads, _ = learner.of(nnx.merge(graphdef, variables, copy=True)).forward(state, inputs)
        return objective.sums(heads.probes)

    shapes = jax.eval_shape(sums, variables, state, batch.inputs[:1])
    means = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return RunningMeans(means, jnp.zeros((), jax.tree.leaves(means)[0].dtype))


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


class Online(NamedTuple):
    """Everything that continues from one window to the next where the parameters change after each.

    Args:
        objects: the state of (model, rule, optimizer).
        state: the state of the rule, with the model's carry.
        means: the means since the start that penalties refer to, if there are any.
    """

    objects: nnx.State
    state: Any
    means: RunningMeans | None


def online_window(graphdef: nnx.GraphDef, learner: Learner, online: Online, window: Batch) -> tuple[Online, Array, Any]:
    """Take an optimizer step with the gradient of the mean loss of a window.

    Args:
        graphdef: graph of (model, rule, optimizer).
        learner: the losses, the plan and the devices; its model and rule are replaced.
        online: what the windows before have left.
        window: the window.

    Returns:
        What the next window needs; the loss, or NaN if it or the gradient is not finite, so that no step was taken; and the
        outputs of the window, with the parameters before the step.
    """
    model, given, optimizer = nnx.merge(graphdef, online.objects, copy=True)
    before = nnx.clone(model)
    learner = learner.of(model, as_rule(given))
    found = learner.window(online.state, window.inputs, learner.objective(window, before=online.means))
    gradient = all_reduce(Gradients(found.model, found.rule), learner.axis)
    counts = some_count(window, learner.axis)
    loss = optimizer_step(model, given, optimizer, found.loss.value, gradient, counts, before)
    return Online(nnx.state((model, given, optimizer)), found.state, found.loss.means), loss, found.loss.outputs


def some_count(batch: Batch, axis: str | None) -> Array | None:
    """Whether any loss of a batch counts, on all devices together; None if all do."""
    return None if batch.mask is None else all_reduce(jnp.sum(batch.mask, dtype=jnp.int32), axis) > 0


def optimizer_step(
    model: nnx.RNNCellBase,
    rule: Any,
    optimizer: nnx.Optimizer,
    loss: Float[Array, ""],
    gradient: Gradients,
    any_counts: Bool[Array, ""] | None,
    before: nnx.RNNCellBase,
) -> Float[Array, ""]:
    """Take a step in place, and return the loss, NaN if it or the gradient is not finite.

    No step is taken if the loss or gradient is not finite or no loss counts: parameters and the state of the optimizer,
    including its momenta and counters, then stay unchanged. If it is not finite, the variables that the model changes itself,
    such as the statistics of a BatchNorm, are also restored; random streams continue.

    Args:
        rule: the rule given to the training step; a rule with parameters is trained together with the model.
        any_counts: whether any loss counts; None if all do.
        before: a copy of the model made before the gradient was computed.
    """
    trained = trained_together(model, rule)
    _check_state_fits(optimizer, trained, rule)
    finite = jnp.isfinite(loss) & all_finite(gradient)
    use = finite if any_counts is None else finite & any_counts
    old = jax.tree.leaves(nnx.state((trained, optimizer)))
    extra = {"value": loss} if isinstance(optimizer.tx, optax.GradientTransformationExtraArgs) else {}
    try:
        optimizer.update(trained, _as_given(gradient, model, rule), **extra)
    except TypeError as error:
        if "required keyword-only argument" not in str(error):
            raise
        raise TypeError(
            f"Got an optimizer that asks for more than training has ({error}), expected one that takes the gradient, and "
            "the loss as `value`. A line search, as in optax.lbfgs, differentiates the loss itself, which leaves out the "
            "learning rule. Use optax.adam, or another optimizer without a line search."
        ) from error
    _keep((trained, optimizer), ..., use, old)
    own = nnx.Not(nnx.Any(nnx.Param, nnx.RngState))
    _keep(model, own, finite, jax.tree.leaves(nnx.state(before, own)))
    return jnp.where(finite, loss, jnp.nan)


def _keep(objects: Any, which: Any, use: Bool[Array, ""], old: list[Any]) -> None:
    """Restore the old leaves, in place, unless `use` is true."""
    new, structure = jax.tree.flatten(nnx.state(objects, which))
    kept = [n if n is o else jnp.where(use, n, o) for n, o in zip(new, old, strict=True)]
    nnx.update(objects, jax.tree.unflatten(structure, kept))


def trained_together(model: nnx.RNNCellBase, rule: Any) -> Any:
    """The object that the optimizer trains: the model, together with the rule if the rule has parameters."""
    return (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model


def _as_given(gradient: Gradients, model: nnx.RNNCellBase, rule: Any) -> nnx.State:
    """Arrange a gradient in the structure of the object that the optimizer trains."""
    if not jax.tree.leaves(gradient.rule):
        return gradient.model
    own = jax.tree.unflatten(jax.tree.structure(nnx.state(rule, nnx.Param)), jax.tree.leaves(gradient.rule))
    return nnx.State({0: gradient.model, 1: own})


def all_finite(arrays: Any) -> Bool[Array, ""]:
    """True if all numbers of a tree are finite."""
    finite = jnp.ones((), bool)
    for leaf in jax.tree.leaves(arrays):
        finite = finite & jnp.isfinite(leaf).all()
    return finite


def _check_state_fits(optimizer: nnx.Optimizer, trained: Any, rule: Any) -> None:
    """Raise ValueError for an optimizer that was made with other parameters, or with none."""
    params = nnx.as_pure(nnx.state(trained, optimizer.wrt))
    if not jax.tree.leaves(params) and jax.tree.leaves(nnx.state(trained, nnx.Param)):
        raise ValueError(
            "Got an optimizer without any parameter of the model, expected wrt=nnx.Param, or paths as ('modules', 0, 'kernel')."
        )
    expected = jax.eval_shape(optimizer.tx.init, params)
    mine = nnx.as_pure(optimizer.opt_state)
    if _layout(expected) != _layout(mine):
        made = "nnx.Optimizer((model, rule), ...)" if isinstance(trained, tuple) else "nnx.Optimizer(model, ...)"
        why = f", since {type(rule).__name__} has parameters of its own" if isinstance(trained, tuple) else ""
        raise ValueError(
            f"Got an optimizer whose state does not fit the parameters to be trained, expected one made with them{why}: "
            f"{made}."
        )


def _layout(tree: Any) -> list[tuple[str, tuple[int, ...], Any]]:
    """The path, shape and dtype of each array of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in leaves]
