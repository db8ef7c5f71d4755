"""Loss and metrics of a held-out set."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array

from slax_neurons import unroll
from slax_rules.devices import ALL, Devices, as_mesh, place_batch, split_batch
from slax_rules.gradients import LossFn
from slax_rules.losses import sum_dtype
from slax_rules.masks import check_mask, mean_of_valid
from slax_rules.sampling import Batch

# Maps outputs [T, B, ...], targets, and the mask if the batch has one, to a mean over samples.
Metric = Callable[..., Array]


def evaluate(
    model: nnx.RNNCellBase,
    loss_fn: LossFn,
    batches: Iterable[Batch],
    *,
    metrics: Mapping[str, Metric] | None = None,
    devices: Devices | None = None,
) -> dict[str, float]:
    """Loss and metrics of a model over several batches, in evaluation mode; the model stays as it is.

    The loss is the mean over all steps and samples of the set that count. A metric is the mean over batches, each weighted by
    its samples, of which those count that have a true entry in the mask, if there is one. So a mean over samples, as
    `accuracy` is, comes out as that of the whole set.

    Args:
        model: a cell. Dropout is off and BatchNorm uses its running statistics, as after `model.eval()`.
        loss_fn: maps outputs [T, B, C] and targets to losses [T, B].
        batches: (inputs, targets) or (inputs, targets, mask) each, as for `gradients`.
        metrics: functions of outputs, targets, and the mask if there is one, by name.
        devices: to split the batches over; a batch that their number does not divide is not split.

    Returns:
        Numbers by name, "loss" first.

    Raises:
        ValueError: no batches, or a metric named "loss".
    """
    metrics = dict(metrics or {})
    if "loss" in metrics:
        raise ValueError('evaluate got a metric named "loss", expected another name: that one is taken by loss_fn.')
    mesh = None if devices is None else as_mesh(devices)
    graphdef, state = nnx.split(model)
    if mesh is not None:
        state = jax.device_put(state, NamedSharding(mesh, ALL))
    totals: dict[str, float] = {}
    weights: dict[str, float] = {}
    for batch in batches:
        batch = tuple(batch)
        split = mesh if mesh is not None and batch[0].shape[1] % mesh.size == 0 else None
        if mesh is not None:
            batch = jax.device_put(batch, NamedSharding(mesh, ALL)) if split is None else place_batch(batch, split)
        measured = _measure((graphdef, loss_fn, tuple(metrics.items()), split), state, batch)
        for name, (value, weight) in measured.items():
            totals[name] = totals.get(name, 0.0) + float(value) * float(weight)
            weights[name] = weights.get(name, 0.0) + float(weight)
    if not totals:
        raise ValueError(
            "evaluate got no batches, expected at least one. An iterator can be used only once: give a list."
        )
    return {name: totals[name] / weights[name] for name in ("loss", *metrics)}


@partial(jax.jit, static_argnums=0)
def _measure(what: Any, state: nnx.State, batch: tuple[Array, ...]) -> dict[str, tuple[Array, Array]]:
    """Each number of a batch, and its weight."""
    graphdef, loss_fn, metrics, mesh = what
    inputs, targets, *masks = batch
    mask = masks[0] if masks else None
    model = nnx.merge(graphdef, state)
    model.eval()
    if mesh is not None:
        model = split_batch(model, mesh)
    if mask is not None:
        check_mask(mask, inputs.shape[:2])
    _, outputs = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    losses = loss_fn(outputs, targets)
    counted = jnp.ones(inputs.shape[:2], bool) if mask is None else mask
    samples = counted.any(axis=0).sum()
    numbers = {"loss": (mean_of_valid(losses, mask, sum_dtype(inputs.dtype)), counted.sum())}
    return numbers | {name: (metric(outputs, targets, *masks), samples) for name, metric in metrics}
