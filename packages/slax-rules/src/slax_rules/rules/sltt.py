"""Spatial learning through time, a rule without traces."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.engine.eligibility import sum_to_parameter
from slax_rules.engine.jacobians import linearize
from slax_rules.engine.synapse import synapse_gradients
from slax_rules.rules.base import Layer, LayerGradient, LayerRule, LayerWindow


@dataclasses.dataclass(frozen=True)
class SLTT(LayerRule):
    """Spatial learning through time (SLTT): only the gradient within each time step.

        gradient: sum_t delta_t psi_t x_t        signal below: delta_t psi_t W^T

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

    takes_several_currents: ClassVar[bool] = True

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> tuple[()]:
        return ()

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: tuple[()], signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, tuple[()]]:
        jacobians = jax.vmap(lambda *step: linearize(layer.neuron, *step))(*window.steps)
        current = jacobians.psi * signal
        neuron = tuple(
            sum_to_parameter(jnp.sum(pO * signal, axis=0), parameter)
            for pO, parameter in zip(jacobians.pO, layer.parameters, strict=True)
        )
        synapses = synapse_gradients(layer.traced_synapses, window.traced_inputs, current)
        return LayerGradient.of(layer, synapses, neuron, current), ()
