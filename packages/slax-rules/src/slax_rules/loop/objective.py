"""The losses of a window, and their gradient w.r.t. the heads that a rule reads from the model.

Losses refer to the full batch, even if each device has only a share of it: `axis` is then the name of the mesh axis over the
batch, else None.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.loop.targets import Targets
from slax_rules.losses import LossFn, SequenceLoss, sum_dtype
from slax_rules.penalties import LayerPenalty
from slax_rules.probes import Probe
from slax_rules.rule import Heads, Objective


def all_reduce(tree: Any, axis: str | None) -> Any:
    """Sum a tree over devices."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def step_losses(loss_fn: LossFn, outputs: Any, targets: Targets) -> Float[Array, "K B"]:
    """The loss of each step and sample.

    Raises:
        ValueError: a loss function that does not return one loss per sample of a step.
    """
    losses = jax.vmap(loss_fn, in_axes=(0, targets.step_axes))(outputs, targets.tree)
    steps, batch = jax.tree.leaves(outputs)[0].shape[:2]
    if not isinstance(losses, jax.Array) or losses.shape != (steps, batch):
        shapes = jax.tree.map(lambda leaf: list(leaf.shape[1:]), outputs)
        got = list(losses.shape[1:]) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(
            f"loss_fn made {got} of the outputs {shapes} of one step, expected one loss per sample, [{batch}]. It is the loss "
            "of one step, as Optax's losses are; a loss of the whole sequence is SequenceLoss(function)."
        )
    return losses


def sequence_losses(loss_fn: SequenceLoss, outputs: Any, targets: Targets, mask: Array | None) -> Float[Array, " B"]:
    """The loss of each sample.

    Raises:
        ValueError: a loss function that does not return one loss per sample.
    """
    losses = loss_fn(outputs, targets.tree, *(() if mask is None else (mask,)))
    batch = jax.tree.leaves(outputs)[0].shape[1]
    if not isinstance(losses, jax.Array) or losses.shape != (batch,):
        got = list(losses.shape) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(
            f"SequenceLoss made {got} of outputs for {batch} samples, expected one loss per sample, [{batch}]: its function "
            "maps outputs [T, B, ...] and targets to losses [B]."
        )
    return losses


