"""Neurons, each as the equations of its two halves in NumPy; all derivatives are complex steps through them.

A neuron maps its previous states h and its input current i to new states h' and an output s, in two halves:

    m = integrate(h, i)     the membrane before the reset, and all other states before the neuron fires
    h', s = fire(m)

What a rule needs to know of the step are five blocks of partial derivatives, per sample and neuron:

    D = dh'/dh [S, S]   d = dh'/di [S]   o = ds/dh [S]   psi = ds/di   and, per neuron parameter, dh' [S] and ds

Rules that let nothing pass through spikes need the derivatives of the halves, with given spikes in the second.

The derivative of f at x is Im f(x + i STEP) / STEP: nothing is subtracted, so it is exact up to rounding. A spike passes its
imaginary part on as its surrogate says (`SpikeFunction`).
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from oracle.spikes import SpikeFunction, fast_sigmoid

_DEFAULT_SPIKE = fast_sigmoid()
STEP = 1e-30


class Halves(NamedTuple):
    """The derivatives of the two halves. Those of h' are at given spikes, and as if no reset set a membrane to zero."""

    A: np.ndarray  # dm/dh [B, N, S, S]
    b: np.ndarray  # dm/di [B, N, S]
    dm: dict[str, np.ndarray]  # per parameter [B, N, S]
    F: np.ndarray  # dh'/dm [B, N, S, S]
    slope: np.ndarray  # ds/dm [B, N, S]
    dh: dict[str, np.ndarray]  # of h' by a parameter, at given m [B, N, S]
    ds: dict[str, np.ndarray]  # of s by a parameter, at given m [B, N]


class Step(NamedTuple):
    """What one layer does in one step."""

    neuron: "Neuron"
    previous: np.ndarray  # [B, N, S] states before
    current: np.ndarray  # [B, N]
    states: np.ndarray  # [B, N, S] states after
    output: np.ndarray  # [B, N]
    D: np.ndarray  # [B, N, S, S]
    d: np.ndarray  # [B, N, S]
    o: np.ndarray  # [B, N, S]
    psi: np.ndarray  # [B, N]
    dh: dict[str, np.ndarray]  # per neuron parameter [B, N, S]
    ds: dict[str, np.ndarray]  # per neuron parameter [B, N]
    inputs: Any = None  # what the layer received, [B, I] by the prefix of the connection, see `Layer`
    slopes: Any = None  # its derivative by the delays, [B, I], None where none is learned


class Neuron:
    """Base: `parameters` names the fields that have gradients, each a scalar or [N]; `decay` is the membrane's.

    Subclasses have the halves, on tuples of states [B, N]: integrate(states, current) -> m and fire(m) -> (states, output).
    """

    parameters: tuple[str, ...]
    n_states = 1

    def __post_init__(self):
        for name in self.parameters:
            object.__setattr__(self, name, np.asarray(getattr(self, name)) + 0.0)

    def step(self, previous, current) -> Step:
        """The step and its derivatives."""
        at = (*np.moveaxis(previous, -1, 0), current)
        by_state, by_current = _by_states(self.both, at)
        by_parameter = self.by_parameter(lambda neuron: neuron.both(*at))
        *after, output = self.both(*at)
        return Step(
            neuron=self,
            previous=previous,
            current=current,
            states=np.stack(after, axis=-1),
            output=output,
            D=by_state[..., :-1, :],
            d=by_current[..., :-1],
            o=by_state[..., -1, :],
            psi=by_current[..., -1],
            dh={name: slopes[..., :-1] for name, slopes in by_parameter.items()},
            ds={name: slopes[..., -1] for name, slopes in by_parameter.items()},
        )

    def halves(self, previous, current) -> Halves:
        at = (*np.moveaxis(previous, -1, 0), current)
        m = self.integrate(at[:-1], current)
        A, b = _by_states(lambda *at: self.integrate(at[:-1], at[-1]), at)
        given = self.at_given_spikes()
        return Halves(
            A=A,
            b=b,
            dm=self.by_parameter(lambda neuron: neuron.integrate(at[:-1], current)),
            F=np.stack([_slope(lambda *m: given.fire(m)[0], m, index) for index in range(len(m))], axis=-1),
            slope=np.concatenate([_slope(lambda *m: [self.fire(m)[1]], m, index) for index in range(len(m))], axis=-1),
            dh=given.by_parameter(lambda neuron: neuron.fire(m)[0]),
            ds={name: ds[..., 0] for name, ds in self.by_parameter(lambda neuron: [neuron.fire(m)[1]]).items()},
        )

    def both(self, *at) -> tuple[np.ndarray, ...]:
        """The states after a step and its output, of the states before and the current."""
        states, output = self.fire(self.integrate(at[:-1], at[-1]))
        return (*states, output)

    def by_parameter(self, function) -> dict[str, np.ndarray]:
        """The derivatives of what a function makes of the neuron, by each parameter, [B, N, numbers]."""
        return {
            name: _slope(lambda value, name=name: function(replace(self, **{name: value})), [getattr(self, name)], 0)
            for name in self.parameters
        }

    def at_given_spikes(self) -> "Neuron":
        """The same neuron, but nothing passes through its spikes, and no reset sets a membrane to zero."""
        changes = {"spike": self.spike._replace(derivative=np.zeros_like)} if hasattr(self, "spike") else {}
        return replace(self, **changes, **({"reset": "none"} if getattr(self, "reset", "") == "zero" else {}))

    def after_reset(self, v, s):
        """The membrane after the reset."""
        given = s.real if self.stop_reset_gradient else s
        return {"subtract": v - self.threshold * given, "zero": v * (1 - given), "none": v}[self.reset]


