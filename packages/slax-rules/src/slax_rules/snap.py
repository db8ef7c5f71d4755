"""SnAp-n: real-time recurrent learning that keeps what is within n steps' reach."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from slax_rules.forward import Forward
from slax_rules.influence import Reach, carry_over, colourings, meet, no_influence
from slax_rules.network import Network


def snap(model: nnx.RNNCellBase, *, n: int = 1) -> Forward:
    """Puts a cell under SnAp-n, a sparse n-step approximation of real-time recurrent learning.

        J_t = M (D_t J_{t-1} + F_t)          D_t = dh_t/dh_{t-1},  F_t = dh_t/dtheta, the direct part
        gradient  sum_t delta_t (dy_t/dtheta + dy_t/dh_{t-1} J_{t-1})

    h [H] is the state of the whole model, delta_t the cotangent of its output y_t, and M, entry by entry, is 1 where a
    parameter reaches a state within n steps, else 0. One step goes up through all layers. So a layer without recurrence, with
    all that is above it, is within one step's reach.

    Equals BPTT as soon as n steps reach all that can ever be reached: n = 1 for the weights of a stack without late edges,
    n = 2 where a layer is recurrent and all its units see each other, as in Flax's cells, or where a neuron's parameter reaches
    one of its states only by way of another. Drops all influence beyond. Its gradient does not depend on the window.

    Memory per sample is that of the entries within reach: at n = 1, a state for each weight of a recurrent layer (and those
    of the layers above), and not all states of the layer. Each window is followed twice, step by step: once for the
    influence at its end, and once, in the reverse pass, for the gradient.

    Args:
        model: any cell.
        n: steps, >= 1.

    Returns:
        A cell with the same parameters and forward pass.

    Raises:
        TypeError: not a cell, or one under a rule already.
        ValueError: n below 1.

    References:
        Menick, Elsen, Evci, Osindero, Simonyan, Graves: A practical sparse approximation for real time recurrent learning,
        2020, arXiv 2006.07232.

    Note:
        What a step can reach is found from the program of its reverse pass, once for each model and shape of input, and not
        from numbers: a surrogate that is zero nearly everywhere counts as a path, and so does a weight that happens to be zero
        (the paper's sparse weights are not looked at). A cell with a loop inside its step counts as if all saw each other. The
        outputs are no part of the state, so their own derivative is whole.
    """
    if n < 1:
        raise ValueError(f"snap got n={n}, expected at least 1. For no approximation at all use rtrl.")
    return Forward(model, SnAp(n))


@dataclasses.dataclass(frozen=True)
class SnAp:
    """The rule of `snap`.

    Args:
        n: steps, >= 1.
    """

    default_window: ClassVar[int] = 32  # no matter for the time, since steps are followed one by one
    stepwise: ClassVar[bool] = True

    n: int = 1

    def initialize(self, network: Network, carry: Any, key: Key[Array, ""] | None) -> tuple[Array, ...]:
        return no_influence(network.reach(self.n), network.states(carry).shape[0], network.params)

    def advance(
        self, network: Network, carry: Any, inputs: Float[Array, "1 B ..."], influence: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        reaches = network.reach(self.n)
        seeds, which = colourings(reaches)
        *passes, (_, transition) = network.pull_states(carry, inputs, [*seeds, np.eye(network.states(carry).shape[1])])
        return tuple(
            jnp.where(
                reach.reached[None],
                passes[colours][0][index] + _follow(transition.astype(old.dtype), old, reach),
                jnp.zeros((), old.dtype),
            )
            for index, (colours, old, reach) in enumerate(zip(which, influence, reaches, strict=True))
        )

    def meet(self, network: Network, adjoint: Float[Array, "B H"], influence: tuple[Array, ...]) -> tuple[Array, ...]:
        reaches = network.reach(self.n)
        return tuple(meet(adjoint.astype(old.dtype), old, reach) for old, reach in zip(influence, reaches, strict=True))


def _follow(
    transition: Float[Array, "B H H"], influence: Float[Array, "B C *P"], reach: Reach
) -> Float[Array, "B C *P"]:
    """D J at the state of each colour, of a parameter that reaches none too."""
    parameter = list(range(3, 1 + influence.ndim))
    one, several = np.flatnonzero(~reach.varying), np.flatnonzero(reach.varying)
    rows = reach.kept_rows
    blocks = transition[:, rows[several][:, None], rows[None]]
    parts = [
        carry_over(transition[:, reach.one_row[one]], influence, reach),
        jnp.einsum(blocks, [0, 1, 2, *reach.kept], influence, [0, 2, *parameter], [0, 1, *parameter]),
    ]
    return jnp.concatenate(parts, axis=1)[:, np.argsort(np.concatenate([one, several]))]
