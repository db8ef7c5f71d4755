"""Neurons, each with its derivatives written out by hand: five blocks of the whole step, and those of its first half.

A neuron maps its previous states h and its input current i to new states h' and an output s. What a rule needs to know of
the step are five blocks of partial derivatives, per sample and neuron:

    D = dh'/dh [S, S]   d = dh'/di [S]   o = ds/dh [S]   psi = ds/di   and, per neuron parameter, dh' [S] and ds

A step has two halves: m = integrate(h, i), which is the membrane before the reset and all other states before the neuron
fires, and firing, (h', s) of m. Rules that let nothing pass through spikes need the derivatives of the halves, with given
spikes in the second, see `Halves`. The derivative of a spike is that of its surrogate throughout.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from oracle.spikes import SpikeFunction, fast_sigmoid

_DEFAULT_SPIKE = fast_sigmoid()


class Step(NamedTuple):
    """What one layer does in one step."""

    states: np.ndarray  # [B, N, S] states after
    membrane: np.ndarray  # [B, N] membrane before the reset
    output: np.ndarray  # [B, N]
    D: np.ndarray  # [B, N, S, S]
    d: np.ndarray  # [B, N, S]
    o: np.ndarray  # [B, N, S]
    psi: np.ndarray  # [B, N]
    dh: dict[str, np.ndarray]  # per neuron parameter [B, N, S]
    ds: dict[str, np.ndarray]  # per neuron parameter [B, N]
    previous: Any = None  # [B, N, S] states before
    inputs: Any = None  # what the layer received, [B, I] by the prefix of the connection, see `Layer`
    slopes: Any = None  # its derivative by the delays, [B, I], None where none is learned


class Halves(NamedTuple):
    """The derivatives of a step in two halves, and what parameters do in each.

    Those of h' are at given spikes, and as if no reset set a membrane to zero.
    """

    A: np.ndarray  # dm/dh [B, N, S, S]
    b: np.ndarray  # dm/di [B, N, S]
    F: np.ndarray  # dh'/dm [B, N, S, S]
    fired: np.ndarray  # ds/dm [B, N, S]
    dm: dict[str, np.ndarray]  # of m by a parameter of integration [B, N, S]
    dh: dict[str, np.ndarray]  # of h' by a parameter of firing, at given m [B, N, S]
    ds: dict[str, np.ndarray]  # of s by a parameter of firing, at given m [B, N]


class Neuron:
    """Base: `parameters` names the fields that have gradients, each a scalar or [N]; `decay` is the membrane's."""

    parameters: tuple[str, ...]
    n_states = 1

    def __post_init__(self):
        for name in self.parameters:
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))

    def step(self, previous, current) -> Step:
        raise NotImplementedError

    def halves(self, step) -> Halves:
        raise NotImplementedError

    def above_threshold(self, step) -> np.ndarray:
        """What the spike function is of, [B, N]."""
        raise NotImplementedError


@dataclass(frozen=True)
class LI(Neuron):
    """Leaky integrator: u' = decay u + i, and u' is the output. With decay 0 it has no memory."""

    decay: Any

    parameters = ("decay",)

    def step(self, previous, current):
        u = previous[..., 0]
        new = self.decay * u + current
        ones = np.ones_like(u)
        leak = self.decay * ones
        return Step(
            states=_states(new),
            membrane=new,
            output=new,
            D=_square([[leak]]),
            d=_states(ones),
            o=_states(leak),
            psi=ones,
            dh={"decay": _states(u)},
            ds={"decay": u},
        )

    def halves(self, step):
        ones = np.ones_like(step.psi)
        return Halves(
            A=_square([[self.decay * ones]]),
            b=_states(ones),
            F=_square([[ones]]),
            fired=_states(ones),
            dm={"decay": step.previous},
            dh={},
            ds={},
        )


