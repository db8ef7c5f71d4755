"""Losses of a step and of an entire sequence, and the accuracy of a read-out.

A loss function is the loss of *one step*: it maps outputs [B, ...] and targets [B, ...] to losses [B], as Optax's losses do.
`gradients` maps it over steps and takes the mean, over all steps and samples or over the true entries of a mask, so it does not
depend on the window. A loss that depends on several steps, such as a loss of the mean over time, is a `SequenceLoss`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
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


def cross_entropy(outputs: Float[Array, "... C"], labels: Array) -> Float[Array, "..."]:
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
        advice = "Make labels of one-hot vectors with labels.argmax(-1). Labels of each step are [T, B]: labels.T."
        if labels.shape[-1:] == (1,):
            advice = "Take an axis of length 1 away: labels.squeeze(-1)."
        elif outputs.ndim == 1 and labels.ndim == 1:
            total = "SequenceLoss(lambda outputs, labels: cross_entropy(outputs.sum(0), labels))"
            advice = f"A loss gets the outputs of one step, [B, C]. For a loss of all steps, [T, B, C], give a {total}."
        raise ValueError(
            f"cross_entropy got labels of shape {list(labels.shape)} for outputs of shape {list(outputs.shape)}, expected one "
            f"label per output, {list(samples)}. {advice}"
        )
    logits = outputs.astype(sum_dtype(outputs.dtype))
    is_label = jax.nn.one_hot(jnp.broadcast_to(labels, samples).astype(jnp.int32), logits.shape[-1], dtype=bool)
    below_largest = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    of_label = jnp.sum(jnp.where(is_label, below_largest, 0), axis=-1)  # an index would have a scatter as its gradient
    losses = jnp.log(jnp.sum(jnp.exp(below_largest), axis=-1)) - of_label
    return losses + jnp.broadcast_to(jnp.where(valid, 0, jnp.nan).astype(losses.dtype), samples)


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
            f"squared_error got {targets.dtype}{list(targets.shape)}, expected floats {list(outputs.shape)}, not labels."
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
        raise ValueError(f"accuracy got {list(outputs.shape)}, expected [T, B, C]: accuracy(outputs, labels, mask).")
    valid = _valid("accuracy", labels, outputs.shape[-1])
    if labels.shape != outputs.shape[1:2]:
        raise ValueError(
            f"accuracy got labels {list(labels.shape)}, expected one a sequence. For labels per step write a metric."
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
        expected = f"integers 0 to {n_classes - 1}: labels.astype(int), or labels.argmax(-1) if they are one-hot"
        raise ValueError(f"{name} got labels of {labels.dtype}, expected {expected}.")
    valid = (labels >= 0) & (labels <= min(n_classes - 1, jnp.iinfo(labels.dtype).max))
    if not isinstance(valid, jax.core.Tracer) and not valid.all():
        raise ValueError(f"{name} got labels from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1}.")
    return valid
