"""Calls to the device: the training steps of an epoch, with one batch or many batches per call."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool

from slax_neurons.building_blocks import cast_dtype, cast_inputs
from slax_rules.bptt import BPTT, TBPTT
from slax_rules.loop.devices import REPLICATED, replicated, split_batch
from slax_rules.loop.entry import Program
from slax_rules.loop.programs import Programs, StaticPart
from slax_rules.losses import sum_dtype
from slax_rules.masks import check_mask, check_some_entry
from slax_rules.training.batches import Batch, Epochs, Sampler, as_batch, check_time_first

# Maximum steps of a sampler in one call. A step of a small net (20-16-4, 20 steps, batch 32, two cores) takes 0.30 ms with 1,
# 0.22 with 5, 0.21 with 50; with fewer steps, the bar is smoother.
STEPS_PER_CALL = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Train(StaticPart):
    """A training step as a function of the state of (model, rule, optimizer) and a batch.

    A step whose inputs, loss, gradient or result is not finite changes nothing, and neither does any step after it.

    Args:
        program: the computation on a batch.
        sample: the function of a `Sampler` that draws batches, or None.
    """

    program: Program
    sample: Callable[[Array], Any] | None = None

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The numbers of the optimizer that are data of the compiled step."""
        return self.program.numbers

    def with_numbers(self, numbers: tuple[Any, ...]) -> "Train":
        """The training step with other numbers of the optimizer."""
        return dataclasses.replace(self, program=self.program.with_numbers(numbers))

    def __call__(self, state: nnx.State, healthy: Bool[Array, ""], batch: Batch) -> tuple[nnx.State, Array, Array]:
        """Return the state after the step, whether all steps so far were finite, and the loss, NaN if the step was not."""
        new, loss = self.unguarded(state, batch)
        # Inputs that are not finite may leave no mark on a gradient, since spikes mask them.
        finite = jnp.isfinite(loss) & jnp.isfinite(batch[0]).all() & stays_finite(state, new)
        healthy = healthy & finite
        kept = jax.tree.map(lambda new, old: new if new is old else jnp.where(healthy, new, old), new, state)
        if self.program.mesh is not None:
            everywhere = NamedSharding(self.program.mesh, REPLICATED)
            kept, healthy, loss, finite = jax.lax.with_sharding_constraint((kept, healthy, loss, finite), everywhere)
        return kept, healthy, jnp.where(finite, loss, jnp.nan)

    def unguarded(self, state: nnx.State, batch: Batch) -> tuple[nnx.State, Array]:
        """Return the state after a step, and its loss."""
        inputs, targets, mask = prepared(nnx.merge(self.program.graph.graphdef, state, copy=True)[0], batch)
        loss, _, new = self.program(state, inputs, targets, mask, None)
        return new, loss


def prepared(model: nnx.RNNCellBase, batch: Batch) -> tuple[Array, Any, Array | None]:
    """Return the inputs in the dtype of the model, the targets, and the mask or None, after checking shapes."""
    inputs, targets, *masks = batch
    check_time_first(inputs, targets)
    for mask in masks:
        check_mask(mask, inputs.shape[:2])
    return cast_inputs(model, jnp.asarray(inputs)), targets, masks[0] if masks else None


def offline_rule(rule: Any, update: str, window: int | None) -> Any:
    """The rule whose offline gradient equals the given rule's gradient in training, at fixed parameters.

    BPTT with online updates is cut at the boundaries of windows.
    """
    if update == "online" and isinstance(rule, BPTT | TBPTT):
        steps = window or 1
        return TBPTT(min(steps, rule.steps) if isinstance(rule, TBPTT) else steps)
    return rule


def stays_finite(before: Any, after: Any) -> Bool[Array, ""]:
    """True if no number of a tree became infinite or NaN."""
    finite = jnp.ones((), bool)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if new is not old and jnp.issubdtype(new.dtype, jnp.inexact):
            finite = finite & jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
    return finite


