"""Spatial learning through time, a rule without traces."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.layerwise.jacobians import linearize, weighted_output
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow, sum_to_parameter
from slax_rules.layerwise.rule import LayerRule
from slax_rules.layerwise.synapse import synapse_gradients


@dataclasses.dataclass(frozen=True)
class SLTT(LayerRule):
    """Spatial learning through time (SLTT): the gradient within each time step alone.

        gradient  sum_t delta_t psi_t x_t        signal below  delta_t psi_t W^T

    It equals truncation to one step, `TBPTT(steps=1)`, but processes entire windows.

    Args:
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    References:
        Meng, Xiao, Yan, Wang, Lin, Luo: Towards memory- and time-efficient backpropagation for training spiking neural
        networks, 2023, arXiv 2302.14311.

    Note:
        The paper's SLTT-K uses K steps of each sequence, drawn at random; for it, pass `gradients` a mask of these steps.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import SLTT, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=SLTT())
    """

    reads_penalty: ClassVar[bool] = True

    def initialize_traces(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> tuple[()]:
        return ()

    def window(
        self, layer: Layer, window: LayerWindow, traces: tuple[()], signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, tuple[()]]:
        jacobians = jax.vmap(lambda point: linearize(layer.neuron, point))(window.points)
        current, direct = jacobians.psi * signal, [pO * signal for pO in jacobians.pO]
        if window.penalty is not None:
            weigh = jax.vmap(lambda point, penalty: weighted_output(layer.neuron, point, *penalty))
            penalty = weigh(window.points, window.penalty)
            current, direct = current + penalty.psi, list(map(jnp.add, direct, penalty.pO))
        neuron = tuple(
            sum_to_parameter(jnp.sum(slope, axis=0), parameter)
            for slope, parameter in zip(direct, layer.parameters, strict=True)
        )
        return LayerGradient(synapse_gradients(layer.synapses, window.inputs, current), neuron, current), ()
