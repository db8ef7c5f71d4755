"""The loss of a window as a function of the model's outputs, which rules differentiate.

Batch         inputs, targets and mask of a sequence, or of one of its windows
Outputs       what losses read of a window
WindowLoss    the mean loss of the task, and the penalties of hidden layers
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_rules.losses import LossFn, PerSequence, PerStep, SequenceLoss, sum_dtype


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of sequences, or its part in a window.

    Args:
        inputs: inputs [T, B, ...].
        targets: a tree of arrays, [T, B, ...] with one target per step or [B, ...] with one per sequence.
        mask: bool [T, B], true where a loss counts; None for everywhere.
        per_step: for each leaf of the targets, whether it has one target per step.
    """

    inputs: Any  # an array, or its partition in a tree of the same form
    targets: Any
    mask: Any = None
    per_step: tuple[bool, ...] = dataclasses.field(default=(), metadata={"static": True})

    @classmethod
    def read(cls, inputs: Any, targets: Any, mask: Array | None = None) -> "Batch":
        """Find from the shapes, or from `PerStep` and `PerSequence`, which targets belong to steps.

        Raises:
            ValueError: targets that have neither one entry per step nor one per sequence, or that could have either.
        """
        parts, structure = jax.tree.flatten(targets, is_leaf=_is_marked)
        found, per_step = [], []
        for part in parts:
            leaves, of_part = jax.tree.flatten(part.targets if _is_marked(part) else part)
            leaves = list(map(jnp.asarray, leaves))
            for leaf in leaves:
                mark = type(part) if _is_marked(part) else None
                per_step.append(_is_per_step(leaf.shape, inputs.shape[0], inputs.shape[1], mark))
            found.append(jax.tree.unflatten(of_part, leaves))
        return cls(inputs, jax.tree.unflatten(structure, found), mask, tuple(per_step))

    @property
    def steps(self) -> tuple[Array, list[Array], Array | None]:
        """What has an axis of time, to be cut into windows."""
        leaves = zip(jax.tree.leaves(self.targets), self.per_step, strict=True)
        return self.inputs, [leaf for leaf, cut in leaves if cut], self.mask

    def with_steps(self, steps: tuple[Array, list[Array], Array | None]) -> "Batch":
        """The window with these steps."""
        inputs, of_steps, mask = steps
        pieces, (leaves, structure) = iter(of_steps), jax.tree.flatten(self.targets)
        targets = [next(pieces) if cut else leaf for leaf, cut in zip(leaves, self.per_step, strict=True)]
        return dataclasses.replace(self, inputs=inputs, targets=jax.tree.unflatten(structure, targets), mask=mask)


def _is_marked(part: Any) -> bool:
    return isinstance(part, PerStep | PerSequence)


def _is_per_step(shape: tuple[int, ...], steps: int, batch: int, marked: type | None) -> bool:
    forms: dict[type, str] = {
        PerSequence: f"[{batch}, ...], one per sequence",
        PerStep: f"[{steps}, {batch}, ...], one per step",
    }
    fits: dict[type, bool] = {PerSequence: shape[:1] == (batch,), PerStep: shape[:2] == (steps, batch)}
    allowed = [form for form in forms if marked in (None, form)]
    found = [form for form in allowed if fits[form]]
    if len(found) != 1:
        cure = (
            "Say which: PerStep(targets) or PerSequence(targets)."
            if found
            else "Inputs are time first, [T, B, features...]."
        )
        cure = cure if shape else "Of a list make an array: jnp.asarray(labels)."
        raise ValueError(
            f"Got targets of shape {list(shape)} for inputs of {steps} steps and {batch} samples, expected "
            f"{' or '.join(forms[form] for form in allowed)}. {cure}"
        )
    return found[0] is PerStep


