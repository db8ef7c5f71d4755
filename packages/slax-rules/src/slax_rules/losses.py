"""Losses of a step and of an entire sequence, the targets of a batch, and the loss of a window as a function of its outputs.

A loss function is the loss of *one step*: it maps outputs [B, ...] and targets [B, ...] to losses [B], as Optax's losses do.
`gradients` maps it over steps and takes the mean, over all steps and samples or over the true entries of a mask, so it does not
depend on the window. A loss that depends on several steps, such as a loss of the mean over time, is a `SequenceLoss`.

    Batch        inputs, targets and mask of a sequence, or of a window of it
    WindowLoss   the loss of a batch or a window: a function of the model's `Outputs`, which rules differentiate
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, DTypeLike, Float

from slax_rules.masks import check_mask, check_takes_mask

# Maps the outputs and the targets of a step to a loss for each sample; any leaves of both may be trees.
LossFn = Callable[[Any, Any], Float[Array, " B"]]


@dataclasses.dataclass(frozen=True)
class SequenceLoss:
    """A loss of an entire sequence: `SequenceLoss(lambda outputs, labels: cross_entropy(outputs.mean(axis=0), labels))`.

    Under every rule, the outputs of the entire sequence are computed first, the gradient w.r.t. them is found by autodiff, and
    each window receives its part as the learning signal. So the value does not depend on the window, at the cost of a second
    forward pass if there are several windows. `train_online`, which updates before the sequence ends, does not accept it.

    Args:
        function: maps outputs [T, B, ...] and targets, and the mask [T, B] if there is one, to losses [B].

    Raises:
        TypeError: raised at the call: a mask, and a function that does not take one.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import SequenceLoss, cross_entropy
        >>> rates = SequenceLoss(lambda spikes, labels: cross_entropy(spikes.sum(axis=0), labels))
        >>> rates(jnp.ones((10, 2, 3)), jnp.array([0, 2])).shape
        (2,)
    """

    function: Callable[..., Float[Array, " B"]]

    def __call__(self, outputs: Any, targets: Any, *mask: Array) -> Any:
        if mask:
            check_takes_mask("The function of a SequenceLoss", self.function, outputs, targets, *mask)
        return self.function(outputs, targets, *mask)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PerStep:
    """A marker for targets with one entry per step, [T, B, ...], if their shape is ambiguous: `PerStep(labels)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import PerStep, gradients, squared_error
        >>> model = connect([nnx.Linear(4, 4, rngs=nnx.Rngs(0)), LI()])
        >>> inputs, targets = jnp.ones((3, 3, 4)), jnp.ones((3, 3, 4))  # as many steps as samples: either reading fits
        >>> loss, gradient = gradients(model, squared_error, inputs, PerStep(targets))
        >>> gradient["modules"][0]["kernel"][...].shape
        (4, 4)
    """

    targets: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PerSequence:
    """A marker for targets with one entry per sequence, [B, ...], if their shape is ambiguous: `PerSequence(labels)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import PerSequence, gradients, squared_error
        >>> model = connect([nnx.Linear(4, 3, rngs=nnx.Rngs(0)), LI()])
        >>> inputs, targets = jnp.ones((3, 3, 4)), jnp.ones((3, 3))  # as many steps as samples: either reading fits
        >>> loss, gradient = gradients(model, squared_error, inputs, PerSequence(targets))
        >>> gradient["modules"][0]["kernel"][...].shape
        (4, 3)
    """

    targets: Any


def cross_entropy(outputs: Float[Array, "*T B C"], labels: Array) -> Float[Array, "*T B"]:
    """The softmax cross entropy of outputs, -log softmax(outputs)[label], in float32 at least.

    Args:
        outputs: logits of one step, [B, C], or of several.
        labels: integers 0..C-1, [B], or one for each output. Masked steps need one as well.

    Returns:
        The loss of each sample. In compiled code, as in `gradients`, a label out of range makes the loss NaN.

    Raises:
        ValueError: labels of another shape; labels out of range, outside compiled code.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import cross_entropy
        >>> losses = cross_entropy(jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), jnp.array([0, 1]))
        >>> [round(loss, 2) for loss in losses.tolist()]
        [0.24, 1.1]
    """
    valid = _valid("cross_entropy", labels, outputs.shape[-1])
    samples = outputs.shape[:-1]
    if labels.ndim > len(samples) or labels.shape != samples[len(samples) - labels.ndim :]:
        advice = (
            "Take an axis of length 1 away: labels.squeeze(-1)."
            if labels.shape[-1:] == (1,)
            else "Make labels of one-hot vectors with labels.argmax(-1). Labels of each step are [T, B]: labels.T."
        )
        raise ValueError(
            f"cross_entropy got labels of shape {list(labels.shape)} for outputs of shape {list(outputs.shape)}, expected one "
            f"label per output, {list(samples)}. {advice}"
        )
    logits = outputs.astype(sum_dtype(outputs.dtype))
    labels = jnp.broadcast_to(jnp.where(valid, labels, 0), samples).astype(jnp.int32)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.where(jnp.broadcast_to(valid, losses.shape), losses, jnp.nan)


def squared_error(outputs: Float[Array, "B ..."], targets: Array) -> Float[Array, " B"]:
    """The mean squared error of a step's outputs over their features, mean((outputs - targets)^2), in float32 at least.

    Args:
        outputs: outputs of one step.
        targets: targets of the same shape, in a floating-point dtype.

    Returns:
        The loss of each sample.

    Raises:
        ValueError: targets of another shape, or integers.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import squared_error
        >>> squared_error(jnp.ones((2, 3)), jnp.zeros((2, 3)))
        Array([1., 1.], dtype=float32)
    """
    if targets.shape != outputs.shape or not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ValueError(
            f"squared_error got targets of {targets.dtype}{list(targets.shape)} for outputs of {list(outputs.shape)} "
            f"in a step, expected floating-point numbers of shape {list(outputs.shape)}. Make targets from labels with "
            "jax.nn.one_hot."
        )
    dtype = sum_dtype(outputs.dtype)
    errors = outputs.astype(dtype) - targets.astype(dtype)
    return jnp.mean(errors**2, axis=tuple(range(1, errors.ndim)))


def accuracy(
    outputs: Float[Array, "T B C"],
    labels: Array,
    mask: Array | None = None,
    *,
    ties: Literal["wrong", "first"] = "wrong",
) -> Float[Array, ""]:
    """The fraction of samples whose label has the largest output, summed over time; a tie counts as wrong.

    A silent read-out is a tie of all classes, so it is wrong, as in the OTPE paper's evaluation. Most frameworks take the
    argmax, which is the first of the largest outputs: `functools.partial(accuracy, ties="first")` is this metric.

    Args:
        outputs: outputs of each step.
        labels: integers 0..C-1, [B]. A label out of range is an error, or makes the result NaN under `jit`.
        mask: bool [T, B], true where a step counts. Samples without a true step are left out; if no sample is left, which
            is possible only under `jit`, the result is 0.
        ties: how ties are treated: "wrong" counts a tie as wrong, and "first" predicts the first of the largest outputs.

    Raises:
        ValueError: outputs of another rank, as if the labels came first, labels out of range or one per step, a mask of a wrong
            shape or without a true entry, or unknown `ties`.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import accuracy
        >>> outputs = jnp.array([[[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 0.5]]])
        >>> float(accuracy(outputs, jnp.array([0, 1])))
        0.5
        >>> float(accuracy(outputs, jnp.array([0, 1]), jnp.array([[True, False], [True, True]])))
        1.0
        >>> [float(accuracy(jnp.ones((1, 1, 2)), jnp.array([0]), ties=ties)) for ties in ("wrong", "first")]
        [0.0, 1.0]
    """
    if ties not in ("wrong", "first"):
        raise ValueError(f'accuracy got ties={ties!r}, expected "wrong" or "first".')
    if outputs.ndim != 3:
        raise ValueError(
            f"accuracy got outputs of shape {list(outputs.shape)} and labels of {list(labels.shape)}, expected [T, B, C] and "
            "[B]. The outputs come first: accuracy(outputs, labels, mask)."
        )
    valid = _valid("accuracy", labels, outputs.shape[-1])
    if labels.shape != outputs.shape[1:2]:
        raise ValueError(
            f"accuracy got labels of shape {list(labels.shape)} for outputs of shape {list(outputs.shape)}, expected one label "
            f"per sequence, {list(outputs.shape[1:2])}. For labels per step write a metric, such as "
            "lambda outputs, labels: jnp.mean(outputs.argmax(-1) == labels)."
        )
    if mask is None:
        counted = jnp.ones(labels.shape, bool)
    else:
        check_mask(mask, outputs.shape[:2])
        counted = mask.any(axis=0)
        outputs = jnp.where(mask[..., None], outputs, 0)
    totals = jnp.sum(outputs, axis=0, dtype=sum_dtype(outputs.dtype))
    right = _has_largest(totals, labels, valid, ties) * counted.astype(totals.dtype)
    return jnp.sum(jnp.where(valid, right, jnp.nan)) / jnp.maximum(jnp.sum(counted), 1).astype(right.dtype)


def correct(outputs: Float[Array, "B C"], labels: Array) -> Float[Array, " B"]:
    """Return 1 for each sample whose label has the largest output of this step, and 0 otherwise; a tie counts as wrong.

    It has the form of a loss of one step, and is a metric of `run_stream`.

    Args:
        outputs: outputs of one step.
        labels: integers 0..C-1, [B]. A label out of range is an error, or makes the result NaN under `jit`.

    Raises:
        ValueError: labels out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import correct
        >>> correct(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1])).tolist()
        [1.0, 0.0]
    """
    valid = _valid("correct", labels, outputs.shape[-1])
    return jnp.where(valid, _has_largest(outputs.astype(sum_dtype(outputs.dtype)), labels, valid), jnp.nan)


def _has_largest(totals: Float[Array, "B C"], labels: Array, valid: Array, ties: str = "wrong") -> Float[Array, " B"]:
    """1 where the label has the largest number and no other, or with ties="first" none before it, has it as well, else 0."""
    labels = jnp.where(valid, labels, 0).astype(jnp.int32)
    if ties == "first":
        return (totals.argmax(axis=-1).astype(jnp.int32) == labels).astype(totals.dtype)
    of_label = jnp.take_along_axis(totals, labels[:, None], axis=-1)
    others = jnp.where(jnp.arange(totals.shape[-1], dtype=jnp.int32)[None] == labels[:, None], -jnp.inf, totals)
    return (of_label > others).all(axis=-1).astype(totals.dtype)


def sum_dtype(dtype: DTypeLike) -> jnp.dtype:
    """The dtype for adding up numbers of `dtype`: float32 at least."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.dtype(dtype).itemsize >= 4
    return jnp.dtype(dtype if wide else jnp.float32)


