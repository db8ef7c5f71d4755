"""The random matrices of routes.

Fixed matrices are drawn from the same key in each window, in place of being stored. This costs at most a few percent of the
time, even with windows of one step, since XLA moves it out of the loop over windows.
"""

import math
from typing import Any

import jax
from jaxtyping import Array, Float

_initialize = jax.nn.initializers.lecun_normal()


def feedback_matrix(key: Array, number: int, index: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """A matrix in the place of a kernel, drawn as Flax draws kernels: LeCun normal.

    Args:
        key: the key of the route.
        number: number of the layer whose kernel it replaces.
        index: index of the kernel's synapse in this layer.
        shape, dtype: shape and dtype of the kernel.
    """
    return _initialize(jax.random.fold_in(jax.random.fold_in(key, number), index), shape, dtype)


def read_out_matrix(key: Array, number: int, shape: tuple[int, int], dtype: Any) -> Float[Array, "N C"]:
    """The read-out of the layer with this number, drawn from N(0, 1 / N)."""
    return jax.random.normal(jax.random.fold_in(key, number), shape, dtype) / math.sqrt(shape[0])
