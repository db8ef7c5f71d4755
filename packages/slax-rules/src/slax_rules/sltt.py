"""Spatial learning through time: no trace at all."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_rules.blocks import linearise
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

    def initialize_traces(self, block: Block, inputs: tuple[Array, ...], states: Float[Array, "S B *N"]) -> tuple[()]:
        return ()

    def follow(
        self,
        block: Block,
        window: Window,
        traces: tuple[()],
        signal: Float[Array, "K B *N"],
        end: Float[Array, "S B *N"],
    ) -> tuple[Pullback, tuple[()]]:
        blocks = jax.vmap(lambda moment: linearise(block.neuron, moment))(window.moments)
        below = blocks.psi * signal
        current = below.at[-1].add(jnp.sum(blocks.d[-1] * end, axis=0))
        neuron = tuple(
            sum_to(jnp.sum(pO * signal, axis=0) + jnp.sum(pS[-1] * end, axis=0), parameter)
            for pS, pO, parameter in zip(blocks.pS, blocks.pO, neuron_parameters(block), strict=True)
        )
        return Pullback(synapse_gradients(block.synapses, window.inputs, current), neuron, below), ()