def _valid(name: str, labels: Array, n_classes: int) -> Array:
    """True where labels are in range; raises ValueError if some are not and the values are known."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"{name} got labels of {labels.dtype}, expected integers 0 to {n_classes - 1}, not one-hot vectors."
        )
    valid = (labels >= 0) & (labels <= min(n_classes - 1, jnp.iinfo(labels.dtype).max))
    if not isinstance(valid, jax.core.Tracer) and not valid.all():
        raise ValueError(
            f"{name} got labels from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1} for outputs of "
            f"{n_classes} classes. Widen the read-out or renumber the labels."
        )
    return valid


# ------------------------------------------------------------------------------------------------------ a batch, and windows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of sequences, or the part of it in a window.

    Args:
        inputs: inputs [T, B, ...].
        targets: a tree of arrays, [T, B, ...] with one target per step or [B, ...] with one per sequence.
        mask: bool [T, B], true where a loss counts; None for everywhere.
        per_step: for each leaf of the targets, whether it has one target per step.
    """

    inputs: Array
    targets: Any
    mask: Array | None = None
    per_step: tuple[bool, ...] = dataclasses.field(default=(), metadata={"static": True})

    @classmethod
    def read(cls, inputs: Array, targets: Any, mask: Array | None = None) -> "Batch":
        """Tell from the shapes, or from `PerStep` and `PerSequence`, which targets belong to steps.

        Raises:
            ValueError: targets that have neither one entry per step nor one per sequence, or that could have either.
        """
        per_step: list[bool] = []

        def read(part: Any) -> Any:
            mark = type(part) if isinstance(part, _MARKS) else None
            leaves, structure = jax.tree.flatten(part.targets if isinstance(part, _MARKS) else part)
            leaves = [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in leaves]
            per_step.extend(_is_per_step(leaf.shape, *inputs.shape[:2], mark) for leaf in leaves)
            return jax.tree.unflatten(structure, leaves)

        found = jax.tree.map(read, targets, is_leaf=lambda part: isinstance(part, _MARKS))
        return cls(inputs, found, mask, tuple(per_step))

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


