"""The trace of a Hessian, by Hutchinson's estimator."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key, PyTree

from slax_viz.curvature.flat import dot, size_and_dtype
from slax_viz.curvature.product import Loss, check_finite, check_parameters, hessian_products, in_blocks

_AT_ONCE = 8  # samples in one call of a program


class Trace(NamedTuple):
    """An estimate of a trace: the mean of the samples, its standard error, and the samples [n_samples] themselves.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_viz import hessian_trace
        >>> trace = hessian_trace(lambda params: jnp.prod(params["w"]), {"w": jnp.ones(2)}, jax.random.key(0))
        >>> trace.samples.shape, bool(abs(trace.mean) < 3 * trace.standard_error)  # the trace is 0
        ((64,), True)
    """

    mean: Float[Array, ""]
    standard_error: Float[Array, ""]
    samples: Float[Array, " n_samples"]


def hessian_trace(loss: Loss, params: PyTree, key: Key[Array, ""], *, n_samples: int = 64) -> Trace:
    """The trace of the Hessian, by Hutchinson's estimator: the mean of z . H z, where each entry of z is -1 or 1.

    Its variance is 2 sum_{i != j} h_ij^2, with h the symmetric part of H, so that for a diagonal H each sample is exact.
    It is unbiased for any H, symmetric or not. For an interval: `mean_interval(trace.samples)`.

    Args:
        loss: maps parameters to a number. It has to be deterministic: fix batch and keys in it. For spikes, see
            `slax_viz.curvature`.
        params: tree of floating-point arrays, for example an `nnx.State` of `nnx.Param`s.
        key: random key for z.
        n_samples: number of products with H, at least 2.

    Returns:
        A `Trace`, in float64 if a leaf is, else in float32.

    Raises:
        TypeError: parameters that are not floating-point arrays.
        ValueError: no parameters, numbers that are not finite (where they are known: under `jax.jit` NaN is propagated), fewer
            than 2 samples.

    References:
        Hutchinson, A stochastic estimator of the trace of the influence matrix, 1990, doi 10.1080/03610919008812866.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_viz import hessian_trace
        >>> def loss(params):
        ...     return jnp.sum(jnp.array([1.0, 2.0, 3.0]) * params["w"] ** 2) / 2
        >>> trace = hessian_trace(loss, {"w": jnp.ones(3)}, jax.random.key(0), n_samples=8)
        >>> round(float(trace.mean), 3), round(float(trace.standard_error), 3)  # exact, since this Hessian is diagonal
        (6.0, 0.0)
    """
    check_parameters(params)
    if n_samples < 2:
        raise ValueError(f"Got n_samples={n_samples}, expected at least 2 for a standard error.")

    size, dtype = size_and_dtype(params)
    products, keys = hessian_products(loss, params), jax.random.split(key, n_samples)

    @jax.jit
    def draw(products: Partial, keys: Key[Array, " n_samples"], places: Int[Array, " n"]) -> Float[Array, " n"]:
        signs = jax.vmap(lambda key: jax.random.rademacher(key, (size,), dtype))(keys[places])
        return jax.vmap(dot)(signs, products(signs))

    samples = in_blocks(Partial(draw, products, keys), jnp.arange(n_samples, dtype=jnp.int32), min(_AT_ONCE, n_samples))
    check_finite("a sample of the Hessian's trace", samples)
    return Trace(jnp.mean(samples), jnp.std(samples, ddof=1) / math.sqrt(n_samples), samples)
