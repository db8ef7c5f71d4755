"""The product of a Hessian with a vector."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

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
            raise ValueError(
                f"Got NaN or infinite numbers in {name}, expected finite ones. Check whether the loss and its gradient are "
                "finite at these parameters."
            )
