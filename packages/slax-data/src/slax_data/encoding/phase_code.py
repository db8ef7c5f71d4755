"""Phase code: the binary digits of an intensity, one per step, the most significant first, repeated.

phase    a spike at step t if bit  1 + t mod K  of a is 1                a = sum over a period of spikes 2^-(1 + t mod K)
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slax_data.checks import check_intensities, check_size, check_spikes

MAX_BITS = 24  # significant bits of a float32


def phase_encode(intensities: Float[Array, "B N"], *, n_steps: int, n_bits: int = 8) -> Float[Array, "T B N"]:
    """The first K binary digits of each intensity as spikes in a period of K steps, which repeats.

    Args:
        intensities: a, in [0, 1].
        n_steps: time steps T, a multiple of `n_bits`.
        n_bits: number of digits K, in 1..24. Further digits are truncated, and 1 is replaced by 1 - 2^-K.

    Returns:
        Spikes of shape [T, B, N], 0 or 1.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), a number of bits outside
            1..24, or a number of steps that is not a multiple of it.

    References:
        J. Kim, H. Kim, S. Huh, J. Lee, K. Choi, "Deep neural networks with weighted spikes", Neurocomputing 311, 2018,
        doi:10.1016/j.neucom.2018.05.087.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import phase_encode
        >>> phase_encode(jnp.array([[0.625]]), n_steps=6, n_bits=3)[:, 0, 0]
        Array([1., 0., 1., 1., 0., 1.], dtype=float32)
    """
    _check_bits(n_bits)
    _check_periods("n_steps", n_steps, n_bits)
    check_intensities(intensities)
    return _phase_encode(intensities, n_steps, n_bits)


@partial(jax.jit, static_argnums=(1, 2))
def _phase_encode(intensities: Float[Array, "B N"], n_steps: int, n_bits: int) -> Float[Array, "T B N"]:
    wide = intensities if jnp.finfo(intensities.dtype).bits >= 32 else intensities.astype(jnp.float32)
    level = jnp.minimum(jnp.floor(wide * 2**n_bits).astype(jnp.int32), 2**n_bits - 1)
    shifts = jnp.arange(n_bits - 1, -1, -1, dtype=jnp.int32)
    period = (level[None] >> shifts[:, None, None]) & 1
    return jnp.tile(period, (n_steps // n_bits, 1, 1)).astype(intensities.dtype)


@partial(jax.jit, static_argnames="n_bits")
def phase_decode(spikes: Float[Array, "T B N"], *, n_bits: int = 8) -> Float[Array, "B N"]:
    """The inverse of `phase_encode`: the sum of spikes 2^-(1 + t mod K), averaged over the periods.

    Args:
        spikes: 0 or 1, over a multiple of `n_bits` steps.
        n_bits: K, as in `phase_encode`.

    Returns:
        Intensities of shape [B, N]: after `phase_encode` exact for multiples of 2^-K below 1, and at most 2^-K too small.

    Raises:
        ValueError: wrong rank, a number of bits outside 1..24, or a number of steps that is not a multiple of it.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import phase_decode
        >>> phase_decode(jnp.array([1.0, 0.0, 1.0])[:, None, None], n_bits=3)
        Array([[0.625]], dtype=float32)
    """
    check_spikes(spikes)
    _check_bits(n_bits)
    _check_periods("number of steps in spikes", spikes.shape[0], n_bits)
    weights = jnp.asarray(0.5 ** np.arange(1, n_bits + 1), spikes.dtype)
    periods = spikes.reshape(-1, n_bits, *spikes.shape[1:])
    return (periods.mean(axis=0) * weights[:, None, None]).sum(axis=0)


def _check_bits(n_bits: int) -> None:
    check_size("n_bits", n_bits)
    if n_bits > MAX_BITS:
        raise ValueError(f"n_bits got {n_bits}, expected at most {MAX_BITS}, the digits of a float32.")


def _check_periods(name: str, n_steps: int, n_bits: int) -> None:
    check_size(name, n_steps)
    if n_steps % n_bits:
        raise ValueError(
            f"{name} got {n_steps}, expected a multiple of n_bits={n_bits}: a period has a step per bit. "
            f"Take {n_steps + -n_steps % n_bits} steps, or other bits."
        )
