"""S-TLLR: a causal term with traces of the inputs, and a non-causal term with a trace of the neuron's sensitivity."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_neurons import SpikingNeuron, Surrogate
from slax_neurons.building_blocks import scan_steps
from slax_rules.engine.input_traces import InputTraces, input_trace_gradients, leaky_filter, zero_input_traces
from slax_rules.engine.jacobians import psi_of_steps
from slax_rules.engine.synapse import synapse_gradients
from slax_rules.rules.base import Layer, LayerGradient, LayerRule, LayerWindow
from slax_rules.rules.ottt import OTTT


class STLLRTraces(NamedTuple):
    """The trace of the inputs, and the trace of Psi, [B, N]."""

    inputs: InputTraces
    psi: Float[Array, "B *N"]


@dataclasses.dataclass(frozen=True)
class STLLR(LayerRule):
    """STDP-inspired temporal local learning (S-TLLR): a causal and a non-causal term, as in spike-timing-dependent plasticity.

        xhat_t = lambda_pre xhat_{t-1} + x_t        Psihat_t = lambda_post Psihat_{t-1} + Psi_t
        gradient: sum_t delta_t (alpha_pre Psi_t xhat_t + alpha_post Psihat_{t-1} x_t)        signal below: delta_t psi_t W^T

    with the slope psi of the neuron's output at its current. The first term relates an output to inputs before it, the second
    an input to outputs before it; alpha_post < 0 favors causal pairs, as STDP does, and alpha_post > 0 synchronous ones. A bias
    has the gradient sum_t delta_t Psi_t. A last layer without spikes, the read-out, uses OTTT without a trace of the bias.
    S-TLLR carries I + N numbers per sample and layer.

    Args:
        lambda_pre: decay of the trace of an input, in [0, 1].
        lambda_post: decay of the trace of Psi, in [0, 1].
        alpha_pre: weight of the causal term, any number.
        alpha_post: weight of the non-causal term, any number; with 0, and lambda_pre equal to the neuron's decay, the rule is
            `OTTT(bias_trace=False)` for a LIF neuron.
        secondary: the surrogate whose slope is Psi in both terms; the neuron's own by default, so that Psi = psi.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        ValueError: a decay outside [0, 1].
        TypeError: a neuron with parameters of its own; `secondary` for a neuron that is not a `SpikingNeuron`.

    References:
        Apolinario, Roy: S-TLLR: STDP-inspired temporal local learning rule for spiking neural networks, 2025,
        arXiv 2306.15220, Eqs. 10 and 11 by the numbering of the authors' code.

    Note:
        The equations follow the authors' code. The sum in the paper has one more factor lambda_post, so alpha_post here
        is lambda_post alpha_post there. The defaults are their values for DVS Gesture. The code uses one function as Psi and
        psi, standardizes the weights (`Standardized`), and computes the loss in the last steps only: pass a mask of these
        steps.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import STLLR, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=STLLR(alpha_post=0.5))
    """

    lambda_pre: float = 0.75
    lambda_post: float = 0.2
    alpha_pre: float = 1.0
    alpha_post: float = -1.0
    secondary: Surrogate | None = None

    def __post_init__(self) -> None:
        self.check_unit_interval("lambda_pre")
        self.check_unit_interval("lambda_post")

    def check_layer(self, layer: Layer) -> None:
        layer.check_fixed("STLLR")
        if self.secondary is not None and not isinstance(layer.neuron, SpikingNeuron):
            raise TypeError(f"STLLR got secondary for {type(layer.neuron).__name__}, not spiking. Leave secondary out.")

    def for_layer(self, layer: Layer) -> LayerRule:
        is_read_out = layer.above is None and not layer.neuron.spikes
        return OTTT(bias_trace=False, route=self.route) if is_read_out else self

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> STLLRTraces:
        filter = leaky_filter(self.lambda_pre, states[0].dtype)
        return STLLRTraces(zero_input_traces(layer, inputs, filter), jnp.zeros_like(states[0]))

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: STLLRTraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, STLLRTraces]:
        def slopes(neuron: Any) -> Float[Array, "K B *N"]:
            return psi_of_steps(neuron, window.steps)

        psi = slopes(layer.neuron)
        secondary = psi if self.secondary is None else slopes(layer.neuron.replace(spike_fn=self.secondary))

        decay = jnp.asarray(self.lambda_post, psi.dtype)
        end, before = scan_steps(lambda before, now: (decay * before + now, before), traces.psi, secondary)
        filter = leaky_filter(self.lambda_pre, psi.dtype)
        causal, inputs = input_trace_gradients(
            layer, window, traces.inputs, filter, (signal * secondary,), bias_trace=False
        )
        non_causal = synapse_gradients(layer.traced_synapses, window.traced_inputs, signal * before)
        synapses = tuple(
            {
                name: self.alpha_pre * gradient + self.alpha_post * other[name] if name == "kernel" else gradient
                for name, gradient in one.items()
            }
            for one, other in zip(causal, non_causal, strict=True)
        )
        return LayerGradient.of(layer, synapses, (), signal * psi), STLLRTraces(inputs, end)