@dataclass(frozen=True)
class Dense(LI):
    """No neuron: the output is the current, as of an LI that keeps nothing and has no parameter."""

    decay: Any = 0.0

    parameters = ()

    def step(self, previous, current):
        return super().step(previous, current)._replace(dh={}, ds={})

    def halves(self, step):
        return super().halves(step)._replace(dm={})


@dataclass(frozen=True)
class LIF(Neuron):
    """v = decay u + i,  s = H(v - threshold),  u' = v after the reset."""

    decay: Any
    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    reset: str = "subtract"
    stop_reset_gradient: bool = False

    parameters = ("decay", "threshold")

    def step(self, previous, current):
        u = previous[..., 0]
        v = self.decay * u + current
        s, psi = self.spike.value(v - self.threshold), self.spike.derivative(v - self.threshold)
        new, a, du_dthreshold = _reset(self.reset, self.stop_reset_gradient, v, s, psi, self.threshold)
        return Step(
            states=_states(new),
            membrane=v,
            output=s,
            D=_square([[a * self.decay]]),
            d=_states(a),
            o=_states(psi * self.decay),
            psi=psi,
            dh={"decay": _states(a * u), "threshold": _states(du_dthreshold)},
            ds={"decay": psi * u, "threshold": -psi},
        )

    def above_threshold(self, step):
        return step.membrane - self.threshold

    def halves(self, step):
        ones = np.ones_like(step.psi)
        return Halves(
            A=_square([[self.decay * ones]]),
            b=_states(ones),
            F=_square([[ones]]),
            fired=_states(step.psi),
            dm={"decay": step.previous},
            dh={"threshold": _states(_taken_by_reset(self.reset, step.output))},
            ds={"threshold": -step.psi},
        )


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

    def step(self, previous, current):
        c, u = previous[..., 0], previous[..., 1]
        new_c = self.current_decay * c + current
        v = self.decay * u + new_c
        s, psi = self.spike.value(v - self.threshold), self.spike.derivative(v - self.threshold)
        new_u, a, du_dthreshold = _reset(self.reset, self.stop_reset_gradient, v, s, psi, self.threshold)
        zeros = np.zeros_like(v)
        alpha = self.current_decay + zeros
        return Step(
            states=_states(new_c, new_u),
            membrane=v,
            output=s,
            D=_square([[alpha, zeros], [a * alpha, a * self.decay]]),
            d=_states(zeros + 1, a),
            o=_states(psi * alpha, psi * self.decay),
            psi=psi,
            dh={
                "current_decay": _states(c, a * c),
                "decay": _states(zeros, a * u),
                "threshold": _states(zeros, du_dthreshold),
            },
            ds={"current_decay": psi * c, "decay": psi * u, "threshold": -psi},
        )

    def above_threshold(self, step):
        return step.membrane - self.threshold

    def halves(self, step):
        c, u = step.previous[..., 0], step.previous[..., 1]
        zeros = np.zeros_like(step.psi)
        alpha, leak = self.current_decay + zeros, self.decay + zeros
        return Halves(
            A=_square([[alpha, zeros], [alpha, leak]]),
            b=_states(zeros + 1, zeros + 1),
            F=_square([[zeros + 1, zeros], [zeros, zeros + 1]]),
            fired=_states(zeros, step.psi),
            dm={"current_decay": _states(c, c), "decay": _states(zeros, u)},
            dh={"threshold": _states(zeros, _taken_by_reset(self.reset, step.output))},
            ds={"threshold": -step.psi},
        )


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

    def step(self, previous, current):
        u, a = previous[..., 0], previous[..., 1]
        v = self.decay * u + current
        x = v - self.threshold - self.adaptation * a
        s, psi = self.spike.value(x), self.spike.derivative(x)
        zeros = np.zeros_like(v)
        through_reset = zeros if self.stop_reset_gradient else self.threshold * psi
        return Step(
            states=_states(v - self.threshold * s, self.adaptation_decay * a + s),
            membrane=v,
            output=s,
            D=_square(
                [
                    [(1 - through_reset) * self.decay, through_reset * self.adaptation],
                    [psi * self.decay, self.adaptation_decay - self.adaptation * psi],
                ]
            ),
            d=_states(1 - through_reset, psi),
            o=_states(psi * self.decay, -psi * self.adaptation),
            psi=psi,
            dh={
                "decay": _states((1 - through_reset) * u, psi * u),
                "adaptation_decay": _states(zeros, a),
                "adaptation": _states(through_reset * a, -psi * a),
                "threshold": _states(through_reset - s, -psi),
            },
            ds={"decay": psi * u, "adaptation_decay": zeros, "adaptation": -psi * a, "threshold": -psi},
        )

    def above_threshold(self, step):
        return step.membrane - self.threshold - self.adaptation * step.previous[..., 1]

    def halves(self, step):
        u, a = step.previous[..., 0], step.previous[..., 1]
        zeros = np.zeros_like(step.psi)
        return Halves(
            A=_square([[self.decay + zeros, zeros], [zeros, zeros + 1]]),
            b=_states(zeros + 1, zeros),
            F=_square([[zeros + 1, zeros], [zeros, self.adaptation_decay + zeros]]),
            fired=_states(step.psi, -self.adaptation * step.psi),
            dm={"decay": _states(u, zeros)},
            dh={"threshold": _states(-step.output, zeros), "adaptation_decay": _states(zeros, a)},
            ds={"threshold": -step.psi, "adaptation": -a * step.psi},
        )


