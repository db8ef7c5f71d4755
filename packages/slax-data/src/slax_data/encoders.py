"""Intensities in [0, 1] to spikes and back: by the time of one spike, or by the number of spikes.

latency    one spike at step  t = round((1 - a) (T - 1))  if a > threshold, else none      a = 1 - t / (T - 1)
rate       a spike at each step with probability  a max_rate                               a = mean over t / max_rate
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from slax_data.checks import check_intensities, check_size, check_spikes
from slax_data.draws import uniform


def latency_encode(intensities: Float[Array, "B N"], *, n_steps: int, threshold: float = 0.0) -> Float[Array, "T B N"]:
    """One spike per unit, the earlier the stronger: at step round((1 - a) (T - 1)) for an intensity a > threshold.

    Args:
        intensities: a, in [0, 1].
        n_steps: time steps T, at least 2.
        threshold: units with an intensity of at most this stay silent, in [0, 1).

    Returns:
        Spikes of shape [T, B, N], 0 or 1: intensity 1 at the first step, the weakest at the last.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), too few steps, a
            threshold outside [0, 1).
    """
    check_size("n_steps", n_steps, least=2)
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold got {threshold}, expected a number in [0, 1). Use 0 to silence only zeros.")
    check_intensities(intensities)
    return _latency_encode(intensities, n_steps, threshold)


@partial(jax.jit, static_argnums=(1, 2))
def _latency_encode(intensities: Float[Array, "B N"], n_steps: int, threshold: float) -> Float[Array, "T B N"]:
    steps = jnp.round((1 - intensities) * (n_steps - 1))
    time = jnp.arange(n_steps, dtype=steps.dtype)[:, None, None]
    return ((time == steps[None]) & (intensities > threshold)[None]).astype(intensities.dtype)


@jax.jit
def latency_decode(spikes: Float[Array, "T B N"]) -> Float[Array, "B N"]:
    """Inverse of `latency_encode`: 1 - t / (T - 1) for the first spike at step t, 0 for a silent unit.

    Args:
        spikes: 0 or 1, over at least 2 steps.

    Returns:
        Intensities of shape [B, N]. After `latency_encode` they are off by at most 1 / (2 (T - 1)), and 0 at or below
        its threshold.

    Raises:
        ValueError: wrong rank, or too few steps.
    """
    check_spikes(spikes)
    check_size("number of steps in spikes", spikes.shape[0], least=2)
    first = jnp.argmax(spikes > 0, axis=0).astype(spikes.dtype)
    return jnp.where((spikes > 0).any(axis=0), 1 - first / (spikes.shape[0] - 1), 0)


def rate_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B N"], *, n_steps: int, max_rate: float = 1.0
) -> Float[Array, "T B N"]:
    """Independent spikes at each step, with probability a max_rate for an intensity a.

    Args:
        key: of the draws.
        intensities: a, in [0, 1].
        n_steps: time steps T, at least 1.
        max_rate: spikes per step of intensity 1, in (0, 1].

    Returns:
        Spikes of shape [T, B, N], 0 or 1.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), too few steps, a rate
            outside (0, 1].
    """
    check_size("n_steps", n_steps)
    _check_rate(max_rate)
    check_intensities(intensities)
    return _rate_encode(key, intensities, n_steps, max_rate)


@partial(jax.jit, static_argnums=(2, 3))
def _rate_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B N"], n_steps: int, max_rate: float
) -> Float[Array, "T B N"]:
    draws = uniform(key, (n_steps, *intensities.shape), intensities.dtype)
    return (draws < (intensities * max_rate)[None]).astype(intensities.dtype)


@partial(jax.jit, static_argnames="max_rate")
def rate_decode(spikes: Float[Array, "T B N"], *, max_rate: float = 1.0) -> Float[Array, "B N"]:
    """Estimate of the intensities behind `rate_encode`: the mean over time, divided by `max_rate`.

    Args:
        spikes: 0 or 1, over at least 1 step.
        max_rate: as in `rate_encode`, in (0, 1].

    Returns:
        Intensities of shape [B, N], with a standard deviation of sqrt(p (1 - p) / T) / max_rate where p = a max_rate.

    Raises:
        ValueError: wrong rank, no steps, or a rate outside (0, 1].
    """
    check_spikes(spikes)
    _check_rate(max_rate)
    return spikes.mean(axis=0) / max_rate


def _check_rate(max_rate: float) -> None:
    if not 0 < max_rate <= 1:
        raise ValueError(f"max_rate got {max_rate}, expected spikes per step in (0, 1]. Use 1 for the highest rate.")
