"""Unbiased online recurrent optimisation."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Float, Int, Key

from slax_rules.forward import Forward
from slax_rules.losses import sum_dtype
from slax_rules.network import Network


def uoro(model: nnx.RNNCellBase, *, rngs: nnx.Rngs | nnx.RngStream) -> Forward:
    """Puts a cell under unbiased online recurrent optimisation (UORO).

        s_t = rho0 D_t s_{t-1} + rho1 nu_t          D_t = dh_t/dh_{t-1}
        th_t = th_{t-1} / rho0 + nu_t F_t / rho1    F_t = dh_t/dtheta, the direct part
        rho0 = sqrt(|th_{t-1}| / |D_t s_{t-1}|)     rho1 = sqrt(|nu_t F_t| / |nu_t|)
        gradient  sum_t delta_t dy_t/dtheta + (delta_t dy_t/dh_{t-1} . s_{t-1}) th_{t-1}

    per sample, with h [H] the state of the whole model, delta_t the cotangent of its output y_t, and nu_t [H] independent
    random signs. The mean of s_t th_t over the signs is the influence of the parameters on the state, as RTRL has it.

    Equals BPTT in the mean, and without noise for a sequence of one step. Drops nothing; the noise grows with the sequence. Its
    gradient does not depend on the window: the signs belong to the step. Memory per sample H + P for P parameters. Each window
    is followed twice, step by step: once for the influence at its end, and once, in the reverse pass, for the gradient.

    Args:
        model: any cell.
        rngs: its stream `noise` is used where `initialize_carry` is given none. Each first carry draws the key of a sequence.

    Returns:
        A cell with the same parameters and forward pass.

    Raises:
        TypeError: not a cell, or one under a rule already.

    References:
        Tallec, Ollivier: Unbiased online recurrent optimization, 2017, arXiv 1702.05043.

    Note:
        A rho is 1 where one of its norms is 0; the paper adds a small number to both. The gradient uses s and th from before
        the step, and what the output owes to the parameters within it as it is, without noise.
    """
    return Forward(model, UORO(), rngs)


class Sketch(NamedTuple):
    """What UORO carries: the key of the sequence, the step that comes next, s, and th for each array of parameters."""

    key: Key[Array, ""]
    step: Int[Array, ""]
    states: Float[Array, "B H"]
    parameters: tuple[Float[Array, "B ..."], ...]


@dataclasses.dataclass(frozen=True)
class UORO:
    """The rule of `uoro`."""

    default_window: ClassVar[int] = 32  # no matter for the time, since steps are followed one by one
    stepwise: ClassVar[bool] = True

    def initialize(self, network: Network, carry: Any, key: Any) -> Sketch:
        states = jnp.zeros_like(network.states(carry))
        arrays = jax.tree.leaves(network.params)
        return Sketch(
            key,
            jnp.zeros((), jnp.int32),
            states,
            tuple(jnp.zeros((states.shape[0], *array.shape), array.dtype) for array in arrays),
        )

    def advance(self, network: Network, carry: Any, inputs: Float[Array, "1 B ..."], influence: Sketch) -> Sketch:
        key, step, s, th = influence
        nu = noise(key, step, s.shape, s.dtype)
        ((direct, _),) = network.pull_states(carry, inputs, [nu[:, None]])
        direct = tuple(array[:, 0] for array in direct)
        pushed = network.push_states(carry, inputs, s)
        rho0, rho1 = _ratio(th, (pushed,)), _ratio(direct, (nu,))
        return Sketch(
            key,
            step + 1,
            _scaled(rho0, pushed) + _scaled(rho1, nu),
            tuple(_scaled(1 / rho0, old) + _scaled(1 / rho1, new) for old, new in zip(th, direct, strict=True)),
        )

    def meet(self, network: Network, adjoint: Float[Array, "B H"], influence: Sketch) -> tuple[Array, ...]:
        through = jnp.sum(adjoint * influence.states, axis=1)
        return tuple(jnp.sum(_scaled(through, th), axis=0) for th in influence.parameters)


def noise(key: Key[Array, ""], step: Int[Array, ""], shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Independent signs, -1 or 1, of a step."""
    return jax.random.rademacher(jax.random.fold_in(key, step), shape, dtype)


def _ratio(a: tuple[Array, ...], b: tuple[Array, ...]) -> Float[Array, " B"]:
    """sqrt(|a| / |b|) per sample, 1 where one of them is 0."""
    squares = [sum(_square_sum(array) for array in arrays) for arrays in (a, b)]
    possible = (squares[0] > 0) & (squares[1] > 0)
    above, below = (jnp.where(possible, square, jnp.ones_like(square)) for square in squares)
    return (above / below) ** 0.25


def _square_sum(array: Float[Array, "B ..."]) -> Float[Array, " B"]:
    wide = array.astype(sum_dtype(array.dtype))
    return jnp.sum(wide * wide, axis=tuple(range(1, array.ndim)))


def _scaled(factor: Float[Array, " B"], array: Float[Array, "B ..."]) -> Array:
    return factor.astype(array.dtype).reshape(-1, *(1,) * (array.ndim - 1)) * array
