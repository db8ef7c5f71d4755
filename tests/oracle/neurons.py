"""Neurons, each as two halves whose derivatives are written out by hand; the derivatives of the whole step follow from them.

A neuron maps its previous states h and its input current i to new states h' and an output s, in two halves:

    m = integrate(h, i)     the membrane before the reset, and all other states before the neuron fires
    h', s = fire(m)

What a rule needs to know of the step are five blocks of partial derivatives, per sample and neuron:

    D = dh'/dh [S, S]   d = dh'/di [S]   o = ds/dh [S]   psi = ds/di   and, per neuron parameter, dh' [S] and ds

Rules that let nothing pass through spikes need the derivatives of the halves, with given spikes in the second. The derivative
of a spike is that of its surrogate throughout.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from oracle.spikes import SpikeFunction, fast_sigmoid

_DEFAULT_SPIKE = fast_sigmoid()


class Integrated(NamedTuple):
    """The first half."""

    m: np.ndarray  # [B, N, S]
    A: np.ndarray  # dm/dh [B, N, S, S]
    b: np.ndarray  # dm/di [B, N, S]
    dm: dict[str, np.ndarray]  # per parameter of integration [B, N, S]


class Fired(NamedTuple):
    """The second half. Derivatives of h' are at given spikes, but for `by_spike`."""

    states: np.ndarray  # h' [B, N, S]
    output: np.ndarray  # s [B, N]
    F: np.ndarray  # dh'/dm [B, N, S, S], as if no reset set a membrane to zero
    zeroed: np.ndarray  # what such a reset takes from F
    by_spike: np.ndarray  # dh'/ds [B, N, S], 0 where the gradient stops
    slope: np.ndarray  # ds/dm [B, N, S]
    dh: dict[str, np.ndarray]  # of h' by a parameter of firing, at given m [B, N, S]
    ds: dict[str, np.ndarray]  # of s by a parameter of firing, at given m [B, N]


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
    integrated: Integrated
    fired: Fired
    previous: Any = None  # [B, N, S] states before
    inputs: Any = None  # what the layer received, [B, I] by the prefix of the connection, see `Layer`
    slopes: Any = None  # its derivative by the delays, [B, I], None where none is learned


class Neuron:
    """Base: `parameters` names the fields that have gradients, each a scalar or [N]; `decay` is the membrane's.

    Subclasses have the halves: integrate(previous, current) -> `Integrated` and fire(m) -> `Fired`.
    """

    parameters: tuple[str, ...]
    n_states = 1
    membrane = 0  # which of the states before firing

    def __post_init__(self):
        for name in self.parameters:
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))

    def step(self, previous, current) -> Step:
        """Both halves, and the chain rule through them."""
        first = self.integrate(previous, current)
        second = self.fire(first.m)
        whole = second.F - second.zeroed + second.by_spike[..., None] * second.slope[..., None, :]
        dh, ds = {}, {}
        for name in self.parameters:
            dm, through_spike = first.dm.get(name, 0 * first.m), second.ds.get(name, 0 * second.output)
            dh[name] = _times(whole, dm) + second.by_spike * through_spike[..., None] + second.dh.get(name, 0.0)
            ds[name] = (second.slope * dm).sum(axis=-1) + through_spike
        return Step(
            states=second.states,
            membrane=first.m[..., self.membrane],
            output=second.output,
            D=whole @ first.A,
            d=_times(whole, first.b),
            o=(second.slope[..., None] * first.A).sum(axis=-2),
            psi=(second.slope * first.b).sum(axis=-1),
            dh=dh,
            ds=ds,
            integrated=first,
            fired=second,
        )


@dataclass(frozen=True)
class LI(Neuron):
    """Leaky integrator: u' = decay u + i, and u' is the output. With decay 0 it has no memory."""

    decay: Any

    parameters = ("decay",)

    def integrate(self, previous, current):
        u, ones = previous[..., 0], np.ones_like(current)
        m = _states(self.decay * u + current)
        return Integrated(m, _square([[self.decay * ones]]), _states(ones), {"decay": previous})

    def fire(self, m):
        ones, zeros = np.ones_like(m), np.zeros_like(m)
        return Fired(m, m[..., 0], ones[..., None], zeros[..., None], zeros, ones, {}, {})


