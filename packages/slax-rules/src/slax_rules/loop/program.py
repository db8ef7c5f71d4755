"""Programs: a gradient or a training step of a batch as a function of arrays, compiled once for each structure."""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from slax_neurons import end_sequence
from slax_neurons.building_blocks import changes_when_called, check_sequence, first_carry
from slax_rules.layerwise.engine import as_rule
from slax_rules.loop.devices import (
    AXIS,
    BATCH_SHARDED,
    REPLICATED,
    add_running_sums,
    check_divisible,
    check_splittable,
    map_shares,
    rule_state_specs,
    share_statistics,
    target_specs,
)
from slax_rules.loop.learner import Batch, Learner, Losses
from slax_rules.loop.objective import counted
from slax_rules.loop.online import Online, online_window, some_count
from slax_rules.loop.targets import read_targets
from slax_rules.loop.update import moved, optimizer_step
from slax_rules.loop.windows import (
    Pair,
    loss_dtype,
    over_windows,
    sequence_gradient,
    zero_means,
)
from slax_rules.penalties import Penalty, penalties_by_layer

Update = Literal["none", "offline", "online"]


@dataclasses.dataclass(frozen=True, repr=False)
class Program:
    """The computation on a batch, without its arrays.

    Args:
        graphdef: graph of (model, rule, optimizer); the rule is as the user gave it, and the optimizer None without updates.
        loss_fn: the loss of a step, or a `SequenceLoss`.
        update: the use of the gradient: returned ("none"), or used in one step ("offline") or one per window ("online").
        window: steps of a window, or None for the default.
        mesh: the devices that the batch is split over, or None for one device.
        penalties: the penalties of hidden layers.
    """

    graphdef: nnx.GraphDef
    loss_fn: Any
    update: Update
    window: int | None
    mesh: Mesh | None
    penalties: tuple[Penalty, ...] = ()

    def __hash__(self) -> int:
        # Without the graphdef, which would take a large part of a call's time; it is checked when the program is traced.
        try:
            return hash((self.loss_fn, self.update, self.window, self.penalties))
        except TypeError:
            check_hashable(self.graphdef, self.loss_fn, self.penalties)
            raise

    def __call__(
        self, state: nnx.State, inputs: Array, targets: Any, mask: Array | None, carry: Any
    ) -> tuple[Array, nnx.State | None, nnx.State]:
        """Return the mean loss, the gradient or None, and the state of (model, rule, optimizer) afterwards."""
        check_hashable(self.graphdef, self.loss_fn, self.penalties)
        objects = nnx.merge(self.graphdef, state, copy=True)
        model, given, _ = objects
        rule = as_rule(given)
        check_sequence(inputs)
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

        def share(state: nnx.State, start: Any, inputs: Array, leaves: list[Array], mask: Array | None) -> Any:
            objects = nnx.merge(self.graphdef, state, copy=True)
            share_statistics(objects[0])
            piece = Batch(inputs, batch.targets._replace(leaves=leaves), mask)
            loss, gradient = self._run(objects, plan, start, piece, AXIS)
            add_running_sums(objects, state, AXIS)
            end_sequence(objects[0])
            return loss, gradient, nnx.state(objects)

        specs = (
            REPLICATED,
            rule_state_specs(rule, plan, model, inputs),
            BATCH_SHARDED,
            target_specs(batch.targets),
            BATCH_SHARDED,
        )
        before = nnx.state(objects)
        loss, gradient, after = map_shares(share, self.mesh, specs, REPLICATED)(before, start, inputs, leaves, mask)
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

        def gradient_of(model: nnx.RNNCellBase, given: Any) -> tuple[Array, Pair]:
            return sequence_gradient(learner.of(model, as_rule(given)), start, batch, self.window)

        before = nnx.clone((model, given))
        loss, gradient = gradient_of(model, given)
        if optimizer is None:
            return loss, gradient.model

        def gradient_at(params: Any) -> Pair:
            return gradient_of(*moved(before, params))[1]

        counts = some_count(batch, axis)
        return optimizer_step(model, given, optimizer, loss, gradient, counts, gradient_at, before[0]), None

    def _run_online(self, objects: tuple[Any, Any, Any], learner: Learner, start: Any, batch: Batch) -> Array:
        """Take an optimizer step for each window, and return the mean loss over the sequence."""
        (graphdef, state), axis = nnx.split(objects), learner.axis
        total_count = counted(batch.mask, batch.inputs.shape[:2], axis)

        def visit(total: tuple[Array, Online], window: Batch) -> tuple[Array, Online]:
            loss, online = total
            online, window_loss, _ = online_window(graphdef, learner, online, window)
            share = counted(window.mask, window.inputs.shape[:2], axis).astype(loss.dtype) / total_count.astype(
                loss.dtype
            )
            counts = some_count(window, axis)
            share = share if counts is None else jnp.where(counts, share, 0)
            return loss + share * window_loss.astype(loss.dtype), online

        zero = jnp.zeros((), loss_dtype(learner.model, batch.inputs))
        first = Online(state, start, zero_means(learner, start, batch))
        loss, online = over_windows(visit, (zero, first), batch, self.window or 1)
        nnx.update(objects, online.objects)
        return loss


@partial(jax.jit, static_argnums=0)
def run_program(program: Program, *arguments: Any) -> tuple[Array, nnx.State | None, dict[int, Array]]:
    """Run a program; return the mean loss, the gradient or None, and the new leaves of the state, by their number."""
    before = jax.tree.leaves(arguments[0])  # the program changes the variables in it
    loss, gradient, state = program(*arguments)
    pairs = zip(before, jax.tree.leaves(state), strict=True)
    return loss, gradient, {index: new for index, (old, new) in enumerate(pairs) if new is not old}


def check_hashable(graphdef: nnx.GraphDef, loss_fn: Any, penalties: tuple[Penalty, ...]) -> None:
    """Raise TypeError if an option of a module, a loss or a penalty cannot be hashed, as the cache of programs requires."""
    options = [(name, getattr(held, "value", None)) for name, held in graphdef.attributes]
    given = (*options, ("loss_fn", loss_fn), ("penalties", penalties))
    wrong = [f"{name}={value!r}" for name, value in given if not _hashable(value)]
    if wrong:
        raise TypeError(
            f"Got {', '.join(wrong)}, expected hashable values, since programs are cached by them: a tuple in place of a "
            "list, a function or a frozen dataclass as a loss."
        )


def _hashable(value: Any) -> bool:
    """True if a value can be hashed, including its contents."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
