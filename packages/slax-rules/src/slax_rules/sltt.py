"""Spatial learning through time: no trace at all."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_rules.blocks import States, linearise, times, total
from slax_rules.engine import Ruled
from slax_rules.synapse import synapse_gradients
from slax_rules.window import Block, Pullback, Window, neuron_parameters, sum_to


def sltt(model: nnx.RNNCellBase) -> Ruled:
    """Puts a stack under spatial learning through time (SLTT): each step for itself.

        gradient  sum_t delta_t psi_t x_t        signal below  delta_t psi_t W^T

    The same as truncation to a window of one step, `gradients(model, ..., window=1)`, but in whole windows.

    Args:
        model: a stack of layers, each a Linear or Conv and an element-wise neuron, made by `connect`.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that SLTT cannot treat.

    References:
        Meng, Xiao, Yan, Wang, Lin, Luo: Towards memory- and time-efficient backpropagation for training spiking neural
        networks, 2023, arXiv 2302.14311.

    Note:
        The paper's SLTT-K takes K steps of each sequence, drawn at random; give `gradients` a mask of those steps for it.
    """
    return Ruled(model, SLTT())


@dataclasses.dataclass(frozen=True)
class SLTT:
    """The rule of `sltt`, a window at a time."""

    default_window: ClassVar[int] = 32

    def check(self, block: Block, above: Any) -> None:
        """Takes every block."""

    def initialize_traces(self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> tuple[()]:
        return ()

    def follow(
        self,
        block: Block,
        window: Window,
        traces: tuple[()],
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, tuple[()]]:
        blocks = jax.vmap(lambda moment: linearise(block.neuron, moment))(window.moments)
        below = blocks.psi * signal
        later = times(_last(blocks.d), end)
        current = below if later is None else below.at[-1].add(later)
        neuron = tuple(
            sum_to(total([jnp.sum(pO * signal, axis=0), times(_last(pS), end)]), parameter)
            for pS, pO, parameter in zip(blocks.pS, blocks.pO, neuron_parameters(block), strict=True)
        )
        return Pullback(synapse_gradients(block.synapses, window.inputs, current), neuron, below), ()


def _last(states: States) -> States:
    return tuple(state if state is None else state[-1] for state in states)
