"""The conversion between NIR's differential equations and discrete steps."""

import dataclasses

import numpy as np

Values = np.ndarray | np.number  # one value per neuron, or one for all, as NumPy returns them
INTEGRATIONS = ("exponential", "euler")


@dataclasses.dataclass(frozen=True)
class Integration:
    """The equation tau dx/dt = -x + X as x_t = decay x_{t-1} + gain X_t, with X constant within a step.

        kind            decay            gain = 1 - decay
        exponential     exp(-dt / tau)   1 - exp(-dt / tau)      the solution of the equation
        euler           1 - dt / tau     dt / tau                forward Euler, which needs dt < tau

    Args:
        kind: "exponential" or "euler".
        dt: length of a step in seconds, > 0.

    Raises:
        ValueError: another kind, or a step that is not positive.
    """

    kind: str
    dt: float

    def __post_init__(self) -> None:
        if self.kind not in INTEGRATIONS:
            raise ValueError(f"Got integration={self.kind!r}, expected one of {', '.join(map(repr, INTEGRATIONS))}.")
        if not 0 < self.dt < np.inf:
            raise ValueError(f"Got dt={self.dt}, expected the length of a step in seconds, > 0.")

    def decay(self, tau: Values) -> Values:
        return np.exp(-self.dt / tau) if self.kind == "exponential" else 1 - self.dt / tau

    def gain(self, tau: Values) -> Values:
        return -np.expm1(-self.dt / tau) if self.kind == "exponential" else self.dt / tau

    def tau(self, decay: Values) -> Values:
        return -self.dt / np.log(decay) if self.kind == "exponential" else self.dt / (1 - decay)
