"""Send-on-delta code: spikes mark the changes of a signal."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from slax_data.checks import check_finite


def delta_encode(signal: Float[Array, "T B *S N"], *, threshold: float) -> Float[Array, "T B *S 2*N"]:
    """Emit an up or down spike whenever a signal differs from its reference by at least the threshold.

    The reference r follows the signal x in steps of the threshold h. It starts at r_0 = x_0, without a spike, and then

        up_t = H(x_t - r_{t-1} - h),    down_t = H(r_{t-1} - x_t - h),    H(0) = 1
        r_t = r_{t-1} + h (up_t - down_t)

    so a unit has at most one spike per step, and x and r differ by less than h as long as x moves by at most h per step: before
    a spike they differ by less than 2 h, and a spike removes h. A faster signal is followed at h per step. Spikes hold r:

    ```python
    up, down = jnp.split(spikes, 2, axis=-1)
    r = signal[0] + threshold * jnp.cumsum(up - down, axis=0)
    ```

    Args:
        signal: x, finite, over at least 1 step, [T, B, N], or frames such as [T, B, H, W, N].
        threshold: h, above 0, in units of the signal.

    Returns:
        Spikes of shape [T, B, ..., 2 N], 0 or 1: the N units (or channels) of up spikes, then the N of down spikes. The first
        step has none.

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
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold got {threshold}, expected a finite number above 0, in units of the signal.")
    if signal.ndim < 3 or signal.shape[0] == 0 or not jnp.issubdtype(signal.dtype, jnp.floating):
        cure = "Put time first; a single sample [T, N] is signal[:, None]."
        raise ValueError(f"Got a signal of {signal.dtype}{list(signal.shape)}, expected floats [T, B, ..., N]. {cure}")
    check_finite("signal", signal)
    return _delta_encode(signal, jnp.asarray(threshold, signal.dtype))


@jax.jit
def _delta_encode(signal: Float[Array, "T B *S N"], threshold: Float[Array, ""]) -> Float[Array, "T B *S 2*N"]:
    # The reference is the start plus an integer number of thresholds, so that rounding does not accumulate.
    def step(moves: Float[Array, "B *S N"], x: Float[Array, "B *S N"]) -> tuple[Array, Float[Array, "B *S 2*N"]]:
        away = x - (signal[0] + moves * threshold)
        up, down = (away >= threshold).astype(x.dtype), (away <= -threshold).astype(x.dtype)
        return moves + up - down, jnp.concatenate([up, down], axis=-1)

    return lax.scan(step, jnp.zeros_like(signal[0]), signal)[1]
