"""Smooth random manifolds, one per class, embedded in the space of firing times or rates."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, PRNGKeyArray

from slax_data.checks import check_size

# Points per manifold from which its bounds are found, in rounds that stay in cache. A value of a later sample lies
# outside the extremes of P points with probability 2 / (P + 1), whatever the manifold: 0.05 % for 16 x 256 points.
PROBE_ROUNDS, PROBE_POINTS = 16, 256
SINE_TERMS = 11  # Taylor terms up to a quarter turn: exact in float64; 7 would do in float32, 0.2 ms faster


class Manifolds(NamedTuple):
    """The manifold of each class, made by `random_manifolds`.

    Axes: C classes, H = F - 1 harmonics, M intrinsic dimensions, N units, which are the embedding dimensions e.

    amplitudes, frequencies, phases: a_i, w_i (turns per unit of x) and p_i (turns) of `random_manifolds`.
    low, high: bounds of y_e, which standardize it to (y_e - low) / (high - low).

    Example:
        >>> import jax
        >>> from slax_data import random_manifolds
        >>> manifolds = random_manifolds(jax.random.key(0), n_classes=3, n_units=5, dim=2)
        >>> manifolds.amplitudes.shape
        (3, 31, 2, 5)
    """

    amplitudes: Float[Array, "C H M N"]
    frequencies: Float[Array, "C H M N"]
    phases: Float[Array, "C H M N"]
    low: Float[Array, "C N"]
    high: Float[Array, "C N"]


@partial(jax.jit, static_argnames=("n_classes", "n_units", "dim", "alpha"))
def random_manifolds(
    key: PRNGKeyArray, *, n_classes: int = 10, n_units: int = 100, dim: int = 2, alpha: float = 2.0
) -> Manifolds:
    """Draw one random manifold per class, smooth if alpha is large.

    Coordinate e of the manifold of a class is a product of random Fourier series over the intrinsic coordinates x_m in [0, 1]:

        y_e(x) = prod_m sum_{i=1..F-1} a_i sin(2 pi (w_i x_m + p_i))
        a_i = u_i S_i,    w_i = i v_i,    S_i = 1 / ((i + 1)^alpha + 1)
        F = min(ceil(1000^{1/alpha}), 1000)

    with u, v, p uniform in [0, 1) for each class, e, m and i.

    Args:
        key: the same key gives the same manifolds, and hence the same task.
        n_classes: number of manifolds.
        n_units: units N.
        dim: intrinsic dimensions M.
        alpha: smoothness, above 0: the amplitude of the harmonics falls as i^-alpha.

    Returns:
        The parameters of the manifolds and their bounds: the extremes over 4,096 random points of each manifold.

    Raises:
        ValueError: a size below 1, or alpha not above 0.

    References:
        F. Zenke, T. P. Vogels, "The remarkable robustness of surrogate gradient learning for instilling complex
        function in spiking neural networks", Neural Computation 33(4), 2021, doi:10.1162/neco_a_01367; section
        "Methods", smooth random manifolds: each coordinate is a product over the intrinsic dimensions of Fourier
        series with random uniform parameters and amplitudes that fall as a power of the frequency.

    Note:
        The spectrum S_i is the same as in slax 0.0.1 and in the authors' torch code; their numpy code has 1 / (i + 1)^alpha.
        slax takes the bounds from each drawn batch; here they belong to the manifold, so that a sample does not depend
        on its batch. As in slax, there is no constant harmonic 0 (`use_bias=False`).

    Example:
        >>> import jax
        >>> from slax_data import random_manifolds
        >>> manifolds = random_manifolds(jax.random.key(0), n_classes=3, n_units=5, dim=2)
        >>> manifolds.low.shape
        (3, 5)
    """
    for name, size in {"n_classes": n_classes, "n_units": n_units, "dim": dim}.items():
        check_size(name, size)
    check_alpha(alpha)
    dtype = jnp.result_type(float)
    i = np.arange(1, n_harmonics(alpha)).reshape(1, -1, 1, 1)
    spectrum = 1 / ((i + 1.0) ** alpha + 1)
    shape = (3, n_classes, i.size, dim, n_units)
    draw_key, probe_key = random.split(key)
    # Drawn flat: with all axes, compilation on a CPU took 5 times as long.
    u, v, phases = random.uniform(draw_key, (math.prod(shape),), dtype).reshape(shape)
    amplitudes, frequencies = u * jnp.asarray(spectrum, dtype), v * jnp.asarray(i, dtype)

    def extremes(key: PRNGKeyArray) -> tuple[Float[Array, "C N"], Float[Array, "C N"]]:
        values = _embed(amplitudes, frequencies, phases, random.uniform(key, (PROBE_POINTS, n_classes, dim), dtype))
        return values.min(axis=0), values.max(axis=0)

    low, high = lax.map(extremes, random.split(probe_key, PROBE_ROUNDS))
    return Manifolds(amplitudes, frequencies, phases, low.min(axis=0), high.max(axis=0))


def manifold_values(manifolds: Manifolds, coordinates: Float[Array, "P C M"]) -> Float[Array, "P C N"]:
    """Standardized values (y_e(x) - low) / (high - low) at P points on each of the C manifolds.

    Args:
        manifolds: from `random_manifolds`.
        coordinates: intrinsic coordinates x in [0, 1].

    Returns:
        Values of shape [P, C, N]: in [0, 1] except for the few that lie outside the bounds.

    Example:
        >>> import jax
        >>> from slax_data import manifold_values, random_manifolds
        >>> manifolds = random_manifolds(jax.random.key(0), n_classes=3, n_units=5, dim=2)
        >>> points = jax.random.uniform(jax.random.key(1), (100, 3, 2))
        >>> values = manifold_values(manifolds, points)
        >>> values.shape
        (100, 3, 5)
        >>> bool(((values > -0.1) & (values < 1.1)).all())
        True
    """
    values = _embed(manifolds.amplitudes, manifolds.frequencies, manifolds.phases, coordinates)
    span = jnp.maximum(manifolds.high - manifolds.low, jnp.finfo(values.dtype).tiny)
    return (values - manifolds.low[None]) / span[None]


def check_alpha(alpha: float) -> None:
    """Raise an error unless alpha is a finite number above 0."""
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha got {alpha}, expected a finite number above 0. Typical values are 1 (rough) to 3.")


def n_harmonics(alpha: float) -> int:
    """The number F of harmonics, with the constant; harmonics below 1/1000 of the constant and from 1000 on are omitted."""
    return 1000 if alpha <= 1 else math.ceil(1e-3 ** (-1 / alpha))


def _embed(
    amplitudes: Float[Array, "C H M N"],
    frequencies: Float[Array, "C H M N"],
    phases: Float[Array, "C H M N"],
    coordinates: Float[Array, "P C M"],
) -> Float[Array, "P C N"]:
    x = coordinates[..., None]

    # A loop over the harmonics keeps the sum in cache: 0.8 ms for 256 x 100 values, 2 cores, against 12 ms for one
    # expression [P, C, H, M, N], 2 ms for parameters gathered per sample, 160 ms for all classes of each sample.
    def add(total: Float[Array, "P C M N"], harmonic: tuple) -> tuple[Float[Array, "P C M N"], None]:
        a, w, p = harmonic
        return total + a[None] * _sine_of_turns(w[None] * x + p[None]), None

    harmonics = tuple(jnp.moveaxis(parameter, 1, 0) for parameter in (amplitudes, frequencies, phases))
    start = jnp.zeros(coordinates.shape + amplitudes.shape[-1:], amplitudes.dtype)
    return lax.scan(add, start, harmonics)[0].prod(axis=2)


def _sine_of_turns(turns: Float[Array, "..."]) -> Float[Array, "..."]:
    """sin(2 pi x) by its Taylor series in at most a quarter turn; XLA's own made `_embed` 15 times slower with jax 0.10."""
    x = turns - jnp.round(turns)
    x = jnp.where(jnp.abs(x) > 0.25, jnp.sign(x) * 0.5 - x, x)
    coefficients = [(-1) ** k * (2 * math.pi) ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(SINE_TERMS)]
    series = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        series = series * (x * x) + coefficient
    return x * series
