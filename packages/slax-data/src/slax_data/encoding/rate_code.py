"""Rate code: an intensity is the probability of a spike.

rate       a spike at each step with probability  a max_rate                    a = mean over t / max_rate
"""

from functools import partial

import jax
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
    draws = uniform(key, (n_steps, *intensities.shape), intensities.dtype)
    return (draws < (intensities * max_rate)[None]).astype(intensities.dtype)


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


def _check_rate(max_rate: float) -> None:
    if not 0 < max_rate <= 1:
        raise ValueError(f"max_rate got {max_rate}, expected spikes per step in (0, 1]. Use 1 for the highest rate.")
