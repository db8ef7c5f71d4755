"""A training step without its arrays, and the table of compiled programs, which are made of such steps."""

import dataclasses
import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from slax_neurons import RunningSum, end_sequence
from slax_neurons.building_blocks import cast_inputs, changes_when_called, scan_chunks
from slax_rules import devices
from slax_rules.loop import (
    Objects,
    initial_state,
    loss_dtype,
    optimizer_step,
    sequence_gradient,
    some_count,
    window_update,
    zero_arrays,
)
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.masks import with_finite_padding
from slax_rules.penalties import Penalty, penalties_by_layer
from slax_rules.rules.base import RuleState, kind
from slax_rules.windows import Batch, WindowLoss, all_reduce, count_losses


def jitted(function: Callable[..., Any], *fixed: Any, **compiler_options: Any) -> Callable[..., Any]:
    """The function with its first arguments fixed, under `jax.jit`; the 64 programs that were used last are kept.

    Two programs are the same if their functions and fixed arguments are: graphs of modules and options by their values and
    types, so that 1, 1.0 and True differ, functions and transformations by identity.
    """
    try:
        return _jitted(function, fixed, kind(fixed), tuple(compiler_options.items()))
    except TypeError as error:
        raise TypeError(
            f"Got an option that cannot be compared: {error}. Expected numbers, strings, functions, and tuples and frozen "
            "dataclasses of these. Hold an array in a variable of the module, or read it in a function."
        ) from error


@functools.lru_cache(maxsize=64)
def _jitted(function: Any, fixed: Any, kinds: Any, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    _warn_if_made_anew((function, fixed))
    return jax.jit(functools.partial(function, *fixed), compiler_options=dict(options) or None)


@dataclasses.dataclass(frozen=True)
class Step:
    """The computation on a batch, without its arrays.

    Args:
        graph: the graph of (model, rule, optimizer); the optimizer is None without updates.
        loss_fn: the loss of a step, or a `SequenceLoss`.
        update: the use of the gradient: returned ("none"), also that of the rule's own parameters ("certify"), or used in one
            step ("offline") or one per window ("online").
        window: steps of a window, or None for the default.
        penalties: the penalties of hidden layers.
        mesh: the devices that the batch is split over, or None for one device.
    """

    graph: nnx.GraphDef
    loss_fn: LossFn | SequenceLoss
    update: Literal["none", "certify", "offline", "online"]
    window: int | None
    penalties: tuple[Penalty, ...] = ()
    mesh: Mesh | None = None

    def __call__(
        self, state: nnx.State, inputs: Array, targets: Any, mask: Array | None, carry: Any
    ) -> tuple[Array, Any, dict[int, Array]]:
        """Return the loss, the gradient or None, and the new leaves of the state of (model, rule, optimizer), by number."""
        before = jax.tree.leaves(state)
        if mask is not None:
            inputs = with_finite_padding(inputs, mask)
        outcome = self.run(state, inputs, targets, mask, carry)
        pairs = enumerate(zip(before, jax.tree.leaves(outcome.state), strict=True))
        # A leaf that is still the same tracer did not change.
        return outcome.loss, outcome.gradient, {index: new for index, (old, new) in pairs if new is not old}

    def run(
        self, state: nnx.State, inputs: Array, targets: Any, mask: Array | None = None, carry: Any = None
    ) -> "Outcome":
        """The gradient of a batch with finite padding, and the update with it, from the state of (model, rule, optimizer)."""
        objects = Objects(*nnx.merge(self.graph, state, copy=True))
        model, rule, _ = objects
        inputs = cast_inputs(model, inputs)
        batch = Batch.read(inputs, targets, mask)
        one_step = jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)
        rule.check(model, one_step)
        start = initial_state(rule, model, one_step, carry)
        if self.mesh is None:
            return self._learn(objects, start, batch)
        before = nnx.state(tuple(objects))
        outcome = devices.run_on_shares(self._learn, self.mesh, objects, start, batch)
        changes = self.update in ("offline", "online") or changes_when_called(model)
        return outcome if changes else outcome._replace(state=before)

    def _learn(self, objects: Objects, start: RuleState, batch: Batch, axis: str | None = None) -> "Outcome":
        """Compute and update on one device, with its share of the batch; `axis` is the name of the mesh axis."""
        model, rule, optimizer = objects
        sums = jax.tree.leaves(nnx.state(model, RunningSum))
        layers, penalties = penalties_by_layer(self.penalties, model) if self.penalties else ((), ())
        loss = WindowLoss(self.loss_fn, batch, None, layers, penalties, axis)
        if self.update == "online":
            gradient = None
            value, is_zero = _update_windows(objects, start, loss, self.window or 1)
        else:
            before = nnx.clone(model)
            value, found = sequence_gradient(rule, model, start, loss, self.window)
            if optimizer is None:
                gradient, is_zero = found if self.update == "certify" else found.model, ()
            else:
                gradient = None
                value, is_zero = optimizer_step(objects, before, value, found, some_count(loss)), zero_arrays(found)
        if axis is not None and sums:
            devices.add_running_sums(model, sums, axis)
        end_sequence(model)
        return Outcome(value, gradient, nnx.state(tuple(objects)), is_zero)


