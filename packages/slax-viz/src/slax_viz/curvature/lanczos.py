"""The Lanczos method with full reorthogonalization, on vectors of P numbers; see `hessian_eigenvalues` for the equations."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key

from slax_viz.curvature.product import dot, is_traced
from slax_viz.progress import progress

_CHECK_EVERY = 8  # steps between two convergence checks; each is an eigendecomposition of the small matrix
_ROUNDING = 100  # a remainder below this counts as zero, in units of the rounding error of the largest product
ORDERS = {"largest": lambda values: values, "smallest": jnp.negative, "magnitude": jnp.abs}


class Basis(NamedTuple):
    """Orthonormal vectors [m + b, P], zero where not yet computed, and the first `steps` columns of Q^T H Q [m + b, m]."""

    vectors: Float[Array, "rows P"]
    projected: Float[Array, "rows m"]
    largest: Float[Array, ""]  # largest |H q| so far
    steps: Int[Array, ""]  # -b before the first vector


class Ritz(NamedTuple):
    """The first values of the symmetric part of Q^T H Q, and their vectors in the space of parameters."""

    values: Float[Array, " n_top"]
    vectors: Float[Array, "n_top P"]
    bound: Float[Array, ""]  # tolerance * largest |value|
    asymmetry: Float[Array, ""]  # the largest |v . H w - w . H v| of vectors of the basis
    done: Bool[Array, ""]  # all have converged, or the basis is full


def spanned_basis(
    products: Partial, size: int, dtype: Any, key: Key[Array, ""], *, starts: int, n_steps: int, **options: Any
) -> Basis:
    """The basis from b = starts random vectors of `size` numbers and products with H, until `ritz` is done.

    Args:
        products: see `hessian_products`.
        options: the options of `ritz`.
    """
    zeros = jnp.zeros((starts, size), dtype)
    vectors, projected = (jnp.asarray(np.zeros((n_steps + starts, columns), dtype)) for columns in (size, n_steps))
    basis = Basis(vectors, projected, jnp.asarray(np.zeros((), dtype)), jnp.asarray(np.int32(-starts)))

    def extended(_: Any, basis: Basis) -> Basis:
        return _step(basis, products(basis.vectors[basis.steps][None]), key)

    def extended_by_some(basis: Basis) -> Basis:
        return jax.lax.fori_loop(basis.steps, jnp.minimum(basis.steps + _CHECK_EVERY, n_steps), extended, basis)

    def multiplied(basis: Basis, step: int) -> Float[Array, "b P"]:  # so many are known that have not been multiplied
        return products(jax.lax.dynamic_slice_in_dim(basis.vectors, np.int32(step), starts))

    for _ in range(starts):  # zero has no remainder, so that a random vector takes its place
        basis = _step(basis, zeros, key)
    images = multiplied(basis, 0)
    if is_traced(images, basis.steps):  # or the loss contains traced arrays of its own
        return jax.lax.while_loop(lambda basis: ~ritz(basis, **options).done, extended_by_some, basis)
    with progress(n_steps, "eigenvalues", "products") as bar:
        for step in range(n_steps):
            if step % _CHECK_EVERY == 0 and ritz(basis, **options).done:
                break
            images = multiplied(basis, step) if step and step % starts == 0 else images
            basis = _step(basis, images, key)
            bar.update()
    return basis


@partial(jax.jit, static_argnames=("n_top", "order", "tolerance"))
def ritz(basis: Basis, *, n_top: int, order: str, tolerance: float) -> Ritz:
    """What the basis shows of H."""
    m = basis.projected.shape[1]
    scale = jnp.linalg.norm(basis.projected)
    scale = jnp.where(scale == 0, 1, scale)
    square, known = basis.projected[:m] / scale, jnp.arange(m, dtype=jnp.int32) < basis.steps
    known = known[:, None] & known[None]
    # Entries not computed yet get the eigenvalue 2, which no other reaches.
    symmetric = jnp.where(known, (square + square.T) / 2, 2 * jnp.eye(m, dtype=square.dtype))
    values, combinations = jnp.linalg.eigh(symmetric)
    is_known = values < 1.5
    first = jnp.argsort(jnp.where(is_known, -ORDERS[order](values), jnp.inf))[:n_top]
    bound = tolerance * jnp.max(jnp.abs(values), where=is_known, initial=0) * scale
    values, combinations = values[first] * scale, combinations[:, first]
    residual = dot(basis.projected, combinations).at[:m].add(-values[None] * combinations)
    vectors = dot(combinations.T, basis.vectors[:m])
    return Ritz(
        values,
        vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True),
        bound,
        jnp.max(jnp.abs(square - square.T), where=known, initial=0) * scale,
        ((basis.steps >= n_top) & jnp.all(jnp.linalg.norm(residual, axis=0) <= bound)) | (basis.steps >= m),
    )


@partial(jax.jit, donate_argnums=0)
def _step(basis: Basis, images: Float[Array, "n P"], key: Key[Array, ""]) -> Basis:
    """The basis after a product, one of n in turn; its remainder, or a random vector, is the new vector."""
    image = images[basis.steps % len(images)]
    row = basis.steps + len(basis.vectors) - basis.projected.shape[1]  # row of the new vector
    largest = jnp.maximum(basis.largest, jnp.linalg.norm(image))
    drawn = jax.random.normal(jax.random.fold_in(key, row), image.shape, image.dtype)
    rest, column = jnp.stack([image, drawn], axis=1), jnp.zeros(len(basis.vectors), image.dtype)
    for _ in range(2):  # the second pass removes rounding errors
        correction = dot(basis.vectors, rest)
        rest, column = rest - dot(basis.vectors.T, correction), column + correction[:, 0]
    length, length_of_drawn = jnp.linalg.norm(rest, axis=0)
    exhausted = length <= _ROUNDING * jnp.finfo(image.dtype).eps * largest
    new = jnp.where(exhausted, rest[:, 1] / length_of_drawn, rest[:, 0] / length)
    room = row < image.size  # beyond it the vectors span the entire space, and the remainder is rounding error
    column = column.at[row].set(jnp.where(exhausted | ~room, 0, length))
    return Basis(
        basis.vectors.at[row].set(jnp.where(room, new, 0)),
        basis.projected.at[:, basis.steps].set(column),
        largest,
        basis.steps + 1,
    )
