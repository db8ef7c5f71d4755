"""Many devices: a cell whose pass over a sequence is split along the batch, and the same everywhere else.

Each device has all parameters, and its share of inputs, states and traces. The loss is that of the whole batch, so means over
samples, masks, and optimiser steps are those of one device. A gradient by parameters is the sum over devices, one all-reduce
per chunk or window.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from slax_neurons.engine import unroll_chunk
from slax_neurons.modules import changes_itself
from slax_rules.gradients import targets_per_step
from slax_rules.sampling import Batch

Devices = Mesh | Sequence[jax.Device]

AXIS = "batch"
ALL = PartitionSpec()  # the same on each device
SHARES = PartitionSpec(None, AXIS)  # of an array [T, B, ...]


def split_batch(model: nnx.RNNCellBase, devices: Devices) -> nnx.RNNCellBase:
    """The same cell, whose pass over a sequence is split along the batch over devices.

    It shares its parameters with `model`, at the same paths, and goes wherever `model` goes: `gradients`, `train_offline`,
    `train_online`, under `nnx.jit`. Wrap the cell in its rule first. A BatchNorm takes its statistics over the whole batch.

    Args:
        model: a cell, plain or under a rule.
        devices: as in `jax.devices()`, or a mesh, whose devices are taken as one row.

    Raises:
        TypeError: a model that is split already, or that draws random numbers or changes itself while it runs.
        ValueError: when it runs, a batch that the number of devices does not divide.
    """
    if isinstance(model, _Split):
        raise TypeError("split_batch got a model that is split already, expected a plain or a ruled cell.")
    _check_changes(model)
    split = object.__new__(_split_class(type(model), as_mesh(devices)))
    vars(split).update(vars(model))
    return split


def as_mesh(devices: Devices) -> Mesh:
    """One row of devices."""
    row = devices.devices.flatten() if isinstance(devices, Mesh) else np.asarray(devices)
    return Mesh(row, (AXIS,), axis_types=(AxisType.Auto,))


def place_batch(batch: Batch, mesh: Mesh) -> tuple[Array, ...]:
    """A batch with each device's share on this device."""
    inputs, targets, *mask = batch
    check_divisible(inputs.shape[1], mesh)
    shares = NamedSharding(mesh, SHARES)
    inputs, targets = jax.device_put(inputs, shares), jnp.asarray(targets)
    of_targets = shares if targets_per_step(inputs, targets) else NamedSharding(mesh, PartitionSpec(AXIS))
    return inputs, jax.device_put(targets, of_targets), *(jax.device_put(valid, shares) for valid in mask)


def check_divisible(batch: int, mesh: Mesh) -> None:
    """Raises ValueError unless each device gets as many samples."""
    if batch % mesh.size:
        raise ValueError(
            f"Got a batch of {batch} samples for {mesh.size} devices, expected a multiple of {mesh.size}. Change the batch "
            "size (and drop a last, smaller batch), or pass fewer devices."
        )


class _Split(nnx.RNNCellBase):
    """What a class of cells gets in front of it: `unroll` on shares of the batch."""

    whole: ClassVar[type[nnx.RNNCellBase]]
    mesh: ClassVar[Mesh]

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[Any, Float[Array, "T B ..."]]:
        check_divisible(inputs.shape[1], self.mesh)
        whole = self.whole
        graphdef, params, rest = nnx.split(self, nnx.Param, ...)

        def share(params: nnx.State, rest: nnx.State, carry: Any, inputs: Array) -> tuple[Any, Array, nnx.State]:
            cell = nnx.merge(graphdef, params, rest, copy=True)
            cell.__class__ = whole
            for _, part in nnx.iter_modules(cell):
                if isinstance(part, nnx.BatchNorm):
                    part.axis_name = AXIS
            carry, outputs, _ = unroll_chunk(cell, carry, inputs)
            return carry, outputs, nnx.state(cell, nnx.Not(nnx.Param))

        carries = _carry_specs(self, inputs.shape[1:])
        # Replication is not checked, since that needs carries that say from the start whether they differ between devices.
        run = jax.shard_map(
            share,
            mesh=self.mesh,
            in_specs=(ALL, ALL, carries, SHARES),
            out_specs=(carries, SHARES, ALL),
            check_vma=False,
        )
        carry, outputs, rest = run(params, rest, carry, inputs)
        if changes_itself(self):
            nnx.update(self, rest)
        return carry, outputs


@functools.cache
def _split_class(whole: type[nnx.RNNCellBase], mesh: Mesh) -> type[nnx.RNNCellBase]:
    return type(f"Split{whole.__name__}", (_Split, whole), {"whole": whole, "mesh": mesh})


def _carry_specs(cell: nnx.RNNCellBase, input_shape: tuple[int, ...]) -> Any:
    """Where the batch axis is in each array of the carry: the first axis that grows with the batch."""

    def carry_of(batch: int) -> Any:
        return jax.eval_shape(lambda: nnx.clone(cell).initialize_carry((batch, *input_shape[1:])))

    def spec(one: jax.ShapeDtypeStruct, two: jax.ShapeDtypeStruct) -> PartitionSpec:
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            raise TypeError(
                "split_batch got a model with a random key in its carry, which would draw the same numbers on each device. Use "
                'Dropout(..., mask="sequence"), whose masks are drawn before the pass, or one device.'
            )
        axes = [axis for axis, (n, m) in enumerate(zip(one.shape, two.shape, strict=True)) if n != m]
        return PartitionSpec(*[None] * axes[0], AXIS) if axes else ALL

    return jax.tree.map(spec, carry_of(input_shape[0]), carry_of(2 * input_shape[0]))


def _check_changes(model: nnx.RNNCellBase) -> None:
    """Raises TypeError if a call changes anything but the statistics of a BatchNorm, which are made the same everywhere."""
    quiet = nnx.clone(model)
    for _, part in nnx.iter_modules(quiet):
        if isinstance(part, nnx.BatchNorm):
            part.use_running_average = True
    if changes_itself(quiet):
        raise TypeError(
            f"split_batch got a {type(model).__name__} with a module that draws random numbers or changes its own variables "
            "when called, which would be another thing on each device. Use slax_neurons.Dropout in place of nnx.Dropout, or "
            "one device."
        )
