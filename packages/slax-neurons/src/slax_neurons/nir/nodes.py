"""Conversion of modules to and from NIR's nodes.

Weights are [out, in, *kernel] in NIR and [*kernel, in, out] in Flax; data is [channels, *spatial] in NIR and
[*spatial, channels] here. Both correlate, so kernels are not flipped.

With decay and gain of `Integration`, a LIF node of gain g = r gain(tau) > 0 steps as

    v_t = decay v_{t-1} + gain(tau) v_leak + g I_t,   s_t = H(v_t - v_threshold),   v_t = v_reset where s_t = 1

which, in units of g and measured from v_0, is a neuron of this package, u = (v - v_0) / g:

    u_t = decay u_{t-1} + I_t,   s_t = H(u_t - threshold),   threshold = (v_threshold - v_0) / g

with v_0 = v_reset for a reset to a value, 0 for a reset by subtraction, and v_leak without a reset; v_leak has to be v_0, as a
neuron here has no constant current. IF is the case of a decay of 1 and g = r dt; CubaLIF has g = w_in gain(tau_syn) r
gain(tau_mem), where the synapse is updated first and the membrane sees the current of the same step. An LI outputs v, so its
v_0 is 0, and its g is part of the current.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.linear import canonicalize_padding
from jaxtyping import DTypeLike

from slax_neurons.delay import Delay
from slax_neurons.neurons.cuba_lif import CuBaLIF
from slax_neurons.neurons.lif import IF, LI, LIF
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.nir.conventions import (
    Integration,
    Values,
    channels_first,
    channels_last,
    expect,
    library,
    shape_first,
)
from slax_neurons.nir.layers import AvgPool2d, Flatten, Scale, SumPool2d
from slax_neurons.parameter import Parameter, Trainable
from slax_neurons.surrogates import SpikeFunction
from slax_neurons.synapses.synapse import starting_with

Shape = tuple[int, ...]

NODES: dict[type[Neuron], str] = {IF: "IF", LI: "LI", LIF: "LIF", CuBaLIF: "CubaLIF"}
NEURONS: dict[str, type[Neuron]] = {kind: neuron for neuron, kind in NODES.items()}

# Names in the metadata of nodes.
RESET = "slax_reset"  # of a neuron: how slax resets it; it also marks that slax fires at the threshold, not above
BIAS = "slax_bias"  # of a convolution: 0 if its bias is there for NIR only
MAX_DELAY = "slax_max_delay"  # of a delay: the longest delay in steps that it can be trained to

ROUNDING = 1e-6  # of a number of steps, for delays that were stored in float32


class Options(NamedTuple):
    """The options for turning nodes into modules; see `from_nir`."""

    integration: Integration
    reset: str
    spike_fn: SpikeFunction | str
    trainable: bool
    param_dtype: DTypeLike

    def parameter(self, values: Values) -> Any:
        """One number if all are equal, one per channel if the values within each channel are equal, else one per neuron."""
        values = channels_last(np.asarray(values))
        channels = values[(0,) * (values.ndim - 1)] if values.ndim else values
        used: Any = channels if np.all(values == channels) else values
        if np.all(values == values.flat[0]):
            used = float(values.flat[0])
        return Trainable(used) if self.trainable else used

    def weights(self, kernel: np.ndarray, bias: Any) -> dict[str, Any]:
        """The options of a Linear or Conv that starts with these weights."""
        dtype = self.param_dtype
        return starting_with(jnp.asarray(kernel, dtype), None if bias is None else jnp.asarray(np.asarray(bias), dtype))


# --------------------------------------------------------------------------------------------------------------- neurons


def write_neuron(neuron: Any, shape: Shape, integration: Integration) -> Any:
    """The node for a layer of IF, LI, LIF or CuBaLIF with features of `shape`.

    r and w_in are chosen so that the gain is 1, which leaves all weights and thresholds unchanged.
    """

    def values(parameter: Parameter) -> np.ndarray:
        value = np.asarray(parameter(jnp.zeros(shape, neuron.param_dtype)), np.float64)
        return np.ascontiguousarray(channels_first(np.broadcast_to(value, shape)))

    parameters: dict[str, Any]
    if isinstance(neuron, IF):
        parameters = {"r": np.full(shape_first(shape), 1 / integration.dt)}
    else:
        tau = integration.tau(values(neuron.decay))
        parameters = {"r": 1 / integration.gain(tau), "v_leak": np.zeros_like(tau)}
        parameters["tau_mem" if isinstance(neuron, CuBaLIF) else "tau"] = tau
    if isinstance(neuron, CuBaLIF):
        tau = integration.tau(values(neuron.synapse_decay))
        parameters |= {"tau_syn": tau, "w_in": 1 / integration.gain(tau)}
    if not isinstance(neuron, LI):
        threshold = values(neuron.threshold)
        parameters |= {"v_threshold": threshold, "v_reset": np.zeros_like(threshold), "metadata": {RESET: neuron.reset}}
    return getattr(library(), NODES[type(neuron)])(**parameters)


def read_neuron(node: Any, label: str, options: Options) -> tuple[Neuron, Values | None]:
    """The neuron of a node, and the factor of its current, in NIR's order, None for 1.

    Raises:
        ValueError: parameters that no neuron of this package has, with the node's name.
    """

    def values(name: str) -> Values:
        return np.asarray(getattr(node, name, 0), np.float64)

    kind, integration = type(node).__name__, options.integration
    decays: dict[str, Values] = {}
    gain = values("r")
    if kind == "IF":
        gain = gain * integration.dt
    else:
        tau = values("tau_mem" if kind == "CubaLIF" else "tau")
        decays["decay"] = integration.decay(tau)
        gain = gain * integration.gain(tau)
    if kind == "CubaLIF":
        tau = values("tau_syn")
        decays["synapse_decay"] = integration.decay(tau)
        gain = gain * values("w_in") * integration.gain(tau)
    gain = np.where(np.abs(gain - 1) < 8 * np.finfo(np.float64).eps, 1.0, gain)  # r is a rounded quotient

    # An LI outputs v itself, which a neuron that subtracts also measures from 0.
    reset = "subtract" if kind == "LI" else node.metadata.get(RESET, options.reset)
    leak = values("v_leak")
    zero = {"zero": values("v_reset"), "subtract": np.zeros(()), "none": leak}[reset]
    same = f"with a v_leak other than {'v_reset' if reset == 'zero' else '0'}, expected the same"
    cure = "Give both the same value, and the difference, divided by r, to the bias of an Affine before it."
    expect(label, kind == "IF" or np.all(leak == zero), f"{same}. {cure}")
    made = {name: options.parameter(value) for name, value in decays.items()} | {"param_dtype": options.param_dtype}
    if kind != "LI":
        cure = "expected r and w_in that make it positive. Move its sign into the weights before it."
        expect(label, np.all(gain > 0), f"with a gain of {gain.min():.4g}, {cure}")
        limit = (values("v_threshold") - zero) / gain
        fires_at = limit if RESET in node.metadata else _next(limit, options.param_dtype)
        made |= {"threshold": options.parameter(fires_at), "reset": reset, "spike_fn": options.spike_fn}
    try:
        neuron = NEURONS[kind](**made)
    except ValueError as error:
        where = f"dt={integration.dt} and integration={integration.kind!r}"
        raise ValueError(f"Got {label} for {where}, expected decays in range: {error}") from error
    return neuron, None if kind != "LI" or np.all(gain == 1) else gain


def _next(limit: Values, dtype: DTypeLike) -> Values:
    """The smallest number above the limit: a neuron here fires at its threshold, and a neuron in NIR above it."""
    rounded = np.asarray(limit).astype(dtype)
    return np.where(rounded > limit, rounded, np.nextafter(rounded, rounded.dtype.type(np.inf)))


# -------------------------------------------------------------------------------------------------------------- synapses


def _write_linear(layer: nnx.Linear, shape: Shape, label: str) -> Any:
    expect(label, len(shape) == 1, f"for features of shape {shape}, expected one axis. Put a Flatten before it.")
    nir = library()
    weight = np.ascontiguousarray(np.asarray(layer.kernel[...]).T)
    return nir.Linear(weight) if layer.bias is None else nir.Affine(weight, np.asarray(layer.bias[...]))


def _read_linear(node: Any, label: str, options: Options) -> nnx.Linear:
    weight = np.asarray(node.weight)
    expect(label, weight.ndim == 2, f"with a weight of shape {weight.shape}, expected [out, in].")
    return nnx.Linear(*weight.shape[::-1], **options.weights(weight.T, getattr(node, "bias", None)))


def _write_conv(layer: nnx.Conv, shape: Shape, label: str) -> Any:
    spatial = len(layer.kernel_size)
    says = f"with {spatial} spatial axes for features of shape {shape}, expected one or two, as in NIR."
    expect(label, spatial in (1, 2) and len(shape) == spatial + 1, says)
    dilated = any(size != 1 for size in _sizes(layer.input_dilation, spatial))
    expect(label, layer.mask is None and not dilated, "with a mask or an input_dilation, expected neither, as in NIR.")
    strides, dilation = _sizes(layer.strides, spatial), _sizes(layer.kernel_dilation, spatial)
    padding = _write_padding(layer, shape[:-1], strides, dilation, label)
    sizes = {"input_shape": shape[:-1], "stride": strides, "padding": padding, "dilation": dilation}
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
    pairs: Any = canonicalize_padding(layer.padding, len(spatial))
    if pairs in ("SAME", "VALID"):
        window = [(size - 1) * step + 1 for size, step in zip(layer.kernel_size, dilation, strict=True)]
        pairs = jax.lax.padtype_to_pads(spatial, window, strides, pairs)
    if layer.padding == "SAME" and all(stride == 1 for stride in strides) and any(low != high for low, high in pairs):
        return "same"
    is_even = not isinstance(pairs, str) and all(low == high for low, high in pairs)
    expect(
        label, is_even, f"that pads {pairs} for inputs {spatial}, expected zeros, the same on both sides, as in NIR."
    )
    return tuple(int(low) for low, _ in pairs)


def _read_conv(node: Any, label: str, options: Options) -> nnx.Conv:
    weight = np.asarray(node.weight)
    spatial = weight.ndim - 2
    strides, padding = _sizes(node.stride, spatial), node.padding
    bias = None if node.metadata.get(BIAS, 1) == 0 else node.bias
    fits = not isinstance(padding, str) or padding == "valid" or all(stride == 1 for stride in strides)
    expect(label, fits, f"with padding 'same' and a stride of {strides}, expected a stride of 1. Give numbers.")
    return nnx.Conv(
        weight.shape[1] * int(node.groups),
        weight.shape[0],
        weight.shape[2:],
        strides=strides,
        padding=padding.upper() if isinstance(padding, str) else [(side, side) for side in _sizes(padding, spatial)],
        kernel_dilation=_sizes(node.dilation, spatial),
        feature_group_count=int(node.groups),
        **options.weights(np.moveaxis(weight, (0, 1), (-1, -2)), bias),
    )


def _sizes(sizes: Any, axes: int) -> tuple[int, ...]:
    """One number per axis, from one for all or one for each."""
    return tuple(np.broadcast_to(np.asarray(1 if sizes is None else sizes).ravel(), (axes,)).tolist())


def _write_pool(module: SumPool2d, shape: Shape, label: str) -> Any:
    sizes = (np.array(size) for size in (module.kernel_size, module.stride, module.padding))
    return getattr(library(), type(module).__name__)(*sizes)


def _read_pool(node: Any, label: str, options: Options) -> SumPool2d:
    pool = AvgPool2d if type(node).__name__ == "AvgPool2d" else SumPool2d
    return pool(*(_sizes(size, 2) for size in (node.kernel_size, node.stride, node.padding)))


def _write_scale(module: Scale, shape: Shape, label: str) -> Any:
    scale = np.broadcast_to(np.asarray(module.scale[...]), shape)
    return library().Scale(np.ascontiguousarray(channels_first(scale)))


def write_delay(delay: Delay, shape: Shape, label: str, dt: float) -> Any:
    """The node for delays of whole steps whose inputs have features of `shape`."""
    cure = f"Make the copies in a Linear before it, and use Delay({delay.out_features}, {delay.max_delay})."
    expect(label, delay.groups == 1, f"that makes {delay.groups} copies of its inputs, expected one of each. {cure}")
    steps = np.asarray(delay.delays.value, np.float64)[0]
    is_whole = delay.width is None and np.all(steps == np.round(steps))
    expect(label, is_whole, "by fractions of a step, expected whole ones. Write a copy with .rounded() delays.")
    times = channels_first(np.broadcast_to(dt * steps, shape))
    return library().Delay(np.ascontiguousarray(times), metadata={MAX_DELAY: delay.max_delay})


def _read_delay(node: Any, label: str, options: Options) -> Delay:
    times, dt = np.atleast_1d(channels_last(np.asarray(node.delay, np.float64))), options.integration.dt
    channels = times[(0,) * (times.ndim - 1)]
    expect(label, np.all(times == channels), "with delays that differ within a channel, expected one for each.")
    steps = np.round(channels / dt)
    is_whole = np.all(steps >= 0) and np.all(np.abs(channels / dt - steps) <= ROUNDING * np.maximum(steps, 1))
    cure = "Choose a dt that divides them, or round them: node.delay = dt * numpy.round(node.delay / dt)."
    expect(label, is_whole, f"with delays that are not whole steps of dt={dt}, >= 0. {cure}")
    longest = int(node.metadata.get(MAX_DELAY, max(steps.max(), 1)))
    delays = Trainable(steps) if options.trainable else steps
    return Delay(len(steps), longest, delays=delays, param_dtype=options.param_dtype)


WRITERS: dict[type, Callable[[Any, Shape, str], Any]] = {
    nnx.Linear: _write_linear,
    nnx.Conv: _write_conv,
    Flatten: lambda module, shape, label: library().Flatten({"input": shape_first(shape)}, module.start, module.end),
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
    "Flatten": lambda node, label, options: Flatten(int(node.start_dim), int(node.end_dim)),
    "SumPool2d": _read_pool,
    "AvgPool2d": _read_pool,
    "Scale": lambda node, label, options: Scale(channels_last(np.asarray(node.scale)), param_dtype=options.param_dtype),
}
"""For each node, a function that makes its module."""


def scaled(node: Any, gain: Values) -> Any:
    """A Linear, Affine or convolution whose output is multiplied by `gain`, or None if it cannot absorb it: a node without
    weights, or a gain [channels, *spatial] that differs in space."""
    rows = gain.reshape(*gain.shape[:1], -1)
    if type(node).__name__ not in ("Affine", "Conv1d", "Conv2d", "Linear") or np.any(rows != rows[..., :1]):
        return None
    factor = np.broadcast_to(rows[..., 0], (len(node.weight),))
    weight = np.asarray(node.weight, np.float64)
    changes = {"weight": weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))}
    if getattr(node, "bias", None) is not None:
        changes["bias"] = np.asarray(node.bias, np.float64) * factor
    return dataclasses.replace(node, **changes)
