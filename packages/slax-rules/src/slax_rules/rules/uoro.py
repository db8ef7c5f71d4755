"""Unbiased online recurrent optimization."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from slax_rules.engine.influence import InfluenceRule, StateSpace
from slax_rules.engine.noise import noise, noise_stream
from slax_rules.losses import sum_dtype


class RankOneInfluence(NamedTuple):
    """The state of UORO: the key of the sequence, the index of the next step, s, and th for each array of parameters."""

    key: Key[Array, ""]
    step: Int[Array, ""]
    states: Float[Array, "B H"]
    parameters: tuple[Float[Array, "B ..."], ...]


class RandomInfluence(nnx.Module, InfluenceRule):
    """A rule that carries a random product whose mean is the influence of RTRL."""

    stepwise: ClassVar[bool] = True

    def __init__(self, *, rngs: nnx.Rngs | nnx.RngStream | None = None):
        self.stream = noise_stream(type(self).__name__, rngs)


class UORO(RandomInfluence):
    """Unbiased online recurrent optimization (UORO): the influence of RTRL as a random matrix of rank one.

        s_t = rho0 D_t s_{t-1} + rho1 nu_t          D_t = dh_t/dh_{t-1}
        th_t = th_{t-1} / rho0 + nu_t F_t / rho1    F_t = dh_t/dtheta    # the direct part
        rho0 = sqrt(|th_{t-1}| / |D_t s_{t-1}|)     rho1 = sqrt(|nu_t F_t| / |nu_t|)
        gradient: sum_t delta_t dy_t/dtheta + (delta_t dy_t/dh_{t-1} . s_{t-1}) th_{t-1}

    per sample, where h [H] is the state of the entire model, delta_t the gradient of the loss w.r.t. its output y_t, and
    nu_t [H] are independent random signs. The mean of s_t th_t over the signs is the influence of the parameters on the
    state, as in RTRL.

    It equals BPTT in the mean, and without noise for a sequence of one step. It omits nothing; the noise grows with the length
    of the sequence. Its gradient does not depend on the window, since the signs belong to the step. Memory per sample is H + P
    for P parameters. It takes any cell, one step at a time.

    Args:
        rngs: random streams, whose stream `noise` is forked. Each call of `gradients` draws the key of a sequence.

    References:
        Tallec, Ollivier: Unbiased online recurrent optimization, 2017, arXiv 1702.05043.

    Note:
        A rho is 1 where one of its norms is 0; the paper adds a small number to both. The gradient uses s and th from before
        the step, and the direct effect of the parameters on the output within the step exactly, without noise.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_rules import UORO, cross_entropy, gradients
        >>> model = nnx.GRUCell(8, 3, rngs=nnx.Rngs(0))
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> rule = UORO(rngs=nnx.Rngs(2))
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=rule)
    """

    def init_influence(self, space: StateSpace, carry: Any) -> RankOneInfluence:
        states = jnp.zeros_like(space.states(carry))
        arrays = jax.tree.leaves(space.params)
        return RankOneInfluence(
            self.stream(),
            jnp.zeros((), jnp.int32),
            states,
            tuple(jnp.zeros((states.shape[0], *array.shape), array.dtype) for array in arrays),
        )

    def advance(
        self, space: StateSpace, carry: Any, inputs: Float[Array, "1 B ..."], influence: RankOneInfluence
    ) -> RankOneInfluence:
        key, step, s, th = influence
        nu = noise(key, step, s.shape, s.dtype)
        ((direct, _),) = space.vjp_states(carry, inputs, [nu[:, None]])
        direct = tuple(array[:, 0] for array in direct)
        return RankOneInfluence(key, step + 1, *one_product(space.jvp_states(carry, inputs, s), th, nu, direct))

    def contract(
        self, space: StateSpace, adjoint: Float[Array, "B H"], influence: RankOneInfluence
    ) -> tuple[Array, ...]:
        through = jnp.sum(adjoint * influence.states, axis=1)
        return tuple(jnp.sum(scaled(through, th), axis=0) for th in influence.parameters)


def one_product(u: Array, A: Any, x: Array, G: Any) -> tuple[Array, Any]:
    """A product in place of the sum of u A and x G, and equal to it in the mean if x and G have a random sign per sample."""
    rho0, rho1 = _ratio(A, u), _ratio(G, x)
    right = jax.tree.map(lambda old, new: scaled(1 / rho0, old) + scaled(1 / rho1, new), A, G)
    return scaled(rho0, u) + scaled(rho1, x), right


def _ratio(a: Any, b: Array) -> Float[Array, " B"]:
    """The ratio sqrt(|a| / |b|) per sample; 1 where one of them is 0."""
    squares = sum(map(_square_sum, jax.tree.leaves(a))), _square_sum(b)
    possible = (squares[0] > 0) & (squares[1] > 0)
    above, below = (jnp.where(possible, square, jnp.ones_like(square)) for square in squares)
    return (above / below) ** 0.25


def _square_sum(array: Float[Array, "B ..."]) -> Float[Array, " B"]:
    wide = array.astype(sum_dtype(array.dtype))
    return jnp.sum(wide * wide, axis=tuple(range(1, array.ndim)))


def scaled(factor: Float[Array, " B"], array: Float[Array, "B ..."]) -> Array:
    return factor.astype(array.dtype).reshape(-1, *(1,) * (array.ndim - 1)) * array
