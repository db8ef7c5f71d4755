"""Names of arrays in a tree."""

from typing import Any

import jax
from jax.tree_util import GetAttrKey, keystr
from jaxtyping import PyTree


def by_path(tree: PyTree) -> dict[str, Any]:
    """The leaves by paths like "modules/0/kernel", in order."""
    # The array of an nnx variable hangs below the attribute `value`, which says nothing about where the variable is.
    return {
        keystr(tuple(key for key in path if key != GetAttrKey("value")), simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
