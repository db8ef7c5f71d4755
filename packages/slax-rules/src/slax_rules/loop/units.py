"""Layers split over devices by their units: each device has the weights into its units, and their states and traces."""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from slax_rules.loop.devices import REPLICATED, Devices

AXIS = "units"


def split_units(module: nnx.Module, devices: Devices) -> None:
    """Split the units of each layer over devices, in place, for layers that one device cannot hold.

    Each device gets the columns of the weights that lead into its units. `gradients`, training and evaluation then follow: the
    compiler keeps currents, states and eligibility traces where their units are, and sends spikes to the layer above and
    learning signals to the layer below, once per layer and window. Numbers are the same as on one device up to the order of
    summation, under every rule except UORO, which draws noise and was not tried.

        model = connect([nnx.Linear(700, 8192, rngs=rngs), LIF(), nnx.Linear(8192, 20, rngs=rngs), LI()])
        split_units(model, jax.devices())
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)  # whose moments are split in the same way

    To split the batch instead, while each device has all weights, see `split_batch`. Both together are not supported.

    Args:
        module: a model, or an optimizer or rule that was made before its model was split. All of its arrays are split along
            their last axis, which is that of units and channels; those for which the number of devices does not divide this
            axis stay whole on each device, as in a small read-out.
        devices: as in `jax.devices()`, or a mesh, whose devices are taken as one row.

    Raises:
        ValueError: no devices; or several, and no array whose last axis they divide.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect
        >>> from slax_rules import split_units
        >>> model = connect([nnx.Linear(4, 2 * len(jax.devices()), rngs=nnx.Rngs(0)), LIF()])
        >>> split_units(model, jax.devices())
        >>> model.modules[0].kernel[...].addressable_shards[0].data.shape
        (4, 2)
    """
    row = devices.devices.flatten() if isinstance(devices, Mesh) else np.asarray(devices)
    if row.size == 0:
        raise ValueError("split_units got no devices, expected at least one, as in jax.devices().")
    mesh = Mesh(row, (AXIS,))
    state = nnx.state(module)
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    if row.size > 1 and not any(_is_split(shape, row.size) for shape in shapes):
        raise ValueError(
            f"split_units got a {type(module).__name__} with arrays of shapes {', '.join(map(str, map(list, shapes)))}, "
            f"expected one whose last axis {row.size} devices divide. Change the number of units, or pass fewer devices."
        )

    def place(leaf: Any) -> Any:
        spec = PartitionSpec(*[None] * (leaf.ndim - 1), AXIS) if _is_split(leaf.shape, row.size) else REPLICATED
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    nnx.update(module, jax.tree.map(place, state))


def check_whole(tree: Any) -> None:
    """Raise ValueError if units are split, where the batch is to be split."""
    known = [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, jax.core.Tracer)]
    if any(isinstance(x.sharding, NamedSharding) and x.sharding.mesh.axis_names == (AXIS,) for x in known):
        raise ValueError(
            "Got devices, or a batch that is split over them, for a model whose units are split over devices already "
            "(split_units): all weights would be put on each of them. Leave the devices and split_batch out."
        )


def on_all_devices(tree: Any) -> Any:
    """Put arrays that are on one device on all devices of the others, if units are split: counters, and restored arrays."""
    meshes = [leaf.sharding.mesh for leaf in jax.tree.leaves(tree) if isinstance(leaf.sharding, NamedSharding)]
    units = next((mesh for mesh in meshes if mesh.axis_names == (AXIS,)), None)
    if units is None:
        return tree
    whole = NamedSharding(units, REPLICATED)
    return jax.tree.map(lambda leaf: leaf if leaf.sharding.num_devices > 1 else jax.device_put(leaf, whole), tree)


def _is_split(shape: tuple[int, ...], devices: int) -> bool:
    return len(shape) > 0 and shape[-1] > 0 and shape[-1] % devices == 0
