"""Conversion of delays to and from NIR's node Delay, y(t) = x(t - tau), which is exact for whole steps."""

from typing import Any

import numpy as np

from slax_neurons.delay import Delay
from slax_neurons.nir.library import MAX_DELAY, channels_first, channels_last, library
from slax_neurons.nir.neurons import Options
from slax_neurons.parameter import Trainable

ROUNDING = 1e-6  # of a number of steps, for delays that were stored in float32


def write_delay(delay: Delay, shape: tuple[int, ...], dt: float, label: str) -> Any:
    """The node for delays whose inputs have features of `shape`.

    Raises:
        ValueError: delays that are not whole steps, several groups.
    """
    if delay.groups > 1:
        raise ValueError(
            f"{label} makes {delay.groups} copies of its inputs, but a Delay in NIR has one output for each input. Make the "
            f"copies in a Linear before it, and use Delay({delay.out_features}, {delay.max_delay})."
        )
    steps = np.asarray(delay.delays.value, np.float64)[0]
    if delay.width is not None or np.any(steps != np.round(steps)):
        kernel = "a Gaussian kernel" if delay.width is not None else "delays that are fractions of a step"
        raise ValueError(
            f"{label} has {kernel}, but NIR delays signals unchanged. Export a copy with .rounded() delays."
        )
    times = channels_first(np.broadcast_to(dt * steps, shape))
    return library().Delay(np.ascontiguousarray(times), metadata={MAX_DELAY: delay.max_delay})


def read_delay(node: Any, label: str, options: Options) -> Delay:
    """The delays of a node.

    Raises:
        ValueError: delays that are not whole steps, that differ within a channel, or one number for any number of inputs.
    """
    times, dt = channels_last(np.asarray(node.delay, np.float64)), options.integration.dt
    if not times.ndim:
        raise ValueError(f"{label} has one delay for any number of inputs. Give it one per input.")
    channels = times[(0,) * (times.ndim - 1)]
    if np.any(times != channels):
        raise ValueError(f"{label} has delays that differ within a channel. Give all places of a channel the same.")
    steps = np.round(channels / dt)
    if np.any(steps < 0) or np.any(np.abs(channels / dt - steps) > ROUNDING * np.maximum(steps, 1)):
        raise ValueError(
            f"{label} has delays between {channels.min():.6g} and {channels.max():.6g}, expected whole steps of dt={dt}, >= 0: "
            "anything between two steps would change the signal. Choose a dt that divides them, or round them: "
            "node.delay = dt * numpy.round(node.delay / dt)."
        )
    longest = int(node.metadata.get(MAX_DELAY, max(steps.max(), 1)))
    delays = Trainable(steps) if options.trainable else steps
    return Delay(len(steps), longest, delays=delays, param_dtype=options.param_dtype)
