"""The public functions for the gradient of a batch and for training steps.

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
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Shaped

from slax_neurons import end_sequence
from slax_neurons.building_blocks import cast_inputs, changes_when_called, check_sequence, first_carry
from slax_rules.bptt import BPTT
from slax_rules.layerwise.layer_rule import LayerRule
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.checks import check_loss, check_online_loss, check_optimizer, checked_window
from slax_rules.loop.devices import (
    AXIS,
    BATCH_SHARDED,
    REPLICATED,
    add_running_sums,
    check_divisible,
    check_splittable,
    map_shares,
    mesh_of,
    rule_state_specs,
    share_statistics,
    target_specs,
)
from slax_rules.loop.objective import counted, read_targets
from slax_rules.loop.programs import Programs, StaticPart
from slax_rules.loop.split import Graph, split
from slax_rules.loop.windows import (
    Batch,
    Learner,
    Losses,
    Online,
    loss_dtype,
    online_window,
    optimizer_step,
    over_windows,
    sequence_gradient,
    some_count,
    zero_means,
)
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.masks import check_mask
from slax_rules.penalties import Penalty, penalties_by_layer
from slax_rules.rule import LearningRule

Update = Literal["none", "offline", "online"]
AnyRule = LearningRule | LayerRule | list[LayerRule] | tuple[LayerRule, ...]


def gradients(
    model: nnx.RNNCellBase,
    loss_fn: LossFn | SequenceLoss,
    inputs: Shaped[Array, "T B ..."],
    targets: Any,
    mask: Array | None = None,
    *,
    rule: AnyRule = BPTT(),
    window: int | None = None,
    carry: Any = None,
    penalties: Sequence[Penalty] = (),
) -> tuple[Float[Array, ""], nnx.State]:
    """Compute the loss of a sequence and its gradient under a learning rule, at fixed parameters.

    The loss is the mean over time and batch, or over the entries of `mask` that are true. State and traces are constants at the
    boundaries of windows, so memory does not grow with the number of windows. A call compiles a program for the structure of
    its arguments, and later calls with the same structure reuse it; functions are compared by content. As under `jax.jit`,
    values that a function or a method reads besides its arguments, such as global variables, are read when the program is
    compiled. The model and the rule stay unchanged except for variables that they change themselves, in place: the statistics
    of a BatchNorm in training (of each window) and of a `RunningNorm` in training (once for the sequence), and random streams.

    Args:
        model: a cell.
        loss_fn: the loss of one step, which maps outputs [B, ...] and targets [B, ...] to losses [B]; or a `SequenceLoss`.
        inputs: time first, [T, B, features...]. A batch split over devices by `split_batch` is processed on them.
        targets: one per sequence, [B, ...], or one per step, [T, B, ...], or a tree of such arrays. If the shape fits
            both (T = B), use `PerStep(targets)` or `PerSequence(targets)`.
        mask: bool [T, B], true where a loss counts: `valid_steps(lengths, T)` for sequences of unequal length, whose padding
            then changes neither loss nor gradient, `last_step(lengths, T)` for a loss at the end. All count by default.
            It follows the targets, so that `gradients(model, loss_fn, *batch)` takes batches with a mask and without.
        rule: `BPTT()`, `OTPE()`, any other rule, or a list of rules for layers, one for each layer.
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
        UserWarning: a loss of one step that broadcasts outputs [B, 1] and targets [B] to all pairs, [B, B].

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
    loss, gradient = _call("none", model, None, loss_fn, inputs, targets, rule, window, carry, mask, penalties)
    assert gradient is not None
    return loss, gradient


