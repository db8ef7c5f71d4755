"""What reading and writing share: the imported library, the order of axes, and differential equations as discrete steps."""

import dataclasses
from typing import Any

import numpy as np

from slax_neurons.parameter import one_of

Values = np.ndarray | np.number  # one value per neuron, or one for all, as NumPy returns them
INTEGRATIONS = ("exponential", "euler")
STEP = "slax_dt"  # in a graph's metadata: the length of a step with which time constants were written, in seconds
INTEGRATION = "slax_integration"  # in a graph's metadata: the integration by which time constants translate into decays


def library() -> Any:
    """The package `nir`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise ImportError("Got no package nir, expected it. Install it: pip install 'slax-neurons[nir]'.") from error
    return nir


def expect(label: str, holds: Any, says: str) -> None:
    """Raise ValueError, which begins with the name of a node or a module, unless something holds."""
    if not holds:
        raise ValueError(f"Got {label} {says}")


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


@dataclasses.dataclass(frozen=True)
class Integration:
    """The equation tau dx/dt = -x + X as x_t = decay x_{t-1} + gain X_t, with X constant within a step.

        decay = exp(-dt / tau),  gain = 1 - exp(-dt / tau)    # kind="exponential", the solution of the equation
        decay = 1 - dt / tau,    gain = dt / tau              # kind="euler", which needs dt < tau

    Args:
        kind: "exponential" or "euler".
        dt: length of a step in seconds, > 0.

    Raises:
        ValueError: another kind, or a step that is not positive.
    """

    kind: str
    dt: float

    def __post_init__(self) -> None:
        one_of("NIR", "integration", self.kind, INTEGRATIONS)
        if not self.dt > 0:
            raise ValueError(f"NIR got dt={self.dt}, expected a number of seconds above 0.")

    def decay(self, tau: Values) -> Values:
        return np.exp(-self.dt / tau) if self.kind == "exponential" else 1 - self.dt / tau

    def gain(self, tau: Values) -> Values:
        return -np.expm1(-self.dt / tau) if self.kind == "exponential" else self.dt / tau

    def tau(self, decay: Values) -> Values:
        return -self.dt / np.log(decay) if self.kind == "exponential" else self.dt / (1 - decay)
