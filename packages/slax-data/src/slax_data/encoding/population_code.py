"""Population code: several cells, each with a preferred value, represent a value together.

Cell j of K has the intensity  a_j = exp(-(v - c_j)^2 / (2 width^2)),   c_j = j / (K - 1),   for a value v in [0, 1].
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slax_data.checks import check_intensities, check_size


def population_encode(values: Float[Array, "B N"], *, n_cells: int, width: float) -> Float[Array, "B U"]:
    """The intensities of cells with Gaussian tuning curves, to be encoded by `latency_encode` or a rate code.

    Args:
        values: v, in [0, 1].
        n_cells: number of cells K per value, at least 2; their preferred values cover [0, 1] evenly, ends included.
        width: standard deviation of a tuning curve, above 0; 1 / (K - 1) is the distance between neighbors.

    Returns:
        Intensities of shape [B, N K], in [0, 1], the K cells of a value side by side.

    Raises:
        ValueError: wrong rank or dtype, values outside [0, 1] or NaN (not seen under `jax.jit`), fewer than 2 cells, or a
            width that is not a finite number above 0.

    References:
        S. M. Bohte, J. N. Kok, H. La Poutré, "Error-backpropagation in temporally encoded networks of spiking neurons",
        Neurocomputing 48, 2002, doi:10.1016/S0925-2312(01)00658-0, whose inputs are such cells, with other centers.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import population_encode
        >>> cells = population_encode(jnp.array([[0.5]]), n_cells=3, width=0.5)
        >>> [round(intensity, 2) for intensity in cells[0].tolist()]
        [0.61, 1.0, 0.61]
    """
    _check_cells(n_cells, width)
    check_intensities(values, name="values")
    return _population_encode(values, n_cells, width)


@partial(jax.jit, static_argnums=(1, 2))
def _population_encode(values: Float[Array, "B N"], n_cells: int, width: float) -> Float[Array, "B U"]:
    centres = jnp.asarray(np.linspace(0, 1, n_cells), values.dtype)
    distances = (values[..., None] - centres[None, None]) / width
    return jnp.exp(-(distances**2) / 2).reshape(len(values), -1)


@partial(jax.jit, static_argnames=("n_cells", "width"))
def population_decode(intensities: Float[Array, "B U"], *, n_cells: int, width: float) -> Float[Array, "B N"]:
    """The values behind `population_encode`, decoded from the most active cell j of each value and its more active neighbor k.

    The logarithm of a ratio of two Gaussians of one width is linear in v, so

        v = (c_j + c_k) / 2 + width^2 log(a_j / a_k) / (c_j - c_k),

    clipped to [0, 1].

    Args:
        intensities: at least 0, the cells of a value side by side, decoded from spikes or returned by `population_encode`.
        n_cells, width: as in `population_encode`.

    Returns:
        Values of shape [B, N]. Up to rounding the decoder inverts the encoder exactly. Errors e in the intensities change a
        value by about width^2 (K - 1) (e / a_j + e / a_k). Where no neighbor is active the value is c_j, off by at most
        1 / (2 (K - 1)) if the cell is the nearest one; where no cell is active, the value is unknown, and it is NaN.

    Raises:
        ValueError: wrong rank, a number of units that is not a multiple of n_cells, fewer than 2 cells, or a width that is
            not a finite number above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import population_decode, population_encode
        >>> values = jnp.array([[0.2, 0.7]])
        >>> cells = population_encode(values, n_cells=5, width=0.25)
        >>> cells.shape
        (1, 10)
        >>> bool(jnp.allclose(population_decode(cells, n_cells=5, width=0.25), values, atol=1e-4))
        True
    """
    _check_cells(n_cells, width)
    if intensities.ndim != 2 or intensities.shape[1] % n_cells:
        raise ValueError(
            f"intensities must have the shape [B, N K] for K = n_cells = {n_cells}, got {list(intensities.shape)}. "
            "Give n_cells and all units as in population_encode."
        )
    cells = intensities.reshape(len(intensities), -1, n_cells)
    best = cells.argmax(axis=-1, keepdims=True)
    sides = jnp.pad(cells, ((0, 0), (0, 0), (1, 1)), constant_values=-1)  # there is no neighbor beyond the ends
    at = partial(jnp.take_along_axis, axis=-1)
    below, above = at(sides, best), at(sides, best + 2)
    k = jnp.where(above > below, best + 1, best - 1)
    a_j, a_k = at(cells, best), jnp.maximum(above, below)

    gap = 1 / (n_cells - 1)
    centre = best.astype(cells.dtype) * gap
    between = centre + (k - best).astype(cells.dtype) * (gap / 2 - width**2 / gap * jnp.log(a_j / a_k))
    values = jnp.where(a_k > 0, jnp.clip(between, 0, 1), centre)
    return jnp.where(a_j > 0, values, jnp.nan)[..., 0]


def _check_cells(n_cells: int, width: float) -> None:
    check_size("n_cells", n_cells, least=2)
    if not 0 < width < math.inf:
        raise ValueError(
            f"width got {width}, expected a finite number above 0. 1 / (n_cells - 1) is the distance between cells."
        )