def train_offline(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn | SequenceLoss,
    inputs: Shaped[Array, "T B ..."],
    targets: Any,
    mask: Array | None = None,
    *,
    rule: AnyRule = BPTT(),
    window: int | None = None,
    carry: Any = None,
    penalties: Sequence[Penalty] = (),
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
    return _call("offline", model, optimizer, loss_fn, inputs, targets, rule, window, carry, mask, penalties)[0]


def train_online(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    inputs: Shaped[Array, "T B ..."],
    targets: Any,
    mask: Array | None = None,
    *,
    rule: AnyRule = BPTT(),
    window: int | None = None,
    carry: Any = None,
    penalties: Sequence[Penalty] = (),
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
    check_online_loss("train_online", loss_fn)
    return _call("online", model, optimizer, loss_fn, inputs, targets, rule, window, carry, mask, penalties)[0]


def _call(
    update: Update,
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer | None,
    loss_fn: Any,
    inputs: Array,
    targets: Any,
    rule: Any,
    window: int | None,
    carry: Any,
    mask: Array | None,
    penalties: Sequence[Penalty],
) -> tuple[Array, nnx.State | None]:
    """Run the program of these arguments, and write the changes into model, rule and optimizer."""
    window = checked_window(window)
    check_loss({"none": "gradients"}.get(update, f"train_{update}"), loss_fn)
    as_rule(rule)  # raises for what is not a rule
    if mask is not None:
        check_mask(mask, inputs.shape[:2])
    penalties_by_layer(penalties, model)  # raises for a layer that is not there
    objects = (model, rule, optimizer)
    mesh = mesh_of(inputs)
    graph, state = split(objects, rechecks=False)
    program = Program(graph, loss_fn, update, window, mesh, tuple(penalties))
    if mesh is not None:
        state, carry = jax.device_put((state, carry), NamedSharding(mesh, REPLICATED))
    loss, gradient, new = run_program(program, state, inputs, targets, mask, carry)
    if new:
        _write(objects, state, new)
    return loss, gradient


def _write(objects: tuple[Any, ...], state: nnx.State, new: dict[int, Array]) -> None:
    """Write new leaves of the state of objects into them, by number, and no others: those may come from outside a trace."""
    leaves, structure = jax.tree.flatten(state)
    changed = nnx.to_flat_state(jax.tree.unflatten(structure, [new.get(index) for index in range(len(leaves))]))
    nnx.update(objects, nnx.from_flat_state([(path, node) for path, node in changed if jax.tree.leaves(node)]))


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Program(StaticPart):
    """The computation on a batch, without its arrays.

    Args:
        graph: the graph of (model, rule, optimizer); the rule is as the user gave it, and the optimizer None without updates.
        loss_fn: the loss of a step, or a `SequenceLoss`.
        update: the use of the gradient: returned ("none"), or used in one step ("offline") or one per window ("online").
        window: steps of a window, or None for the default.
        mesh: the devices that the batch is split over, or None for one device.
        penalties: the penalties of hidden layers.
    """

    graph: Graph
    loss_fn: Any
    update: Update
    window: int | None
    mesh: Mesh | None
    penalties: tuple[Penalty, ...] = ()

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The numbers of the optimizer that are data; programs are equal without them."""
        return self.graph.numbers

    def with_numbers(self, numbers: tuple[Any, ...]) -> "Program":
        """The program with other numbers of the optimizer."""
        return dataclasses.replace(self, graph=self.graph.with_numbers(numbers))

    def __call__(
        self, state: nnx.State, inputs: Array, targets: Any, mask: Array | None, carry: Any
    ) -> tuple[Array, nnx.State | None, nnx.State]:
        """Return the mean loss, the gradient or None, and the state of (model, rule, optimizer) afterwards."""
        objects = self.graph.merged(state)
        model, given, _ = objects
        rule = as_rule(given)
        check_sequence(inputs)
        inputs = cast_inputs(model, inputs)
        batch = Batch(inputs, read_targets(targets, *inputs.shape[:2]), mask)
        plan = rule.plan(model, inputs.shape[2:])
        carry = first_carry(model, inputs.shape[1:]) if carry is None else carry
        start = rule.initialize(plan, model, carry, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))
        if self.mesh is None:
            loss, gradient = self._run(objects, plan, start, batch, None)
            end_sequence(model)
            return loss, gradient, nnx.state(objects)
        check_divisible(inputs.shape[1], self.mesh.size)
        check_splittable(model)
        leaves = batch.targets.leaves

        def share(
            numbers: Any, state: nnx.State, start: Any, inputs: Array, leaves: list[Array], mask: Array | None
        ) -> Any:
            objects = self.graph.with_numbers(numbers).merged(state)
            share_statistics(objects[0])
            piece = Batch(inputs, batch.targets._replace(leaves=leaves), mask)
            loss, gradient = self._run(objects, plan, start, piece, AXIS)
            add_running_sums(objects, state, AXIS)
            end_sequence(objects[0])
            return loss, gradient, nnx.state(objects)

        specs = (
            REPLICATED,
            REPLICATED,
            rule_state_specs(rule, plan, model, inputs),
            BATCH_SHARDED,
            target_specs(batch.targets),
            BATCH_SHARDED,
        )
        before = nnx.state(objects)
        shares = map_shares(share, self.mesh, specs, REPLICATED)
        loss, gradient, after = shares(self.numbers, before, start, inputs, leaves, mask)
        changes = self.update != "none" or changes_when_called(model)
        return loss, gradient, after if changes else before

    def _run(
        self, objects: tuple[Any, Any, Any], plan: Any, start: Any, batch: Batch, axis: str | None
    ) -> tuple[Array, nnx.State | None]:
        """Return the mean loss, and the gradient if nothing is updated; otherwise update in place."""
        model, given, optimizer = objects
        probes, penalties = penalties_by_layer(self.penalties, model)
        learner = Learner(model, as_rule(given), plan, Losses(self.loss_fn, penalties, probes), axis)
        if self.update == "online":
            return self._run_online(objects, learner, start, batch), None

        before = nnx.clone(model)
        loss, gradient = sequence_gradient(learner, start, batch, self.window)
        if optimizer is None:
            is_known = ~jnp.isnan(loss)  # a label out of range makes no gradient of its own
            return loss, jax.tree.map(lambda leaf: jnp.where(is_known, leaf, jnp.nan), gradient.model)

        return optimizer_step(model, given, optimizer, loss, gradient, some_count(batch, axis), before), None

    def _run_online(self, objects: tuple[Any, Any, Any], learner: Learner, start: Any, batch: Batch) -> Array:
        """Take an optimizer step for each window, and return the mean loss over the sequence."""
        (graphdef, state), axis = nnx.split(objects), learner.axis
        total_count = counted(batch.mask, batch.inputs.shape[:2], axis)

        def visit(total: tuple[Array, Online], window: Batch) -> tuple[Array, Online]:
            loss, online = total
            online, window_loss, _ = online_window(graphdef, learner, online, window)
            count = counted(window.mask, window.inputs.shape[:2], axis)
            share = count.astype(loss.dtype) / total_count.astype(loss.dtype)
            counts = some_count(window, axis)
            share = share if counts is None else jnp.where(counts, share, 0)
            return loss + share * window_loss.astype(loss.dtype), online

        zero = jnp.zeros((), loss_dtype(learner.model, batch.inputs))
        first = Online(state, start, zero_means(learner, start, batch))
        loss, online = over_windows(visit, (zero, first), batch, self.window or 1)
        nnx.update(objects, online.objects)
        return loss


@partial(Programs, rechecks=False)
def run_program(program: Program, *arguments: Any) -> tuple[Array, nnx.State | None, dict[int, Array]]:
    """Run a program; return the mean loss, the gradient or None, and the new leaves of the state, by their number.

    A leaf that is still the same tracer did not change. If NNX copied them, all leaves would be returned.
    """
    before = jax.tree.leaves(arguments[0])  # the program changes the variables in it
    loss, gradient, state = program(*arguments)
    pairs = zip(before, jax.tree.leaves(state), strict=True)
    return loss, gradient, {index: new for index, (old, new) in enumerate(pairs) if new is not old}
