"""The product of a Hessian with a vector."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree, Shaped

from slax_viz.curvature.flat import as_vector
from slax_viz.progress import progress
from slax_viz.trees import leaves_by_path

Loss = Callable[[Any], Array]


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


def check_parameters(params: PyTree) -> None:
    """Raise ValueError for a tree without numbers, or with numbers that are not finite."""
    leaves = leaves_by_path(params, "params").values()
    if sum(leaf.size for leaf in leaves) == 0:
        raise ValueError("Got params without a number, expected at least one. Check the filter that made them.")
    check_finite("the parameters", params)


def check_finite(name: str, tree: PyTree) -> None:
    """Raise ValueError for NaN and infinite numbers; traced values are not checked."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"Got NaN or infinite numbers in {name}. Check the loss and its gradient there.")
