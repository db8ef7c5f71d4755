"""Neurons as plain loops. A peer's neuron is checked against the one that the peer's file states before it is timed.

All take currents [T, N] in float64, and return spikes [T, N]. u is the membrane, I the current, d the decay, H the step.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.side_by_side.workload import DECAY, THRESHOLD

SYNAPSE_DECAY = 0.8  # for peers whose neuron has a synapse: its current decays before or after it acts
PARTS_OF_ONE = 4096  # resolution of fixed-point numbers


def subtract(currents: np.ndarray) -> np.ndarray:
    """v_t = d u_{t-1} + I_t; s_t = H(v_t - 1); u_t = v_t - s_t."""
    u, spikes = np.zeros(currents.shape[1]), np.zeros(currents.shape)
    for t, current in enumerate(currents):
        u = DECAY * u + current
        spikes[t] = u > THRESHOLD
        u = u - THRESHOLD * spikes[t]
    return spikes


def late_reset(currents: np.ndarray) -> np.ndarray:
    """u_t = d u_{t-1} + I_t - H(u_{t-1} - 1); s_t = H(u_t - 1)."""
    u, spikes = np.zeros(currents.shape[1]), np.zeros(currents.shape)
    for t, current in enumerate(currents):
        u = DECAY * u + current - THRESHOLD * (u > THRESHOLD)
        spikes[t] = u > THRESHOLD
    return spikes


def late_spike(currents: np.ndarray) -> np.ndarray:
    """s_t = H(u_{t-1} - 1); u_t = d u_{t-1} + I_t - s_t."""
    u, spikes = np.zeros(currents.shape[1]), np.zeros(currents.shape)
    for t, current in enumerate(currents):
        spikes[t] = u > THRESHOLD
        u = DECAY * u + current - THRESHOLD * spikes[t]
    return spikes


def synapse_to_zero(currents: np.ndarray) -> np.ndarray:
    """v_t = d u_{t-1} + 0.2 (i_{t-1} + I_t); s_t = H(v_t - 1); u_t = v_t (1 - s_t); i_t = 0.8 (i_{t-1} + I_t)."""
    u, i, spikes = np.zeros(currents.shape[1]), np.zeros(currents.shape[1]), np.zeros(currents.shape)
    for t, current in enumerate(currents):
        u = DECAY * u + (1 - SYNAPSE_DECAY) * (i + current)
        spikes[t] = u > THRESHOLD
        u = u * (1 - spikes[t])
        i = SYNAPSE_DECAY * (i + current)
    return spikes


def synapse_subtract(currents: np.ndarray) -> np.ndarray:
    """i_t = 0.8 (i_{t-1} + I_t / 4); v_t = d u_{t-1} + i_t; s_t = H(v_t - 1); u_t = v_t - s_t."""
    u, i, spikes = np.zeros(currents.shape[1]), np.zeros(currents.shape[1]), np.zeros(currents.shape)
    for t, current in enumerate(currents):
        i = SYNAPSE_DECAY * (i + (1 - SYNAPSE_DECAY) / SYNAPSE_DECAY * current)
        u = DECAY * u + i
        spikes[t] = u > THRESHOLD
        u = u - THRESHOLD * spikes[t]
    return spikes


def fixed_point_to_zero(currents: np.ndarray) -> np.ndarray:
    """Multiples of 1 / 4096, truncated toward zero: v_t = d u_{t-1} + I_t; s_t = H(v_t - 1); u_t = v_t (1 - s_t)."""
    kept = PARTS_OF_ONE - round(PARTS_OF_ONE * (1 - DECAY))
    u, spikes = np.zeros(currents.shape[1]), np.zeros(currents.shape)
    for t, current in enumerate(currents):
        u = np.trunc(u * kept / PARTS_OF_ONE) + np.trunc(PARTS_OF_ONE * current)
        spikes[t] = u > PARTS_OF_ONE * THRESHOLD
        u = u * (1 - spikes[t])
    return spikes


EQUATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    function.__name__: function
    for function in (subtract, late_reset, late_spike, synapse_to_zero, synapse_subtract, fixed_point_to_zero)
}


def test_currents(steps: int = 60, units: int = 64) -> np.ndarray:
    """Odd multiples of 1 / 32, so that no membrane starts exactly at the threshold, [T, N]."""
    drawn = np.random.default_rng(3).normal(0.3, 0.7, (steps, units))
    return ((2 * np.floor(16 * drawn) + 1) / 32).astype(np.float32)


def check(equation: str, spikes_of: Callable[[np.ndarray], np.ndarray]) -> None:
    """Raise ValueError unless a neuron's spikes for currents [T, 1, N] match its equation at each step."""
    currents = test_currents()
    expected = EQUATIONS[equation](currents.astype(np.float64))
    found = np.asarray(spikes_of(currents[:, None]), np.float64).reshape(expected.shape)
    wrong = np.argwhere(found != expected)
    if len(wrong):
        step, unit = wrong[0]
        raise ValueError(
            f"error: the neuron is not as stated ({equation}): {len(wrong)} of {expected.size} spikes differ, the first at "
            f"step {step} of unit {unit}: got {found[step, unit]:g}, expected {expected[step, unit]:g}"
        )
