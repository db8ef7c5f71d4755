"""Training on several devices, each with all parameters and its share of the batch.

An entire step, including the loop over windows, runs on the shares. Losses, masks and means refer to the full batch, and a
gradient is the sum over devices, one all-reduce for each gradient that is used. Arrays per sample in the state of a rule are
split along the batch; a floating-point array in the state that is not per sample is refused.

The devices may belong to several processes, which `jax.distributed` connects. All of them then run the same program. What a
process passes in as a batch is its own share, and the full batch is the shares of all processes, in their order.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array

from slax_neurons import RunningSum
from slax_neurons.building_blocks import mutates_state
from slax_rules.loop import Objects, shapes_at_start
from slax_rules.rules.base import RuleState, batch_axis
from slax_rules.windows import Batch

Devices = Mesh | Sequence[jax.Device]

AXIS = "batch"
REPLICATED = PartitionSpec()  # the same on each device
BATCH_SHARDED = PartitionSpec(None, AXIS)  # for an array [T, B, ...]
PER_SEQUENCE = PartitionSpec(AXIS)  # for an array [B, ...]


def as_mesh(devices: Devices) -> Mesh:
    """Arrange devices in one row."""
    row = devices.devices.flatten() if isinstance(devices, Mesh) else np.asarray(devices)
    if row.ndim != 1 or not row.size or not all(isinstance(device, jax.Device) for device in row):
        raise TypeError(f"Got devices={devices!r}, expected a list of JAX devices, as in jax.devices()[:2], or a mesh.")
    if len(set(row.tolist())) < row.size:
        raise ValueError(f"Got devices={devices!r}, expected each device once.")
    return Mesh(row, (AXIS,), axis_types=(AxisType.Auto,))


def split_batch(batch: Sequence[Any], devices: Devices) -> tuple[Any, ...]:
    """Split a batch (inputs, targets) or (inputs, targets, mask) so that each device has a share of its samples.

    `gradients`, `train_offline` and `train_online` then compute each share where it is:

    ```python
    inputs, labels = split_batch((inputs, labels), jax.devices())
    loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OTPE())
    ```

    A CPU is one device; `jax.config.update("jax_num_cpu_devices", 2)` right after `import jax` makes it two, for two cores.
    Losses and gradients are the same as on one device except for the order of summation, for every window and under every rule
    except those that draw noise for the full batch, such as UORO. Afterward, the trained parameters are on all devices.

    Args:
        batch: inputs [T, B, ...], targets, and a mask [T, B] if there is one; in one of several processes, its own share.
        devices: as in `jax.devices()`, or a mesh, whose devices are taken as one row.

    Raises:
        ValueError: a batch that the number of devices of this process does not divide.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_rules import split_batch
        >>> devices = jax.devices()
        >>> batch = (jnp.ones((20, 4 * len(devices), 8)), jnp.zeros(4 * len(devices), int))
        >>> inputs, labels = split_batch(batch, devices)
        >>> inputs.addressable_shards[0].data.shape
        (20, 4, 8)
    """
    mesh = as_mesh(devices)
    inputs, targets, *mask = batch
    check_divisible(inputs.shape[1], len(mesh.local_devices))
    shares = NamedSharding(mesh, BATCH_SHARDED)
    found = Batch.read(inputs, targets)
    leaves = zip(jax.tree.leaves(found.targets), found.per_step, strict=True)
    placed = [device_put_as(leaf, NamedSharding(mesh, BATCH_SHARDED if cut else PER_SEQUENCE)) for leaf, cut in leaves]
    marked = jax.tree.unflatten(jax.tree.structure(targets), placed)
    return device_put_as(inputs, shares), marked, *(device_put_as(valid, shares) for valid in mask)


def replicated(tree: Any, mesh: Mesh) -> Any:
    """Put the same numbers on all devices. Each process has to have them, as `check_same_everywhere` ensures."""
    return jax.tree.map(lambda leaf: device_put_as(leaf, NamedSharding(mesh, REPLICATED)), tree)


def device_put_as(leaf: Any, sharding: Sharding) -> Array:
    """Put an array on devices; in one of several processes, it is the share of this process of a split array."""
    if sharding.is_fully_addressable or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = device_put_as(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))


def local_shard(tree: Any) -> Any:
    """The part of each array that this process holds, on one of its devices: the whole array, or the samples of its share."""

    def part(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer) or leaf.is_fully_addressable:
            return leaf
        if leaf.is_fully_replicated:
            return leaf.addressable_data(0)
        assert isinstance(leaf.sharding, NamedSharding)
        (axis,) = (axis for axis, name in enumerate(leaf.sharding.spec) if name is not None)
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[axis].start or 0)
        return jnp.asarray(np.concatenate([np.asarray(shard.data) for shard in shards], axis))

    return jax.tree.map(part, tree)


def check_same_everywhere(tree: Any, mesh: Mesh) -> None:
    """Raise ValueError if the processes have other numbers, since each would train another model."""
    if not mesh.is_multi_process:
        return
    leaves = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(tree)
    ]
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).digest()
    all_digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint32))
    other = np.flatnonzero((all_digests != all_digests[0]).any(axis=1))
    if other.size:
        raise ValueError(f"Got other numbers in process {other[0]} than in process 0. Make them from the same seed.")


def mesh_of(inputs: Array) -> Mesh | None:
    """The devices that a batch is split over; None if it is on one device or its placement is unknown."""
    if isinstance(inputs, jax.core.Tracer) or not isinstance(inputs, jax.Array):
        return None
    sharding = inputs.sharding
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return None
    is_split = sharding.mesh.axis_names == (AXIS,) and sharding.spec[:2] == (None, AXIS)
    return sharding.mesh if is_split and sharding.mesh.size > 1 else None


def check_divisible(batch: int, devices: int) -> None:
    """Raise ValueError unless all devices get the same number of samples."""
    if batch % devices:
        raise ValueError(f"Got a batch of {batch} samples, expected a multiple of {devices}, the number of devices.")


def run_on_shares(learn: Callable[..., Any], mesh: Mesh, objects: Objects, start: RuleState, batch: Batch) -> Any:
    """Run `learn(objects, start, batch, axis)` with the share of the batch of each device; the result is the same on all.

    Args:
        learn: returns a tuple with a field `state`, of model, rule and optimizer.
        start: the state of the rule before the batch.
    """
    model = objects.model
    check_divisible(batch.inputs.shape[1], mesh.size)
    check_splittable(model)
    graph, state = nnx.split(tuple(objects))

    def share(state: nnx.State, start: RuleState, batch: Batch) -> Any:
        model, rule, optimizer = nnx.merge(graph, state, copy=True)
        objects = Objects(model, rule, optimizer)  # type: ignore[arg-type]
        for _, part in nnx.iter_modules(objects.model):
            if isinstance(part, nnx.BatchNorm):  # statistics over all devices
                part.axis_name = AXIS
        return learn(objects, start, batch, AXIS)

    structure = jax.tree.structure(batch.targets)
    of_targets = [BATCH_SHARDED if cut else PER_SEQUENCE for cut in batch.per_step]
    masked = None if batch.mask is None else BATCH_SHARDED
    of_batch: Any = Batch(BATCH_SHARDED, jax.tree.unflatten(structure, of_targets), masked, batch.per_step)  # type: ignore[arg-type]
    specs = (REPLICATED, rule_state_specs(objects, batch.inputs), of_batch)
    # Replication is not checked, since the check needs carries that declare at the start whether they differ between devices.
    mapped = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=REPLICATED, check_vma=False)
    return mapped(state, start, batch)


def add_running_sums(model: nnx.RNNCellBase, before: Sequence[Array], axis: str) -> None:
    """Give a device's model, in place, the running sums of all devices: what was there before, and what each has added."""
    leaves, structure = jax.tree.flatten(nnx.state(model, RunningSum))
    sums = [old + jax.lax.psum(new - old, axis) for old, new in zip(before, leaves, strict=True)]
    nnx.update(model, jax.tree.unflatten(structure, sums))


