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
            got = f"{jnp.result_type(leaf)} at {path!r} in {name}"
            raise TypeError(
                f"Got {got}, expected floating-point leaves: parameters or their gradients, and no counters."
            )
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
