"""Gains and constant currents of a neuron, folded into the node before it."""

import dataclasses
from typing import Any

import numpy as np

from slax_neurons.nir.integration import Values


def scaled(node: Any, gain: Values) -> Any:
    """A Linear, Affine or convolution whose output is multiplied by `gain`, or None if it cannot absorb the gain."""
    weight = _weight(node)
    factor = None if weight is None else _per_channel(gain, weight.shape[0])
    if weight is None or factor is None:
        return None
    changes = {"weight": weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))}
    if getattr(node, "bias", None) is not None:
        changes["bias"] = np.asarray(node.bias, np.float64) * factor
    return dataclasses.replace(node, **changes)


def shifted(nir: Any, node: Any, current: Values) -> Any:
    """A Linear, Affine or convolution to whose output `current` is added, or None if it cannot absorb the current."""
    weight = _weight(node)
    shift = None if weight is None else _per_channel(current, weight.shape[0])
    if weight is None or shift is None:
        return None
    if type(node).__name__ == "Linear":
        return nir.Affine(node.weight, shift)
    bias = 0 if node.bias is None else np.asarray(node.bias, np.float64)
    return dataclasses.replace(node, bias=bias + shift, metadata={})


def _weight(node: Any) -> np.ndarray | None:
    if type(node).__name__ not in ("Affine", "Conv1d", "Conv2d", "Linear"):
        return None
    return np.asarray(node.weight, np.float64)


def _per_channel(values: Values, channels: int) -> np.ndarray | None:
    """One value per channel of [channels, *spatial], unless they differ in space."""
    if values.ndim > 1:
        rows = values.reshape(values.shape[0], -1)
        if np.any(rows != rows[:, :1]):
            return None
        values = rows[:, 0]
    return np.broadcast_to(values, (channels,))
