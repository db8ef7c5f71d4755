"""The loop over the windows of a sequence: the gradient added up over windows, or a step of the optimizer after each.

    sequence_gradient    windows one after the other, at fixed parameters: `gradients`, `train_offline`
    window_update        the gradient of one window, and a step of the optimizer with it: `train_online`, streams

Under both, the rule computes the gradient of a window from the loss as a function of the outputs, and hands its traces on.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from slax_neurons import Connect, Neuron, unroll
from slax_neurons.building_blocks import (
    carry_without_buffer,
    changes_when_called,
    first_carry,
    scan_chunks,
    spikes_are_whole,
)
from slax_rules.engine.eligibility import without_past
from slax_rules.engine.stack import run_with_layers
from slax_rules.losses import SequenceLoss, sum_dtype
from slax_rules.rules.base import Rule, RuleState
from slax_rules.windows import Outputs, WindowLoss, all_reduce, count_losses

# Up to this number of windows, computing traces that nothing reads costs enough to justify a second program, if the traces are
# as large as the gradient.
FEW_WINDOWS = 3


class Gradients(NamedTuple):
    """A gradient w.r.t. the parameters of the model and of the rule."""

    model: nnx.State
    rule: nnx.State


class Objects(NamedTuple):
    """What training changes, as objects."""

    model: nnx.RNNCellBase
    rule: Rule
    optimizer: nnx.Optimizer | None


def initial_state(rule: Rule, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct, carry: Any = None) -> RuleState:
    """The state before the first window, for inputs [B, features...] of a step, with the model at rest by default."""
    carry = first_carry(model, inputs.shape) if carry is None else carry
    check_spikes(model, carry)
    return RuleState(carry, rule.init(model, carry, inputs))


def shapes_at_start(rule: Rule, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> RuleState:
    """The shapes of the state before the first window; nothing is computed, drawn or changed."""
    graph, state = nnx.split((model, rule))

    def start(state: nnx.State) -> RuleState:
        model, rule = nnx.merge(graph, state, copy=True)
        return initial_state(rule, model, inputs)

    return jax.eval_shape(start, state)


def check_spikes(model: Any, carry: Any) -> None:
    """Raise TypeError for a neuron of the user's own whose outputs should be spikes and are no whole numbers."""
    if isinstance(model, Connect):
        for module, entry in zip(model.modules, carry, strict=False):
            check_spikes(module, carry_without_buffer(entry))
    is_own = isinstance(model, Neuron) and not type(model).__module__.startswith("slax_neurons.")
    if is_own and model.has_split_step and not spikes_are_whole(model, carry):
        raise TypeError(f"Got {type(model).__name__}, whose outputs are no whole numbers: return carry, spikes.")


def sequence_gradient(
    rule: Rule, model: nnx.RNNCellBase, state: RuleState, loss: WindowLoss, window: int | None
) -> tuple[Float[Array, ""], Gradients]:
    """The loss of a sequence and its gradient at fixed parameters, added up over windows in float32 at least."""
    batch, steps = loss.batch, loss.batch.inputs.shape[0]
    size = rule.offline_window(window, model, batch.inputs)
    if rule.has_local_losses and isinstance(loss.loss_fn, SequenceLoss):
        size = steps  # losses of hidden layers need their outputs of all steps
    count = count_losses(batch, loss.axis)
    known = _first_pass(model, state.carry, loss, size) if size < steps and loss.needs_all_steps else None
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    own, changes = nnx.state(rule, nnx.Param), changes_when_called(model)

    def add_window(total: tuple[Array, Gradients, RuleState, Any], piece: Any) -> tuple[Any, None]:
        value, gradient, state, changed = total
        of_steps, signals = piece
        copy = nnx.merge(graphdef, params, changed if changes else rest, copy=True)
        found = rule.window(copy, state, of_steps[0], loss.on(batch.with_steps(of_steps), count, signals))
        new = Gradients(found.model, found.rule)
        gradient = jax.tree.map(lambda g, n: g + n.astype(g.dtype), gradient, new)
        changed = nnx.state(copy, nnx.Not(nnx.Param)) if changes else None
        return (value + found.loss.astype(value.dtype), gradient, found.state, changed), None

    zero = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), Gradients(params, own))
    if size >= steps:  # eligibility traces are zero before the only window, and nobody reads them after it
        state = state._replace(traces=without_past(state.traces))
    start = (jnp.zeros((), loss_dtype(model, batch.inputs)), zero, state, rest if changes else None)
    # Nothing reads the traces after the last window. If they are large and windows are few, the last one is a program by
    # itself, of which XLA omits the computation of these traces.
    is_apart = size < steps <= FEW_WINDOWS * size and _numbers(state) >= _numbers(params)
    last = (steps - 1) // size * size if is_apart else 0
    pieces, total = (batch.steps, None if known is None else known[1]), start
    if last:
        total, _ = scan_chunks(add_window, total, jax.tree.map(lambda x: x[:last], pieces), size)
    (value, gradient, _, changed), _ = scan_chunks(add_window, total, jax.tree.map(lambda x: x[last:], pieces), size)
    if changes:
        nnx.update(model, changed)
    value, gradient = all_reduce((value if known is None else known[0], gradient), loss.axis)
    return value, jax.tree.map(lambda g, p: g.astype(p.dtype), gradient, Gradients(params, own))


