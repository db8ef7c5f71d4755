"""Arrays of other libraries: what `gradients` and `fit` accept as inputs, targets and masks."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array


def as_array(value: Any, name: str) -> Array | np.ndarray:
    """Return a NumPy or JAX array unchanged, and anything else, such as a PyTorch tensor on any device or an
    object of DLPack, as a NumPy array.

    Raises:
        TypeError: a value that is not an array of numbers.
    """
    if isinstance(value, jax.Array | np.ndarray):
        array = value
    elif hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        array = np.from_dlpack(value)
    else:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    if isinstance(array, np.ndarray) and array.dtype.kind in "OSU":
        raise TypeError(f"Got {described(value)} as {name}, expected an array of numbers.")
    return array


def as_arrays(tree: Any, name: str) -> Any:
    """The same of each array or tensor in a tree."""
    if isinstance(tree, jax.Array | np.ndarray):
        return tree
    return jax.tree.map(lambda leaf: as_array(leaf, name), tree, is_leaf=is_array)


def is_array(value: Any) -> bool:
    """True for an array or a tensor."""
    return any(hasattr(value, name) for name in ("__array__", "detach", "__dlpack__"))


def described(value: Any) -> str:
    """The type of a value, with the value if it is a number or a text."""
    return f"{type(value).__name__} {value!r}" if isinstance(value, int | float | str) else type(value).__name__
