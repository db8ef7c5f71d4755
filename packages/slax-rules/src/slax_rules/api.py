"""The gradient of a batch and training steps.

    gradients, train_offline, train_online    what users call
    Step                                      the computation on a batch without its arrays, which is what a program is made of
    compiled                                  the table of programs

Optax processes the gradients: `optax.chain(optax.clip_by_global_norm(1.0), optax.adamax(1e-3))` bounds their norm, and
`fptt(optax.adamax(1e-3))` regularizes the steps within a sequence.

Half precision: either all parameters, states and inputs in bfloat16 or float16, or the parameters in float32, which keeps small
steps and gives float32 gradients: `nnx.Linear(64, 50, dtype=jnp.bfloat16, param_dtype=jnp.float32, rngs=rngs)` with
`LIF(param_dtype=jnp.bfloat16)`. In float16, gradients below 6e-8 become 0; with float32 parameters, scale the loss,
`lambda y, t: 2.0**12 * cross_entropy(y, t)`, and the gradient, `optax.chain(optax.scale(2.0**-12), optax.adamax(1e-3))`.
With float16 parameters, give Adam `eps=1e-4`: its default of 1e-8 is 0 in float16. bfloat16 has the range of float32 and needs
neither.
"""

import dataclasses
import functools
import operator
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float

from slax_neurons import RunningSum, end_sequence
from slax_neurons.building_blocks import cast_inputs, changes_when_called, check_sequence, scan_chunks
from slax_rules import devices
from slax_rules.arrays import as_array, as_arrays, is_array
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
from slax_rules.masks import check_mask, with_finite_padding
from slax_rules.penalties import Penalty, checked_penalties, penalties_by_layer
from slax_rules.rules.base import Rule, RuleState, check_is_rule, kind
from slax_rules.rules.bptt import BPTT
from slax_rules.windows import Batch, WindowLoss, all_reduce, count_losses


def gradients(
    model: nnx.RNNCellBase,
    loss_fn: LossFn | SequenceLoss,
    inputs: Any,
    targets: Any,
    mask: Any = None,
    *,
    rule: Rule = BPTT(),
    window: int | None = None,
    carry: Any = None,
    penalties: Iterable[Penalty] = (),
) -> tuple[Float[Array, ""], nnx.State]:
    """Compute the loss of a sequence and its gradient under a learning rule, at fixed parameters.

    The loss is the mean over time and batch, or over the entries of `mask` that are true. State and traces are constants at the
    boundaries of windows, so memory does not grow with the number of windows. A call compiles a program for the structure of
    its arguments, and later calls with the same structure reuse it. As under `jax.jit`, functions are compared by identity, so
    a loss that is created in each pass of a loop compiles in each, and values that a function reads besides its arguments,
    such as global variables, are read when the program is compiled. The model and the rule stay unchanged except for variables
    that they change themselves, in place: the statistics of a BatchNorm in training (of each window) and of a `RunningNorm` in
    training (once for the sequence), and random streams.

    Args:
        model: a cell.
        loss_fn: the loss of one step, which maps outputs [B, ...] and targets [B, ...] to losses [B]; or a `SequenceLoss`.
        inputs: time first, [T, B, features...]: an array of JAX or NumPy, or a tensor. A batch split over devices by
            `split_batch` is processed on them.
        targets: one per sequence, [B, ...], or one per step, [T, B, ...], or a tree of such arrays. If the shape fits
            both (T = B), use `PerStep(targets)` or `PerSequence(targets)`.
        mask: bool [T, B], true where a loss counts: `valid_steps(lengths, T)` for sequences of unequal length, whose padding
            then changes neither loss nor gradient, `last_step(lengths, T)` for a loss at the end. All count by default.
            It follows the targets, so that `gradients(model, loss_fn, *batch)` takes batches with a mask and without.
        rule: `BPTT()`, `OTPE()`, any other rule, or `PerLayer([...])` with one for each layer.
        window: steps that are computed together; the rule's default if None. It changes neither loss nor gradient, only time
            and memory, except that a BatchNorm in training takes its statistics over a window. BPTT always takes the entire
            sequence, and TBPTT has its own number of steps.
        carry: the initial carry; `model.initialize_carry(inputs.shape[1:])` by default.
        penalties: losses on hidden layers, such as `[firing_rate(0.05, weight=1.0)]`, which are part of the loss; see
            `Penalty`.

    Returns:
        The loss, and the gradient in the structure of `nnx.state(model, nnx.Param)`. Both are zero if no entry of the mask is
        true, which is possible only under `jit`.

    Raises:
        TypeError: anything other than a rule, a model that the rule cannot handle, or a mask that is not an array.
        ValueError: inputs, targets, mask or losses of a wrong shape, a mask without a true entry, or a window below 1.

    Warns:
        UserWarning: once, for the third program that differs from others only in a function or a transformation.

    Note:
        Over windows, losses and gradients are added up in float32 at least, and the gradient is returned in the dtype of the
        parameters. Within a window, reverse mode adds in the dtype that the model computes in.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, exact = gradients(model, cross_entropy, inputs, labels)
        >>> same_loss, online = gradients(model, cross_entropy, inputs, labels, rule=OTPE(), window=5)
        >>> bool(jnp.allclose(loss, same_loss))
        True
    """
    loss, gradient = _call("none", model, None, loss_fn, inputs, targets, mask, rule, window, carry, penalties)
    assert gradient is not None
    return loss, gradient


