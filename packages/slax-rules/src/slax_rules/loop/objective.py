"""The targets and the losses of a window, and the gradient of the losses w.r.t. the heads that a rule reads from the model.

Losses refer to the full batch, even if each device has only a share of it: `axis` is then the name of the mesh axis over the
batch, else None.
"""

import dataclasses
import math
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.losses import LossFn, PerSequence, PerStep, SequenceLoss, sum_dtype
from slax_rules.penalties import LayerPenalty
from slax_rules.rule import Heads


class Targets(NamedTuple):
    """A tree of targets, split into leaves.

    Args:
        leaves: the arrays.
        per_step: for each leaf, true if it has one target per step, [T, B, ...], and false for one per sequence, [B, ...].
        structure: structure of the tree.
    """

    leaves: list[Array]
    per_step: tuple[bool, ...]
    structure: Any

    @property
    def steps(self) -> list[Array]:
        """The leaves with one target per step, to be cut into windows."""
        return [leaf for leaf, cut in zip(self.leaves, self.per_step, strict=True) if cut]

    def with_steps(self, steps: list[Array]) -> "Targets":
        """Return the targets of a window, given its leaves per step."""
        pieces = iter(steps)
        leaves = [next(pieces) if cut else leaf for leaf, cut in zip(self.leaves, self.per_step, strict=True)]
        return self._replace(leaves=leaves)

    @property
    def tree(self) -> Any:
        """The targets in the form that loss functions take."""
        return jax.tree.unflatten(self.structure, self.leaves)

    @property
    def step_axes(self) -> Any:
        """The time axis of each leaf, None for one target per sequence, as `jax.vmap` takes it."""
        return jax.tree.unflatten(self.structure, [0 if cut else None for cut in self.per_step])


def read_targets(targets: Any, steps: int, batch: int) -> Targets:
    """Read the targets of a sequence of `steps` steps and `batch` samples.

    Raises:
        ValueError: a leaf that has neither one target per step nor one per sequence, or that could have either.
    """
    parts, _ = jax.tree.flatten(targets, is_leaf=_is_marked)
    leaves: list[Array] = []
    per_step: list[bool] = []
    for part in parts:
        mark = type(part) if _is_marked(part) else None
        for leaf in jax.tree.leaves(part):
            leaves.append(leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf))
            per_step.append(_is_per_step(leaves[-1].shape, steps, batch, mark))
    unmarked = jax.tree.map(lambda part: part.targets if _is_marked(part) else part, targets, is_leaf=_is_marked)
    return Targets(leaves, tuple(per_step), jax.tree.structure(unmarked))


def _is_marked(part: Any) -> bool:
    return isinstance(part, PerStep | PerSequence)


def _is_per_step(shape: tuple[int, ...], steps: int, batch: int, marked: type | None) -> bool:
    is_per_step, is_per_sequence = shape[:2] == (steps, batch), shape[:1] == (batch,)
    if marked is not None:
        is_per_step, is_per_sequence = is_per_step and marked is PerStep, is_per_sequence and marked is PerSequence
    if is_per_step and is_per_sequence:
        raise ValueError(
            f"Got targets of shape {list(shape)} for {steps} steps and {batch} samples, which may be one per step, "
            f"[{steps}, {batch}, ...], or one per sequence, [{batch}, ...], expected only one of them. Say which: "
            "PerStep(targets) or PerSequence(targets)."
        )
    if shape == ():
        raise ValueError(
            "Got a single number as targets, or a list of numbers, which is a tree of single numbers, expected an array "
            f"[{batch}, ...], one target per sequence, or [{steps}, {batch}, ...], one per step. Make it: jnp.asarray(labels)."
        )
    if not (is_per_step or is_per_sequence):
        forms: dict[Any, str] = {PerSequence: f"[{batch}, ...], one per sequence"}
        forms[PerStep] = f"[{steps}, {batch}, ...], one per step"
        expected = " or ".join(forms.values()) if marked is None else forms[marked]
        raise ValueError(
            f"Got targets of shape {list(shape)} for inputs of {steps} steps and {batch} samples, expected {expected}. Inputs "
            "are time first: [T, B, features...]."
        )
    return is_per_step


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
    if isinstance(outputs, jax.Array) and outputs.shape[2:] == (1,) and isinstance(targets.tree, jax.Array):
        _warn_of_all_pairs(loss_fn, outputs, targets)
    if not isinstance(losses, jax.Array) or losses.shape != (steps, batch):
        shapes = jax.tree.map(lambda leaf: list(leaf.shape[1:]), outputs)
        got = list(losses.shape[1:]) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(
            f"loss_fn made {got} of the outputs {shapes} of one step, expected one loss per sample, [{batch}]. It is the loss "
            "of one step, as Optax's losses are; a loss of the whole sequence is SequenceLoss(function)."
        )
    return losses