@dataclass(frozen=True)
class AdLIF(Neuron):
    """LIF with a weighted current and a recovery current w. States (u, w):

    v = decay u + (1 - decay) (i - w),  s = H(v - threshold),  u' = v after the reset,  w' = adaptation_decay w + k

    with k = a v + b s, or, where q is a number, k = (1 - adaptation_decay) q (a u' + b s). Stopping the reset's gradient
    concerns u' only. The recovery current is part of firing: m = (v, w).
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

    def step(self, previous, current):
        u, w = previous[..., 0], previous[..., 1]
        x = current - w
        v = self.decay * u + (1 - self.decay) * x
        s, psi = self.spike.value(v - self.threshold), self.spike.derivative(v - self.threshold)
        new, r, du_dthreshold = _reset(self.reset, self.stop_reset_gradient, v, s, psi, self.threshold)
        zeros = np.zeros_like(v)
        if self.q is None:
            k, dk_dv, dk_dthreshold = self.a * v + self.b * s, self.a + self.b * psi, -self.b * psi
            dk = {"adaptation_decay": zeros, "a": v, "b": s}
        else:
            g = (1 - self.adaptation_decay) * self.q
            k, dk_dv = g * (self.a * new + self.b * s), g * (self.a * r + self.b * psi)
            dk_dthreshold = g * (self.a * du_dthreshold - self.b * psi)
            dk = {"adaptation_decay": -self.q * (self.a * new + self.b * s), "a": g * new, "b": g * s}
        weight = 1 - self.decay
        return Step(
            states=_states(new, self.adaptation_decay * w + k),
            membrane=v,
            output=s,
            D=_square([[r * self.decay, -r * weight], [dk_dv * self.decay, self.adaptation_decay - dk_dv * weight]]),
            d=_states(r * weight, dk_dv * weight),
            o=_states(psi * self.decay, -psi * weight),
            psi=psi * weight,
            dh={
                "decay": _states(r * (u - x), dk_dv * (u - x)),
                "adaptation_decay": _states(zeros, w + dk["adaptation_decay"]),
                "a": _states(zeros, dk["a"]),
                "b": _states(zeros, dk["b"]),
                "threshold": _states(du_dthreshold, dk_dthreshold),
            },
            ds={"decay": psi * (u - x), "adaptation_decay": zeros, "a": zeros, "b": zeros, "threshold": -psi},
        )

    def halves(self, step):
        u, w = step.previous[..., 0], step.previous[..., 1]
        v, s, zeros, weight = step.membrane, step.output, np.zeros_like(step.psi), 1 - self.decay
        taken = _taken_by_reset(self.reset, s)
        unreset = v + self.threshold * taken
        x = (v - self.decay * u) / weight
        if self.q is None:
            by_v, by_w = self.a + zeros, {"adaptation_decay": w, "a": v, "b": s, "threshold": zeros}
        else:
            g = (1 - self.adaptation_decay) * self.q
            by_v = g * self.a + zeros
            forgotten = w - self.q * (self.a * unreset + self.b * s)
            by_w = {"adaptation_decay": forgotten, "a": g * unreset, "b": g * s, "threshold": g * self.a * taken}
        return Halves(
            A=_square([[self.decay + zeros, -weight + zeros], [zeros, zeros + 1]]),
            b=_states(weight + zeros, zeros),
            F=_square([[zeros + 1, zeros], [by_v, self.adaptation_decay + zeros]]),
            fired=_states(step.psi / weight, zeros),
            dm={"decay": _states(u - x, zeros)},
            dh={name: _states(taken if name == "threshold" else zeros, slope) for name, slope in by_w.items()},
            ds={"threshold": -step.psi / weight},
        )


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

    def step(self, previous, current):
        u, v, q = previous[..., 0], previous[..., 1], previous[..., 2]
        dt, zeros = self.dt, np.zeros_like(u)
        root = np.sqrt(1 - (dt * self.omega) ** 2)
        c, dp = (root - 1) / dt - self.b_offset - q, -dt * self.omega / root
        new_u = u + dt * (c * u - self.omega * v + current)
        new_v = v + dt * (self.omega * u + c * v)
        s, psi = self.spike.value(new_u - self.threshold - q), self.spike.derivative(new_u - self.threshold - q)
        kept, turned = 1 + dt * c, dt * self.omega + zeros
        by_omega, by_offset = (dt * (dp * u - v), dt * (u + dp * v)), (-dt * u, -dt * v)
        return Step(
            states=_states(new_u, new_v, self.refractory_decay * q + s),
            membrane=new_u,
            output=s,
            D=_square(
                [
                    [kept, -turned, -dt * u],
                    [turned, kept, -dt * v],
                    [psi * kept, -psi * turned, self.refractory_decay - psi * (dt * u + 1)],
                ]
            ),
            d=_states(dt + zeros, zeros, psi * dt),
            o=_states(psi * kept, -psi * turned, -psi * (dt * u + 1)),
            psi=psi * dt,
            dh={
                "omega": _states(*by_omega, psi * by_omega[0]),
                "b_offset": _states(*by_offset, psi * by_offset[0]),
                "threshold": _states(zeros, zeros, -psi),
                "refractory_decay": _states(zeros, zeros, q),
            },
            ds={
                "omega": psi * by_omega[0],
                "b_offset": psi * by_offset[0],
                "threshold": -psi,
                "refractory_decay": zeros,
            },
        )


def _reset(kind, stopped, v, s, psi, threshold):
    """The membrane u' after the reset, du'/dv, and du'/dthreshold at fixed v."""
    if kind == "subtract":
        through_spike = 0 if stopped else threshold * psi
        return v - threshold * s, 1 - through_spike + 0 * v, through_spike - s
    if kind == "zero":
        through_spike = 0 if stopped else v * psi
        return v * (1 - s), 1 - s - through_spike, through_spike + 0 * v
    if kind == "none":
        return v, np.ones_like(v), np.zeros_like(v)
    raise ValueError(f"reset must be 'subtract', 'zero' or 'none', got {kind!r}.")


def _taken_by_reset(kind, s):
    """du'/dthreshold at given v and given spikes."""
    return -s if kind == "subtract" else 0 * s


def _states(*states):
    return np.stack(states, axis=-1)


def _square(rows):
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
