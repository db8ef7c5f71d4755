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
from slax_rules.loop.devices import (
    BATCH_SHARDED,
    REPLICATED,
    Devices,
    as_mesh,
    device_put_as,
    local_shard,
    replicated,
    split_batch,
)
from slax_rules.loop.objective import losses_that_count, read_targets
from slax_rules.loop.programs import Programs, StaticParts
from slax_rules.loop.windows import all_finite
from slax_rules.losses import LossFn, SequenceLoss, sum_dtype
from slax_rules.masks import check_takes_mask
from slax_rules.training.batches import Batch, Batches, as_array, as_batch, set_batches
from slax_rules.training.diagnosis import check_has_numbers, check_parameters
from slax_rules.training.epoch import prepared

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
            iterator, a function that makes one, or epoch 0 of a `Sampler` or of a function of the epoch.
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
    check_parameters("evaluate", model)
    mesh, graphdef, state = _split(model, devices)
    whats = {share: StaticParts((graphdef, loss_fn, tuple(table.items()), share)) for share in {None, mesh}}
    totals: list[dict[str, Any]] = []
    for batch in map(as_batch, set_batches(batches)):
        check_has_numbers("evaluate", batch)
        share = _divided_by(mesh, batch[0])
        there = batch if share is None else split_batch(batch, share)
        totals.append(_measure(whats[share], state, there))
    if not totals:
        raise ValueError(
            "evaluate got no batches, expected at least one. An iterator can be read only once: give a list."
        )
    return _means(jax.device_get(totals), ("loss", *table))


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
    if not (isinstance(inputs, jax.core.Tracer) or hasattr(inputs, "__array__") or hasattr(inputs, "detach")):
        raise TypeError(
            f"predict got {type(inputs).__name__} as inputs, expected an array [T, B, features...]. For several batches: "
            "[predict(model, inputs) for inputs, _ in batches]."
        )
    mesh, graphdef, state = _split(model, devices)
    inputs = as_array(inputs, "inputs")
    share = _divided_by(mesh, inputs)
    there = inputs if share is None else device_put_as(inputs, NamedSharding(share, BATCH_SHARDED))
    outputs, finite = _predict(StaticParts((graphdef, share)), state, there, carry)
    if not isinstance(finite, jax.core.Tracer) and not finite:
        check_parameters("predict", model)
        raise FloatingPointError(_not_finite("predict", "inputs that are not finite"))
    return local_shard(outputs)


def check_metrics(name: str, metrics: Any) -> dict[str, Metric]:
    """Return the metrics as a table; `name` is the function that got them.

    Raises:
        TypeError: anything other than a table of functions.
        ValueError: a metric named "loss".
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping) or not all(isinstance(key, str) and callable(metrics[key]) for key in metrics):
        got = f"the function {metrics.__name__}" if hasattr(metrics, "__name__") else type(metrics).__name__
        raise TypeError(
            f"{name} got {got} as metrics, expected a table of functions by name: metrics={{'accuracy': accuracy}}."
        )
    if "loss" in metrics:
        raise ValueError(f'{name} got a metric named "loss", expected another name: that one is taken by loss_fn.')
    return dict(metrics)


def _split(model: nnx.RNNCellBase, devices: Devices | None) -> tuple[Mesh | None, Any, nnx.State]:
    """The devices as a mesh or None, and the graph and the state of the model, which is on all of them."""
    mesh = None if devices is None else as_mesh(devices)
    graphdef, state = nnx.split(model)
    return mesh, graphdef, state if mesh is None else replicated(state, mesh)


def _divided_by(mesh: Mesh | None, inputs: Any) -> Mesh | None:
    """The devices, if their number divides the batch, as it has to if they belong to several processes; else None."""
    divides = mesh is not None and inputs.shape[1] % len(mesh.local_devices) == 0
    return mesh if divides or (mesh is not None and mesh.is_multi_process) else None


def _means(batches: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    for number, measured in enumerate(batches):
        loss, _ = measured["loss"]
        if not measured["finite"] or not np.isfinite(loss):
            of_loss = f"a loss of {loss} (a target out of range can cause this)"
            what = of_loss if measured["finite"] else "inputs that are not finite"
            raise FloatingPointError(_not_finite("evaluate", f"{what} in batch {number}"))
    if not sum(weight for _, weight in (measured["loss"] for measured in batches)):
        raise ValueError(
            "evaluate got masks without a single true entry, expected at least one: there is no loss to take the mean of."
        )
    means: dict[str, Any] = {}
    for name in names:
        pairs = [
            (np.asarray(value, float), float(weight)) for value, weight in (measured[name] for measured in batches)
        ]
        mean = sum(value * weight for value, weight in pairs if weight) / sum(weight for _, weight in pairs)
        means[name] = mean if np.ndim(mean) else float(mean)
    return means


def _not_finite(name: str, what: str) -> str:
    return f"{name} got {what}, expected finite numbers. Spikes mask NaN and infinity: the output looks normal."


@Programs
def _predict(what: StaticParts, state: nnx.State, inputs: Array, carry: Any) -> tuple[Any, Array]:
    """Return the outputs, and whether inputs and parameters are finite."""
    graphdef, mesh = what.parts
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    inputs = cast_inputs(model, inputs)
    finite = all_finite([inputs, *jax.tree.leaves(nnx.state(model, nnx.Param))])
    return _outputs(model, inputs, carry, mesh), finite


@Programs
def _measure(what: StaticParts, state: nnx.State, batch: Batch) -> dict[str, Any]:
    """Each number of a batch, and its weight."""
    graphdef, loss_fn, metrics, mesh = what.parts
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    inputs, targets, mask = prepared(model, batch)
    found = read_targets(targets, *inputs.shape[:2])
    outputs = _outputs(model, inputs, None, mesh)
    samples = jnp.asarray(inputs.shape[1]) if mask is None else mask.any(axis=0).sum()
    masks = () if mask is None else (mask,)
    for name, metric in metrics if masks else ():
        check_takes_mask(f"The metric {name!r}", metric, outputs, found.tree, mask)
    numbers: dict[str, Any] = {name: (metric(outputs, found.tree, *masks), samples) for name, metric in metrics}
    losses, counts = losses_that_count(loss_fn, outputs, found, mask)
    counts = jnp.ones(losses.shape, bool) if counts is None else counts
    number, dtype = counts.sum(), sum_dtype(losses.dtype)
    mean = jnp.sum(jnp.where(counts, losses, 0), dtype=dtype) / jnp.maximum(number, 1).astype(dtype)
    numbers |= {"loss": (mean, number), "finite": jnp.isfinite(inputs).all()}
    return numbers if mesh is None else jax.lax.with_sharding_constraint(numbers, NamedSharding(mesh, REPLICATED))


def _outputs(model: nnx.RNNCellBase, inputs: Array, carry: Any, mesh: Mesh | None) -> Any:
    """The outputs of a sequence; on several devices, each computes its share of the batch."""
    check_sequence(inputs)
    carry = first_carry(model, inputs.shape[1:]) if carry is None else carry
    outputs = unroll(model, carry, inputs)[1]
    return outputs if mesh is None else jax.lax.with_sharding_constraint(outputs, NamedSharding(mesh, BATCH_SHARDED))
