"""Rate codes: an intensity is the probability of a spike, or the rate of a Poisson process.

rate       a spike at each step with probability  a max_rate                    a = mean over t / max_rate
poisson    a spike at each step with probability  1 - exp(-a max_rate dt)       a = -log(1 - mean over t) / (max_rate dt)
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from slax_data.checks import check_intensities, check_size, check_spikes
from slax_data.encoding.draws import uniform


def rate_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B N"], *, n_steps: int, max_rate: float = 1.0
) -> Float[Array, "T B N"]:
    """Independent spikes at each step, with probability a max_rate for an intensity a.

    Args:
        key: random key for the draws.
        intensities: a, in [0, 1].
        n_steps: time steps T, at least 1.
        max_rate: spikes per step at intensity 1, in (0, 1].

    Returns:
        Spikes of shape [T, B, N], 0 or 1.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), too few steps, a rate
            outside (0, 1].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import rate_encode
        >>> spikes = rate_encode(jax.random.key(0), jnp.array([[0.0, 0.3, 1.0]]), n_steps=1000)
        >>> spikes.shape
        (1000, 1, 3)
        >>> [round(rate, 1) for rate in spikes.mean(axis=0)[0].tolist()]
        [0.0, 0.3, 1.0]
    """
    check_size("n_steps", n_steps)
    _check_rate(max_rate)
    check_intensities(intensities)
    return _rate_encode(key, intensities, n_steps, max_rate)


@partial(jax.jit, static_argnums=(2, 3))
def _rate_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B N"], n_steps: int, max_rate: float
) -> Float[Array, "T B N"]:
    return _bernoulli(key, intensities * max_rate, n_steps)


@partial(jax.jit, static_argnames="max_rate")
def rate_decode(spikes: Float[Array, "T B N"], *, max_rate: float = 1.0) -> Float[Array, "B N"]:
    """An estimate of the intensities encoded by `rate_encode`: the mean over time, divided by `max_rate`.

    Args:
        spikes: 0 or 1, over at least 1 step.
        max_rate: as in `rate_encode`, in (0, 1].

    Returns:
        Intensities of shape [B, N], with a standard deviation of sqrt(p (1 - p) / T) / max_rate where p = a max_rate.

    Raises:
        ValueError: wrong rank, no steps, or a rate outside (0, 1].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import rate_decode, rate_encode
        >>> intensities = jnp.array([[0.0, 0.4, 1.0]])
        >>> spikes = rate_encode(jax.random.key(0), intensities, n_steps=1000, max_rate=0.5)
        >>> bool(jnp.allclose(rate_decode(spikes, max_rate=0.5), intensities, atol=0.1))
        True
    """
    check_spikes(spikes)
    _check_rate(max_rate)
    return spikes.mean(axis=0) / max_rate


def poisson_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B N"], *, n_steps: int, max_rate: float = 100.0, dt: float = 1e-3
) -> Float[Array, "T B N"]:
    """A Poisson process of a max_rate events per second for an intensity a: a spike in each step of dt with at least one event.

    The probability of a spike in a step is exactly 1 - exp(-a max_rate dt), which is below a max_rate dt because several
    events within a step count as one spike.

    Args:
        key: random key for the draws.
        intensities: a, in [0, 1].
        n_steps: time steps T, at least 1.
        max_rate: events per second at intensity 1, above 0.
        dt: length of a step in seconds, above 0.

    Returns:
        Spikes of shape [T, B, N], 0 or 1.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), too few steps, a rate or
            a step that is not a finite number above 0.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import poisson_encode
        >>> intensities = jnp.array([[0.0, 0.5, 1.0]])
        >>> spikes = poisson_encode(jax.random.key(0), intensities, n_steps=1000, max_rate=400.0, dt=1e-3)
        >>> spikes.shape
        (1000, 1, 3)
        >>> [round(rate, 1) for rate in spikes.mean(axis=0)[0].tolist()]
        [0.0, 0.2, 0.3]
    """
    check_size("n_steps", n_steps)
    _check_process(max_rate, dt)
    check_intensities(intensities)
    return _poisson_encode(key, intensities, n_steps, max_rate * dt)


@partial(jax.jit, static_argnums=(2, 3))
def _poisson_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B N"], n_steps: int, max_events: float
) -> Float[Array, "T B N"]:
    return _bernoulli(key, -jnp.expm1(-intensities * max_events), n_steps)


@partial(jax.jit, static_argnames=("max_rate", "dt"))
def poisson_decode(spikes: Float[Array, "T B N"], *, max_rate: float = 100.0, dt: float = 1e-3) -> Float[Array, "B N"]:
    """The maximum-likelihood intensities in [0, 1] for spikes of `poisson_encode`: -log(1 - mean) / (max_rate dt), or 1.

    Args:
        spikes: 0 or 1, over at least 1 step.
        max_rate, dt: as in `poisson_encode`.

    Returns:
        Intensities of shape [B, N]. Away from 0 and 1 their standard deviation is about
        sqrt(p / ((1 - p) T)) / (max_rate dt) where p = 1 - exp(-a max_rate dt).

    Raises:
        ValueError: wrong rank, no steps, a rate or a step that is not a finite number above 0.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_data import poisson_decode, poisson_encode
        >>> intensities = jnp.array([[0.0, 0.2, 0.4]])
        >>> spikes = poisson_encode(jax.random.key(0), intensities, n_steps=1000, max_rate=500.0)
        >>> bool(jnp.allclose(poisson_decode(spikes, max_rate=500.0), intensities, atol=0.1))
        True
    """
    check_spikes(spikes)
    _check_process(max_rate, dt)
    return jnp.minimum(-jnp.log1p(-spikes.mean(axis=0)) / (max_rate * dt), 1)


def _bernoulli(key: PRNGKeyArray, probabilities: Float[Array, "B N"], n_steps: int) -> Float[Array, "T B N"]:
    draws = uniform(key, (n_steps, *probabilities.shape), probabilities.dtype)
    return (draws < probabilities[None]).astype(probabilities.dtype)


def _check_rate(max_rate: float) -> None:
    if not 0 < max_rate <= 1:
        raise ValueError(f"max_rate got {max_rate}, expected spikes per step in (0, 1]. Use 1 for the highest rate.")


def _check_process(max_rate: float, dt: float) -> None:
    for name, value, unit in (("max_rate", max_rate, "events per second"), ("dt", dt, "seconds")):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} got {value}, expected a finite number of {unit} above 0.")