def train_offline(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn | SequenceLoss,
    inputs: Any,
    targets: Any,
    mask: Any = None,
    *,
    rule: Rule = BPTT(),
    window: int | None = None,
    carry: Any = None,
    penalties: Iterable[Penalty] = (),
) -> Float[Array, ""]:
    """Take one optimizer step with the gradient of the entire sequence, as computed by `gradients`, and return the loss.

    It updates `model` and `optimizer` in place, as Flax NNX does. If the gradient is not finite, no step is taken: model and
    optimizer stay unchanged, and the returned loss is NaN.

    Args:
        model: a cell.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`; `nnx.Optimizer((model, rule), ...)` for a rule with
            parameters of its own. A transformation that takes extra arguments gets `value`, the loss, as
            `optax.contrib.reduce_on_plateau` needs.
        loss_fn, inputs, targets, mask, rule, window, carry, penalties: see `gradients`. If no entry of the mask is true, which
            is possible only under `jit`, no step is taken.

    Raises:
        TypeError, ValueError: see `gradients`; anything other than an `nnx.Optimizer`, the optimizer of another model, or one
            with a line search.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import optax
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, train_offline
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss = train_offline(model, optimizer, cross_entropy, inputs, labels, rule=OTPE())
    """
    check_optimizer("train_offline", optimizer)
    return _call("offline", model, optimizer, loss_fn, inputs, targets, mask, rule, window, carry, penalties)[0]


def train_online(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    inputs: Any,
    targets: Any,
    mask: Any = None,
    *,
    rule: Rule = BPTT(),
    window: int | None = None,
    carry: Any = None,
    penalties: Iterable[Penalty] = (),
) -> Float[Array, ""]:
    """Take one optimizer step after each window of the sequence, and return the mean loss over the sequence.

    Each step uses the gradient of the mean loss over its window and the batch. State and traces continue unchanged
    across updates, so they mix parameters of different ages, as is common. Under BPTT and TBPTT the gradient flows through the
    steps of a window, so with the default window of one step it does not flow through time at all, and `TBPTT(steps=5)` with
    `window=3` is BPTT with that window. Otherwise it works like `train_offline`.

    Args:
        mask: see `gradients`. Each step takes the mean over the true entries of its window. In a window without one, no step is
            taken: parameters and optimizer, including its momenta and counters, stay unchanged, and state and traces continue.
        window: steps between updates, >= 1; 1 by default.

    Raises:
        TypeError: a `SequenceLoss`, whose value is known only after the last window.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import optax
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, train_online
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss = train_online(model, optimizer, cross_entropy, inputs, labels, rule=OTPE(), window=5)
    """
    check_optimizer("train_online", optimizer)
    check_loss("train_online", loss_fn, online=True)
    return _call("online", model, optimizer, loss_fn, inputs, targets, mask, rule, window, carry, penalties)[0]


def _call(
    update: Literal["none", "offline", "online"],
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer | None,
    loss_fn: Any,
    inputs: Any,
    targets: Any,
    mask: Any,
    rule: Any,
    window: int | None,
    carry: Any,
    penalties: Iterable[Penalty],
) -> tuple[Array, nnx.State | None]:
    """Check the arguments, run the program, and write what it changed into model, rule and optimizer."""
    check_is_rule(rule)
    check_loss("gradients" if update == "none" else f"train_{update}", loss_fn)
    penalties = checked_penalties(penalties, model) if penalties != () else ()
    inputs, targets = as_array(inputs, "inputs"), as_arrays(targets, "targets")
    check_sequence(inputs)
    if mask is not None:
        mask = as_array(mask, "a mask") if is_array(mask) else mask
        check_mask(mask, inputs.shape[:2])
    objects = (model, rule, optimizer)
    graph, state = nnx.split(objects)
    mesh = None if jax.device_count() == 1 else devices.mesh_of(inputs)
    step = Step(graph, loss_fn, update, checked_window(window), penalties, mesh)
    if mesh is not None:
        state, carry = jax.device_put((state, carry), NamedSharding(mesh, devices.REPLICATED))
    loss, gradient, changed = jitted(Step.__call__, step)(state, inputs, targets, mask, carry)
    if changed:  # and nothing else: under the user's own jax.jit, what did not change may belong to another trace
        leaves, structure = jax.tree.flatten(state)
        new = jax.tree.unflatten(structure, [changed.get(index) for index in range(len(leaves))])
        flat = [(path, node) for path, node in nnx.to_flat_state(new) if jax.tree.leaves(node)]
        nnx.update(objects, nnx.from_flat_state(flat))
    return loss, gradient