class Call(NamedTuple):
    """The result of a call to the device.

    Args:
        state: state after the call.
        losses: losses, of which the first `steps` belong to this call.
        steps: number of steps in the call.
        batch: function that returns the batch of a step of this call, by its number.
    """

    state: nnx.State
    losses: Array
    steps: int
    batch: Callable[[int], Batch]


def run_epoch(
    train: Train, batches: Epochs, state: nnx.State, epoch: int, step: int, done: int, intervals: Sequence[int]
) -> Iterator[Call]:
    """Run the rest of an epoch, call by call, after `step` steps of the run and `done` batches of the epoch.

    No call extends past a step that is a multiple of one of the `intervals`.
    """
    healthy = jnp.ones((), bool)
    if train.program.mesh is not None:
        healthy = replicated(healthy, train.program.mesh)
    if isinstance(batches, Sampler):
        key = batches.epoch_key(epoch)
        while done < batches.steps:
            count = min([STEPS_PER_CALL, batches.steps - done, *(every - step % every for every in intervals)])
            first, last = np.int32(done), np.int32(done + count)
            state, healthy, losses = _sampled_steps(train, state, healthy, key, first, last)
            yield Call(state, losses, count, lambda index, first=done: batches.batch(epoch, first + index))
            step, done = step + count, done + count
        return
    stream = iter(batches(epoch))
    found = sum(1 for _ in islice(stream, done))
    if found < done:
        raise ValueError(
            f"Epoch {epoch} gave {found} batches, expected the {done} at least that the checkpoint was "
            "made after. A run continues only with the batches that it had: make them from the epoch and a fixed seed."
        )
    for batch in stream:
        batch = as_batch(batch)
        if train.program.mesh is None:
            for mask in batch[2:]:
                check_some_entry(mask)
        else:
            batch = split_batch(batch, train.program.mesh)
        state, healthy, losses = _one_step(train, state, healthy, batch)
        done += 1
        yield Call(state, losses, 1, lambda index, batch=batch: batch)
    if done == 0:
        raise ValueError(
            f"Epoch {epoch} gave no batches, expected at least one. An iterator or a generator can be read only once: "
            "give a list, batches=list(...), or a function that makes a new one for each epoch, batches=lambda epoch: ..."
        )


@Programs
def _one_step(train: Train, state: nnx.State, healthy: Array, batch: Batch) -> tuple[nnx.State, Array, Array]:
    state, healthy, loss = train(state, healthy, batch)
    return state, healthy, loss[None]


@Programs
def _sampled_steps(
    train: Train,
    state: nnx.State,
    healthy: Array,
    key: Array,
    first: Array,
    last: Array,
) -> tuple[nnx.State, Array, Array]:
    """Train on batches first to last - 1 of an epoch, at most `STEPS_PER_CALL`, up to a step that is not finite.

    It is one program for any number of them. The losses of steps that were not taken are NaN.
    """
    sample = train.sample
    assert sample is not None
    drawn = jax.eval_shape(sample, key)[0]
    dtype = sum_dtype(cast_dtype(nnx.merge(train.program.graph.graphdef, state, copy=True)[0], drawn.dtype))

    def goes_on(total: tuple[Array, nnx.State, Array, Array]) -> Array:
        index, _, healthy, _ = total
        return (index < last) & healthy

    def step(total: tuple[Array, nnx.State, Array, Array]) -> tuple[Array, nnx.State, Array, Array]:
        index, state, healthy, losses = total
        state, healthy, loss = train(state, healthy, tuple(sample(jax.random.fold_in(key, index))))
        return index + 1, state, healthy, losses.at[index - first].set(loss.astype(dtype))

    losses = jnp.full(STEPS_PER_CALL, jnp.nan, dtype)
    _, state, healthy, losses = jax.lax.while_loop(goes_on, step, (first, state, healthy, losses))
    return state, healthy, losses
