"""The product of a Hessian with a vector, and trees of parameters as vectors, in which its dimensions are counted."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree, Shaped

from slax_viz.progress import progress

Loss = Callable[[Any], Array]
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


def hessian_times(loss: Loss, params: PyTree, vector: PyTree) -> PyTree:
    """The product H v, by reverse mode over forward mode where the loss supports forward mode.

    The order matters for functions with a `jax.custom_jvp`, whose rule JAX (0.10 to 0.12) ignores where it differentiates the
    reverse pass of a `lax.scan`: surrogates of other libraries would be missing in a part of H. In slax_neurons, a spike is a
    primitive, whose rule is never ignored.
    """
    try:
        return jax.grad(lambda params: jax.jvp(loss, (params,), (vector,))[1])(params)
    except (TypeError, NotImplementedError):  # raised by JAX for forward mode through a custom_vjp
        return jax.jvp(jax.grad(loss), (params,), (vector,))[1]


def hessian_products(loss: Loss, params: PyTree) -> Partial:
    """The function from vectors [n, P] to their products with H, a program that compiles once for each n.

    It reserves its memory once for all n, which in large networks takes half of the time of a product.
    """

    def times(params: PyTree, vector: Float[Array, " P"]) -> Float[Array, " P"]:
        return as_vector(hessian_times(loss, params, as_vector(params)[1](vector)))[0]

    return Partial(jax.jit(lambda params, vectors: jax.lax.map(partial(times, params), vectors)), params)


def in_blocks(program: Partial, values: Shaped[Array, "n ..."], block: int) -> Float[Array, "n ..."]:
    """A program that maps an array on its first axis, called for a block at a time, with a progress bar; for one value at a
    time where it is traced."""
    n = len(values)
    if is_traced(values) or is_traced(first := program(np.asarray(values)[:block])):
        return jax.lax.map(lambda value: program(value[None])[0], values)
    made = [first]
    with progress(n, "curvature", "products") as bar:
        for start in range(block, n, block):
            bar.update(block)
            # Always as many, so that one program serves all.
            made.append(jax.block_until_ready(program(np.asarray(values)[np.arange(start, start + block) % n])))
    return jnp.asarray(np.concatenate(made)[:n])


def is_traced(*arrays: Array) -> bool:
    """Whether an array is traced, as by `jax.jit` or `jax.vmap`, so that a loop in Python cannot read it."""
    return any(isinstance(array, jax.core.Tracer) for array in arrays)