def _warn_of_all_pairs(loss_fn: LossFn, outputs: Float[Array, "K B 1"], targets: Targets) -> None:
    """Warn of a loss that broadcasts outputs [B, 1] and targets [B] of a step to [B, B]; nothing is computed."""
    (target,), (is_per_step,), batch = targets.leaves, targets.per_step, outputs.shape[1]
    if batch == 1 or target.ndim - is_per_step != 1:
        return
    step = (jax.ShapeDtypeStruct((batch, *rest), dtype) for rest, dtype in (((1,), outputs.dtype), ((), target.dtype)))
    jaxpr = jax.make_jaxpr(loss_fn)(*step).jaxpr
    # Which of the two a variable depends on, if on one only.
    sources = dict(zip(map(id, jaxpr.invars), ("outputs", "targets"), strict=True))
    for equation in jaxpr.eqns:
        met = {sources[id(variable)] for variable in equation.invars if id(variable) in sources}
        is_pairs = (batch, batch) in (variable.aval.shape for variable in equation.outvars)
        if is_pairs and len(met) == 2:
            warnings.warn(
                f"loss_fn got outputs [{batch}, 1] and targets [{batch}] of a step and broadcast them to [{batch}, {batch}], "
                "all pairs of samples, expected one loss for each sample. Write outputs[..., 0], or make the targets [B, 1].",
                UserWarning,
                stacklevel=2,
            )
            return
        if len(met) == 1 and (not is_pairs or equation.primitive.name == "broadcast_in_dim"):
            sources |= dict.fromkeys(map(id, equation.outvars), *met)


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


def losses_that_count(
    loss_fn: LossFn | SequenceLoss, outputs: Any, targets: Targets, mask: Array | None
) -> tuple[Float[Array, "K B"], Array | None]:
    """The loss of each step and sample, or of each sample [1, B] by a `SequenceLoss`; and which of them count, None if all."""
    if isinstance(loss_fn, SequenceLoss):
        losses = sequence_losses(loss_fn, outputs, targets, mask)[None]
        return losses, None if mask is None else mask.any(axis=0, keepdims=True)
    return step_losses(loss_fn, outputs, targets), mask


def counted(mask: Array | None, shape: tuple[int, ...], axis: str | None) -> Array:
    """The number of losses that count in the full batch, at least 1."""
    number = jnp.asarray(shape[0] * shape[1], jnp.int32) if mask is None else jnp.sum(mask, dtype=jnp.int32)
    return jnp.maximum(all_reduce(number, axis), 1)


class RunningMeans(NamedTuple):
    """The mean of each penalty's outputs since the start of a sequence, and the number n of steps and samples that count.

        mean_t = mean_{t-1} + (x_t - mean_{t-1}) / n_t

    n is a float. Where it no longer grows, at 2^24 steps of one sample in float32, old steps begin to fade from the mean.
    """

    means: list[Array | None]
    number: Array


