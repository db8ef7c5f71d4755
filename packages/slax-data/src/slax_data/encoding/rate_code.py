"""Rate code: an intensity is the probability of a spike.

A spike at each step with probability a max_rate, so that a is about the mean over time, divided by max_rate.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Float, PRNGKeyArray

from slax_data.checks import check_intensities, check_size


def rate_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B ..."], *, n_steps: int, max_rate: float = 1.0
) -> Float[Array, "T B ..."]:
    """Independent spikes at each step, with probability a max_rate for an intensity a.

    Args:
        key: random key for the draws.
        intensities: a, in [0, 1], one for each unit, [B, N], or in frames, such as [B, H, W, C].
        n_steps: time steps T, at least 1.
        max_rate: spikes per step at intensity 1, in (0, 1].

    Returns:
        Spikes of shape [T, B, ...], 0 or 1.

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
    if not 0 < max_rate <= 1:
        raise ValueError(f"max_rate got {max_rate}, expected spikes per step in (0, 1]. Use 1 for the highest rate.")
    check_intensities(intensities)
    return _rate_encode(key, intensities, n_steps, max_rate)


@partial(jax.jit, static_argnums=(2, 3))
def _rate_encode(
    key: PRNGKeyArray, intensities: Float[Array, "B ..."], n_steps: int, max_rate: float
) -> Float[Array, "T B ..."]:
    wide = np.promote_types(intensities.dtype, jnp.float32)  # draws in float16 would be multiples of 2^-10
    draws = random.uniform(key, (n_steps, *intensities.shape), wide)
    return (draws < (intensities.astype(wide) * max_rate)[None]).astype(intensities.dtype)
