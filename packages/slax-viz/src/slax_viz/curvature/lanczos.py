"""The Lanczos method with full reorthogonalization, on vectors of P numbers; see `hessian_eigenvalues` for the equations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from slax_viz.curvature.flat import dot

_CHECK_EVERY = 8  # steps between two convergence checks; each is an eigendecomposition of the small matrix
_ROUNDING = 100  # a remainder below this counts as zero, in units of the rounding error of the largest product
ORDERS = {"largest": lambda values: values, "smallest": jnp.negative, "magnitude": jnp.abs}


class Basis(NamedTuple):
    """Orthonormal vectors [m + b, P], zero where not yet computed, and the first `steps` columns of Q^T H Q [m + b, m]."""

    vectors: Float[Array, "rows P"]
    projected: Float[Array, "rows m"]
    largest: Float[Array, ""]  # largest |H q| so far
    steps: Int[Array, ""]


def first_basis(size: int, dtype: Any, key: Key[Array, ""], *, starts: int, n_steps: int) -> Basis:
    """The basis before the first product: b = starts random vectors of `size` numbers, with room for n_steps more."""
    rows = n_steps + starts

    def filled(row: Array, vectors: Array) -> Array:
        return vectors.at[row].set(_random(vectors, jax.random.fold_in(key, row)))

    vectors = jax.lax.fori_loop(0, starts, filled, jnp.zeros((rows, size), dtype))
    return Basis(vectors, jnp.zeros((rows, n_steps), dtype), jnp.zeros((), dtype), jnp.zeros((), jnp.int32))


def extended_basis(
    product: Callable[[Array], Array], basis: Basis, done: Callable[[Basis], Array], key: Key[Array, ""], starts: int
) -> Basis:
    """The basis extended by products with H, until it is full or `done(basis)` is true."""
    n_steps = basis.projected.shape[1]

    def unfinished(basis: Basis) -> Bool[Array, ""]:
        is_done = done(basis)
        return (basis.steps < n_steps) & ~is_done

    def extended(basis: Basis) -> Basis:
        end = jnp.minimum(basis.steps + _CHECK_EVERY, n_steps)
        return jax.lax.fori_loop(basis.steps, end, lambda _, basis: _step(product, basis, starts, key), basis)

    return jax.lax.while_loop(unfinished, extended, basis)


def known_entries(basis: Basis) -> Bool[Array, "m m"]:
    """A mask of the entries of Q^T H Q computed so far."""
    known = jnp.arange(basis.projected.shape[1], dtype=jnp.int32) < basis.steps
    return known[:, None] & known[None]


def ritz(
    basis: Basis, n_top: int, order: str
) -> tuple[Float[Array, " n_top"], Float[Array, "m n_top"], Float[Array, " n_top"], Float[Array, ""]]:
    """The first values of the symmetric part of Q^T H Q, their vectors, |H v - value v|, and the largest |value|."""
    m = basis.projected.shape[1]
    scale = jnp.linalg.norm(basis.projected)
    scale = jnp.where(scale == 0, 1, scale)
    square, known = basis.projected[:m] / scale, known_entries(basis)
    # Entries not computed yet get the eigenvalue 2, which no other reaches.
    symmetric = jnp.where(known, (square + square.T) / 2, 2 * jnp.eye(m, dtype=square.dtype))
    values, combinations = jnp.linalg.eigh(symmetric)
    is_known = values < 1.5
    first = jnp.argsort(jnp.where(is_known, -ORDERS[order](values), jnp.inf))[:n_top]
    largest = jnp.max(jnp.abs(values), where=is_known, initial=0) * scale
    values, combinations = values[first] * scale, combinations[:, first]
    residual = dot(basis.projected, combinations).at[:m].add(-values[None] * combinations)
    return values, combinations, jnp.linalg.norm(residual, axis=0), largest


def _step(product: Callable[[Array], Array], basis: Basis, starts: int, key: Key[Array, ""]) -> Basis:
    """The basis after one more product; its remainder, or a random vector, is the new vector."""
    row = basis.steps + starts  # row of the new vector
    image = product(basis.vectors[basis.steps])
    largest = jnp.maximum(basis.largest, jnp.linalg.norm(image))
    rest, column = _orthogonal(image, basis.vectors)
    length = jnp.linalg.norm(rest)
    exhausted = length <= _ROUNDING * jnp.finfo(image.dtype).eps * largest
    new = jax.lax.cond(
        exhausted,
        lambda: _random(basis.vectors, jax.random.fold_in(key, row)),
        lambda: rest / length,
    )
    room = row < image.size  # beyond it the vectors span the entire space, and the remainder is rounding error
    column = column.at[row].set(jnp.where(exhausted | ~room, 0, length))
    return Basis(
        basis.vectors.at[row].set(jnp.where(room, new, 0)),
        basis.projected.at[:, basis.steps].set(column),
        largest,
        basis.steps + 1,
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
        correction = dot(vectors, vector)
        vector = vector - dot(correction, vectors)
        parts = parts + correction
    return vector, parts
