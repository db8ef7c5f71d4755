"""The curvature of a loss: products with its Hessian, the Hessian's extreme eigenvalues, and its trace.

    H v = grad (d/de L(p + e v) at e = 0)      reverse mode over forward mode

where L is the loss, p the parameters, P their number, and v a direction. H is never formed: each product costs a few gradients,
and memory is a few vectors of P numbers. A loss without forward mode, because of a `jax.custom_vjp`, is differentiated in the
other order, d/de grad L(p + e v). The numbers are the same if both orders are defined and correct in JAX; see `_product`.

**Spikes.** Automatic differentiation takes the derivative of a spike to be its surrogate, and the second derivative to be the
derivative of this surrogate. So H of a spiking network describes the surrogate's calculus, not the actual loss as a function of
the parameters, which is piecewise constant in a spike's membrane. With surrogates defined by `jax.custom_jvp`, as in
slax_neurons, and with `jax.lax.stop_gradient`, this formal H is symmetric, as the second-order chain rule is. A gradient
that is not the derivative of a loss, such as one with a `jax.custom_vjp` that drops terms, is a field g, and H its Jacobian,
which in general is not symmetric. `Eigenvalues.asymmetry` measures this.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from slax_viz.trees import check_alike, leaves_by_path

Loss = Callable[[Any], Array]

_dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # full float32 on accelerators too

_CHECK_EVERY = 8  # steps between two convergence checks; each is an eigendecomposition of the small matrix
_ROUNDING = 100  # a remainder below this counts as zero, in units of the rounding error of the largest product
_ORDERS = {"largest": lambda values: values, "smallest": jnp.negative, "magnitude": jnp.abs}


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


def hessian_product(loss: Loss, params: PyTree, vector: PyTree) -> PyTree:
    """The product H v, the derivative of the gradient along `vector`; see the module for the meaning of H with spikes.

    Args:
        loss: maps parameters to a number. It has to be deterministic: fix batch and keys in it.
        params: tree of floating-point arrays, for example an `nnx.State` of `nnx.Param`s.
        vector: tree like `params`.

    Returns:
        A tree like `params`.

    Raises:
        TypeError: parameters that are not floating-point arrays.
        ValueError: no parameters, a vector with other paths, shapes or dtypes, numbers that are not finite (where they are
            known: under `jax.jit` NaN is propagated).

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import hessian_product
        >>> params, vector = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([1.0, 0.0])}
        >>> hessian_product(lambda params: jnp.prod(params["w"] ** 2), params, vector)["w"].tolist()
        [8.0, 8.0]
    """
    _check_parameters(params)
    check_alike(
        leaves_by_path(params, "params"),
        leaves_by_path(vector, "vector"),
        names=("params", "vector"),
        advice="Make the vector of params, as by jax.tree.map(jnp.ones_like, params).",
        dtypes=True,
    )
    product = _product(loss, params, vector)
    _check_finite("the Hessian's product", product)
    return product


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

        q_{j + b} = H q_j, orthogonalized against all previous q and normalized
        T = Q^T H Q,  (T + T^T) / 2 s = value s,  v = Q s

    The first b = n_starts vectors q are normal random vectors, orthonormalized. Where a product leaves no remainder, because
    the q span an invariant subspace of H, another random vector takes its place. The method stops after min(n_steps, P)
    products, or when |H v - value v| <= tolerance * largest |value| for all n_top. Values that did not converge are returned
    too: check `converged`.

    If H is not symmetric (see the module), `values` belong to its symmetric part in the spanned space: each is
    still the curvature v . H v along its v. But they are not eigenvalues of H, the residuals stay as large as the
    asymmetry, and nothing converges. So compare `asymmetry` with `values`: in float32, 1e-5 of them is rounding error.

    Args:
        loss: see `hessian_product`.
        params: see `hessian_product`. P is the number of entries of all leaves.
        key: random key for the random vectors.
        n_top: number of eigenvalues, 1 to P.
        n_steps: maximum number of products with H, at least n_top; (n_steps + n_starts) P numbers are kept.
        tolerance: see above. The error of an eigenvalue is about the residual's square over the gap to the next.
        order: the eigenvalues that come first: the largest, the smallest (most negative), or the largest in magnitude.
        n_starts: b, 1 to n_top, which is the default. For an eigenvalue with several eigenvectors, b of them are found
            together; others appear late, through rounding or once the entire space is spanned, and may be missed. Where
            all eigenvalues differ, 1 converges in fewer steps.

    Returns:
        `Eigenvalues`, in float64 if a leaf is, else in float32.

    Raises:
        TypeError: see `hessian_product`.
        ValueError: see `hessian_product`; an option out of range.

    Note:
        The function can be jitted: `jax.jit(partial(hessian_eigenvalues, loss, n_top=5))(params, key)`. Otherwise each call
        compiles.

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
    _check_parameters(params)
    size = sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))
    if not 1 <= n_top <= size:
        raise ValueError(f"n_top must be 1 to {size}, the number of parameters, got {n_top}.")
    starts = n_top if n_starts is None else n_starts
    if not 1 <= starts <= n_top:
        raise ValueError(f"n_starts must be 1 to n_top={n_top}, got {n_starts}.")
    if n_steps < n_top:
        raise ValueError(f"n_steps must be at least n_top={n_top}, got {n_steps}: a step adds one direction.")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be in (0, 1), got {tolerance}.")
    if order not in _ORDERS:
        raise ValueError(f"there is no order {order!r}, expected one of: {', '.join(_ORDERS)}.")

    find = partial(_eigenvalues, loss, n_top=n_top, n_steps=min(n_steps, size), starts=starts, tolerance=tolerance)
    found = jax.jit(partial(find, order=order))(params, key)
    _check_finite("an eigenvalue of the Hessian", found.values)
    return found


def hessian_trace(loss: Loss, params: PyTree, key: Key[Array, ""], *, n_samples: int = 64) -> Trace:
    """The trace of the Hessian, by Hutchinson's estimator: the mean of z . H z, where each entry of z is -1 or 1.

    Its variance is 2 sum_{i != j} h_ij^2, with h the symmetric part of H, so that for a diagonal H each sample is exact.
    It is unbiased for any H, symmetric or not. For an interval: `mean_interval(trace.samples)`.

    Args:
        loss, params: see `hessian_product`.
        key: random key for z.
        n_samples: number of products with H, at least 2.

    Returns:
        A `Trace`, in float64 if a leaf is, else in float32.

    Raises:
        TypeError: see `hessian_product`.
        ValueError: see `hessian_product`; fewer than 2 samples.

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
    _check_parameters(params)
    if n_samples < 2:
        raise ValueError(f"a standard error needs n_samples of at least 2, got {n_samples}.")
    flat = _Flat(params)

    @jax.jit
    def draw(params: PyTree, keys: Key[Array, " n_samples"]) -> Float[Array, " n_samples"]:
        def sample(key: Key[Array, ""]) -> Float[Array, ""]:
            signs = jax.random.rademacher(key, (flat.size,), flat.dtype)
            return _dot(signs, flat.vector(_product(loss, params, flat.tree(signs))))

        return jax.lax.map(sample, keys)

    samples = draw(params, jax.random.split(key, n_samples))
    _check_finite("a sample of the Hessian's trace", samples)
    return Trace(jnp.mean(samples), jnp.std(samples, ddof=1) / math.sqrt(n_samples), samples)