def all_reduce(tree: Any, axis: str | None) -> Any:
    """Sum a tree over devices; `axis` is the name of the mesh axis over the batch, None for one device."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def count_losses(batch: Batch, axis: str | None = None) -> Array:
    """The number of steps and samples that count in the full batch, on all devices, at least 1."""
    steps, samples = batch.inputs.shape[:2]
    here = jnp.asarray(steps * samples, jnp.int32) if batch.mask is None else jnp.sum(batch.mask, dtype=jnp.int32)
    return jnp.maximum(all_reduce(here, axis), 1)


def step_losses(loss_fn: LossFn, outputs: Any, batch: Batch) -> Float[Array, "K B"]:
    """The loss of each step and sample.

    Raises:
        ValueError: a loss function that does not return one loss per sample of a step.
    """
    axes = jax.tree.unflatten(jax.tree.structure(batch.targets), [0 if cut else None for cut in batch.per_step])
    losses = jax.vmap(loss_fn, in_axes=(0, axes))(outputs, batch.targets)
    shape = jax.tree.leaves(outputs)[0].shape[:2]
    if not isinstance(losses, jax.Array) or losses.shape != shape:
        got = list(losses.shape[1:]) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(f"loss_fn made {got}, expected one loss per sample, [{shape[1]}], or a SequenceLoss.")
    return losses


def losses_that_count(
    loss_fn: LossFn | SequenceLoss, outputs: Any, batch: Batch
) -> tuple[Float[Array, "K B"], Array | None]:
    """The loss of each step and sample, or of each sample [1, B] by a `SequenceLoss`; and which of them count, None if all."""
    if not isinstance(loss_fn, SequenceLoss):
        return step_losses(loss_fn, outputs, batch), batch.mask
    losses = loss_fn(outputs, batch.targets, *(() if batch.mask is None else (batch.mask,)))
    samples = jax.tree.leaves(outputs)[0].shape[1]
    if not isinstance(losses, jax.Array) or losses.shape != (samples,):
        got = list(losses.shape) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(f"SequenceLoss made {got} for {samples} samples, expected a loss for each, [{samples}].")
    return losses[None], None if batch.mask is None else batch.mask.any(axis=0, keepdims=True)


class RuleState(NamedTuple):
    """Everything that continues from one window to the next at fixed parameters: the model's carry, and the rule's traces."""

    carry: Any
    traces: Any


class WindowGradient(NamedTuple):
    """What a rule returns for a window.

    Args:
        loss: the value of the loss.
        model: the gradient, in the structure of `nnx.state(model, nnx.Param)`.
        rule: the gradient w.r.t. the rule's own parameters, in the structure of `nnx.state(rule, nnx.Param)`.
        state: the state after the window.
        outputs: the outputs of the model, [K, B, ...] or a tree of such arrays.

    Example:
        A rule that halves the gradient of BPTT:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import BPTT, cross_entropy, gradients
        >>> class HalfOfBPTT(BPTT):
        ...     def window(self, model, state, inputs, loss):
        ...         found = super().window(model, state, inputs, loss)
        ...         return found._replace(model=jax.tree.map(lambda leaf: leaf / 2, found.model))
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> batch = jnp.ones((10, 3, 4)), jnp.array([0, 1, 0])
        >>> _, full = gradients(model, cross_entropy, *batch)
        >>> _, half = gradients(model, cross_entropy, *batch, rule=HalfOfBPTT())
        >>> bool(jnp.allclose(2 * half["modules"][0]["bias"][...], full["modules"][0]["bias"][...]))
        True
    """

    loss: Float[Array, ""]
    model: nnx.State
    rule: nnx.State
    state: RuleState
    outputs: Any


class Outputs(NamedTuple):
    """What the losses of a window read.

    Args:
        final: the outputs of the model, [K, B, ...] or a tree of such arrays.
        hidden: the outputs of the hidden layers that penalties read, [K, B, ...] each.
    """

    final: Any
    hidden: tuple[Array, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class WindowLoss:
    """The loss of a window as a function of its outputs: the mean loss, and the penalties of hidden layers.

    On several devices it is the share of this device's samples, and the sum over devices is the loss of the full batch.

    Args:
        loss_fn: the loss of a step, or a `SequenceLoss`, for which the window is the entire sequence.
        batch: the targets and the mask of the window.
        count: the number of losses in the mean, by default the number that counts in this window.
        layers: the numbers of the hidden layers whose outputs `Outputs.hidden` has.
        penalties: penalties, each with the index of its layer among these.
        axis: the name of the mesh axis over the batch, or None for one device.
        weights: weights [K, 1] of the steps in a sum that takes the place of the mean.
        signals: the gradient of the loss of the sequence w.r.t. the outputs of this window, if a first pass has found it: the
            loss is then the product of both.
    """

    loss_fn: LossFn | SequenceLoss
    batch: Batch
    count: Array | None = None
    layers: tuple[int, ...] = ()
    penalties: tuple[tuple[int, Any], ...] = ()
    axis: str | None = None
    weights: Array | None = None
    signals: Outputs | None = None

    def on(self, batch: Batch, count: Array | None = None, signals: Outputs | None = None) -> "WindowLoss":
        """The loss of another window, with this number of losses in the mean, and what is known of its signals."""
        return dataclasses.replace(self, batch=batch, count=count, signals=signals)

    @property
    def needs_all_steps(self) -> bool:
        """Whether the loss reads an entire sequence: a `SequenceLoss`, or a penalty on means over time."""
        return isinstance(self.loss_fn, SequenceLoss) or any(penalty.of_mean for _, penalty in self.penalties)

    def __call__(self, outputs: Outputs) -> Float[Array, ""]:
        """The loss of the task and of the penalties."""
        if self.signals is not None:
            products = jax.tree.leaves(jax.tree.map(jnp.vdot, self.signals, outputs))
            return sum(product.astype(sum_dtype(product.dtype)) for product in products)
        total = self.task(outputs.final)
        for index, penalty in self.penalties:
            total = total + penalty.weight * self._of_penalty(penalty, outputs.hidden[index]).astype(total.dtype)
        return _nan_with_slope(total) if self.penalties else total

    def task(self, final: Any) -> Float[Array, ""]:
        """The loss of outputs in the form of the model's."""
        mask = self.batch.mask
        is_whole = isinstance(self.loss_fn, SequenceLoss)
        final = where_counted(mask.any(axis=0, keepdims=True) if is_whole and mask is not None else mask, final)
        losses, counts = losses_that_count(self.loss_fn, final, self.batch)
        if not jnp.issubdtype(losses.dtype, jnp.inexact):
            raise TypeError(f"loss_fn returned {losses.dtype}, which has no gradient, expected floats.")
        dtype = sum_dtype(losses.dtype)
        losses = losses if counts is None else jnp.where(counts, losses, 0)
        if self.weights is not None:
            return _nan_with_slope(jnp.sum(losses * self.weights.astype(losses.dtype), dtype=dtype))
        count = self._count()
        if is_whole:
            samples = jnp.asarray(losses.size, jnp.int32) if counts is None else jnp.sum(counts, dtype=jnp.int32)
            count = jnp.maximum(all_reduce(samples, self.axis), 1)
        return _nan_with_slope(jnp.sum(losses, dtype=dtype) / count.astype(dtype))

    def targets(self, final: Any) -> Float[Array, "K B C"]:
        """The targets of each step in the shape of the outputs, divided by the number of losses in the mean."""
        values = expand_targets(self.batch, final)
        return where_counted(self.batch.mask, values) * self.shares(values.dtype)[..., None]

    def shares(self, dtype: Any) -> Float[Array, "K B"]:
        """The weight of each loss in the mean, which is 0 where it does not count."""
        weights = (1 / self._count().astype(dtype))[None, None] if self.weights is None else self.weights.astype(dtype)
        return where_counted(self.batch.mask, jnp.broadcast_to(weights, self.batch.inputs.shape[:2]))

    def _count(self) -> Array:
        return count_losses(self.batch, self.axis) if self.count is None else self.count

    def _of_penalty(self, penalty: Any, values: Float[Array, "K B ..."]) -> Array:
        values, dtype = where_counted(self.batch.mask, values), sum_dtype(values.dtype)
        if penalty.of_mean:
            here = jnp.sum(values, axis=(0, 1), dtype=dtype) / self._count().astype(dtype)
            mean = jax.lax.stop_gradient(all_reduce(here, self.axis))
            value, slope = jax.value_and_grad(lambda mean: _one_number(penalty.function(mean)))(mean)
            # The share of this device has the gradient of its samples, and the shares add up to the value.
            share = jnp.vdot(slope, here)
            return share + jax.lax.stop_gradient(value / all_reduce(jnp.ones((), dtype), self.axis) - share)
        losses = jax.vmap(penalty.function)(values)
        if losses.shape != values.shape[:2]:
            raise ValueError(f"A penalty made {list(losses.shape[1:])}, expected [{values.shape[1]}], or of_mean=True.")
        return jnp.sum(where_counted(self.batch.mask, losses), dtype=dtype) / self._count().astype(dtype)


