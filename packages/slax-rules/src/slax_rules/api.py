"""The gradient of a batch and training steps: `gradients`, `train_offline` and `train_online`.

Optax processes the gradients: `optax.chain(optax.clip_by_global_norm(1.0), optax.adamax(1e-3))` bounds their norm, and
`fptt(optax.adamax(1e-3))` regularizes the steps within a sequence.

Half precision: either all parameters, states and inputs in bfloat16 or float16, or the parameters in float32, which keeps small
steps and gives float32 gradients: `nnx.Linear(64, 50, dtype=jnp.bfloat16, param_dtype=jnp.float32, rngs=rngs)` with
`LIF(param_dtype=jnp.bfloat16)`. In float16, gradients below 6e-8 become 0; with float32 parameters, scale the loss,
`lambda y, t: 2.0**12 * cross_entropy(y, t)`, and the gradient, `optax.chain(optax.scale(2.0**-12), optax.adamax(1e-3))`.
With float16 parameters, give Adam `eps=1e-4`: its default of 1e-8 is 0 in float16. bfloat16 has the range of float32 and needs
neither.
"""

import operator
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import jax
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from slax_neurons.building_blocks import check_sequence
from slax_rules import devices
from slax_rules.arrays import as_array, as_arrays, is_array
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.masks import check_mask
from slax_rules.penalties import Penalty, checked_penalties
from slax_rules.rules.base import Rule, check_is_rule
from slax_rules.rules.bptt import BPTT, TBPTT
from slax_rules.step import Step, frames_of_slax, jitted


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
            then changes neither loss nor gradient, except through the statistics of a BatchNorm in training or a
            `RunningNorm`; `last_step(lengths, T)` for a loss at the end. All count by default.
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
    loss, gradient = call_step("none", model, None, loss_fn, inputs, targets, mask, rule, window, carry, penalties)
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
    return call_step("offline", model, optimizer, loss_fn, inputs, targets, mask, rule, window, carry, penalties)[0]


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
    return call_step("online", model, optimizer, loss_fn, inputs, targets, mask, rule, window, carry, penalties)[0]


def call_step(
    update: Literal["none", "certify", "offline", "online"],
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
) -> tuple[Array, Any]:
    """Check the arguments, run the program, and write what it changed into model, rule and optimizer."""
    check_is_rule(rule)
    check_loss({"none": "gradients", "certify": "certified_gradient"}.get(update, f"train_{update}"), loss_fn)
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


def check_loss(name: str, loss_fn: Any, *, online: bool = False) -> None:
    """Raise TypeError unless a loss can be called, and, for updates within a sequence, is known at each step."""
    if not callable(loss_fn):
        raise TypeError(f"{name} got {type(loss_fn).__name__} as loss_fn, expected a function such as cross_entropy.")
    if online and isinstance(loss_fn, SequenceLoss):
        raise TypeError(
            f"{name} got a SequenceLoss, known after the last step alone. Use train_offline, or a loss of a step."
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


def warn_of_single_steps(name: str, rule: Any, window: int | None) -> None:
    """Warn of updates within a sequence whose gradient flows through no step; `name` is the function that makes them."""
    if window is None and isinstance(rule, BPTT | TBPTT):
        warnings.warn(
            f"{name} got {type(rule).__name__} and no window, expected window=K. Each update has the gradient of one step, so "
            "nothing is learned across time. Give a window, or a rule that carries the past forward, as in rule=OTPE(). If one "
            "step is meant, say window=1.",
            UserWarning,
            stacklevel=frames_of_slax() + 1,
        )
