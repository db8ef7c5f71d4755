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

    previous: np.ndarray  # [B, N, S] states before
    states: np.ndarray  # [B, N, S] states after
    membrane: np.ndarray  # [B, N] membrane before the reset
    output: np.ndarray  # [B, N]
    D: np.ndarray  # [B, N, S, S]
    d: np.ndarray  # [B, N, S]
    o: np.ndarray  # [B, N, S]
    psi: np.ndarray  # [B, N]
    dh: dict[str, np.ndarray]  # per neuron parameter [B, N, S]
    ds: dict[str, np.ndarray]  # per neuron parameter [B, N]
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


class MembraneBlocks(NamedTuple):
    """The derivatives of the membrane v before the reset, which are exact: it comes before all firing."""

    o: np.ndarray  # dv/dh [B, N, S]
    psi: np.ndarray  # dv/di [B, N]
    ds: dict[str, np.ndarray]  # dv by each parameter of the neuron that it depends on directly [B, N]


class Neuron:
    """Base: `parameters` names the fields that have gradients, each a scalar or [N]; `decay` is the membrane's."""

    parameters: tuple[str, ...]
    n_states = 1
    membrane_state = 0  # the place of the membrane among the states

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

    def membrane_blocks(self, step) -> MembraneBlocks:
        halves, v = self.halves(step), self.membrane_state
        return MembraneBlocks(
            halves.A[..., v, :], halves.b[..., v], {name: dm[..., v] for name, dm in halves.dm.items()}
        )


@dataclass(frozen=True)
class Dense(Neuron):
    """No neuron: the output is the current. Its one state is always 0, for uniformity."""

    parameters = ()
    decay = np.zeros(())

    def step(self, previous, current):
        zeros = np.zeros_like(current)
        return Step(
            previous=previous,
            states=_states(zeros),
            membrane=current,
            output=current,
            D=_square([[zeros]]),
            d=_states(zeros),
            o=_states(zeros),
            psi=zeros + 1,
            dh={},
            ds={},
        )

    def halves(self, step):
        ones = np.ones_like(step.psi)
        return Halves(
            A=_square([[0 * ones]]), b=_states(ones), F=_square([[0 * ones]]), fired=_states(ones), dm={}, dh={}, ds={}
        )


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
            previous=previous,
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
            previous=previous,
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
    membrane_state = 1

    def step(self, previous, current):
        c, u = previous[..., 0], previous[..., 1]
        new_c = self.current_decay * c + current
        v = self.decay * u + new_c
        s, psi = self.spike.value(v - self.threshold), self.spike.derivative(v - self.threshold)
        new_u, a, du_dthreshold = _reset(self.reset, self.stop_reset_gradient, v, s, psi, self.threshold)
        zeros = np.zeros_like(v)
        alpha = self.current_decay + zeros
        return Step(
            previous=previous,
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
            previous=previous,
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
