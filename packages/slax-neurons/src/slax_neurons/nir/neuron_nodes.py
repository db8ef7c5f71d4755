"""Conversion of neurons to and from NIR's nodes.

With decay and gain of `Integration`, a LIF node of gain g = r gain(tau) > 0 steps as

    v_t = decay v_{t-1} + gain(tau) v_leak + g I_t,   s_t = H(v_t - v_threshold),   v_t = v_reset where s_t = 1

which, in units of g and measured from v_0, is a neuron of this package, u = (v - v_0) / g:

    u_t = decay u_{t-1} + I_t,   s_t = H(u_t - threshold),   threshold = (v_threshold - v_0) / g

with v_0 = v_reset for a reset to a value, 0 for a reset by subtraction, and v_leak without a reset; v_leak has to be v_0, as a
neuron here has no constant current. IF is the case of a decay of 1 and g = r dt; CubaLIF has g = w_in gain(tau_syn) r
gain(tau_mem), where the synapse is updated first and the membrane sees the current of the same step. An LI outputs v, so its
v_0 is 0, and its g is part of the current.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import DTypeLike

from slax_neurons.neurons.cuba_lif import CuBaLIF
from slax_neurons.neurons.lif import IF, LI, LIF
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.nir.conventions import RESET, Integration, Values, channels_first, channels_last, library, shape_first
from slax_neurons.parameter import Parameter, Trainable
from slax_neurons.surrogates import SpikeFunction

NODES: dict[type[Neuron], str] = {IF: "IF", LI: "LI", LIF: "LIF", CuBaLIF: "CubaLIF"}
NEURONS: dict[str, type[Neuron]] = {kind: neuron for neuron, kind in NODES.items()}


def write_neuron(neuron: IF | LI | LIF | CuBaLIF, shape: tuple[int, ...], integration: Integration) -> Any:
    """The node for a layer of neurons with features of `shape`.

    r and w_in are chosen so that the gain is 1, which leaves all weights and thresholds unchanged.
    """
    node = getattr(library(), NODES[type(neuron)])
    parameters: dict[str, Any]
    if isinstance(neuron, IF):
        parameters = {"r": np.full(shape_first(shape), 1 / integration.dt)}
    else:
        tau = integration.tau(_array(neuron, neuron.decay, shape))
        parameters = {"r": 1 / integration.gain(tau), "v_leak": np.zeros_like(tau)}
        parameters["tau_mem" if isinstance(neuron, CuBaLIF) else "tau"] = tau
    if isinstance(neuron, CuBaLIF):
        tau = integration.tau(_array(neuron, neuron.synapse_decay, shape))
        parameters |= {"tau_syn": tau, "w_in": 1 / integration.gain(tau)}
    if not isinstance(neuron, LI):
        threshold = _array(neuron, neuron.threshold, shape)
        parameters |= {"v_threshold": threshold, "v_reset": np.zeros_like(threshold), "metadata": {RESET: neuron.reset}}
    return node(**parameters)


def _array(neuron: Neuron, parameter: Parameter, shape: tuple[int, ...]) -> np.ndarray:
    value = np.asarray(parameter(jnp.zeros(shape, neuron.param_dtype)), np.float64)
    return np.ascontiguousarray(channels_first(np.broadcast_to(value, shape)))


class Options(NamedTuple):
    """The options for turning nodes into modules; see `from_nir`."""

    integration: Integration
    reset: str
    spike_fn: SpikeFunction | str
    trainable: bool
    param_dtype: DTypeLike


def read_neuron(node: Any, label: str, options: Options) -> tuple[Neuron, Values | None]:
    """The neuron of a node, and the factor of its current, in NIR's order, None for 1.

    Raises:
        ValueError: parameters that no neuron of this package has, with the node's name.
    """
    kind = type(node).__name__
    integration = options.integration
    decays: dict[str, Values] = {}
    gain = _values(node.r)
    if kind == "IF":
        gain = gain * integration.dt
    else:
        tau = _values(node.tau_mem if kind == "CubaLIF" else node.tau)
        decays["decay"] = integration.decay(tau)
        gain = gain * integration.gain(tau)
    if kind == "CubaLIF":
        tau = _values(node.tau_syn)
        decays["synapse_decay"] = integration.decay(tau)
        gain = gain * _values(node.w_in) * integration.gain(tau)
    gain = np.where(np.abs(gain - 1) < 8 * np.finfo(np.float64).eps, 1.0, gain)  # r is a rounded quotient

    # An LI outputs v itself, which a neuron that subtracts also measures from 0.
    reset = "subtract" if kind == "LI" else node.metadata.get(RESET, options.reset)
    leak = _values(getattr(node, "v_leak", 0))
    zero = {"zero": _values(getattr(node, "v_reset", 0)), "subtract": np.zeros(()), "none": leak}[reset]
    if kind != "IF" and np.any(leak != zero):
        raise ValueError(
            f"Got {label} with a v_leak other than {'v_reset' if reset == 'zero' else '0'}, expected the same: they differ by "
            "a constant current, and a neuron here has none. Give both the same value; the bias of an Affine before an LIF or "
            "LI can have the difference divided by r."
        )
    if kind == "LI":
        return _neuron(kind, label, decays, options), None if np.all(gain == 1) else gain
    if not np.all(gain > 0):
        raise ValueError(
            f"Got {label} with a gain of {gain.min():.4g}, expected a resistance and an input weight that make it positive. "
            "Move its sign into the weights before it."
        )
    limit = (_values(node.v_threshold) - zero) / gain
    fires_at = limit if RESET in node.metadata else _next(limit, options.param_dtype)
    spike_options = {"threshold": _compact(fires_at, options), "reset": reset, "spike_fn": options.spike_fn}
    return _neuron(kind, label, decays, options, **spike_options), None


def _neuron(kind: str, label: str, decays: dict[str, Values], options: Options, **spike_options: Any) -> Neuron:
    values = {name: _compact(value, options) for name, value in decays.items()}
    try:
        return NEURONS[kind](**values, **spike_options, param_dtype=options.param_dtype)
    except ValueError as error:
        integration = options.integration
        raise ValueError(
            f"Got {label} for dt={integration.dt} and integration={integration.kind!r}, expected decays in range: {error}"
        ) from error


def _values(parameter: Any) -> Values:
    return np.asarray(parameter, np.float64)


def _next(limit: Values, dtype: DTypeLike) -> Values:
    """The smallest number above the limit: a neuron here fires at its threshold, and a neuron in NIR above it."""
    rounded = np.asarray(limit).astype(dtype)
    return np.where(rounded > limit, rounded, np.nextafter(rounded, rounded.dtype.type(np.inf)))


def _compact(values: Values, options: Options) -> Any:
    """One number if all are equal, one per channel if the values within each channel are equal, else one per neuron."""
    values = channels_last(np.asarray(values))
    channels = values[(0,) * (values.ndim - 1)] if values.ndim else values
    used: Any = channels if np.all(values == channels) else values
    if np.all(values == values.flat[0]):
        used = float(values.flat[0])
    return Trainable(used) if options.trainable else used