def rule_state_specs(objects: Objects, inputs: Array) -> Any:
    """The partition of the state of a rule, for inputs [T, B, ...]: along each array's first axis that grows with the batch."""

    def start(batch: int) -> RuleState:
        one_step = jax.ShapeDtypeStruct((batch, *inputs.shape[2:]), inputs.dtype)
        return shapes_at_start(objects.rule, objects.model, one_step)

    def spec(one: jax.ShapeDtypeStruct, two: jax.ShapeDtypeStruct) -> PartitionSpec:
        axis = batch_axis(one, two)
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key) and axis is None:
            raise TypeError(
                f'{objects.rule.title} got a random key of all samples. Use one device, or Dropout(per="sequence").'
            )
        if jax.dtypes.issubdtype(one.dtype, jnp.inexact) and axis is None:
            raise TypeError(f"{objects.rule.title} has {one.dtype}{list(one.shape)} for all samples. Use one device.")
        return REPLICATED if axis is None else PartitionSpec(*[None] * axis, AXIS)

    return jax.tree.map(spec, start(inputs.shape[1]), start(2 * inputs.shape[1]))


def check_splittable(model: nnx.RNNCellBase) -> None:
    """Raise TypeError if a call changes anything except the statistics of a BatchNorm, which are kept equal on all devices."""
    quiet = nnx.clone(model)
    for _, part in nnx.iter_modules(quiet):
        if isinstance(part, nnx.BatchNorm):
            part.use_running_average = True
    if mutates_state(quiet):
        raise TypeError(
            f"Got several devices for {type(model).__name__}, which draws numbers. Use slax_neurons.Dropout."
        )
