"""The imported NIR library, and conventions shared by reading and writing."""

from typing import Any

import numpy as np

RESET = "slax_reset"  # in a neuron's metadata: how slax resets it; it also marks that slax fires at the threshold, not above
BIAS = "slax_bias"  # in a convolution's metadata: 0 if its bias is there for NIR only
MAX_DELAY = "slax_max_delay"  # in a delay's metadata: the longest delay in steps that it can be trained to
INTEGRATION = "slax_integration"  # in a graph's metadata: the integration by which time constants translate into decays


def library() -> Any:
    """The package `nir`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise ImportError("NIR graphs need the package nir. Install it: pip install 'slax-neurons[nir]'.") from error
    return nir


def channels_first(values: np.ndarray) -> np.ndarray:
    """Move the channels from [*spatial, channels], as in Flax, to [channels, *spatial], as in NIR."""
    return np.moveaxis(values, -1, 0) if values.ndim > 1 else values


def channels_last(values: np.ndarray) -> np.ndarray:
    """Move the channels from [channels, *spatial], as in NIR, to [*spatial, channels], as in Flax."""
    return np.moveaxis(values, 0, -1) if values.ndim > 1 else values


def shape_first(shape: tuple[int, ...]) -> np.ndarray:
    """A shape in NIR's order and type."""
    return np.array((shape[-1], *shape[:-1]))


def shape_last(shape: np.ndarray) -> tuple[int, ...]:
    """A shape in Flax's order."""
    channels, *spatial = (int(size) for size in shape)
    return (*spatial, channels)
