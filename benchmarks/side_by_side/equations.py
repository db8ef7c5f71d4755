"""Neurons as plain equations. A peer's neuron is checked against the one that the peer's file states before it is timed.

Each maps the current [N] of a step and the states [N], zero at first, to the spikes and the states after it, in float64. u is
the membrane, i the current of the synapse, I the current, d the decay, H the step.
"""

import inspect
from collections.abc import Callable

import numpy as np

from benchmarks.side_by_side.workload import DECAY, THRESHOLD

SYNAPSE_DECAY = 0.8  # for peers whose neuron has a synapse: its current decays before or after it acts


def subtract(current: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """v_t = d u_{t-1} + I_t; s_t = H(v_t - 1); u_t = v_t - s_t."""
    v = DECAY * u + current
    return v > THRESHOLD, v - THRESHOLD * (v > THRESHOLD)


def late_reset(current: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """u_t = d u_{t-1} + I_t - H(u_{t-1} - 1); s_t = H(u_t - 1)."""
    u = DECAY * u + current - THRESHOLD * (u > THRESHOLD)
    return u > THRESHOLD, u


def late_spike(current: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """s_t = H(u_{t-1} - 1); u_t = d u_{t-1} + I_t - s_t."""
    return u > THRESHOLD, DECAY * u + current - THRESHOLD * (u > THRESHOLD)


def synapse_subtract(current: np.ndarray, u: np.ndarray, i: np.ndarray) -> tuple[np.ndarray, ...]:
    """i_t = 0.8 (i_{t-1} + I_t / 4); v_t = d u_{t-1} + i_t; s_t = H(v_t - 1); u_t = v_t - s_t."""
    i = SYNAPSE_DECAY * (i + (1 - SYNAPSE_DECAY) / SYNAPSE_DECAY * current)
    return *subtract(i, u), i


EQUATIONS: dict[str, Callable[..., tuple[np.ndarray, ...]]] = {
    one.__name__: one for one in (subtract, late_reset, late_spike, synapse_subtract)
}


def spikes_by(equation: str, currents: np.ndarray) -> np.ndarray:
    """The spikes [T, N] of an equation for currents [T, N]."""
    step = EQUATIONS[equation]
    states = [np.zeros(currents.shape[1])] * (len(inspect.signature(step).parameters) - 1)
    spikes = np.zeros(currents.shape)
    for t, current in enumerate(currents.astype(np.float64)):
        spikes[t], *states = step(current, *states)
    return spikes


def test_currents(steps: int = 60, units: int = 64) -> np.ndarray:
    """Odd multiples of 1 / 32, so that no membrane starts exactly at the threshold, [T, N]."""
    drawn = np.random.default_rng(3).normal(0.3, 0.7, (steps, units))
    return ((2 * np.floor(16 * drawn) + 1) / 32).astype(np.float32)


def check(equation: str, spikes_of: Callable[[np.ndarray], np.ndarray]) -> None:
    """Raise ValueError unless a neuron's spikes for currents [T, 1, N] match its equation at each step."""
    currents = test_currents()
    expected = spikes_by(equation, currents)
    found = np.asarray(spikes_of(currents[:, None]), np.float64).reshape(expected.shape)
    wrong = np.argwhere(found != expected)
    if len(wrong):
        step, unit = wrong[0]
        raise ValueError(
            f"error: the neuron is not as stated ({equation}): {len(wrong)} of {expected.size} spikes differ, the first at "
            f"step {step} of unit {unit}: got {found[step, unit]:g}, expected {expected[step, unit]:g}"
        )
