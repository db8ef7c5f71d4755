"""Trees of parameters as vectors, in which the dimensions of the Hessian are counted."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # full float32 on accelerators too


class Flat:
    """A conversion between trees like `params` and vectors, in float64 if one of the leaves is, else in float32."""

    def __init__(self, params: PyTree):
        leaves, self.structure = jax.tree.flatten(params)
        self.shapes = [jnp.shape(leaf) for leaf in leaves]
        self.dtypes = [jnp.result_type(leaf) for leaf in leaves]
        self.dtype = jnp.dtype("float64" if jnp.dtype("float64") in self.dtypes else "float32")
        self.size = sum(map(math.prod, self.shapes))

    def vector(self, tree: PyTree) -> Float[Array, " P"]:
        return jnp.concatenate([jnp.ravel(leaf).astype(self.dtype) for leaf in jax.tree.leaves(tree)])

    def tree(self, vector: Float[Array, " P"]) -> PyTree:
        leaves, start = [], 0
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            end = start + math.prod(shape)
            leaves.append(vector[start:end].reshape(shape).astype(dtype))
            start = end
        return jax.tree.unflatten(self.structure, leaves)
