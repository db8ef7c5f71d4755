"""Approximate OTPE, which sums traces of inputs."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.engine.input_traces import (
    Filter,
    InputTraces,
    LinearResponse,
    ParameterSlopes,
    check_linear,
    input_trace_gradients,
    linear_response,
    neuron_parameter_gradients,
    output_slopes,
    parameter_slopes,
    response_jacobians,
    signal_within_step,
    step_slopes,
    zero_input_traces,
)
from slax_rules.engine.jacobians import LocalJacobians, States, add, scale
from slax_rules.rules.base import Layer, LayerGradient, LayerRule, LayerWindow
from slax_rules.rules.otpe import LeakyMean, LeakySumRule, init_leaky_mean, leaky_means
from slax_rules.rules.ottt import OTTT


class ApproximateOTPETraces(NamedTuple):
    """The traces of a layer below the last.

    Args:
        inputs: a and z, together 2 S states.
        slopes: the leaky means of ds/dm.
        neuron: for each parameter of the neuron, per unit: its traces in the states after firing, the sums of its traces in
            the membranes, and the sum of its direct effect on the output, 2 S + 1 arrays in all.
    """

    inputs: InputTraces
    slopes: LeakyMean
    neuron: tuple[States, ...]


@dataclasses.dataclass(frozen=True)
class ApproximateOTPE(LeakySumRule):
    """Approximate OTPE: `OTPE` at the cost of `OTTT`.

        a_t = decay a_{t-1} + x_t        z_t = k z_{t-1} + a_t        gradient: sum_t delta_t g_t z_t
        signal below: delta_t g_t W^T

    with the mean g of psi and the decay k of the next layer's membrane, as in `OTPE`, and the traces a of `OTTT`, for LIF
    neurons; with several states, there is one a, z and g = mean of ds/dm for each. The last layer uses OTTT. The direct
    effect of a neuron's parameter, such as a threshold, on the output at given membranes is summed without the mean.

    Args:
        output_decay: k, in [0, 1], for all layers. By default the decay of the next layer, which has to be one number.
        bias_trace: whether a bias has traces. Without them, its gradient is sum_t delta_t g_t, as in the authors' code.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        ValueError: an output_decay outside [0, 1].
        TypeError: a neuron that is not linear except for its spikes, or that has parameters per unit; a next layer whose
            decay is not one number, if none is given.

    References:
        Summe, Schaefer, Joshi: Estimating post-synaptic effects for online training of feed-forward SNNs, 2023,
        arXiv 2311.16151.

    Note:
        The authors use the layer's own decay for k.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import ApproximateOTPE, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=ApproximateOTPE())
    """

    bias_trace: bool = True

    def check_layer(self, layer: Layer) -> None:
        check_linear("ApproximateOTPE", layer.neuron)
        super().check_layer(layer)

    def for_layer(self, layer: Layer) -> LayerRule:
        return OTTT(self.bias_trace, route=self.route) if layer.above is None else self

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> ApproximateOTPETraces:
        rest = tuple(jnp.zeros_like(state) for state in states)
        membrane = jax.tree.unflatten(jax.tree.structure(layer.neuron.initialize_carry((1, 1))), states)
        filter = _with_sums(linear_response(layer.neuron).filter, jnp.zeros((), rest[0].dtype))
        return ApproximateOTPETraces(
            zero_input_traces(layer, inputs, filter),
            init_leaky_mean(output_slopes(layer.neuron, membrane)),
            tuple((*rest, *rest, rest[0]) for _ in layer.parameters),
        )

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: ApproximateOTPETraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, ApproximateOTPETraces]:
        k = self.decay(layer)
        response = linear_response(layer.neuron)
        slopes = step_slopes(layer.neuron, window.membranes)
        mean, g = leaky_means(traces.slopes, slopes, k)
        from_above = signal if window.penalty is None else signal - window.penalty
        weights = scale(from_above, g)
        # The states a and z, z_t = k z_{t-1} + a_t; the gradient sum_t delta_t g_t z_t reads z alone, and that of penalties a.
        penalty: States = (None,) * len(g) if window.penalty is None else scale(window.penalty, slopes)
        synapses, inputs = input_trace_gradients(
            layer,
            window,
            traces.inputs,
            _with_sums(response.filter, k),
            (*penalty, *weights),
            bias_trace=self.bias_trace,
        )

        def at(step: Any) -> tuple[LocalJacobians, Any, States]:
            point, slopes, weights, delta, penalty = step
            direct = parameter_slopes(layer.neuron, *point)
            jacobians = _with_summed_states(response_jacobians(response, direct, slopes), response, direct, k)
            return jacobians, penalty, (*[None] * len(slopes), *weights, delta)

        steps = (window.steps, slopes, weights, from_above, window.penalty)
        neuron, neuron_traces = neuron_parameter_gradients(layer, traces.neuron, steps, at)
        cotangent = signal_within_step(response.current, add(weights, penalty))
        found = LayerGradient.of(layer, synapses, neuron, cotangent)
        return found, ApproximateOTPETraces(inputs, mean, neuron_traces)


def _with_sums(filter: Filter, decay: Float[Array, ""]) -> Filter:
    """The filter of a and of its leaky sum z: z_t = decay z_{t-1} + a_t."""
    nothing: States = (None,) * len(filter.current)
    sums = ((*row, *nothing[:i], decay, *nothing[i + 1 :]) for i, row in enumerate(filter.transition))
    return Filter((*((*row, *nothing) for row in filter.transition), *sums), (*filter.current, *filter.current))


def _with_summed_states(
    plain: LocalJacobians, response: LinearResponse, direct: list[ParameterSlopes], decay: Float[Array, ""]
) -> LocalJacobians:
    """The Jacobians for the neuron's parameters of the states h, and of the sums z and q of their linear response,

        h_t = F m_t        z_t = decay z_{t-1} + m_t        q_t = decay q_{t-1} + s_t    # at given membranes

    where m_t is the linear response to h_{t-1}. The signal on z is delta g, and that on q is delta.
    """
    nothing: States = (None,) * len(plain.d)
    sums = ((*row, *nothing[:i], decay, *nothing[i + 1 :], None) for i, row in enumerate(response.integrate))
    return plain._replace(
        D=(*((*row, *nothing, None) for row in plain.D), *sums, (*nothing, *nothing, decay)),
        o=(*plain.o, *nothing, None),
        pS=tuple((*h, *by.membrane, by.output) for h, by in zip(plain.pS, direct, strict=True)),
    )