def _first_pass(model: nnx.RNNCellBase, carry: Any, loss: WindowLoss, size: int) -> tuple[Array, Outputs]:
    """This device's share of the loss of entire sequences, and its gradient w.r.t. the outputs, from a forward pass alone."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def step(carry: tuple[Any, nnx.State], inputs: Array) -> tuple[Any, Outputs]:
        carry, rest = carry
        copy = nnx.merge(graphdef, params, rest, copy=True)
        carry, outputs = run_with_layers(unroll, copy, carry, inputs, loss.layers)
        return (carry, nnx.state(copy, nnx.Not(nnx.Param))), outputs

    _, outputs = scan_chunks(step, (carry, rest), loss.batch.inputs, size)
    return jax.value_and_grad(loss)(outputs)


def loss_dtype(model: nnx.RNNCellBase, inputs: Array) -> Any:
    """The dtype for adding up losses: the widest of inputs and parameters, float32 at least."""
    widest = jnp.dtype(jnp.float32)
    for leaf in (inputs, *jax.tree.leaves(nnx.state(model, nnx.Param))):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize > widest.itemsize:
            widest = leaf.dtype
    return widest


def _numbers(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


class Update(NamedTuple):
    """What an update within a sequence leaves.

    Args:
        objects: the state of (model, rule, optimizer) after it.
        state: the state of the rule after the window.
        loss: the loss, or NaN if it or the gradient is not finite, so that no step was taken.
        outputs: the outputs of the window, with the parameters before the step.
        is_zero: for each array of the model's parameters, whether its gradient was exactly zero.
    """

    objects: nnx.State
    state: RuleState
    loss: Float[Array, ""]
    outputs: Any
    is_zero: tuple[Bool[Array, ""], ...]


def window_update(graph: nnx.GraphDef, objects: nnx.State, state: RuleState, loss: WindowLoss) -> Update:
    """Take an optimizer step with the gradient of the mean loss of a window.

    Args:
        graph: the graph of (model, rule, optimizer).
        objects: their state.
        state: the state of the rule before the window.
        loss: the loss of the window.
    """
    model, rule, optimizer = nnx.merge(graph, objects, copy=True)
    before = nnx.clone(model)
    found = rule.window(model, state, loss.batch.inputs, loss)
    value, gradient = all_reduce((found.loss, Gradients(found.model, found.rule)), loss.axis)
    value = optimizer_step(Objects(model, rule, optimizer), before, value, gradient, some_count(loss))
    return Update(nnx.state((model, rule, optimizer)), found.state, value, found.outputs, zero_arrays(gradient))


def zero_arrays(gradient: Gradients) -> tuple[Bool[Array, ""], ...]:
    """For each array of the gradient of the model, whether it is exactly zero."""
    return tuple(jnp.all(leaf == 0) for leaf in jax.tree.leaves(gradient.model))


def some_count(loss: WindowLoss) -> Bool[Array, ""] | None:
    """Whether any loss of a window counts, on all devices together; None if all do."""
    mask = loss.batch.mask
    return None if mask is None else all_reduce(jnp.sum(mask, dtype=jnp.int32), loss.axis) > 0


def optimizer_step(
    objects: Objects,
    before: nnx.RNNCellBase,
    loss: Float[Array, ""],
    gradient: Gradients,
    any_counts: Bool[Array, ""] | None,
) -> Float[Array, ""]:
    """Take a step in place, and return the loss, NaN if it or the gradient is not finite.

    No step is taken if the loss or gradient is not finite or no loss counts: parameters and the state of the optimizer,
    including its momenta and counters, then stay unchanged. If it is not finite, the variables that the model changes itself,
    such as the statistics of a BatchNorm, are also restored; random streams continue.

    Args:
        before: a copy of the model made before the gradient was computed.
        any_counts: whether any loss counts; None if all do.
    """
    model, rule, optimizer = objects
    assert optimizer is not None
    trained = trained_together(model, rule)
    check_state_fits(optimizer, trained)
    finite = jnp.isfinite(loss) & all_finite(gradient)
    use = finite if any_counts is None else finite & any_counts
    old = jax.tree.leaves(nnx.state((trained, optimizer)))
    extra = {"value": loss} if isinstance(optimizer.tx, optax.GradientTransformationExtraArgs) else {}
    as_given = nnx.State({0: gradient.model, 1: gradient.rule}) if isinstance(trained, tuple) else gradient.model
    try:
        optimizer.update(trained, as_given, **extra)
    except TypeError as error:
        error.add_note(
            "Training gives an optimizer the gradient, and the loss as `value`. A line search, as in optax.lbfgs, "
            "differentiates the loss itself, which leaves out the rule: use another optimizer, such as optax.adam."
        )
        raise
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


def all_finite(arrays: Any) -> Bool[Array, ""]:
    """True if all numbers of a tree are finite."""
    finite = jnp.ones((), bool)
    for leaf in jax.tree.leaves(arrays):
        finite = finite & jnp.isfinite(leaf).all()
    return finite


def check_state_fits(optimizer: nnx.Optimizer, trained: Any) -> None:
    """Raise ValueError for an optimizer that was made with other parameters, or with none."""
    params = nnx.as_pure(nnx.state(trained, optimizer.wrt))
    if not jax.tree.leaves(params) and jax.tree.leaves(nnx.state(trained, nnx.Param)):
        raise ValueError("Got an optimizer without any parameter of the model, expected wrt=nnx.Param.")
    expected, mine = jax.eval_shape(optimizer.tx.init, params), nnx.as_pure(optimizer.opt_state)
    if _layout(expected) != _layout(mine):
        made, why = "nnx.Optimizer(model, ...)", ""
        if isinstance(trained, tuple):
            made, why = "nnx.Optimizer((model, rule), ...)", f", since {trained[1].title} has parameters of its own"
        raise ValueError(f"Got an optimizer that does not fit the model, expected one made for it{why}: {made}.")


def _layout(tree: Any) -> list[tuple[str, tuple[int, ...], Any]]:
    """The path, shape and dtype of each array of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in leaves]