def counted(mask: Array | None, shape: tuple[int, ...], axis: str | None) -> Array:
    """The number of losses that count in the full batch, at least 1."""
    number = jnp.asarray(shape[0] * shape[1], jnp.int32) if mask is None else jnp.sum(mask, dtype=jnp.int32)
    return jnp.maximum(all_reduce(number, axis), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class WindowObjective:
    """The losses of a window: the mean loss over steps and samples that count, and the penalties of hidden layers.

    Args:
        loss_fn: the loss of a step, or a `SequenceLoss`, for which the window is the entire sequence.
        window_targets: the targets of the window.
        mask: the mask [K, B] of the window, or None.
        axis: the name of the mesh axis over the batch, or None.
        penalties: the penalties of each layer.
        probes: the quantities that they read.
        means: for each penalty of a mean, the mean that it refers to; by default the mean over the window.
    """

    loss_fn: LossFn | SequenceLoss
    window_targets: Targets
    mask: Array | None
    axis: str | None
    penalties: tuple[LayerPenalty, ...] = ()
    probes: tuple[Probe, ...] = ()
    means: list[Array | None] | None = None

    @property
    def has_means(self) -> bool:
        """Whether a penalty refers to a mean over time and batch."""
        return any(one.penalty.of_mean for one in self.penalties)

    def __call__(self, heads: Heads) -> tuple[Array, Heads]:
        """Return the loss, and the gradient of all losses w.r.t. the heads."""
        dtype = sum_dtype(_first_leaf((heads.outputs, heads.local)).dtype)
        means = [self._mean(index, heads.hidden) for index in range(len(self.penalties))]

        def total(heads: Heads) -> tuple[Array, tuple[Array, list[Array]]]:
            losses = [self._mean_loss(outputs, dtype) for outputs in (heads.outputs, *heads.local)]
            shares = [
                self._penalty_share(one, heads.hidden[one.probe], mean).astype(dtype)
                for one, mean in zip(self.penalties, means, strict=True)
            ]
            return sum((*losses[1:], *shares), start=losses[0]), (losses[0], shares)

        (_, (loss, shares)), signals = jax.value_and_grad(total, has_aux=True)(heads)
        loss = all_reduce(loss, self.axis)
        for one, share, mean in zip(self.penalties, shares, means, strict=True):
            value = all_reduce(share, self.axis) if mean is None else one.penalty.weight * one.penalty.function(mean)
            loss = loss + value.astype(dtype)
        outputs, local = _where_counted(self._counts, (signals.outputs, signals.local))
        return loss, Heads(outputs, _where_counted(self.mask, signals.hidden), local)

    def targets(self, outputs: Any, count: Array | None = None) -> Float[Array, "K B C"]:
        """Return the targets of each step in the shape of the outputs, divided by the number of losses in the mean.

        Args:
            outputs: the outputs of the model.
            count: the number of steps and samples that count; by default their number in the window.
        """
        values = like_outputs(self.window_targets, outputs)
        count = counted(self.mask, values.shape[:2], self.axis) if count is None else count
        values = values / count.astype(values.dtype)
        return values if self.mask is None else jnp.where(self.mask[..., None], values, 0)

    def sums(self, hidden: tuple[Array, ...]) -> list[Array | None]:
        """For each penalty of a mean, the sum of its quantity over steps and samples that count, on all devices."""

        def total(one: LayerPenalty) -> Array | None:
            if not one.penalty.of_mean:
                return None
            return all_reduce(self._sum(hidden[one.probe]), self.axis)

        return [total(one) for one in self.penalties]

    @property
    def _counts(self) -> Array | None:
        """The mask of the outputs; for the loss of a sequence, whether any step of a sample counts."""
        if self.mask is None or not isinstance(self.loss_fn, SequenceLoss):
            return self.mask
        return self.mask.any(axis=0, keepdims=True)

    def _mean_loss(self, outputs: Any, dtype: Any) -> Array:
        """The share of this device in the mean loss."""
        if isinstance(self.loss_fn, SequenceLoss):
            losses = sequence_losses(self.loss_fn, outputs, self.window_targets, self.mask)[None]
        else:
            losses = step_losses(self.loss_fn, outputs, self.window_targets)
        valid = losses if self._counts is None else jnp.where(self._counts, losses, 0)
        return jnp.sum(valid, dtype=dtype) / counted(self._counts, losses.shape, self.axis).astype(dtype)

    def _mean(self, index: int, hidden: tuple[Array, ...]) -> Array | None:
        """The mean that a penalty refers to; None for a penalty of each step."""
        one = self.penalties[index]
        if not one.penalty.of_mean:
            return None
        if self.means is not None:
            return self.means[index]
        total = all_reduce(self._sum(hidden[one.probe]), self.axis)
        return total / counted(self.mask, hidden[one.probe].shape[:2], self.axis).astype(total.dtype)

    def _sum(self, values: Float[Array, "K B ..."]) -> Array:
        return jnp.sum(_where_counted(self.mask, values), axis=(0, 1), dtype=sum_dtype(values.dtype))

    def _penalty_share(self, one: LayerPenalty, values: Float[Array, "K B ..."], mean: Array | None) -> Array:
        """The share of this device in a penalty of each step, or a number with the gradient of its share in one of the mean."""
        penalty, count = one.penalty, counted(self.mask, values.shape[:2], self.axis)
        if mean is not None:
            slope = jax.grad(lambda mean: _number(penalty.function(mean)))(mean)
            total = jnp.vdot(slope, self._sum(values))
            return penalty.weight * total / count.astype(total.dtype)
        losses = jax.vmap(penalty.function)(values)
        if losses.shape != values.shape[:2]:
            raise ValueError(
                f"A penalty made {list(losses.shape[1:])} of the {penalty.of} {list(values.shape[1:])} of one step, expected "
                f"one loss per sample, [{values.shape[1]}]. A function of the mean over time and batch needs of_mean=True."
            )
        total = jnp.sum(_where_counted(self.mask, losses), dtype=sum_dtype(losses.dtype))
        return penalty.weight * total / count.astype(total.dtype)


class RunningMeans(NamedTuple):
    """The mean of each penalty's quantity since the start of a sequence, and the number n of steps and samples that count.

        mean_t = mean_{t-1} + (x_t - mean_{t-1}) / n_t

    n is a float. Where it no longer grows, at 2^24 steps of one sample in float32, old steps begin to fade from the mean.
    """

    means: list[Array | None]
    number: Array


@dataclasses.dataclass(frozen=True, eq=False)
class RunningObjective:
    """The objective of a window in which penalties of a mean refer to the mean since the start of the sequence.

    Args:
        window: the losses of the window.
        before: the means before the window.
    """

    window: WindowObjective
    before: RunningMeans

    @property
    def probes(self) -> tuple[Probe, ...]:
        return self.window.probes

    def __call__(self, heads: Heads) -> tuple[tuple[Array, RunningMeans], Heads]:
        """Return the loss with the means after the window, and the gradient w.r.t. the heads."""
        window, before = self.window, self.before
        shape = heads.hidden[0].shape[:2]
        here = jnp.sum(window.mask, dtype=jnp.int32) if window.mask is not None else math.prod(shape)
        new = all_reduce(jnp.asarray(here, jnp.int32), window.axis).astype(before.number.dtype)
        number = before.number + new

        def after(mean: Array, total: Array) -> Array:
            return mean + (total - new.astype(mean.dtype) * mean) / jnp.maximum(number, 1).astype(mean.dtype)

        means = jax.tree.map(after, before.means, window.sums(heads.hidden))
        loss, signals = dataclasses.replace(window, means=means)(heads)
        return (loss, RunningMeans(means, number)), signals

    def targets(self, outputs: Any) -> Float[Array, "K B C"]:
        """Return the targets of each step, as `WindowObjective` does."""
        return self.window.targets(outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class WithOutputs:
    """An objective whose loss comes with the outputs of the window.

    Args:
        objective: the losses of the window.
    """

    objective: Objective

    @property
    def probes(self) -> tuple[Probe, ...]:
        return self.objective.probes

    def __call__(self, heads: Heads) -> tuple[tuple[Any, Any], Heads]:
        """Return the loss with the outputs, and the gradient w.r.t. the heads."""
        loss, signals = self.objective(heads)
        return (loss, heads.outputs), signals

    def targets(self, outputs: Any) -> Float[Array, "K B C"]:
        """Return the targets of each step, as the objective does."""
        return self.objective.targets(outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class KnownSignals:
    """The objective of a window of a `SequenceLoss` whose gradient w.r.t. the heads was found in a first forward pass.

    Args:
        signals: the gradient in this window.
        window: the losses of the window.
        count: the number of steps and samples of the entire sequence that count.
    """

    signals: Heads
    window: WindowObjective
    count: Array

    @property
    def probes(self) -> tuple[Probe, ...]:
        return self.window.probes

    def __call__(self, heads: Heads) -> tuple[Array, Heads]:
        """Return zero for the loss, which is known, and the gradient."""
        return jnp.zeros((), sum_dtype(jax.tree.leaves(heads.outputs)[0].dtype)), self.signals

    def targets(self, outputs: Any) -> Float[Array, "K B C"]:
        """Return the targets of each step, as `WindowObjective` does, but for the mean over the whole sequence."""
        return self.window.targets(outputs, self.count)


def like_outputs(targets: Targets, outputs: Any) -> Float[Array, "K B C"]:
    """The targets of each step as numbers in the shape of the outputs, one-hot for labels; several heads are concatenated.

    Raises:
        TypeError: targets that do not have the structure or the shape of the outputs.
    """
    heads, structure = jax.tree.flatten(outputs)
    found, per_step = jax.tree.flatten(targets.tree)[0], targets.per_step
    if jax.tree.structure(targets.tree) != structure:  # type: ignore[operator]
        raise TypeError(
            f"A route that sends targets to hidden layers got targets in the structure {jax.tree.structure(targets.tree)} for "
            f"outputs in the structure {structure}, expected the same. Use route=Direct(...), which sends the error."
        )

    def one(target: Array, is_per_step: bool, head: Array) -> Array:
        steps, batch = head.shape[:2]
        if jnp.issubdtype(target.dtype, jnp.integer) and target.ndim + 1 - is_per_step == head.ndim - 1:
            target = jax.nn.one_hot(target, head.shape[-1], dtype=head.dtype)
        if not is_per_step:
            target = jnp.broadcast_to(target[None], (steps, *target.shape))
        if target.shape != head.shape:
            raise TypeError(
                f"A route that sends targets to hidden layers got targets {list(target.shape)} for outputs {list(head.shape)}, "
                "expected labels, or numbers in the shape of the outputs. Use route=Direct(...), which sends the error."
            )
        return target.reshape(steps, batch, -1).astype(head.dtype)

    return jnp.concatenate([one(*each) for each in zip(found, per_step, heads, strict=True)], axis=-1)


def _number(value: Any) -> Array:
    """Raise ValueError unless a penalty of a mean is one number."""
    if jnp.shape(value) != ():
        raise ValueError(
            f"A penalty with of_mean=True made {list(jnp.shape(value))} of the mean over time and batch, expected one number."
        )
    return value


def _first_leaf(heads: Any) -> Array:
    """Return the first array of the heads; all must be floating-point, since the loss has a gradient w.r.t. each."""
    for leaf in jax.tree.leaves(heads):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"Got outputs of {leaf.dtype}{list(leaf.shape[2:])} per sample, expected floating-point numbers: a loss has "
                "a gradient w.r.t. all outputs of the model. Cast them, or leave them out of the outputs."
            )
    return jax.tree.leaves(heads)[0]


def _where_counted(mask: Array | None, signals: Any) -> Any:
    """Set the signals of losses that do not count to zero: 0 times the slope of such a loss may be NaN instead of 0."""
    if mask is None:
        return signals
    return jax.tree.map(lambda s: jnp.where(mask.reshape(*mask.shape, *[1] * (s.ndim - 2)), s, 0), signals)
