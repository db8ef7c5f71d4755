"""Arrays of a given shape, as all plots take them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float


def finite(
    name: str, values: np.ndarray | Array | Sequence | float, shape: Sequence[int | str] | None = None, hint: str = ""
) -> Float[np.ndarray, "..."]:
    """Return numbers in float64, after a check that they are finite and have a shape.

    Args:
        name: name of the numbers in messages.
        values: the numbers.
        shape: for each axis its length, or a letter where any length above 0 will do; None for any shape.
        hint: what the message says of the shape, or what to do about another one.
    """
    numbers = np.asarray(values, np.float64)
    if shape is not None:
        wanted = [want if isinstance(want, int) else got for want, got in zip(shape, numbers.shape, strict=False)]
        if numbers.ndim != len(shape) or list(numbers.shape) != wanted or not numbers.size:
            expected = f"[{', '.join(map(str, shape))}]{hint and f', {hint}'}"
            raise ValueError(f"Got {name} of shape {list(numbers.shape)}, expected {expected}.")
    if not np.isfinite(numbers).all():
        raise ValueError(f"Got NaN or infinite numbers in {name}, expected finite ones.")
    return numbers


def zeros_and_ones(
    name: str, spikes: np.ndarray | Array, shape: Sequence[int | str], hint: str = ""
) -> Float[np.ndarray, "..."]:
    """Return spikes in float64, after a check that they are 0 or 1 and have a shape."""
    numbers = finite(name, spikes, shape, hint)
    if not np.isin(numbers, (0, 1)).all():
        raise ValueError(f"Got numbers other than 0 and 1 in {name}, expected spikes. Pass `counts > 0`.")
    return numbers
