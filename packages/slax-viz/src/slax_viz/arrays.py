"""Arrays of a given shape and trees of arrays, as plots and measurements take them."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, KeyPath, keystr, tree_flatten_with_path
from jaxtyping import Array, Float, PyTree


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


def leaves_by_path(tree: PyTree, name: str) -> dict[str, Array]:
    """The leaves of a tree of floating-point arrays, by paths like "modules/0/kernel"; `name` is used in error messages."""
    leaves = {}
    for key_path, leaf in tree_flatten_with_path(tree)[0]:
        path = _text(key_path)
        if path in leaves:
            raise ValueError(f"Got two leaves with the path {path!r} in {name}, expected one. Rename one of them.")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            got = f"{jnp.result_type(leaf)} at {path!r} in {name}"
            raise TypeError(f"Got {got}, expected floating-point leaves: parameters or gradients, and no counters.")
        leaves[path] = jnp.asarray(leaf)
    return leaves


def check_alike(
    left: Mapping[str, Array], right: Mapping[str, Array], *, names: tuple[str, str], advice: str, dtypes: bool = False
) -> None:
    """Raise an error for trees without leaves, or with leaves that differ in paths, shapes or, with `dtypes`, in dtypes."""
    if left.keys() != right.keys():
        differing = sorted(left.keys() ^ right.keys())
        raise ValueError(f"Got {differing} only in {names[0]} or only in {names[1]}, expected the same paths. {advice}")
    for what in ("shape", "dtype") if dtypes else ("shape",):
        pairs = ((path, getattr(left[path], what), getattr(right[path], what)) for path in left)
        if differing := [f"{path}: {one} and {other}" for path, one, other in pairs if one != other]:
            where = f"different {what}s in {names[0]} and {names[1]}"
            raise ValueError(f"Got {where}, {', '.join(differing)}, expected the same. {advice}")
    if not left:
        raise ValueError("Got empty trees, expected at least one leaf to compare. Check the filter that made them.")


def _text(path: KeyPath) -> str:
    # The array of an nnx variable is below the attribute `value`, which is not part of the variable's location.
    if len(path) > 1 and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    return keystr(path, simple=True, separator="/")
