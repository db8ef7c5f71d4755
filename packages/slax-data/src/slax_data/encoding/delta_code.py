"""Send-on-delta code: spikes mark the changes of a signal.

A reference r follows the signal x in steps of the threshold h. It starts at r_0 = x_0, without a spike, and then

    up_t = H(x_t - r_{t-1} - h),   down_t = H(r_{t-1} - x_t - h),   r_t = r_{t-1} + h (up_t - down_t),     H(0) = 1,

so a unit has at most one spike per step, and x and r differ by less than h as long as x moves by at most h per step: before a
spike they differ by less than 2 h, and a spike removes h. A faster signal is followed at h per step. The decoder returns r.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from slax_data.checks import check_finite, check_spikes


def delta_encode(signal: Float[Array, "T B N"], *, threshold: float) -> Float[Array, "T B 2*N"]:
    """Emit an up or down spike whenever a signal differs from its reference by at least the threshold; see the module.

    Args:
        signal: x, finite, over at least 1 step.
        threshold: h, above 0, in units of the signal.

    Returns:
        Spikes of shape [T, B, 2 N], 0 or 1: the N units of up spikes, then the N units of down spikes. The first step has none.

    Raises:
        ValueError: wrong rank or dtype, values that are not finite (not seen under `jax.jit`), or a threshold that is not a
            finite number above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import delta_encode
        >>> signal = jnp.array([0.0, 1.0, 1.0, 0.0])[:, None, None]
        >>> delta_encode(signal, threshold=1.0)[:, 0]
        Array([[0., 0.],
               [1., 0.],
               [0., 0.],
               [0., 1.]], dtype=float32)
    """
    _check_threshold(threshold)
    if signal.ndim != 3 or signal.shape[0] == 0 or not jnp.issubdtype(signal.dtype, jnp.floating):
        raise ValueError(
            "signal must be floating-point numbers of shape [T, B, N] with at least one step, "
            f"got {signal.dtype} of shape {list(signal.shape)}. Put time first; a single sample [T, N] is signal[:, None]."
        )
    check_finite("signal", signal)
    return _delta_encode(signal, jnp.asarray(threshold, signal.dtype))


@jax.jit
def _delta_encode(signal: Float[Array, "T B N"], threshold: Float[Array, ""]) -> Float[Array, "T B 2*N"]:
    # As in the decoder, the reference is the start plus an integer number of thresholds, so that rounding does not accumulate.
    def step(moves: Float[Array, "B N"], x: Float[Array, "B N"]) -> tuple[Float[Array, "B N"], Float[Array, "B 2*N"]]:
        away = x - (signal[0] + moves * threshold)
        up, down = (away >= threshold).astype(x.dtype), (away <= -threshold).astype(x.dtype)
        return moves + up - down, jnp.concatenate([up, down], axis=-1)

    return lax.scan(step, jnp.zeros_like(signal[0]), signal)[1]


def delta_decode(
    spikes: Float[Array, "T B U"], start: Float[Array, "B N"], *, threshold: float
) -> Float[Array, "T B N"]:
    """The reference behind `delta_encode`: start + threshold (up spikes so far - down spikes so far).

    Args:
        spikes: 0 or 1, N units of up spikes and N units of down spikes, over at least 1 step.
        start: the signal at the first step.
        threshold: as in `delta_encode`.

    Returns:
        The reference, [T, B, N]. It differs from a signal that moves by at most the threshold per step by less than the
        threshold, up to rounding.

    Raises:
        ValueError: wrong rank, no steps, a start of another shape, or a threshold that is not a finite number above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import delta_decode, delta_encode
        >>> signal = jnp.array([0.0, 0.9, 1.2, 0.1])[:, None, None]
        >>> spikes = delta_encode(signal, threshold=0.5)
        >>> delta_decode(spikes, signal[0], threshold=0.5)[:, 0, 0]
        Array([0. , 0.5, 1. , 0.5], dtype=float32)
    """
    _check_threshold(threshold)
    check_spikes(spikes)
    if start.ndim != 2 or (spikes.shape[1], spikes.shape[2]) != (start.shape[0], 2 * start.shape[1]):
        raise ValueError(
            f"spikes [T, B, 2 N] and start [B, N] must belong together, got shapes {list(spikes.shape)} and "
            f"{list(start.shape)}. Give signal[0] as start, and all spikes that delta_encode made."
        )
    return _delta_decode(spikes, start, jnp.asarray(threshold, start.dtype))


@jax.jit
def _delta_decode(
    spikes: Float[Array, "T B U"], start: Float[Array, "B N"], threshold: Float[Array, ""]
) -> Float[Array, "T B N"]:
    up, down = jnp.split(spikes.astype(start.dtype), 2, axis=-1)
    return start[None] + jnp.cumsum(up - down, axis=0) * threshold


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold got {threshold}, expected a finite number above 0, in units of the signal.")
