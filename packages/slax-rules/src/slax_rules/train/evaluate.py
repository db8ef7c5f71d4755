"""The evaluation of a model without training: losses and metrics of a held-out set, and outputs."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array

from slax_neurons import unroll
from slax_neurons.building_blocks import cast_inputs, check_sequence, first_carry
from slax_rules.devices import (
    BATCH_SHARDED,
    REPLICATED,
    Devices,
    as_mesh,
    device_put_as,
    local_shard,
    replicated,
    split_batch,
)
from slax_rules.loop import all_finite
from slax_rules.losses import LossFn, SequenceLoss, sum_dtype
from slax_rules.masks import check_takes_mask
from slax_rules.step import jitted
from slax_rules.train.agreement import by_path, module_names, readable_path
from slax_rules.train.batches import Batch, Batches, as_array, as_batch, checked, epoch_batches, is_array
from slax_rules.windows import Batch as Sequences
from slax_rules.windows import losses_that_count

HIDDEN = ", expected finite numbers. Spikes mask NaN and infinity: the output looks normal."

# Maps outputs [T, B, ...], targets, and the mask if the batch has one, to a mean over samples: a number, or an array.
Metric = Callable[..., Array]


def evaluate(
    model: nnx.RNNCellBase,
    loss_fn: LossFn | SequenceLoss,
    batches: Batches,
    *,
    metrics: Mapping[str, Metric] | None = None,
    devices: Devices | None = None,
) -> dict[str, Any]:
    """Compute the loss and metrics of a model over several batches, in evaluation mode; the model stays unchanged.

    The loss is the mean over all steps and samples of the set that count, or over the samples for a `SequenceLoss`. A metric is
    the mean over batches, each weighted by its number of samples; with a mask, only samples with a true entry count. So a
    metric that is a mean over samples, such as `accuracy`, becomes the mean over the entire set. It may be an array, such as a
    confusion matrix of shares.

    Args:
        model: a cell. Dropout is off and BatchNorm uses its running statistics, as after `model.eval()`.
        loss_fn: the loss of one step, or a `SequenceLoss`, as for `gradients`.
        batches: batches (inputs, targets) or (inputs, targets, mask), as for `fit`: a list, a loader, an
            iterator, or epoch 0 of a `Sampler` or of a function of the epoch.
        metrics: functions of outputs [T, B, ...], targets, and the mask if there is one, by name.
        devices: devices to split the batches over; a batch is not split if their number does not divide its size.

    Returns:
        The numbers by name, "loss" first: floats, and NumPy arrays for metrics that are arrays.

    Raises:
        TypeError: metrics that are not a dict of functions, or do not take the mask of a batch; a model inside `jax.vmap` or
            another transformation.
        ValueError: no batches, or a metric named "loss".
        FloatingPointError: inputs, parameters or a loss that are not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import accuracy, cross_entropy, evaluate
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> test_set = [(jnp.ones((20, 2, 8)), jnp.array([0, 2]))]
        >>> sorted(evaluate(model, cross_entropy, test_set, metrics={"accuracy": accuracy}))
        ['accuracy', 'loss']
    """
    table = check_metrics("evaluate", metrics)
    check_concrete("evaluate", model)
    mesh, graphdef, state = _split(model, devices)
    options = loss_fn, tuple(table.items())
    measures = {share: jitted(_measure, graphdef, *options, share) for share in {None, mesh}}
    pending = []
    for batch in map(as_batch, epoch_batches(batches)(0)):
        share = _divided_by(mesh, batch[0])
        pending.append(measures[share](state, batch if share is None else split_batch(batch, share)))
    if not pending:
        raise ValueError("evaluate got no batches, expected at least one. An iterator is read once: give a list.")
    found = jax.device_get(pending)
    for index, (numbers, is_finite) in enumerate(found):
        loss, _ = numbers["loss"]
        if not (np.isfinite(loss) and is_finite):
            check_parameters("evaluate", model)
            what = f"a loss of {loss}, as of a target out of range," if is_finite else "inputs that are not finite"
            raise FloatingPointError(f"evaluate got {what} in batch {index}{HIDDEN}")
    if not any(numbers["loss"][1] for numbers, _ in found):
        raise ValueError("evaluate got masks without a single true entry, expected at least one: no loss counts.")
    return {name: _mean([numbers[name] for numbers, _ in found]) for name in ("loss", *table)}


def predict(model: nnx.RNNCellBase, inputs: Any, *, carry: Any = None, devices: Devices | None = None) -> Any:
    """Compute a model's outputs for a batch in evaluation mode; the model stays unchanged.

    Args:
        model: a cell. Dropout is off and BatchNorm uses its running statistics, as after `model.eval()`.
        inputs: an array [T, B, features...].
        carry: the initial carry; `model.initialize_carry(inputs.shape[1:])` by default.
        devices: devices to split the batch over; a batch is not split if their number does not divide its size.

    Returns:
        The outputs [T, B, ...].

    Raises:
        FloatingPointError: inputs or parameters that are not finite.
        TypeError: several batches.
        ValueError: inputs without time, batch and features.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import predict
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> predict(model, jnp.ones((20, 2, 8))).shape
        (20, 2, 3)
    """
    if not is_array(inputs) and not isinstance(inputs, jax.core.Tracer):
        raise TypeError("predict expects an array [T, B, features...]: [predict(model, x) for x, _ in batches].")
    mesh, graphdef, state = _split(model, devices)
    inputs = as_array(inputs, "inputs")
    share = _divided_by(mesh, inputs)
    there = inputs if share is None else device_put_as(inputs, NamedSharding(share, BATCH_SHARDED))
    outputs, is_finite = jitted(_predict, graphdef, share)(state, there, carry)
    if not isinstance(is_finite, jax.core.Tracer) and not is_finite:
        check_parameters("predict", model)
        raise FloatingPointError(f"predict got inputs that are not finite{HIDDEN}")
    return local_shard(outputs)


def check_metrics(name: str, metrics: Any) -> dict[str, Metric]:
    """Return the metrics as a table; `name` is the function that got them.

    Raises:
        TypeError: anything other than a table of functions.
        ValueError: a metric named "loss".
    """
    if not isinstance(metrics, Mapping | None) or not all(map(callable, (metrics or {}).values())):
        raise TypeError(f"{name} got {metrics!r} as metrics, expected functions by name: {{'accuracy': accuracy}}.")
    if "loss" in (metrics or {}):
        raise ValueError(f'{name} got a metric named "loss", expected another name: that one is taken by loss_fn.')
    return dict(metrics or {})


def check_concrete(name: str, *trees: Any) -> None:
    """Raise TypeError for arrays without numbers, as inside `jax.vmap`; `name` is the function called."""
    leaves = jax.tree.leaves([nnx.state(tree) if isinstance(tree, nnx.Module) else tree for tree in trees])
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError(f"{name} got arrays inside jax.vmap or jax.jit, expected numbers. For many seeds: sweep(...).")


def check_parameters(name: str, model: nnx.Module) -> None:
    """Raise FloatingPointError for a parameter that is not finite; `name` is the function called."""
    if bad := not_finite(nnx.state(model, nnx.Param), model):
        raise FloatingPointError(f"{name} got a parameter that is not finite: {bad[0]}. Expected finite numbers.")


def not_finite(state: nnx.State, model: Any) -> list[str]:
    """The arrays of a state of a model that are not finite, such as "0 Linear/kernel NaN at [0, 3]"."""
    names, arrays = module_names(model), jax.device_get(by_path(state))
    return [
        f"{readable_path(path, names)} {place}" for path, leaf in arrays.items() if (place := where_not_finite(leaf))
    ]


def where_not_finite(array: Any, *axes: str) -> str:
    """Where the first number of an array is that is not finite, by the names of its first axes; empty if there is none."""
    array = np.asarray(array)
    is_bad = ~np.isfinite(array) if jnp.issubdtype(array.dtype, jnp.inexact) else np.zeros(array.shape, bool)
    if not is_bad.any():
        return ""
    first = np.argwhere(is_bad)[0].tolist()
    named = ", ".join(f"{axis} {index}" for axis, index in zip(axes, first, strict=False))
    more = f" (one of {is_bad.sum()})" if is_bad.sum() > 1 else ""
    return f"{'NaN' if np.isnan(array[tuple(first)]) else 'infinite'}{more} at {named or first}"


def _split(model: nnx.RNNCellBase, devices: Devices | None) -> tuple[Mesh | None, Any, nnx.State]:
    """The devices as a mesh or None, and the graph and the state of the model, which is on all of them."""
    mesh = None if devices is None else as_mesh(devices)
    graphdef, state = nnx.split(model)
    return mesh, graphdef, state if mesh is None else replicated(state, mesh)


def _divided_by(mesh: Mesh | None, inputs: Any) -> Mesh | None:
    """The devices, if their number divides the batch, as it has to if they belong to several processes; else None."""
    divides = mesh is not None and inputs.shape[1] % len(mesh.local_devices) == 0
    return mesh if divides or (mesh is not None and mesh.is_multi_process) else None


def _mean(pairs: list[tuple[Any, Any]]) -> Any:
    """The mean of some numbers or arrays, each with its weight."""
    total = sum(float(weight) for _, weight in pairs)
    mean = sum(np.asarray(value, float) * float(weight) for value, weight in pairs if weight) / total
    return mean if np.ndim(mean) else float(mean)


def _predict(graphdef: Any, mesh: Mesh | None, state: nnx.State, inputs: Array, carry: Any) -> tuple[Any, Array]:
    """The outputs of the model in evaluation mode, and whether inputs and parameters are finite."""
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    inputs = cast_inputs(model, jnp.asarray(inputs))
    check_sequence(inputs)
    outputs = unroll(model, first_carry(model, inputs.shape[1:]) if carry is None else carry, inputs)[1]
    if mesh is not None:  # each device computes its share of the batch
        outputs = jax.lax.with_sharding_constraint(outputs, NamedSharding(mesh, BATCH_SHARDED))
    return outputs, all_finite((inputs, nnx.state(model, nnx.Param)))


def _measure(
    graphdef: Any, loss_fn: Any, metrics: tuple[Any, ...], mesh: Mesh | None, state: nnx.State, batch: Batch
) -> tuple[dict[str, tuple[Any, Array]], Array]:
    """Each number of a batch with its weight, and whether inputs and parameters are finite."""
    inputs, targets, mask = checked(batch)
    outputs, is_finite = _predict(graphdef, mesh, state, inputs, None)
    sequences = Sequences.read(inputs, targets, mask)
    samples = jnp.asarray(inputs.shape[1]) if mask is None else mask.any(axis=0).sum()
    masks = () if mask is None else (mask,)
    numbers: dict[str, Any] = {}
    for name, metric in metrics:
        if masks:
            check_takes_mask(f"The metric {name!r}", metric, outputs, sequences.targets, mask)
        numbers[name] = metric(outputs, sequences.targets, *masks), samples
    losses, counts = losses_that_count(loss_fn, outputs, sequences)
    counts = jnp.ones(losses.shape, bool) if counts is None else counts
    number, dtype = counts.sum(), sum_dtype(losses.dtype)
    mean = jnp.sum(jnp.where(counts, losses, 0), dtype=dtype) / jnp.maximum(number, 1).astype(dtype)
    numbers["loss"] = mean, number
    found = numbers, is_finite
    return found if mesh is None else jax.lax.with_sharding_constraint(found, NamedSharding(mesh, REPLICATED))
