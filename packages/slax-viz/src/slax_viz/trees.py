"""Trees of parameters whose leaves are matched by path, never by order."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax.tree_util import GetAttrKey, KeyPath, keystr, tree_flatten_with_path
from jaxtyping import Array, PyTree


def leaves_by_path(tree: PyTree, name: str) -> dict[str, Array]:
    """The leaves of a tree of floating-point arrays, by paths like "modules/0/kernel"; `name` is used in error messages."""
    leaves = {}
    for key_path, leaf in tree_flatten_with_path(tree)[0]:
        path = _text(key_path)
        if path in leaves:
            raise ValueError(f"Got two leaves with the path {path!r} in {name}, expected one. Rename one of them.")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"Got {jnp.result_type(leaf)} at {path!r} in {name}, expected floating-point leaves. Pass "
                "parameters or their gradients, without counters, keys or other state."
            )
        leaves[path] = jnp.asarray(leaf)
    return leaves


def check_alike(
    left: Mapping[str, Array], right: Mapping[str, Array], *, names: tuple[str, str], advice: str, dtypes: bool = False
) -> None:
    """Raise an error for trees without leaves, or with leaves that differ in paths, shapes or, with `dtypes`, in dtypes."""
    if left.keys() != right.keys():
        raise ValueError(
            f"Got leaves only in {names[0]}, {sorted(left.keys() - right.keys())}, and only in {names[1]}, "
            f"{sorted(right.keys() - left.keys())}, expected the same paths in both. {advice}"
        )
    for what, of in [("shape", lambda leaf: leaf.shape), ("dtype", lambda leaf: leaf.dtype)][: 2 if dtypes else 1]:
        differing = [
            f"{path}: {of(left[path])} and {of(right[path])}" for path in left if of(left[path]) != of(right[path])
        ]
        if differing:
            raise ValueError(
                f"Got leaves of different {what}s in {names[0]} and {names[1]}, {', '.join(differing)}, expected the same. "
                f"{advice}"
            )
    if not left:
        raise ValueError("Got empty trees, expected at least one leaf to compare. Check the filter that made them.")


def _text(path: KeyPath) -> str:
    # The array of an nnx variable is below the attribute `value`, which is not part of the variable's location.
    if len(path) > 1 and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    return keystr(path, simple=True, separator="/")
