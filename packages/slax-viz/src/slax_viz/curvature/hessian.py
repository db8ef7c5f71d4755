"""The eigenvalues of a Hessian, by the Lanczos method, and its trace, by Hutchinson's estimator."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from slax_viz.arrays import leaves_by_path
from slax_viz.curvature.lanczos import Ritz, ritz, spanned_basis
from slax_viz.curvature.product import Loss, as_vector, dot, hessian_products, in_blocks, size_and_dtype

_AT_ONCE = 8  # samples in one call of a program


class Eigenvalues(NamedTuple):
    """Eigenvalues of a Hessian, and the evidence for them.

    values: [n_top], in the requested order.
    vectors: the eigenvectors, of length 1 over all leaves: the tree of the parameters, each leaf with a first axis n_top.
    residuals: [n_top], |H v - value v|, each from a separate product. A symmetric H has an eigenvalue within this distance.
    converged: [n_top], residual <= tolerance * largest |value| found.
    asymmetry: the largest |v . H w - w . H v| over all pairs of unit vectors of the basis; rounding error if H is symmetric.
    steps: number of products used to build the basis.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_viz import hessian_eigenvalues
        >>> params = {"w": jnp.ones(3)}
        >>> found = hessian_eigenvalues(lambda params: jnp.sum(params["w"] ** 4), params, jax.random.key(0))
        >>> found.vectors["w"].shape, found.converged.tolist(), bool(found.asymmetry < 1e-4)
        ((1, 3), [True], True)
    """

    values: Float[Array, " n_top"]
    vectors: PyTree
    residuals: Float[Array, " n_top"]
    converged: Bool[Array, " n_top"]
    asymmetry: Float[Array, ""]
    steps: Int[Array, ""]


def hessian_eigenvalues(
    loss: Loss,
    params: PyTree,
    key: Key[Array, ""],
    *,
    n_top: int = 1,
    n_steps: int = 64,
    tolerance: float = 1e-3,
    order: Literal["largest", "smallest", "magnitude"] = "largest",
    n_starts: int | None = None,
) -> Eigenvalues:
    """The first `n_top` eigenvalues and eigenvectors of the Hessian, by the Lanczos method with full reorthogonalization.

        q_{j+b} = H q_j    # orthogonalized against all previous q, and normalized
        T = Q^T H Q,  ((T + T^T) / 2) s = value s,  v = Q s

    The first b = n_starts vectors q are normal random vectors, orthonormalized. Where a product leaves no remainder, because
    the q span an invariant subspace of H, another random vector takes its place. The method stops after min(n_steps, P)
    products, or when |H v - value v| <= tolerance * largest |value| for all n_top. Values that did not converge are returned
    too: check `converged`.

    If H is not symmetric (see `slax_viz.curvature`), `values` belong to its symmetric part in the spanned space: each is
    still the curvature v . H v along its v. But they are not eigenvalues of H, the residuals stay as large as the
    asymmetry, and nothing converges. So compare `asymmetry` with `values`: in float32, 1e-5 of them is rounding error.

    Args:
        loss: see `hessian_trace`.
        params: see `hessian_trace`. P is the number of entries of all leaves.
        key: random key for the random vectors.
        n_top: number of eigenvalues, 1 to P.
        n_steps: maximum number of products with H, at least n_top; (n_steps + 2 n_starts) P numbers are kept.
        tolerance: see above. The error of an eigenvalue is about the residual's square over the gap to the next.
        order: the eigenvalues that come first: the largest, the smallest (most negative), or the largest in magnitude.
        n_starts: b, 1 to n_top, which is the default. For an eigenvalue with several eigenvectors, b of them are found
            together; others appear late, through rounding or once the entire space is spanned, and may be missed. Where
            all eigenvalues differ, 1 converges in fewer steps.

    Returns:
        `Eigenvalues`, in float64 if a leaf is, else in float32.

    Raises:
        TypeError: see `hessian_trace`.
        ValueError: see `hessian_trace`; an option out of range.

    Note:
        The function can be jitted: `jax.jit(partial(hessian_eigenvalues, loss, n_top=5))(params, key)`. Otherwise each call
        compiles the product with H, and draws a progress bar in a terminal if it takes more than ten seconds.

    References:
        Lanczos, An iteration method for the solution of the eigenvalue problem, 1950, doi 10.6028/jres.045.026. Ruhe,
        Implementation aspects of band Lanczos algorithms, 1979, doi 10.1090/S0025-5718-1979-0521282-9, for b > 1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_viz import hessian_eigenvalues
        >>> def loss(params):
        ...     return jnp.sum(jnp.array([1.0, 2.0, 3.0]) * params["w"] ** 2) / 2
        >>> found = hessian_eigenvalues(loss, {"w": jnp.ones(3)}, jax.random.key(0), n_top=2)
        >>> [round(value, 3) for value in found.values.tolist()]
        [3.0, 2.0]
    """
    check_parameters(params)
    size, dtype = size_and_dtype(params)
    if not 1 <= n_top <= size:
        raise ValueError(f"Got n_top={n_top}, expected 1 to {size}, the number of parameters.")
    starts = n_top if n_starts is None else n_starts
    if not 1 <= starts <= n_top:
        raise ValueError(f"Got n_starts={n_starts}, expected 1 to n_top={n_top}.")
    if n_steps < n_top:
        raise ValueError(f"Got n_steps={n_steps}, expected at least n_top={n_top}, since a step adds one direction.")

    products = hessian_products(loss, params)
    options = {"n_top": n_top, "order": order, "tolerance": tolerance}
    basis = spanned_basis(products, size, dtype, key, starts=starts, n_steps=min(n_steps, size), **options)
    found = ritz(basis, **options)
    check_finite("an eigenvalue of the Hessian", found.values)
    return _with_residuals(params, found, in_blocks(products, found.vectors, starts), basis.steps)


@jax.jit
def _with_residuals(params: PyTree, found: Ritz, images: Float[Array, "n_top P"], steps: Int[Array, ""]) -> Eigenvalues:
    residuals = jnp.linalg.norm(images - found.values[:, None] * found.vectors, axis=1)
    return Eigenvalues(
        values=found.values,
        vectors=jax.vmap(as_vector(params)[1])(found.vectors),
        residuals=residuals,
        converged=residuals <= found.bound,
        asymmetry=found.asymmetry,
        steps=steps,
    )


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