def _nan_with_slope(value: Float[Array, ""]) -> Float[Array, ""]:
    """A loss, whose gradient is NaN where it is NaN itself, as of a label out of range, which has no gradient otherwise."""
    return value * jax.lax.stop_gradient(jnp.where(jnp.isnan(value), jnp.nan, 1).astype(value.dtype))


def where_counted(mask: Array | None, values: Any) -> Any:
    """A tree of arrays [K, B, ...] with 0 where a loss does not count, so that its slope, which may be NaN there, is 0."""
    if mask is None:
        return values
    return jax.tree.map(
        lambda x: jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, jnp.zeros((), x.dtype)), values
    )


def expand_targets(batch: Batch, outputs: Any) -> Float[Array, "K B C"]:
    """The targets of each step as numbers in the shape of the outputs, one-hot for labels; several heads are concatenated.

    Raises:
        TypeError: targets that do not have the structure or the shape of the outputs.
    """
    heads, structure = jax.tree.flatten(outputs)
    found, of_targets = jax.tree.flatten(batch.targets)
    if of_targets != structure:  # type: ignore[operator]
        raise TypeError("A route got targets of another structure than outputs. Use route=Direct(...).")

    def one(target: Array, is_per_step: bool, head: Array) -> Array:
        steps, samples = head.shape[:2]
        if jnp.issubdtype(target.dtype, jnp.integer) and target.ndim + 1 - is_per_step == head.ndim - 1:
            one_hot = jax.nn.one_hot(target.astype(jnp.int32), head.shape[-1], dtype=head.dtype)
            target = jnp.where(one_hot.any(axis=-1, keepdims=True), one_hot, jnp.nan)  # NaN for a label out of range
        if not is_per_step:
            target = jnp.broadcast_to(target[None], (steps, *target.shape))
        if target.shape != head.shape:
            raise TypeError(f"A route got targets {list(target.shape)}, expected labels. Or use route=Direct(...).")
        return target.reshape(steps, samples, -1).astype(head.dtype)

    return jnp.concatenate([one(*each) for each in zip(found, batch.per_step, heads, strict=True)], axis=-1)


def _one_number(value: Any) -> Array:
    """Raise ValueError unless a penalty of a mean is one number."""
    if jnp.shape(value) != ():
        raise ValueError(f"A penalty with of_mean=True made {list(jnp.shape(value))} of the mean, expected one number.")
    return value