class WindowLoss(NamedTuple):
    """The loss of a window, the outputs of the model, and the means after the window if they are those since the start."""

    value: Float[Array, ""]
    outputs: Any
    means: RunningMeans | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class WindowObjective:
    """The losses of a window: the mean loss over steps and samples that count, and the penalties of hidden layers.

    Args:
        loss_fn: the loss of a step, or a `SequenceLoss`, for which the window is the entire sequence.
        window_targets: the targets of the window.
        mask: the mask [K, B] of the window, or None.
        axis: the name of the mesh axis over the batch, or None.
        penalties: the penalties of each layer.
        probes: the numbers of the layers that they read.
        means: for each penalty of a mean, the mean that it refers to; by default the mean over the window.
        before: the means before the window, if penalties refer to those since the start of the sequence.
        known: the gradient w.r.t. the heads if a first forward pass has found it, as for a `SequenceLoss`; the loss is then 0.
        count: the number of steps and samples that count; by default their number in the window.
    """

    loss_fn: LossFn | SequenceLoss
    window_targets: Targets
    mask: Array | None
    axis: str | None
    penalties: tuple[LayerPenalty, ...] = ()
    probes: tuple[int, ...] = ()
    means: list[Array | None] | None = None
    before: RunningMeans | None = None
    known: Heads | None = None
    count: Array | None = None

    @property
    def has_means(self) -> bool:
        """Whether a penalty refers to a mean over time and batch."""
        return any(one.penalty.of_mean for one in self.penalties)

    def __call__(self, heads: Heads) -> tuple[WindowLoss, Heads]:
        """Return the loss, and the gradient of all losses w.r.t. the heads."""
        dtype = sum_dtype(_first_leaf((heads.outputs, heads.read_outs)).dtype)
        if self.known is not None:
            return WindowLoss(jnp.zeros((), dtype), heads.outputs), self.known
        means, after = self._means(heads.probes)

        def total(heads: Heads) -> tuple[Array, tuple[Array, list[Array]]]:
            losses = [self._mean_loss(outputs, dtype) for outputs in (heads.outputs, *heads.read_outs)]
            shares = [
                self._penalty_share(one, heads.probes[one.probe], mean).astype(dtype)
                for one, mean in zip(self.penalties, means, strict=True)
            ]
            return sum((*losses[1:], *shares), start=losses[0]), (losses[0], shares)

        (_, (loss, shares)), signals = jax.value_and_grad(total, has_aux=True)(heads)
        loss = all_reduce(loss, self.axis)
        for one, share, mean in zip(self.penalties, shares, means, strict=True):
            value = all_reduce(share, self.axis) if mean is None else one.penalty.weight * one.penalty.function(mean)
            loss = loss + value.astype(dtype)
        outputs, local = _where_counted(self._counts, (signals.outputs, signals.read_outs))
        return WindowLoss(loss, heads.outputs, after), Heads(outputs, _where_counted(self.mask, signals.probes), local)

    def targets(self, outputs: Any) -> Float[Array, "K B C"]:
        """Return the targets of each step in the shape of the outputs, divided by the number of losses in the mean."""
        values = expand_targets(self.window_targets, outputs)
        count = counted(self.mask, values.shape[:2], self.axis) if self.count is None else self.count
        values = values / count.astype(values.dtype)
        return values if self.mask is None else jnp.where(self.mask[..., None], values, 0)

    def sums(self, hidden: tuple[Array, ...]) -> list[Array | None]:
        """For each penalty of a mean, the sum of the outputs over steps and samples that count, on all devices."""
        return [
            all_reduce(self._sum(hidden[one.probe]), self.axis) if one.penalty.of_mean else None
            for one in self.penalties
        ]

    def _means(self, hidden: tuple[Array, ...]) -> tuple[list[Array | None], RunningMeans | None]:
        """The reference mean of each penalty, None for one of each step; and the running means, if these are the reference."""
        if self.means is not None or not self.has_means:
            return self.means or [None] * len(self.penalties), None
        shape = hidden[0].shape[:2]
        if self.before is None:
            count = counted(self.mask, shape, self.axis)
            return jax.tree.map(lambda total: total / count.astype(total.dtype), self.sums(hidden)), None
        here = jnp.sum(self.mask, dtype=jnp.int32) if self.mask is not None else math.prod(shape)
        new = all_reduce(jnp.asarray(here, jnp.int32), self.axis).astype(self.before.number.dtype)
        number = self.before.number + new

        def after(mean: Array, total: Array) -> Array:
            return mean + (total - new.astype(mean.dtype) * mean) / jnp.maximum(number, 1).astype(mean.dtype)

        means = jax.tree.map(after, self.before.means, self.sums(hidden))
        return means, RunningMeans(means, number)

    @property
    def _counts(self) -> Array | None:
        """The mask of the outputs; for the loss of a sequence, whether any step of a sample counts."""
        if self.mask is None or not isinstance(self.loss_fn, SequenceLoss):
            return self.mask
        return self.mask.any(axis=0, keepdims=True)

    def _mean_loss(self, outputs: Any, dtype: Any) -> Array:
        """The share of this device in the mean loss."""
        losses, counts = losses_that_count(self.loss_fn, outputs, self.window_targets, self.mask)
        if not jnp.issubdtype(losses.dtype, jnp.inexact):
            raise TypeError(
                f"loss_fn returned losses of {losses.dtype}, which have no gradient, expected floating-point numbers. Make a "
                "loss of the outputs themselves, such as cross_entropy, and give a count of errors as a metric."
            )
        valid = losses if counts is None else jnp.where(counts, losses, 0)
        return jnp.sum(valid, dtype=dtype) / counted(counts, losses.shape, self.axis).astype(dtype)

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
                f"A penalty made {list(losses.shape[1:])} of the outputs {list(values.shape[1:])} of one step, expected one "
                f"loss per sample, [{values.shape[1]}]. A function of the mean over time and batch needs of_mean=True."
            )
        total = jnp.sum(_where_counted(self.mask, losses), dtype=sum_dtype(losses.dtype))
        return penalty.weight * total / count.astype(total.dtype)


def expand_targets(targets: Targets, outputs: Any) -> Float[Array, "K B C"]:
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