class Outcome(NamedTuple):
    """What a step leaves.

    Args:
        loss: the mean loss; NaN if a step of the optimizer was not taken since it or the gradient was not finite.
        gradient: the gradient, if it was not used; the `Gradients` under "certify".
        state: the state of (model, rule, optimizer).
        is_zero: for each array of the model's parameters, whether its gradient was exactly zero; none without an optimizer.
    """

    loss: Float[Array, ""]
    gradient: Any
    state: nnx.State
    is_zero: tuple[Array, ...]


def _update_windows(objects: Objects, start: RuleState, loss: WindowLoss, size: int) -> tuple[Array, tuple[Array, ...]]:
    """Take an optimizer step for each window, in place; the mean loss, and which gradients were zero in all windows."""
    graph, state = nnx.split(tuple(objects))
    batch, total = loss.batch, count_losses(loss.batch, loss.axis)

    def visit(carry: Any, steps: Any) -> tuple[Any, None]:
        mean, is_zero, state, of_rule = carry
        piece = batch.with_steps(steps)
        new = window_update(graph, state, of_rule, loss.on(piece))
        count = all_reduce(jnp.asarray(piece.inputs.shape[0] * piece.inputs.shape[1], jnp.int32), loss.axis)
        if piece.mask is not None:
            count = all_reduce(jnp.sum(piece.mask, dtype=jnp.int32), loss.axis)
        weight = count.astype(mean.dtype) / total.astype(mean.dtype)
        share = jnp.where(count > 0, new.loss.astype(mean.dtype) * weight, 0)
        is_zero = tuple(map(jnp.logical_and, is_zero, new.is_zero))
        return (mean + share, is_zero, new.objects, new.state), None

    params = jax.tree.leaves(nnx.state(objects.model, nnx.Param))
    mean = jnp.zeros((), loss_dtype(objects.model, batch.inputs))
    first = (mean, tuple(jnp.ones((), bool) for _ in params), state, start)
    (mean, is_zero, state, _), _ = scan_chunks(visit, first, batch.steps, size)
    nnx.update(tuple(objects), state)
    return mean, is_zero


# ------------------------------------------------------------------------- functions made in each pass of a loop


@functools.lru_cache(maxsize=256)
def _functions_of(key: int) -> list[list[tuple[int, str]]]:
    """The functions of each program so far that has this hash, in which functions are replaced by their code."""
    return []


def _warn_if_made_anew(program: tuple[Any, ...]) -> None:
    """Warn, once, of the third program that differs from others only in functions of the same code."""
    functions: list[tuple[int, str]] = []

    def by_code(value: Any) -> Any:
        """A value with the code of functions in their place."""
        if hasattr(value, "__code__"):
            is_of_optax = (value.__module__ or "").startswith("optax")
            functions.append((id(value), "a transformation of Optax" if is_of_optax else value.__qualname__))
            return value.__code__, value.__qualname__  # a decorator gives many functions one code
        if isinstance(value, nnx.GraphDef):
            value = (*value.nodes, *[(name, getattr(held, "value", type(held))) for name, held in value.attributes])
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = (type(value), *[getattr(value, field.name) for field in dataclasses.fields(value)])
        return tuple(map(by_code, value)) if isinstance(value, tuple | list | dict) else value

    programs = _functions_of(hash(by_code(program)))
    programs.append(functions)
    made = [new[1] for new, old in zip(functions, programs[-2:][0], strict=False) if new != old]
    if made and len(programs) == 3:
        warnings.warn(
            "A program is compiled for the third time, since a function or a transformation in it is a new object: "
            f"{', '.join(dict.fromkeys(made))}. Make it once, outside the loop; for several learning rates, keep the rate in "
            "the state: optax.inject_hyperparams(optax.adam)(learning_rate=1e-3).",
            UserWarning,
            stacklevel=frames_of_slax() + 1,
        )


def frames_of_slax() -> int:
    """How many frames, from the caller on, are of this package, or of JAX and jaxtyping within it: the next is the user's."""
    frame: Any = sys._getframe(1)
    count = 0
    while frame is not None and frame.f_globals["__name__"].startswith(("slax_rules.", "jax.", "jaxtyping.")):
        frame, count = frame.f_back, count + 1
    return count