# ---------------------------------------------------------------------------------------------------------------- programs


def jitted(function: Callable[..., Any], *fixed: Any, **compiler_options: Any) -> Callable[..., Any]:
    """The function with its first arguments fixed, under `jax.jit`; the 64 programs that were used last are kept.

    Two programs are the same if their functions and fixed arguments are: graphs of modules and options by their values and
    types, so that 1, 1.0 and True differ, functions and transformations by identity.
    """
    try:
        return _jitted(function, fixed, kind(fixed), tuple(compiler_options.items()))
    except TypeError as error:
        raise TypeError(
            f"Got an option of the model, the rule, the optimizer, the loss or a penalty that cannot be compared: {error}. "
            "Expected numbers, strings, functions, and tuples and frozen dataclasses of these. Hold an array in a "
            "variable of the module, or read it in a function."
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
        update: the use of the gradient: returned ("none"), or used in one step ("offline") or one per window ("online").
        window: steps of a window, or None for the default.
        penalties: the penalties of hidden layers.
        mesh: the devices that the batch is split over, or None for one device.
    """

    graph: nnx.GraphDef
    loss_fn: LossFn | SequenceLoss
    update: Literal["none", "offline", "online"]
    window: int | None
    penalties: tuple[Penalty, ...] = ()
    mesh: Mesh | None = None

    def __call__(
        self, state: nnx.State, inputs: Array, targets: Any, mask: Array | None, carry: Any
    ) -> tuple[Array, nnx.State | None, dict[int, Array]]:
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
        changes = self.update != "none" or changes_when_called(model)
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
                gradient, is_zero = found.model, ()
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
        gradient: the gradient, if it was not used.
        state: the state of (model, rule, optimizer).
        is_zero: for each array of the model's parameters, whether its gradient was exactly zero; none without an optimizer.
    """

    loss: Float[Array, ""]
    gradient: nnx.State | None
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


# ------------------------------------------------------------------------------------------------------ checks of arguments


def check_loss(name: str, loss_fn: Any, *, online: bool = False) -> None:
    """Raise TypeError unless a loss can be called, and, for updates within a sequence, is known at each step."""
    if not callable(loss_fn):
        raise TypeError(f"{name} got {type(loss_fn).__name__} as loss_fn, expected a function such as cross_entropy.")
    if online and isinstance(loss_fn, SequenceLoss):
        raise TypeError(
            f"{name} got a SequenceLoss, expected the loss of one step: an update after each window needs a loss that is "
            "known then, and a loss of the whole sequence is known only after the last one. Use train_offline, or a loss of "
            "each step; an LI with a decay close to 1 as the last module holds a running sum."
        )


def check_optimizer(name: str, optimizer: Any) -> None:
    """Raise TypeError for anything other than a Flax optimizer; `name` is the function that got it."""
    if not isinstance(optimizer, nnx.Optimizer) or isinstance(optimizer, nnx.ModelAndOptimizer):
        made = "nnx.Optimizer(model, transformation, wrt=nnx.Param)"
        hint = f" Wrap the Optax transformation: {made}." if isinstance(optimizer, optax.GradientTransformation) else ""
        raise TypeError(f"{name} got {type(optimizer).__name__} as the optimizer, expected {made}.{hint}")


def checked_window(window: Any) -> int | None:
    """The number of steps of a window, or None; TypeError for no integer, ValueError for one below 1."""
    if window is None:
        return None
    if not hasattr(window, "__index__"):
        raise TypeError(f"Got window={window!r}, expected an integer of at least 1, or None for the rule's default.")
    window = operator.index(window)
    if window < 1:
        raise ValueError(f"Got a window of {window} steps, expected at least 1, or None for the rule's default.")
    return window


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
            stacklevel=_frames_of_slax() + 1,
        )


def _frames_of_slax() -> int:
    """How many frames, from the caller on, are of this package: the next is the user's."""
    frame: Any = sys._getframe(1)
    count = 0
    while frame is not None and frame.f_globals["__name__"].startswith("slax_rules."):
        frame, count = frame.f_back, count + 1
    return count
