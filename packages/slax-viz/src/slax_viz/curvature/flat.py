"""Trees of parameters as vectors, in which the dimensions of the Hessian are counted."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # full float32 on accelerators too


def as_vector(tree: PyTree) -> tuple[Float[Array, " P"], Callable[[Float[Array, " P"]], PyTree]]:
    """The leaves as a vector, in float64 if one of them is, else in float32, and a function from such vectors to trees."""
    dtypes = jax.tree.map(jnp.result_type, tree)
    wide = "float64" if jnp.dtype("float64") in jax.tree.leaves(dtypes) else "float32"
    vector, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, wide), tree))
    return vector, lambda vector: jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), unravel(vector), dtypes)


def size_and_dtype(tree: PyTree) -> tuple[int, Any]:
    """The size and the dtype of the vector of a tree."""
    vector = jax.eval_shape(lambda: as_vector(tree)[0])
    return vector.size, vector.dtype
