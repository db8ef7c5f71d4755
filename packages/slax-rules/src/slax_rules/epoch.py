"""Calls of the device: training steps through an epoch, one batch or many batches in a call."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array

from slax_rules.checkpoints import Progress
from slax_rules.devices import ALL, place_batch, split_batch
from slax_rules.gradients import LossFn
from slax_rules.losses import sum_dtype
from slax_rules.sampling import Batch, Sampler
from slax_rules.training import train_offline, train_online

# Steps of a sampler in one call, at most. A step of a small net (20-16-4, 20 steps, batch 32, two cores) takes 0.30 ms with 1,
# 0.22 with 5, 0.21 with 50; the fewer, the smoother the bar.
STEPS_PER_CALL = 50


@dataclasses.dataclass(frozen=True)
class Train:
    """A training step as a function of (model, optimizer)'s state and a batch."""

    graphdef: nnx.GraphDef
    loss_fn: LossFn
    update: str
    window: int | None
    mesh: Mesh | None

    def __hash__(self) -> int:
        # Of a call's time, that of the graphdef would be a good part.
        return hash((self.loss_fn, self.update, self.window))

    def __call__(self, state: nnx.State, batch: tuple[Array, ...]) -> tuple[nnx.State, Array]:
        inputs, targets, *mask = batch
        model, optimizer = nnx.merge(self.graphdef, state)
        cell = model if self.mesh is None else split_batch(model, self.mesh)
        options: dict[str, Any] = {"mask": mask[0]} if mask else {}
        if self.window is not None:
            options["window"] = self.window
        step = train_offline if self.update == "offline" else train_online
        loss = step(cell, optimizer, self.loss_fn, inputs, targets, **options)
        state = nnx.state((model, optimizer))
        if self.mesh is not None:
            state = jax.lax.with_sharding_constraint(state, NamedSharding(self.mesh, ALL))
        return state, loss


class Call(NamedTuple):
    """What a call of the device returned: the state, losses and how many of them are steps, and how to get the last batch."""

    state: nnx.State
    losses: Array
    steps: int
    batch: Callable[[], Batch]


def run_epoch(
    train: Train, batches: Callable[[int], Iterable[Batch]], state: nnx.State, at: Progress, cadence: Sequence[int]
) -> Iterator[Call]:
    """The rest of an epoch, call by call."""
    if isinstance(batches, Sampler):
        key, step, done = batches.epoch_key(at.epoch), at.step, at.done
        while done < batches.steps:
            count = min([STEPS_PER_CALL, batches.steps - done, *(every - step % every for every in cadence)])
            first, last = np.int32(done), np.int32(done + count)
            state, losses = _sampled_steps(train, batches.sample, state, key, first, last)
            step, done = step + count, done + count
            yield Call(state, losses, count, partial(batches.batch, at.epoch, done - 1))
        return
    stream = iter(batches(at.epoch))
    skipped = sum(1 for _ in islice(stream, at.done))
    if skipped < at.done:
        raise ValueError(
            f"batches({at.epoch}) gave {skipped} batches, expected the {at.done} at least that the checkpoint was made after. "
            "A run goes on only with the batches that it had: make them from the epoch and a fixed seed."
        )
    done = skipped
    for batch in stream:
        batch = tuple(batch) if train.mesh is None else place_batch(batch, train.mesh)
        state, losses = _one_step(train, state, batch)
        done += 1
        yield Call(state, losses, 1, partial(tuple, batch))
    if done == 0:
        raise ValueError(
            f"batches({at.epoch}) gave no batches, expected at least one. An iterator can be used only once: make a new one "
            "for each epoch."
        )


@partial(jax.jit, static_argnums=0)
def _one_step(train: Train, state: nnx.State, batch: tuple[Array, ...]) -> tuple[nnx.State, Array]:
    state, loss = train(state, batch)
    return state, loss[None]


@partial(jax.jit, static_argnums=(0, 1))
def _sampled_steps(
    train: Train, sample: Callable[[Array], tuple[Array, ...]], state: nnx.State, key: Array, first: Array, last: Array
) -> tuple[nnx.State, Array]:
    """Batches first to last - 1 of an epoch, at most `STEPS_PER_CALL`; one program for any number of them."""

    def step(index: Array, total: tuple[nnx.State, Array]) -> tuple[nnx.State, Array]:
        state, losses = total
        state, loss = train(state, sample(jax.random.fold_in(key, index)))
        return state, losses.at[index - first].set(loss)

    dtype = sum_dtype(jax.eval_shape(sample, key)[0].dtype)
    return jax.lax.fori_loop(first, last, step, (state, jnp.zeros(STEPS_PER_CALL, dtype)))