_MARKS = (PerStep, PerSequence)


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
        shapes = jax.tree.map(lambda leaf: list(leaf.shape[1:]), outputs)
        got = list(losses.shape[1:]) if isinstance(losses, jax.Array) else type(losses).__name__
        raise ValueError(
            f"loss_fn made {got} of the outputs {shapes} of one step, expected one loss per sample, [{shape[1]}]. It is the loss "
            "of one step, as Optax's losses are; a loss of the whole sequence is SequenceLoss(function)."
        )
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
        raise ValueError(
            f"SequenceLoss made {got} of outputs for {samples} samples, expected one loss per sample, [{samples}]: its function "
            "maps outputs [T, B, ...] and targets to losses [B]."
        )
    return losses[None], None if batch.mask is None else batch.mask.any(axis=0, keepdims=True)


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
        count: the number of losses in the mean, by default those that count in this window.
        layers: the numbers of the hidden layers whose outputs `Outputs.hidden` has.
        penalties: penalties, each with the index of its layer among these.
        axis: the name of the mesh axis over the batch, or None for one device.
        weights: weights [K, 1] of the steps in a sum that takes the place of the mean.
    """

    loss_fn: LossFn | SequenceLoss
    batch: Batch
    count: Array | None = None
    layers: tuple[int, ...] = ()
    penalties: tuple[tuple[int, Any], ...] = ()
    axis: str | None = None
    weights: Array | None = None

    def on(self, batch: Batch, count: Array | None = None) -> "WindowLoss":
        """The loss of another window, with this number of losses in the mean."""
        return dataclasses.replace(self, batch=batch, count=count)

    @property
    def needs_all_steps(self) -> bool:
        """Whether the loss is that of an entire sequence: of a `SequenceLoss`, or of means over time."""
        return isinstance(self.loss_fn, SequenceLoss) or any(penalty.of_mean for _, penalty in self.penalties)

    def __call__(self, outputs: Outputs) -> Float[Array, ""]:
        """The loss of the task and of the penalties."""
        total = self.task(outputs.final)
        for index, penalty in self.penalties:
            total = total + penalty.weight * self._of_penalty(penalty, outputs.hidden[index]).astype(total.dtype)
        return total

    def task(self, final: Any) -> Float[Array, ""]:
        """The loss of outputs in the form of the model's."""
        mask = self.batch.mask
        is_whole = isinstance(self.loss_fn, SequenceLoss)
        final = where_counted(mask.any(axis=0, keepdims=True) if is_whole and mask is not None else mask, final)
        losses, counts = losses_that_count(self.loss_fn, final, self.batch)
        if not jnp.issubdtype(losses.dtype, jnp.inexact):
            raise TypeError(
                f"loss_fn returned losses of {losses.dtype}, which have no gradient, expected floating-point numbers. Make a "
                "loss of the outputs themselves, such as cross_entropy, and give a count of errors as a metric."
            )
        dtype = sum_dtype(losses.dtype)
        losses = losses if counts is None else jnp.where(counts, losses, 0)
        if self.weights is not None:
            return jnp.sum(losses * self.weights.astype(losses.dtype), dtype=dtype)
        if not is_whole:
            return jnp.sum(losses, dtype=dtype) / self._count().astype(dtype)
        samples = jnp.asarray(losses.size, jnp.int32) if counts is None else jnp.sum(counts, dtype=jnp.int32)
        return jnp.sum(losses, dtype=dtype) / jnp.maximum(all_reduce(samples, self.axis), 1).astype(dtype)

    def targets(self, final: Any) -> Float[Array, "K B C"]:
        """The targets of each step in the shape of the outputs, divided by the number of losses in the mean."""
        values = expand_targets(self.batch, final)
        weights = 1 / self._count().astype(values.dtype) if self.weights is None else self.weights[..., None]
        return where_counted(self.batch.mask, values * weights.astype(values.dtype))

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
            raise ValueError(
                f"A penalty made {list(losses.shape[1:])} of the outputs {list(values.shape[1:])} of one step, expected one "
                f"loss per sample, [{values.shape[1]}]. A function of the mean over time and batch needs of_mean=True."
            )
        return jnp.sum(where_counted(self.batch.mask, losses), dtype=dtype) / self._count().astype(dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class KnownSignals:
    """The loss of a window where its gradient w.r.t. the outputs is known from a first pass: the product of both.

    Args:
        signals: the gradient of the loss of the entire sequence w.r.t. the outputs of this window.
        loss: the loss of the window.
    """

    signals: Outputs
    loss: WindowLoss

    @property
    def layers(self) -> tuple[int, ...]:
        """See `WindowLoss`."""
        return self.loss.layers

    def __call__(self, outputs: Outputs) -> Float[Array, ""]:
        products = jax.tree.map(jnp.vdot, self.signals, outputs)
        return sum(product.astype(sum_dtype(product.dtype)) for product in jax.tree.leaves(products))

    def task(self, final: Any) -> Float[Array, ""]:
        """See `WindowLoss`."""
        return self.loss.task(final)

    def targets(self, final: Any) -> Float[Array, "K B C"]:
        """See `WindowLoss`."""
        return self.loss.targets(final)


def where_counted(mask: Array | None, values: Any) -> Any:
    """A tree of arrays [K, B, ...] with 0 where a loss does not count, so that its slope, which may be NaN there, is 0."""
    if mask is None:
        return values
    return jax.tree.map(lambda x: jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, jnp.zeros((), x.dtype)), values)