def _by_states(function, at) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of function(*states, current) by the states [B, N, numbers, S] and by the current [B, N, numbers]."""
    *by_state, by_current = (_slope(function, at, index) for index in range(len(at)))
    return np.stack(by_state, axis=-1), by_current


def _slope(function, at, index) -> np.ndarray:
    """The derivatives of the arrays that a function makes of some arguments, by one of these, on the last axis."""
    moved = [value + 1j * STEP if place == index else value for place, value in enumerate(at)]
    return np.stack([np.imag(value) / STEP for value in function(*moved)], axis=-1)


@dataclass(frozen=True)
class LI(Neuron):
    """Leaky integrator: u' = decay u + i, and u' is the output. With decay 0 it has no memory."""

    decay: Any

    parameters = ("decay",)

    def integrate(self, states, current):
        return (self.decay * states[0] + current,)

    def fire(self, m):
        return m, m[0]


@dataclass(frozen=True)
class LeakyRate(LI):
    """Leaky rate unit: u' = decay u + (1 - decay) tanh(i), and u' is the output."""

    def integrate(self, states, current):
        return (self.decay * states[0] + (1 - self.decay) * np.tanh(current),)


@dataclass(frozen=True)
class Dense(LI):
    """No neuron: the output is the current, as of an LI that keeps nothing and has no parameter."""

    decay: Any = 0.0

    parameters = ()


@dataclass(frozen=True)
class LIF(LI):
    """v = decay u + i,  s = H(v - threshold),  u' = v after the reset."""

    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    reset: str = "subtract"
    stop_reset_gradient: bool = False

    parameters = ("decay", "threshold")

    def fire(self, m):
        """The membrane is the last of the states, and the others stay as they are."""
        *others, v = m
        s = self.spike(v - self.threshold)
        return (*others, self.after_reset(v, s)), s


@dataclass(frozen=True)
class CuBaLIF(Neuron):
    """LIF behind a current with memory: c' = current_decay c + i,  v = decay u + c',  then as LIF. States (c, u)."""

    current_decay: Any
    decay: Any
    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    reset: str = "subtract"
    stop_reset_gradient: bool = False

    parameters = ("current_decay", "decay", "threshold")
    n_states = 2

    def integrate(self, states, current):
        c = self.current_decay * states[0] + current
        return c, self.decay * states[1] + c

    fire = LIF.fire


@dataclass(frozen=True)
class ALIF(Neuron):
    """LIF whose threshold rises with its own spikes. States (u, a):

    v = decay u + i,  s = H(v - threshold - adaptation a),  u' = v - threshold s,  a' = adaptation_decay a + s

    Stopping the reset's gradient concerns u' only. The adaptation is part of firing: m = (v, a).
    """

    decay: Any
    adaptation_decay: Any
    adaptation: Any
    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    stop_reset_gradient: bool = False

    parameters = ("decay", "adaptation_decay", "adaptation", "threshold")
    n_states = 2
    reset = "subtract"

    def integrate(self, states, current):
        u, a = states
        return self.decay * u + current, a

    def fire(self, m):
        v, a = m
        s = self.spike(v - self.threshold - self.adaptation * a)
        return (self.after_reset(v, s), self.adaptation_decay * a + s), s


