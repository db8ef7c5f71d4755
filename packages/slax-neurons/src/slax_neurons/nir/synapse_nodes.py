"""Conversion of synapses, delays and other modules that are no neurons to and from NIR's nodes.

Weights are [out, in, *kernel] in NIR and [*kernel, in, out] in Flax; data is [channels, *spatial] in NIR and
[*spatial, channels] here. Both correlate, so kernels are not flipped.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.linear import canonicalize_padding

from slax_neurons.delay import Delay
from slax_neurons.nir.conventions import BIAS, MAX_DELAY, Values, channels_first, channels_last, library, shape_first
from slax_neurons.nir.layers import AvgPool2d, Flatten, Scale, SumPool2d
from slax_neurons.nir.neuron_nodes import Options
from slax_neurons.parameter import Trainable
from slax_neurons.synapses.synapse import starting_with

Shape = tuple[int, ...]

ROUNDING = 1e-6  # of a number of steps, for delays that were stored in float32


def _write_linear(layer: nnx.Linear, shape: Shape, label: str) -> Any:
    if len(shape) != 1:
        raise ValueError(
            f"Got {label} for features of shape {shape}, expected one axis, as in NIR. Put a Flatten before it."
        )
    nir = library()
    weight = np.ascontiguousarray(np.asarray(layer.kernel[...]).T)
    return nir.Linear(weight) if layer.bias is None else nir.Affine(weight, np.asarray(layer.bias[...]))


def _read_linear(node: Any, label: str, options: Options) -> nnx.Linear:
    weight = np.asarray(node.weight)
    if weight.ndim != 2:
        raise ValueError(
            f"Got {label} with a weight of shape {weight.shape}, expected [out, in]. Write a node for each matrix."
        )
    outputs, inputs = weight.shape
    bias = getattr(node, "bias", None)
    return nnx.Linear(inputs, outputs, **_weights(weight.T, bias, options))


def _write_conv(layer: nnx.Conv, shape: Shape, label: str) -> Any:
    spatial = len(layer.kernel_size)
    if spatial not in (1, 2) or len(shape) != spatial + 1:
        raise ValueError(
            f"Got {label} with {spatial} spatial axes for features of shape {shape}, expected one or two, as in NIR."
        )
    if layer.mask is not None or any(size != 1 for size in _sizes(layer.input_dilation, spatial)):
        raise ValueError(
            f"Got {label} with a mask or an input_dilation, expected neither, as in NIR. Put the mask into the kernel."
        )
    strides, dilation = _sizes(layer.strides, spatial), _sizes(layer.kernel_dilation, spatial)
    sizes = {
        "input_shape": shape[:-1],
        "stride": strides,
        "padding": _write_padding(layer, shape[:-1], strides, dilation, label),
        "dilation": dilation,
    }
    if spatial == 1:
        sizes = {name: size if size == "same" else size[0] for name, size in sizes.items()}
    return getattr(library(), f"Conv{spatial}d")(
        **sizes,
        weight=np.ascontiguousarray(np.moveaxis(np.asarray(layer.kernel[...]), (-1, -2), (0, 1))),
        groups=layer.feature_group_count,
        bias=np.zeros(layer.out_features, layer.kernel.dtype) if layer.bias is None else np.asarray(layer.bias[...]),
        metadata={BIAS: 0} if layer.bias is None else {},
    )


def _write_padding(layer: nnx.Conv, spatial: Shape, strides: Shape, dilation: Shape, label: str) -> Any:
    pairs = canonicalize_padding(layer.padding, len(spatial))
    if isinstance(pairs, str):
        if pairs not in ("SAME", "VALID"):
            raise ValueError(f"Got {label} with padding={pairs!r}, expected zeros, equally on both sides, as in NIR.")
        window = [(size - 1) * step + 1 for size, step in zip(layer.kernel_size, dilation, strict=True)]
        pairs = jax.lax.padtype_to_pads(spatial, window, strides, pairs)
    if all(low == high for low, high in pairs):
        return tuple(int(low) for low, _ in pairs)
    if layer.padding == "SAME" and all(stride == 1 for stride in strides):
        return "same"
    raise ValueError(
        f"Got {label} that pads {pairs} for inputs of {spatial}, expected both sides equally, as in NIR. Choose such a padding."
    )


def _read_conv(node: Any, label: str, options: Options) -> nnx.Conv:
    weight = np.asarray(node.weight)
    spatial = weight.ndim - 2
    strides = _sizes(node.stride, spatial)
    padding: Any = node.padding
    if isinstance(padding, str):
        if padding == "same" and any(stride != 1 for stride in strides):
            raise ValueError(
                f"Got {label} with padding 'same' and a stride of {strides}, expected a stride of 1. Give numbers."
            )
        padding = padding.upper()
    else:
        padding = [(side, side) for side in _sizes(padding, spatial)]
    bias = None if node.metadata.get(BIAS, 1) == 0 else node.bias
    return nnx.Conv(
        weight.shape[1] * int(node.groups),
        weight.shape[0],
        weight.shape[2:],
        strides=strides,
        padding=padding,
        kernel_dilation=_sizes(node.dilation, spatial),
        feature_group_count=int(node.groups),
        **_weights(np.moveaxis(weight, (0, 1), (-1, -2)), bias, options),
    )


def _weights(kernel: np.ndarray, bias: Any, options: Options) -> dict[str, Any]:
    """The options of a Linear or Conv that starts with these weights."""
    dtype = options.param_dtype
    return starting_with(jnp.asarray(kernel, dtype), None if bias is None else jnp.asarray(np.asarray(bias), dtype))


def _sizes(sizes: Any, axes: int) -> tuple[int, ...]:
    """One number per axis, from one for all or one for each."""
    return tuple(np.broadcast_to(np.asarray(1 if sizes is None else sizes).ravel(), (axes,)).tolist())


def _write_flatten(module: Flatten, shape: Shape, label: str) -> Any:
    return library().Flatten(input_type={"input": shape_first(shape)}, start_dim=module.start, end_dim=module.end)


def _read_flatten(node: Any, label: str, options: Options) -> Flatten:
    return Flatten(int(node.start_dim), int(node.end_dim))


def _write_pool(module: SumPool2d, shape: Shape, label: str) -> Any:
    sizes = (np.array(size) for size in (module.kernel_size, module.stride, module.padding))
    return getattr(library(), type(module).__name__)(*sizes)


def _read_pool(node: Any, label: str, options: Options) -> SumPool2d:
    pool = AvgPool2d if type(node).__name__ == "AvgPool2d" else SumPool2d
    return pool(*(_sizes(size, 2) for size in (node.kernel_size, node.stride, node.padding)))


def _write_scale(module: Scale, shape: Shape, label: str) -> Any:
    scale = np.broadcast_to(np.asarray(module.scale[...]), shape)
    return library().Scale(np.ascontiguousarray(channels_first(scale)))


def _read_scale(node: Any, label: str, options: Options) -> Scale:
    return Scale(channels_last(np.asarray(node.scale)), param_dtype=options.param_dtype)


def write_delay(delay: Delay, shape: Shape, label: str, dt: float) -> Any:
    """The node for delays whose inputs have features of `shape`.

    Raises:
        ValueError: delays that are not whole steps, several groups.
    """
    if delay.groups > 1:
        raise ValueError(
            f"Got {label} that makes {delay.groups} copies of its inputs, expected one output for each input, as in NIR. Make "
            f"the copies in a Linear before it, and use Delay({delay.out_features}, {delay.max_delay})."
        )
    steps = np.asarray(delay.delays.value, np.float64)[0]
    if delay.width is not None or np.any(steps != np.round(steps)):
        kernel = "a Gaussian kernel" if delay.width is not None else "delays that are fractions of a step"
        raise ValueError(
            f"Got {label} with {kernel}, expected whole steps, as in NIR. Write a copy with .rounded() delays."
        )
    times = channels_first(np.broadcast_to(dt * steps, shape))
    return library().Delay(np.ascontiguousarray(times), metadata={MAX_DELAY: delay.max_delay})


def _read_delay(node: Any, label: str, options: Options) -> Delay:
    times, dt = channels_last(np.asarray(node.delay, np.float64)), options.integration.dt
    if not times.ndim:
        raise ValueError(f"Got {label} with one delay for any number of inputs, expected one per input.")
    channels = times[(0,) * (times.ndim - 1)]
    if np.any(times != channels):
        raise ValueError(f"Got {label} with delays that differ within a channel, expected the same for all its places.")
    steps = np.round(channels / dt)
    if np.any(steps < 0) or np.any(np.abs(channels / dt - steps) > ROUNDING * np.maximum(steps, 1)):
        raise ValueError(
            f"Got {label} with delays between {channels.min():.6g} and {channels.max():.6g}, expected whole steps of dt={dt}, "
            ">= 0. Choose a dt that divides them, or round them: node.delay = dt * numpy.round(node.delay / dt)."
        )
    longest = int(node.metadata.get(MAX_DELAY, max(steps.max(), 1)))
    delays = Trainable(steps) if options.trainable else steps
    return Delay(len(steps), longest, delays=delays, param_dtype=options.param_dtype)


WRITERS: dict[type, Callable[[Any, Shape, str], Any]] = {
    nnx.Linear: _write_linear,
    nnx.Conv: _write_conv,
    Flatten: _write_flatten,
    SumPool2d: _write_pool,
    AvgPool2d: _write_pool,
    Scale: _write_scale,
}
"""For each module, a function that makes its node, for inputs with features of a shape."""

READERS: dict[str, Callable[[Any, str, Options], Any]] = {
    "Affine": _read_linear,
    "Linear": _read_linear,
    "Conv1d": _read_conv,
    "Conv2d": _read_conv,
    "Delay": _read_delay,
    "Flatten": _read_flatten,
    "SumPool2d": _read_pool,
    "AvgPool2d": _read_pool,
    "Scale": _read_scale,
}
"""For each node, a function that makes its module."""


def scaled(node: Any, gain: Values) -> Any:
    """A Linear, Affine or convolution whose output is multiplied by `gain`, or None if it cannot absorb it: a node without
    weights, or a gain [channels, *spatial] that differs in space."""
    if type(node).__name__ not in ("Affine", "Conv1d", "Conv2d", "Linear"):
        return None
    rows = gain.reshape(*gain.shape[:1], -1)
    if np.any(rows != rows[..., :1]):
        return None
    factor = np.broadcast_to(rows[..., 0], (len(node.weight),))
    weight = np.asarray(node.weight, np.float64)
    changes = {"weight": weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))}
    if getattr(node, "bias", None) is not None:
        changes["bias"] = np.asarray(node.bias, np.float64) * factor
    return dataclasses.replace(node, **changes)
