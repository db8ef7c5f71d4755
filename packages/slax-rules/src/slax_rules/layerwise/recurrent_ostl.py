"""Online spatio-temporal learning for layers with recurrent connections."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Edge
from slax_neurons.building_blocks import DelayBuffer
from slax_rules.influence.rtrl import RTRL
from slax_rules.influence.state_space import StateSpace, state_space
from slax_rules.layerwise.jacobians import linearize, weighted_output
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow
from slax_rules.layerwise.rule import LayerRule
from slax_rules.layerwise.synapse import has_weights
from slax_rules.probes import Probe
from slax_rules.rule import Heads


@dataclasses.dataclass(frozen=True)
class RecurrentOSTL(LayerRule):
    """The rule of a layer with edges to itself under `OSTL(recurrence=True)`: RTRL within the layer.

    E_t [N S, P] = dh_t/dtheta, with h_t and s_t of the layer alone, including paths over its own edges
    gradient  sum_t delta_t ds_t/dtheta        signal below  delta_t psi_t W^T
    """

    reads_penalty: ClassVar[bool] = True

    def check(self, layer: Layer) -> None:
        if layer.self_delays and layer.learns_delays:
            raise TypeError(
                "OSTL(recurrence=True) follows the paths of a recurrent layer, got one with learned delays before it, which it "
                "does not follow. Use OSTL(), or RTRL() for the entire model."
            )
        if len(layer.self_delays) < len(layer.current_synapses) - 1:
            raise TypeError(
                "OSTL(recurrence=True) takes edges from a layer to itself, got one from another layer. Use OSTL(), for which "
                "the values from an edge are given inputs, or RTRL() for the entire model."
            )

    def initialize_traces(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        carry = _cell(layer).initialize_carry(inputs[0].shape)
        return RTRL().initialize_influence(_space(layer, inputs[0].shape), carry)

    def window(
        self, layer: Layer, window: LayerWindow, traces: Any, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Any]:
        rule, inputs = RTRL(), window.inputs[0]
        space = _space(layer, inputs.shape[1:])
        buffer: DelayBuffer = window.carry
        carry = ((), buffer._replace(outputs=buffer.outputs[-max(layer.self_delays) :]))
        penalty = window.penalty
        hidden = () if penalty is None or penalty.membranes is None else (penalty.membranes,)
        if hidden:
            space = dataclasses.replace(space, probes=(Probe(0, "membranes"),))
        (end, _), pull = space.vjp(carry, inputs)
        outputs = signal if penalty is None else signal + penalty.outputs
        direct, adjoint = pull(jnp.zeros_like(space.states(end)), Heads(outputs, hidden))
        past = rule.contract(space, adjoint, traces)
        gradient = space.as_gradient([now + before.astype(now.dtype) for now, before in zip(direct, past, strict=True)])
        cotangent = jax.vmap(lambda point: linearize(layer.neuron, point).psi)(window.points) * signal
        if penalty is not None:
            weigh = jax.vmap(lambda point, penalty: weighted_output(layer.neuron, point, *penalty).psi)
            cotangent = cotangent + weigh(window.points, penalty)
        holder = nnx.merge(space.graphdef, gradient, space.rest)  # the layer, with gradients as its parameters
        neuron = tuple(jax.tree.leaves(nnx.state(holder.modules[1], nnx.Param)))
        found = LayerGradient(_by_synapse([holder.modules[0], *holder.synapses]), neuron, cotangent)
        return found, rule.advance(space, carry, inputs, traces)


def _by_synapse(synapses: list[Any]) -> tuple[dict[str, Array], ...]:
    """The gradients of synapses by name; a synapse that occurs twice has the total gradient at its first occurrence."""
    parts: list[dict[str, Array]] = []
    seen: set[int] = set()
    for synapse in synapses:
        names = ("kernel", "bias") if has_weights(synapse) and id(synapse) not in seen else ()
        parts.append({name: getattr(synapse, name)[...] for name in names if getattr(synapse, name) is not None})
        seen.add(id(synapse))
    return tuple(parts)


def _cell(layer: Layer) -> Connect:
    """The layer by itself, with its own edges."""
    edges = [Edge(1, 0, steps, synapse) for steps, synapse in zip(layer.self_delays, layer.synapses[1:], strict=True)]
    return Connect([layer.synapses[0], layer.neuron], edges)


def _space(layer: Layer, input_shape: tuple[int, ...]) -> StateSpace:
    return state_space(_cell(layer), input_shape)