@dataclass(frozen=True)
class AdLIF(Neuron):
    """LIF with a weighted current and a recovery current w. States (u, w):

    v = decay u + (1 - decay) (i - w),  s = H(v - threshold),  u' = v after the reset,  w' = adaptation_decay w + k

    with k = a v + b s, or, where q is a number, k = (1 - adaptation_decay) q (a u' + b s). Stopping the reset's gradient
    concerns u' only. The recovery current is part of firing: m = (v, w). The halves with q are for resets that do not set to
    zero.
    """

    decay: Any
    adaptation_decay: Any
    a: Any
    b: Any
    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    reset: str = "subtract"
    stop_reset_gradient: bool = False
    q: float | None = None

    parameters = ("decay", "adaptation_decay", "a", "b", "threshold")
    n_states = 2

    def integrate(self, states, current):
        u, w = states
        return self.decay * u + (1 - self.decay) * (current - w), w

    def fire(self, m):
        v, w = m
        s = self.spike(v - self.threshold)
        u = self.after_reset(v, s)
        gain, read = (1.0, v) if self.q is None else ((1 - self.adaptation_decay) * self.q, u)
        return (u, self.adaptation_decay * w + gain * (self.a * read + self.b * s)), s


@dataclass(frozen=True)
class BRF(Neuron):
    """Damp, rotate, fire at a threshold raised by q, which damps too. States (u, v, q), steps of length dt:

    c = p - b_offset - q,  p = (sqrt(1 - (dt omega)^2) - 1) / dt,  u' = u + dt (c u - omega v + i),
    v' = v + dt (omega u + c v),  s = H(u' - threshold - q),  q' = refractory_decay q + s

    The refractory variable is part of firing: m = (u', v', q).
    """

    omega: Any
    b_offset: Any
    threshold: Any
    refractory_decay: Any
    dt: float
    spike: SpikeFunction = _DEFAULT_SPIKE

    parameters = ("omega", "b_offset", "threshold", "refractory_decay")
    n_states = 3

    def integrate(self, states, current):
        u, v, q = states
        c = (np.sqrt(1 - (self.dt * self.omega) ** 2) - 1) / self.dt - self.b_offset - q
        return u + self.dt * (c * u - self.omega * v + current), v + self.dt * (self.omega * u + c * v), q

    def fire(self, m):
        u, v, q = m
        s = self.spike(u - self.threshold - q)
        return (u, v, self.refractory_decay * q + s), s


@dataclass(frozen=True)
class Izhikevich(Neuron):
    """A step of Euler of dv/dt = 0.04 v^2 + 5 v + 140 - w and dw/dt = a (b v - w); a spike sets v to c and adds d to w."""

    a: Any
    b: Any
    c: Any
    d: Any
    threshold: Any
    dt: float
    gain: float = 20.0
    spike: SpikeFunction = _DEFAULT_SPIKE

    parameters = ("a", "b", "c", "d", "threshold")
    n_states = 2

    def integrate(self, states, current):
        u, w = states
        v = u + self.dt * (0.04 * u**2 + 5 * u + 140 - w) + self.gain * current
        return v, w + self.dt * self.a * (self.b * u - w)

    def fire(self, m):
        v, w = m
        s = self.spike(v - self.threshold)
        return ((1 - s) * v + s * self.c, w + s * self.d), s


@dataclass(frozen=True)
class AdEx(Neuron):
    """A step of Euler of tau dv/dt = v_rest - v + D exp(min(8, (v - v_onset) / D)) - w and tau_w dw/dt = a (v - v_rest) - w.

    At a spike v = v_reset, and w rises by b. States (u, w).
    """

    tau: Any
    tau_w: Any
    a: Any
    b: Any
    v_onset: Any
    slope_factor: Any
    v_reset: Any
    threshold: Any
    dt: float
    v_rest: float = -70.6
    gain: float = 20.0
    spike: SpikeFunction = _DEFAULT_SPIKE

    parameters = ("tau", "tau_w", "a", "b", "v_onset", "slope_factor", "v_reset", "threshold")
    n_states = 2

    def integrate(self, states, current):
        u, w = states
        x = (u - self.v_onset) / self.slope_factor
        flow = self.v_rest - u + self.slope_factor * np.exp(np.where(x.real < 8, x, 8)) - w
        v = u + self.dt / self.tau * flow + self.gain * current
        return v, w + self.dt / self.tau_w * (self.a * (u - self.v_rest) - w)

    def fire(self, m):
        v, w = m
        s = self.spike(v - self.threshold)
        return ((1 - s) * v + s * self.v_reset, w + s * self.b), s
