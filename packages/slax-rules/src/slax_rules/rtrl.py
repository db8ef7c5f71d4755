"""Real-time recurrent learning."""

import dataclasses
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float, Key

from slax_rules.forward import Forward
from slax_rules.influence import carry_over, colourings, meet, no_influence
from slax_rules.network import Network


def rtrl(model: nnx.RNNCellBase) -> Forward:
    return Forward(model, RTRL())


@dataclasses.dataclass(frozen=True)
class RTRL:
    """The rule of `rtrl`, a window at a time.

    J_K = (dh_K/dh_0) J_0 + dh_K/dtheta              by reverse passes over the window
    gradient  sum_t delta_t dy_t/dtheta + a_0 J_0    a_0 = sum_t delta_t dy_t/dh_0
    """

    default_window: ClassVar[int] = 32
    stepwise: ClassVar[bool] = False

    def initialize(self, network: Network, carry: Any, key: Key[Array, ""] | None) -> tuple[Array, ...]:
        return no_influence(network.reach(None), network.states(carry).shape[0], network.params)

    def advance(
        self, network: Network, carry: Any, inputs: Float[Array, "K B ..."], influence: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        reaches = network.reach(None)
        seeds, which = colourings(reaches)
        passes = network.pull_states(carry, inputs, seeds)
        # What a parameter reaches, it reaches for good: of the states of a colour, at most one has a share in what follows.
        return tuple(
            passes[colours][0][index] + carry_over(passes[colours][1].astype(old.dtype), old, reach)
            for index, (colours, old, reach) in enumerate(zip(which, influence, reaches, strict=True))
        )

    def meet(self, network: Network, adjoint: Float[Array, "B H"], influence: tuple[Array, ...]) -> tuple[Array, ...]:
        reaches = network.reach(None)
        return tuple(meet(adjoint.astype(old.dtype), old, reach) for old, reach in zip(influence, reaches, strict=True))
