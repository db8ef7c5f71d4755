"""Sketched RTRL: the influence within one step's reach, a matrix of low rank for the rest, and a bound of the error."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_rules.engine.coloring import ColumnColoring
from slax_rules.engine.influence import InfluenceRule, StateSpace
from slax_rules.engine.jacobians import is_state
from slax_rules.losses import sum_dtype
from slax_rules.rules.snap import SnAp, within_reach

# Eigenvalues are exact to about so many units in the last place of the sum of the squares that they are computed from.
ROUNDING = 2


class Sketch(NamedTuple):
    """The state of sketched RTRL: S and R for each array of parameters, L, and the bound for each sample.

    Args:
        near: S, the influence within one step's reach, as `SnAp` has it.
        left, right: L and R, whose product is the rest.
        cover: P, a bound of the error E of S + L R: P - E E^T has no negative eigenvalue. None without a bound.
    """

    near: tuple[Float[Array, "B C ..."], ...]
    left: Float[Array, "B H r"]
    right: tuple[Float[Array, "B r ..."], ...]
    cover: Float[Array, "B H H"] | None


@dataclasses.dataclass(frozen=True)
class SketchedRTRL(InfluenceRule):
    """Sketched RTRL: SnAp-1, a matrix of low rank for all other influence, and a bound of what both together omit.

        S_t = M (D_t S_{t-1} + F_t)              D_t = dh_t/dh_{t-1},  F_t = dh_t/dtheta    # as SnAp-1
        L_t R_t + O_t = N_t,                     N_t = D_t S_{t-1} - M D_t S_{t-1} + D_t L_{t-1} R_{t-1}
        P_t = (1 + o/p) D_t P_{t-1} D_t^T + (1 + p/o) O_t O_t^T    # p^2, o^2: the traces of D_t P_{t-1} D_t^T and O_t O_t^T
        gradient: sum_t delta_t dy_t/dtheta + a_t (S_{t-1} + L_{t-1} R_{t-1})    a_t = delta_t dy_t/dh_{t-1}

    per sample, where h [H] is the state of the entire model, delta_t the gradient of the loss w.r.t. its output y_t, M is 1
    where a parameter reaches a state within one step, else 0, and L_t R_t is the best approximation of N_t of rank r. It knows
    its own error: E_t = J_t - S_t - L_t R_t, where J_t is the influence of RTRL, has |a E_t|^2 <= a P_t a^T for any a. So the
    gradient differs from BPTT's by at most the sum over samples and steps of sqrt(a_t P_{t-1} a_t^T), which
    `certified_gradient` returns.

    It equals BPTT for a rank of at least H, and SnAp-1 for rank 0. It omits the influence outside of one step's reach that r
    directions cannot represent. The gradient does not depend on the window. The bound holds for every model, and says nothing
    where it exceeds the gradient: over long sequences at a low rank, and where states expand, as in recurrent spiking layers
    with a steep surrogate. Memory per sample is that of SnAp-1, r (H + P) numbers for P parameters, and H^2 for the bound,
    which only `certified_gradient` computes. It takes any cell, one step at a time; a step solves an eigenvalue problem of H x
    H numbers, unless the rank is 0 or at least H.

    Args:
        rank: r, >= 0.
        bound: a parameter whose gradient is the bound, from `certified_gradient`; None leaves P out.

    Raises:
        ValueError: a rank below 0.

    References:
        Certified low-rank real-time recurrent learning for dense recurrent neural networks (under review),
        https://github.com/sonaradarcn/sketched-rtrl.

    Note:
        The authors cut in two stages, first D_t S_{t-1} and then the sum, and carry one number e_t = |D_t| e_{t-1} + |O_t|. P
        also follows the directions of the error, and is closer. P includes the rounding of eigenvalues, so in float32 it stays
        above about a thousandth of the influence.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_rules import SketchedRTRL, cross_entropy, gradients
        >>> model = nnx.GRUCell(8, 3, rngs=nnx.Rngs(0))
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=SketchedRTRL(rank=2))
    """

    rank: int
    bound: nnx.Param | None = None

    stepwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 0:
            raise ValueError(f"SketchedRTRL got rank={self.rank}, expected a whole number of at least 0.")

    def init_influence(self, space: StateSpace, carry: Any) -> Sketch:
        near = SnAp().init_influence(space, carry)
        states = space.states(carry)
        if self.bound is not None:
            _check_precision(space, carry)
        rank = min(self.rank, states.shape[1])
        right = tuple(jnp.zeros((len(states), rank, *one.shape[2:]), one.dtype) for one in near)
        left, cover = (jnp.zeros((*states.shape, n), states.dtype) for n in (rank, states.shape[1]))
        return Sketch(near, left, right, None if self.bound is None else cover)

    def advance(self, space: StateSpace, carry: Any, inputs: Float[Array, "1 B ..."], influence: Sketch) -> Sketch:
        near, left, right, cover = influence
        D, direct, kept = within_reach(space, carry, inputs, near, 1)
        parts = [_Outside(D, of.exactly, *pair) for of, *pair in zip(space.coloring(1), near, right, strict=True)]
        DL = D @ left

        # N N^T from sums over the parameters, since N itself is as large as the influence of RTRL.
        alone, mixed = sum(one.gram() for one in parts), sum(one.with_right() for one in parts) @ DL.mT
        sketch = DL @ sum(map(_square, right)) @ DL.mT
        left, omitted = _cut(alone + mixed + mixed.mT + sketch, left.shape[2])
        right = tuple(one.projected(left.mT, left.mT @ DL) for one in parts)
        if cover is not None:
            rounding = ROUNDING * jnp.finfo(D.dtype).eps * jnp.trace(alone + sketch, axis1=1, axis2=2)
            omitted = omitted + rounding[:, None, None] * jnp.eye(D.shape[1], dtype=D.dtype)[None]
            cover = _cover_of_sum(D @ cover @ D.mT, omitted)
        return Sketch(tuple(map(jnp.add, direct, kept)), left, right, cover)

    def gradient(
        self, space: StateSpace, pull: Any, end: Any, signal: Any, influence: Sketch
    ) -> tuple[tuple[Array, ...], Float[Array, "B H"]]:
        gradient, adjoint = super().gradient(space, pull, end, signal, influence)
        if self.bound is None:
            return gradient, adjoint
        size = jnp.max(jnp.abs(adjoint), axis=1)  # taken out, since the square of a small adjoint is 0
        along = adjoint / jnp.where(size > 0, size, 1)[:, None]
        squares = jnp.einsum("bh,bhk,bk->b", along, influence.cover, along)
        return (*gradient, jnp.sum(size * jnp.sqrt(jnp.maximum(squares, 0)), dtype=self.bound.dtype)), adjoint

    def contract(self, space: StateSpace, adjoint: Float[Array, "B H"], influence: Sketch) -> tuple[Array, ...]:
        through = jnp.einsum("bh,bhr->br", adjoint, influence.left)
        near = SnAp().contract(space, adjoint, influence.near)
        pairs = zip(near, influence.right, strict=True)
        return tuple(one + jnp.einsum("br,br...->...", through.astype(R.dtype), R) for one, R in pairs)


def _check_precision(space: StateSpace, carry: Any) -> None:
    """Raise TypeError for a model that holds numbers in half precision, or computes in it."""
    arrays = [leaf.dtype for leaf in jax.tree.leaves((space.params, carry)) if is_state(leaf)]
    of_products = [getattr(module, "dtype", None) for _, module in nnx.iter_modules(space.cell)]
    if any(one is not None and jnp.dtype(one).itemsize < 4 for one in (*arrays, *of_products)):
        raise TypeError(
            "certified_gradient got a model that computes in half precision, expected float32 or float64: no bound covers "
            "the rounding of a gradient in half precision. GradientAgreement measures the error of such a gradient."
        )


class _Outside(NamedTuple):
    """D S - M D S for an array of parameters, with R; `reach` is exactly indexed."""

    transition: Float[Array, "B H H"]
    reach: ColumnColoring
    near: Float[Array, "B C *P"]
    right: Float[Array, "B r *P"]

    @property
    def columns(self) -> Float[Array, "B H C *kept"]:
        """The columns of D at the states of S, without the rows that the parameters reach."""
        columns = self.transition[:, :, self.reach.kept_rows]
        return jnp.where(self.reach.outside[None, :, None], columns, jnp.zeros((), columns.dtype))

    def inner(self, other: Float[Array, "B R *P"]) -> Float[Array, "B C R *kept"]:
        parameter = list(range(3, 1 + self.near.ndim))
        return jnp.einsum(self.near, [0, 1, *parameter], other, [0, 2, *parameter], [0, 1, 2, *self.reach.kept])

    def gram(self) -> Float[Array, "B H H"]:
        kept, columns = self.reach.kept, self.columns
        half = jnp.einsum(columns, [0, 40, 1, *kept], self.inner(self.near), [0, 1, 2, *kept], [0, 40, 2, *kept])
        return jnp.einsum(half, [0, 40, 2, *kept], columns, [0, 41, 2, *kept], [0, 40, 41])

    def with_right(self) -> Float[Array, "B H r"]:
        kept = self.reach.kept
        return jnp.einsum(self.columns, [0, 40, 1, *kept], self.inner(self.right), [0, 1, 2, *kept], [0, 40, 2])

    def projected(self, directions: Float[Array, "B r H"], through: Float[Array, "B r r"]) -> Float[Array, "B r *P"]:
        """The product of directions with it, and of the past R with `through`."""
        parameter, kept = list(range(3, 1 + self.near.ndim)), self.reach.kept
        turned = jnp.einsum(directions, [0, 2, 40], self.columns, [0, 40, 1, *kept], [0, 2, 1, *kept])
        new = jnp.einsum(turned, [0, 2, 1, *kept], self.near, [0, 1, *parameter], [0, 2, *parameter])
        old = jnp.einsum("brs,bs...->br...", through, self.right)
        return (new + old).astype(self.right.dtype)


def _cut(square: Float[Array, "B H H"], rank: int) -> tuple[Float[Array, "B H r"], Float[Array, "B H H"]]:
    """The eigenvectors of the largest eigenvalues, and the matrix without them; nothing is solved to keep all or none."""
    size = square.shape[1]
    if rank == 0:
        return square[:, :, :0], square
    if rank == size:
        return jnp.broadcast_to(jnp.eye(size, dtype=square.dtype)[None], square.shape), jnp.zeros_like(square)
    eigenvalues, vectors = jnp.linalg.eigh(square.astype(sum_dtype(square.dtype)))
    small, kept = jnp.split(vectors, [size - rank], axis=2)
    return kept.astype(square.dtype), (small * jnp.maximum(eigenvalues[:, None, : size - rank], 0)) @ small.mT


def _square(right: Float[Array, "B r *P"]) -> Float[Array, "B r r"]:
    parameter = list(range(3, 1 + right.ndim))
    return jnp.einsum(right, [0, 1, *parameter], right, [0, 2, *parameter], [0, 1, 2])


def _cover_of_sum(one: Float[Array, "B H H"], other: Float[Array, "B H H"]) -> Float[Array, "B H H"]:
    """A bound of (X + Y) (X + Y)^T from bounds of X X^T and Y Y^T, the one of the smallest trace for all X and Y."""
    a, b = (jnp.sqrt(jnp.trace(of, axis1=1, axis2=2))[:, None, None] for of in (one, other))
    first, second = ((a + b) / jnp.where(of > 0, of, 1) * cover for of, cover in ((a, one), (b, other)))
    return first + second
