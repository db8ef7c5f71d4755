"""Codes that turn intensities in [0, 1] into spikes, and their table. A new code needs a function, and a line in the table;
image sets then accept its name as `code`.

Latency code: one spike at step t = round((1 - a) (T - 1)) if a > threshold, else none, so that a is about 1 - t / (T - 1).
Rate code: a spike at each step with probability a, so that a is about the mean over time. `delta_encode` takes signals instead.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Float, PRNGKeyArray

from slax_data.checks import check_intensities, check_size


def latency_encode(
    intensities: Float[Array, "B ..."], *, n_steps: int, threshold: float = 0.0
) -> Float[Array, "T B ..."]:
    """One spike per unit, earlier for stronger intensities: at step round((1 - a) (T - 1)) for an intensity a > threshold.

    Args:
        intensities: a, in [0, 1], one for each unit, [B, N], or in frames, such as [B, H, W, C].
        n_steps: time steps T, at least 2.
        threshold: units with an intensity of at most this stay silent, in [0, 1).

    Returns:
        Spikes of shape [T, B, ...], 0 or 1: intensity 1 at the first step, the weakest at the last.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), too few steps, a
            threshold outside [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import latency_encode
        >>> latency_encode(jnp.array([[1.0, 0.5, 0.0]]), n_steps=3)[:, 0]
        Array([[1., 0., 0.],
               [0., 1., 0.],
               [0., 0., 0.]], dtype=float32)
    """
    check_size("n_steps", n_steps, least=2)
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold got {threshold}, expected a number in [0, 1). Use 0 to silence only zeros.")
    check_intensities(intensities)
    return _latency_encode(intensities, n_steps, threshold)


@partial(jax.jit, static_argnums=(1, 2))
def _latency_encode(intensities: Float[Array, "B ..."], n_steps: int, threshold: float) -> Float[Array, "T B ..."]:
    wide = np.promote_types(intensities.dtype, jnp.float32)  # in float16, steps above 2048 would be rounded
    steps = jnp.round((1 - intensities.astype(wide)) * (n_steps - 1))
    time = jnp.expand_dims(jnp.arange(n_steps, dtype=steps.dtype), range(1, 1 + steps.ndim))
    return ((time == steps[None]) & (intensities > threshold)[None]).astype(intensities.dtype)


def rate_encode(key: PRNGKeyArray, intensities: Float[Array, "B ..."], *, n_steps: int) -> Float[Array, "T B ..."]:
    """Independent spikes at each step, with the probability a for an intensity a.

    Args:
        key: random key for the draws.
        intensities: a, in [0, 1], one for each unit, [B, N], or in frames, such as [B, H, W, C].
        n_steps: time steps T, at least 1.

    Returns:
        Spikes of shape [T, B, ...], 0 or 1.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), or too few steps.

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
    check_intensities(intensities)
    return _rate_encode(key, intensities, n_steps)


@partial(jax.jit, static_argnums=2)
def _rate_encode(key: PRNGKeyArray, intensities: Float[Array, "B ..."], n_steps: int) -> Float[Array, "T B ..."]:
    wide = np.promote_types(intensities.dtype, jnp.float32)  # draws in float16 would be multiples of 2^-10
    draws = random.uniform(key, (n_steps, *intensities.shape), wide)
    return (draws < intensities.astype(wide)[None]).astype(intensities.dtype)


class Encoder(NamedTuple):
    """A code for intensities.

    encode: `encode(intensities [B, ...], *, n_steps) -> spikes [T, B, ...]`, with a key before the intensities if `random`.
    random: True if spikes are drawn at random.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import ENCODERS
        >>> code = ENCODERS["latency"]
        >>> spikes = code.encode(jnp.array([[0.0, 0.5, 1.0]]), n_steps=5)
        >>> spikes.shape, code.random
        ((5, 1, 3), False)
    """

    encode: Callable[..., Float[Array, "T B ..."]]
    random: bool


ENCODERS: dict[str, Encoder] = {
    "latency": Encoder(latency_encode, random=False),
    "rate": Encoder(rate_encode, random=True),
}
"""The codes for intensities by name, each with its encoder."""