@dataclass(frozen=True)
class Dense(LI):
    """No neuron: the output is the current, as of an LI that keeps nothing and has no parameter."""

    decay: Any = 0.0

    parameters = ()

    def integrate(self, previous, current):
        return super().integrate(previous, current)._replace(dm={})


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
        others, v = m[..., :-1], m[..., -1]
        s, psi = self.spike.at(v - self.threshold)
        u, zeroed, by_spike, taken = _reset(self, v, s)

        def last(value):
            return np.concatenate([0 * others, value[..., None]], axis=-1)

        identity = np.eye(self.n_states) + 0 * m[..., None]
        return Fired(
            states=np.concatenate([others, u[..., None]], axis=-1),
            output=s,
            F=identity,
            zeroed=identity * last(zeroed)[..., None],
            by_spike=last(by_spike),
            slope=last(psi),
            dh={"threshold": last(taken)},
            ds={"threshold": -psi},
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
    membrane = 1

    def integrate(self, previous, current):
        c, u = previous[..., 0], previous[..., 1]
        zeros, new_c = np.zeros_like(current), self.current_decay * c + current
        alpha, leak = self.current_decay + zeros, self.decay + zeros
        return Integrated(
            m=_states(new_c, self.decay * u + new_c),
            A=_square([[alpha, zeros], [alpha, leak]]),
            b=_states(zeros + 1, zeros + 1),
            dm={"current_decay": _states(c, c), "decay": _states(zeros, u)},
        )

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

    def integrate(self, previous, current):
        u, a, zeros = previous[..., 0], previous[..., 1], np.zeros_like(current)
        return Integrated(
            m=_states(self.decay * u + current, a),
            A=_square([[self.decay + zeros, zeros], [zeros, zeros + 1]]),
            b=_states(zeros + 1, zeros),
            dm={"decay": _states(u, zeros)},
        )

    def fire(self, m):
        v, a, zeros = m[..., 0], m[..., 1], np.zeros_like(m[..., 0])
        s, psi = self.spike.at(v - self.threshold - self.adaptation * a)
        u, zeroed, by_spike, taken = _reset(self, v, s)
        return Fired(
            states=_states(u, self.adaptation_decay * a + s),
            output=s,
            F=_square([[zeros + 1, zeros], [zeros, self.adaptation_decay + zeros]]),
            zeroed=_square([[zeroed, zeros], [zeros, zeros]]),
            by_spike=_states(by_spike, zeros + 1),
            slope=_states(psi, -self.adaptation * psi),
            dh={"threshold": _states(taken, zeros), "adaptation_decay": _states(zeros, a)},
            ds={"threshold": -psi, "adaptation": -a * psi},
        )


@dataclass(frozen=True)
class AdLIF(Neuron):
    """LIF with a weighted current and a recovery current w. States (u, w):

    v = decay u + (1 - decay) (i - w),  s = H(v - threshold),  u' = v after the reset,  w' = adaptation_decay w + k

    with k = a v + b s, or, where q is a number, k = (1 - adaptation_decay) q (a u' + b s). Stopping the reset's gradient
    concerns u' only. The recovery current is part of firing: m = (v, w). `F` with q is for resets
    that do not set to zero.
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

    def integrate(self, previous, current):
        u, w, zeros = previous[..., 0], previous[..., 1], np.zeros_like(current)
        weight = 1 - self.decay + zeros
        return Integrated(
            m=_states(self.decay * u + weight * (current - w), w),
            A=_square([[self.decay + zeros, -weight], [zeros, zeros + 1]]),
            b=_states(weight, zeros),
            dm={"decay": _states(u - (current - w), zeros)},
        )

    def fire(self, m):
        v, w, zeros = m[..., 0], m[..., 1], np.zeros_like(m[..., 0])
        s, psi = self.spike.at(v - self.threshold)
        u, zeroed, by_spike, taken = _reset(self, v, s)
        if self.q is None:  # w' reads v itself, and no reset
            gain, read, by_w = 1.0, v, {"adaptation_decay": w}
            through_reset = zeros
        else:
            gain, read = (1 - self.adaptation_decay) * self.q, u
            by_w = {"adaptation_decay": w - self.q * (self.a * u + self.b * s)}
            through_reset = gain * self.a + zeros
        by_w |= {"a": gain * read, "b": gain * s, "threshold": through_reset * taken}
        return Fired(
            states=_states(u, self.adaptation_decay * w + gain * (self.a * read + self.b * s)),
            output=s,
            F=_square([[zeros + 1, zeros], [gain * self.a + zeros, self.adaptation_decay + zeros]]),
            zeroed=_square([[zeroed, zeros], [through_reset * zeroed, zeros]]),
            by_spike=_states(by_spike, gain * self.b + through_reset * by_spike),
            slope=_states(psi, zeros),
            dh={name: _states(taken if name == "threshold" else zeros, slope) for name, slope in by_w.items()},
            ds={"threshold": -psi},
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

    def integrate(self, previous, current):
        u, v, q = previous[..., 0], previous[..., 1], previous[..., 2]
        dt, zeros = self.dt, np.zeros_like(u)
        root = np.sqrt(1 - (dt * self.omega) ** 2)
        c, dp = (root - 1) / dt - self.b_offset - q, -dt * self.omega / root
        kept, turned = 1 + dt * c, dt * self.omega + zeros
        return Integrated(
            m=_states(u + dt * (c * u - self.omega * v + current), v + dt * (self.omega * u + c * v), q),
            A=_square([[kept, -turned, -dt * u], [turned, kept, -dt * v], [zeros, zeros, zeros + 1]]),
            b=_states(dt + zeros, zeros, zeros),
            dm={
                "omega": _states(dt * (dp * u - v), dt * (u + dp * v), zeros),
                "b_offset": _states(-dt * u, -dt * v, zeros),
            },
        )

    def fire(self, m):
        u, v, q = m[..., 0], m[..., 1], m[..., 2]
        zeros = np.zeros_like(u)
        s, psi = self.spike.at(u - self.threshold - q)
        F = np.eye(3) + _square([[zeros] * 3] * 3)
        F[..., 2, 2] = self.refractory_decay
        return Fired(
            states=_states(u, v, self.refractory_decay * q + s),
            output=s,
            F=F,
            zeroed=np.zeros_like(F),
            by_spike=_states(zeros, zeros, zeros + 1),
            slope=_states(psi, zeros, -psi),
            dh={"refractory_decay": _states(zeros, zeros, q)},
            ds={"threshold": -psi},
        )


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

    def integrate(self, previous, current):
        u, w, zeros = previous[..., 0], previous[..., 1], np.zeros_like(current)
        pull = self.b * u - w
        return Integrated(
            m=_states(u + self.dt * (0.04 * u**2 + 5 * u + 140 - w) + self.gain * current, w + self.dt * self.a * pull),
            A=_square(
                [
                    [1 + self.dt * (0.08 * u + 5), zeros - self.dt],
                    [self.dt * self.a * self.b + zeros, 1 - self.dt * self.a + zeros],
                ]
            ),
            b=_states(self.gain + zeros, zeros),
            dm={"a": _states(zeros, self.dt * pull), "b": _states(zeros, self.dt * self.a * u)},
        )

    def fire(self, m):
        return _jump(self, m, c=self.c, d=self.d)


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

    def integrate(self, previous, current):
        u, w, zeros = previous[..., 0], previous[..., 1], np.zeros_like(current)
        fast, slow, x = self.dt / self.tau, self.dt / self.tau_w, (u - self.v_onset) / self.slope_factor
        rises = np.exp(np.minimum(x, 8))
        steep = np.where(x < 8, rises, 0)  # d(D rises)/du
        flow, pull = self.v_rest - u + self.slope_factor * rises - w, self.a * (u - self.v_rest) - w
        return Integrated(
            m=_states(u + fast * flow + self.gain * current, w + slow * pull),
            A=_square([[1 + fast * (steep - 1), zeros - fast], [slow * self.a + zeros, 1 - slow + zeros]]),
            b=_states(self.gain + zeros, zeros),
            dm={
                "tau": _states(-fast / self.tau * flow, zeros),
                "tau_w": _states(zeros, -slow / self.tau_w * pull),
                "a": _states(zeros, slow * (u - self.v_rest)),
                "v_onset": _states(-fast * steep, zeros),
                "slope_factor": _states(fast * (rises - steep * x), zeros),
            },
        )

    def fire(self, m):
        return _jump(self, m, v_reset=self.v_reset, b=self.b)


def _jump(neuron, m, **jumps):
    """Fire where v is at the threshold: v goes to the first of two parameters, and the second is added to w."""
    v, w, zeros = m[..., 0], m[..., 1], np.zeros_like(m[..., 0])
    (to, target), (by, step) = jumps.items()
    s, psi = neuron.spike.at(v - neuron.threshold)
    return Fired(
        states=_states((1 - s) * v + s * target, w + s * step),
        output=s,
        F=_square([[zeros + 1, zeros], [zeros, zeros + 1]]),
        zeroed=_square([[s, zeros], [zeros, zeros]]),
        by_spike=_states(target - v, step + zeros),
        slope=_states(psi, zeros),
        dh={to: _states(s, zeros), by: _states(zeros, s)},
        ds={"threshold": -psi},
    )


def _reset(neuron, v, s):
    """The membrane u' after the reset; of du'/dv at given s, what a reset to zero takes; du'/ds; du'/dthreshold at given s."""
    zeros = np.zeros_like(v)
    u, zeroed, by_spike, taken = {
        "subtract": (v - neuron.threshold * s, zeros, -neuron.threshold + zeros, -s),
        "zero": (v * (1 - s), s, -v, zeros),
        "none": (v, zeros, zeros, zeros),
    }[neuron.reset]
    return u, zeroed, zeros if neuron.stop_reset_gradient else by_spike, taken


def _times(matrix, vector):
    return (matrix @ vector[..., None])[..., 0]


def _states(*states):
    return np.stack(states, axis=-1)


def _square(rows):
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
