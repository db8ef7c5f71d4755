"""Online spatio-temporal learning where layers have connections of their own."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_neurons import Connect, Edge
from slax_neurons.internal import DelayBuffer
from slax_rules.influence.rtrl import RTRL
from slax_rules.influence.state_space import StateSpace, state_space
from slax_rules.layerwise.jacobians import linearize
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow
from slax_rules.layerwise.rule import LayerRule


@dataclasses.dataclass(frozen=True)
class RecurrentOSTL(LayerRule):
    """The rule of a layer with edges to itself under `OSTL(recurrence=True)`: RTRL within the layer.

    E_t [N S, P] = dh_t/dtheta, with h_t and s_t those of the layer alone, by way of its own edges too
    gradient  sum_t delta_t ds_t/dtheta        signal below  delta_t psi_t W^T
    """

    default_window: ClassVar[int] = RTRL.default_window

    def initialize_traces(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        carry = _cell(layer).initialize_carry(inputs[0].shape)
        return RTRL().initialize_influence(_space(layer, inputs[0].shape), carry)

    def window(
        self, layer: Layer, window: LayerWindow, traces: Any, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Any]:
        rule, inputs = RTRL(), window.inputs[0]
        space = _space(layer, inputs.shape[1:])
        buffer: DelayBuffer = window.carry
        carry = ((), buffer._replace(outputs=buffer.outputs[-max(layer.self_edges) :]))
        (end, _), pull = space.vjp(carry, inputs)
        direct, adjoint = pull(jnp.zeros_like(space.states(end)), signal)
        past = rule.contract(space, adjoint, traces)
        gradient = space.as_gradient([now + before.astype(now.dtype) for now, before in zip(direct, past, strict=True)])
        edges = (gradient["synapses"][index] for index in range(len(layer.self_edges)))
        psi = jax.vmap(lambda point: linearize(layer.neuron, point).psi)(window.points)
        found = LayerGradient(
            tuple(
                {name: by_weights[...] for name, by_weights in part.items()}
                for part in (gradient["modules"][0], *edges)
            ),
            tuple(jax.tree.leaves(gradient["modules"].get(1, ()))),
            psi * signal,
        )
        return found, rule.advance(space, carry, inputs, traces)


def _cell(layer: Layer) -> Connect:
    """The layer by itself, with its own edges."""
    edges = [Edge(1, 0, steps, synapse) for steps, synapse in zip(layer.self_edges, layer.synapses[1:], strict=True)]
    return Connect([layer.synapses[0], layer.neuron], edges)


def _space(layer: Layer, input_shape: tuple[int, ...]) -> StateSpace:
    return state_space(_cell(layer), input_shape)
