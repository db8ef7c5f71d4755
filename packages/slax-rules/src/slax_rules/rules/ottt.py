"""OTTT, a rule with traces of inputs."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.engine.input_traces import (
    InputTraces,
    check_linear,
    input_trace_gradients,
    linear_response,
    neuron_parameter_gradients,
    parameter_slopes,
    response_jacobians,
    signal_within_step,
    step_slopes,
    zero_input_traces,
)
from slax_rules.engine.jacobians import States, scale
from slax_rules.rules.base import Layer, LayerGradient, LayerRule, LayerWindow


class OTTTTraces(NamedTuple):
    """The traces a of the inputs and, for each parameter of the neuron, the trace of each state after firing, [B, N]."""

    inputs: InputTraces
    neuron: tuple[States, ...]


@dataclasses.dataclass(frozen=True)
class OTTT(LayerRule):
    """Online training through time (OTTT): one trace per input, which decays as the membrane does.

        a_t = decay a_{t-1} + x_t        gradient: sum_t delta_t psi_t a_t        signal below: delta_t psi_t W^T

    for a LIF neuron with the derivative psi of its spike at the membrane before the reset. A bias has x = 1. For a neuron with
    S states, a consists of S traces, see `input_traces`; a parameter of the neuron has a trace of its own, per unit, which also
    excludes paths through spikes.

    Args:
        bias_trace: whether a bias has a trace. Without one, its gradient is sum_t delta_t psi_t, as in the authors' code, in
            Slax 0.0.1 and in SpikingJelly.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        TypeError: a neuron that is not linear except for its spikes, or that has parameters per unit.

    References:
        Xiao, Meng, Zhang, He, Lin: Online training through time for spiking neural networks, 2022, arXiv 2210.04195.

    Note:
        The authors omit the trace in the first convolution, whose input is constant; here every layer has one. They
        divide the loss by the number of steps, as the mean over time does here.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTTT, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OTTT())
    """

    bias_trace: bool = True

    def check_layer(self, layer: Layer) -> None:
        check_linear(type(self).__name__, layer.neuron)

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> OTTTTraces:
        rest = tuple(jnp.zeros_like(state) for state in states)
        response = linear_response(layer.neuron)
        return OTTTTraces(zero_input_traces(layer, inputs, response.filter), tuple(rest for _ in layer.parameters))

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: OTTTTraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, OTTTTraces]:
        response = linear_response(layer.neuron)
        psi = step_slopes(layer.neuron, window.membranes)  # ds_t / dm_t of each state
        weights = scale(signal, psi)
        # a_t = A a_{t-1} + b x_t with the linear response A, b of the layer, and the gradient sum_t delta_t psi_t a_t.
        synapses, inputs = input_trace_gradients(
            layer, window, traces.inputs, response.filter, weights, bias_trace=self.bias_trace
        )

        def at(step: Any) -> Any:
            point, psi, delta = step
            direct = parameter_slopes(layer.neuron, *point)
            return response_jacobians(response, direct, psi), delta, (None,) * len(psi)

        steps = (window.steps, psi, signal)
        neuron, neuron_traces = neuron_parameter_gradients(layer, traces.neuron, steps, at)
        cotangent = signal_within_step(response.current, weights)
        return LayerGradient.of(layer, synapses, neuron, cotangent), OTTTTraces(inputs, neuron_traces)