def expand_targets(batch: Batch, outputs: Any) -> Float[Array, "K B C"]:
    """The targets of each step as numbers in the shape of the outputs, one-hot for labels; several heads are concatenated.

    Raises:
        TypeError: targets that do not have the structure or the shape of the outputs.
    """
    heads, structure = jax.tree.flatten(outputs)
    found, of_targets = jax.tree.flatten(batch.targets)
    if of_targets != structure:  # type: ignore[operator]
        raise TypeError(
            f"A route that sends targets to hidden layers got targets in the structure {of_targets} for outputs in the structure "
            f"{structure}, expected the same. Use route=Direct(...), which sends the error."
        )

    def one(target: Array, is_per_step: bool, head: Array) -> Array:
        steps, samples = head.shape[:2]
        if jnp.issubdtype(target.dtype, jnp.integer) and target.ndim + 1 - is_per_step == head.ndim - 1:
            target = jax.nn.one_hot(target, head.shape[-1], dtype=head.dtype)
        if not is_per_step:
            target = jnp.broadcast_to(target[None], (steps, *target.shape))
        if target.shape != head.shape:
            raise TypeError(
                f"A route that sends targets to hidden layers got targets {list(target.shape)} for outputs {list(head.shape)}, "
                "expected labels, or numbers in the shape of the outputs. Use route=Direct(...), which sends the error."
            )
        return target.reshape(steps, samples, -1).astype(head.dtype)

    return jnp.concatenate([one(*each) for each in zip(found, batch.per_step, heads, strict=True)], axis=-1)


def _one_number(value: Any) -> Array:
    """Raise ValueError unless a penalty of a mean is one number."""
    if jnp.shape(value) != ():
        raise ValueError(
            f"A penalty with of_mean=True made {list(jnp.shape(value))} of the mean over time and batch, expected one number."
        )
    return value
