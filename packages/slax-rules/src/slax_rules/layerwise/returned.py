"""Checks of what the methods of rules and routes return, so that a wrong one is named with its layer.

They read shapes alone, when a program is traced.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow
from slax_rules.layerwise.layer_rule import LayerRule
from slax_rules.layerwise.synapse import has_bias, has_weights


def checked_window(
    rule: LayerRule, layer: Layer, window: LayerWindow, traces: Any, returned: Any
) -> tuple[LayerGradient, Any]:
    """What `rule.window` returned for a layer.

    Raises:
        TypeError: anything other than a `LayerGradient` and traces like the ones before.
        ValueError: a gradient without one of the parameters, with one more, or of another shape; a cotangent or traces of
            another shape.
    """
    where = f"{type(rule).__name__}.window for layer {layer.number}"
    is_pair = isinstance(returned, tuple | list) and len(returned) == 2
    if not is_pair or not isinstance(returned[0], LayerGradient):
        kinds = (
            [type(one).__name__ for one in returned] if isinstance(returned, tuple | list) else [_described(returned)]
        )
        raise TypeError(
            f"{where} returned {', '.join(kinds)}, expected a LayerGradient and the traces after the window."
        )
    found, after = returned
    is_by_name = isinstance(found.synapses, Sequence) and all(isinstance(one, Mapping) for one in found.synapses)
    if not is_by_name or not isinstance(found.neuron, Sequence | None):
        raise TypeError(
            f"{where} returned {_described(found.synapses)} as gradients of synapses and {_described(found.neuron)} as "
            "gradients of the neuron, expected a tuple with a dict of arrays for each synapse, and a tuple of arrays."
        )
    given = [_shapes(by_name) for by_name in found.synapses]
    wanted = [_shapes(_weights(synapse)) for synapse in layer.synapses]
    for index, synapse in enumerate(layer.synapses[: len(given)]):
        if not given[index] and any(synapse is other for other in layer.synapses[:index]):
            wanted[index] = {}  # its gradient is where it comes first
    pairs = {
        "synapses": (given, wanted),
        "neuron": ([jnp.shape(one) for one in found.neuron or ()], [one.shape for one in layer.parameters]),
        "current_cotangent": (jnp.shape(found.current_cotangent), window.points.current.shape),
    }
    for field, (mine, expected) in pairs.items():
        if mine != expected:
            raise ValueError(f"{where} returned {field} of shapes {mine}, expected the shapes {expected}.")
    if _layout(after) != _layout(traces):
        raise ValueError(
            f"{where} returned the traces {_layout(after)}, expected arrays like the traces before the window, "
            f"{_layout(traces)}: the next window starts from them."
        )
    return found, after


def checked_signal(route: Any, layer: Layer, outputs: Float[Array, "K B *N"], signal: Any) -> Float[Array, "K B *N"]:
    """What `route.signal` returned for a layer; ValueError unless it has the shape of the layer's outputs."""
    if jnp.shape(signal) != outputs.shape:
        raise ValueError(
            f"{type(route).__name__}.signal for layer {layer.number} returned an array of shape {list(jnp.shape(signal))}, "
            f"expected {list(outputs.shape)}, the shape of the layer's outputs."
        )
    return signal


def checked_kernels(route: Any, layer: Layer, kernels: Any) -> Sequence[Array | None]:
    """What `route.kernels` returned for a layer; ValueError unless it is None or a matrix for each synapse."""
    expected = [_shapes(_weights(synapse)).get("kernel") for synapse in layer.synapses]
    kernels = list(kernels) if isinstance(kernels, Iterable) and not hasattr(kernels, "shape") else kernels
    is_list = isinstance(kernels, list) and len(kernels) == len(expected)
    pairs = zip(kernels, expected, strict=True) if is_list else []
    if not is_list or not all(one is None or jnp.shape(one) == shape for one, shape in pairs):
        raise ValueError(
            f"{type(route).__name__}.kernels for layer {layer.number} returned {_described(kernels)}, expected a list with "
            f"None or an array for each synapse, of the shapes {expected}."
        )
    return kernels


def _weights(synapse: Any) -> dict[str, Array]:
    kernel = {"kernel": synapse.kernel[...]} if has_weights(synapse) else {}
    return kernel | ({"bias": synapse.bias[...]} if has_bias(synapse) else {})


def _shapes(by_name: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: jnp.shape(by_name[name]) for name in sorted(by_name)}


def _layout(tree: Any) -> str:
    return str(jax.tree.map(lambda leaf: f"{getattr(leaf, 'dtype', type(leaf))}{list(jnp.shape(leaf))}", tree))


def _described(value: Any) -> str:
    shape = f" of shape {list(value.shape)}" if hasattr(value, "shape") else ""
    return f"{type(value).__name__}{shape}"