def _product(loss: Loss, params: PyTree, vector: PyTree) -> PyTree:
    """The product H v, by reverse mode over forward mode where the loss supports forward mode.

    The order matters: when JAX (0.10.2) differentiates the reverse pass of a `lax.scan`, it ignores the rules of
    `jax.custom_jvp` inside. The surrogates of a network that is unrolled in chunks would be missing in a part of H.
    """
    try:
        return jax.grad(lambda params: jax.jvp(loss, (params,), (vector,))[1])(params)
    except (TypeError, NotImplementedError):  # raised by JAX for forward mode through a custom_vjp
        return jax.jvp(jax.grad(loss), (params,), (vector,))[1]


def _check_parameters(params: PyTree) -> None:
    leaves = leaves_by_path(params, "params").values()
    if sum(leaf.size for leaf in leaves) == 0:
        raise ValueError("params must have at least one number, got an empty tree. Check the filter that made it.")
    _check_finite("a parameter", params)


def _check_finite(name: str, tree: PyTree) -> None:
    """Raise ValueError for NaN and infinite numbers; traced values are not checked."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(
                f"{name} is NaN or infinite. Check whether the loss and its gradient are finite at these parameters."
            )


class _Flat:
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


class _Basis(NamedTuple):
    """Orthonormal vectors [m + b, P], zero where not yet computed, and the first `steps` columns of Q^T H Q [m + b, m]."""

    vectors: Float[Array, "rows P"]
    projected: Float[Array, "rows m"]
    largest: Float[Array, ""]  # largest |H q| so far
    steps: Int[Array, ""]


def _eigenvalues(
    loss: Loss,
    params: PyTree,
    key: Key[Array, ""],
    *,
    n_top: int,
    n_steps: int,
    starts: int,
    tolerance: float,
    order: str,
) -> Eigenvalues:
    flat = _Flat(params)

    def product(vector: Float[Array, " P"]) -> Float[Array, " P"]:
        return flat.vector(_product(loss, params, flat.tree(vector)))

    def unfinished(state: _Basis) -> Bool[Array, ""]:
        _, _, residuals, largest = _ritz(state, n_top, order)
        done = (state.steps >= n_top) & jnp.all(residuals <= tolerance * largest)
        return (state.steps < n_steps) & ~done

    def extended(state: _Basis) -> _Basis:
        end = jnp.minimum(state.steps + _CHECK_EVERY, n_steps)
        return jax.lax.fori_loop(state.steps, end, lambda _, state: _step(product, state, starts, key), state)

    basis = jax.lax.while_loop(unfinished, extended, _start(flat, key, starts, n_steps))
    values, combinations, _, largest = _ritz(basis, n_top, order)
    vectors = _dot(combinations.T, basis.vectors[:n_steps])
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    residuals = jax.lax.map(lambda pair: jnp.linalg.norm(product(pair[0]) - pair[1] * pair[0]), (vectors, values))
    square, known = basis.projected[:n_steps], _known(basis)
    return Eigenvalues(
        values=values,
        vectors=jax.vmap(flat.tree)(vectors),
        residuals=residuals,
        converged=residuals <= tolerance * largest,
        asymmetry=jnp.max(jnp.abs(square - square.T), where=known, initial=0),
        steps=basis.steps,
    )


def _start(flat: _Flat, key: Key[Array, ""], starts: int, n_steps: int) -> _Basis:
    rows = n_steps + starts

    def filled(row: Array, vectors: Array) -> Array:
        return vectors.at[row].set(_random(vectors, jax.random.fold_in(key, row)))

    vectors = jax.lax.fori_loop(0, starts, filled, jnp.zeros((rows, flat.size), flat.dtype))
    projected = jnp.zeros((rows, n_steps), flat.dtype)
    return _Basis(vectors, projected, jnp.zeros((), flat.dtype), jnp.zeros((), jnp.int32))


def _step(product: Callable[[Array], Array], state: _Basis, starts: int, key: Key[Array, ""]) -> _Basis:
    row = state.steps + starts  # row of the new vector
    image = product(state.vectors[state.steps])
    largest = jnp.maximum(state.largest, jnp.linalg.norm(image))
    rest, column = _orthogonal(image, state.vectors)
    length = jnp.linalg.norm(rest)
    exhausted = length <= _ROUNDING * jnp.finfo(image.dtype).eps * largest
    new = jax.lax.cond(
        exhausted,
        lambda: _random(state.vectors, jax.random.fold_in(key, row)),
        lambda: rest / length,
    )
    room = row < image.size  # beyond it the vectors span the entire space, and the remainder is rounding error
    column = column.at[row].set(jnp.where(exhausted | ~room, 0, length))
    return _Basis(
        state.vectors.at[row].set(jnp.where(room, new, 0)),
        state.projected.at[:, state.steps].set(column),
        largest,
        state.steps + 1,
    )


def _random(vectors: Float[Array, "rows P"], key: Key[Array, ""]) -> Float[Array, " P"]:
    """A random unit vector orthogonal to `vectors`."""
    drawn = jax.random.normal(key, vectors.shape[1:], vectors.dtype)
    rest, _ = _orthogonal(drawn, vectors)
    return rest / jnp.linalg.norm(rest)


def _orthogonal(vector: Float[Array, " P"], vectors: Float[Array, "rows P"]) -> tuple[Array, Float[Array, " rows"]]:
    """The part of `vector` orthogonal to `vectors`, and its components along them. A second pass removes rounding errors."""
    parts = jnp.zeros(len(vectors), vectors.dtype)
    for _ in range(2):
        correction = _dot(vectors, vector)
        vector = vector - _dot(correction, vectors)
        parts = parts + correction
    return vector, parts


def _known(state: _Basis) -> Bool[Array, "m m"]:
    """A mask of the entries of Q^T H Q computed so far."""
    known = jnp.arange(state.projected.shape[1], dtype=jnp.int32) < state.steps
    return known[:, None] & known[None]


def _ritz(
    state: _Basis, n_top: int, order: str
) -> tuple[Float[Array, " n_top"], Float[Array, "m n_top"], Float[Array, " n_top"], Float[Array, ""]]:
    """The first values of the symmetric part of Q^T H Q, their vectors, |H v - value v|, and the largest |value|."""
    m = state.projected.shape[1]
    scale = jnp.linalg.norm(state.projected)
    scale = jnp.where(scale == 0, 1, scale)
    square, known = state.projected[:m] / scale, _known(state)
    # Entries not computed yet get the eigenvalue 2, which no other reaches.
    symmetric = jnp.where(known, (square + square.T) / 2, 2 * jnp.eye(m, dtype=square.dtype))
    values, combinations = jnp.linalg.eigh(symmetric)
    is_known = values < 1.5
    first = jnp.argsort(jnp.where(is_known, -_ORDERS[order](values), jnp.inf))[:n_top]
    largest = jnp.max(jnp.abs(values), where=is_known, initial=0) * scale
    values, combinations = values[first] * scale, combinations[:, first]
    residual = _dot(state.projected, combinations).at[:m].add(-values[None] * combinations)
    return values, combinations, jnp.linalg.norm(residual, axis=0), largest
