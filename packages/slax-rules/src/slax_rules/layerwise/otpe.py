"""Online training with postsynaptic estimates."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
from jaxtyping import Array, Float

from slax_neurons.building_blocks import StepSize
from slax_rules.layerwise.eligibility import (
    EligibilityTraces,
    eligibility_gradient,
    eligibility_window,
    zero_eligibility,
)
from slax_rules.layerwise.jacobians import LocalJacobians, StepPoint, linearize, with_leaky_sum
from slax_rules.layerwise.layer import (
    Layer,
    LayerGradient,
    LayerWindow,
    check_output_decay,
    check_unit_interval,
    output_decay,
)
from slax_rules.layerwise.leaky_mean import LeakyMean, init_leaky_mean, leaky_means
from slax_rules.layerwise.ostl import OSTL
from slax_rules.layerwise.rule import LayerRule


class OTPETraces(NamedTuple):
    """The eligibility traces E, one for each state of the neuron, followed by R as one more; and the leaky mean of psi."""

    sums: EligibilityTraces
    psi: LeakyMean


@dataclasses.dataclass(frozen=True)
class OTPE(LayerRule):
    """Online training with postsynaptic estimates (OTPE): eligibilities, summed as the next layer's membrane sums spikes.

        R_t = k R_{t-1} + eps_t        gradient  sum_t delta_t R_t
        w_t = k w_{t-1} + 1            g_t = (k w_{t-1} g_{t-1} + psi_t) / w_t        signal below  delta_t g_t W^T

    with the eligibilities eps of `OSTL` and the decay k of the next layer's membrane. R is the part of a weight's past effect
    that this membrane still holds. g is the mean of psi over the same time, and w its weight. The last layer has no next layer
    and uses OSTL.

    Args:
        output_decay: k, in [0, 1], for all layers. By default the decay of the next layer, which has to be one number.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        ValueError: an output_decay outside [0, 1].
        TypeError: no output_decay for a layer whose next layer has not one number as its decay, or that is the last one. In a
            list of rules, which gives each layer its own, `OSTL()` is the rule of the last layer.

    References:
        Summe, Schaefer, Joshi: Estimating post-synaptic effects for online training of feed-forward SNNs, 2023,
        arXiv 2311.16151.

    Note:
        The authors and Slax 0.0.1 use the layer's own decay for k. Slax 0.0.1 also updates its traces twice per step and
        weights the signal below with both psi and g; neither is in the paper or in the authors' code.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OTPE(), window=5)
    """

    output_decay: float | None = None

    reads_penalty: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_unit_interval("OTPE", "output_decay", self.output_decay)

    def default_window(self, size: StepSize) -> int:
        return eligibility_window(size)

    def check(self, layer: Layer) -> None:
        check_output_decay("OTPE", layer, self.output_decay)

    def for_layers(self, layers: tuple[Layer, ...]) -> tuple[LayerRule, ...]:
        return (*(self for _ in layers[:-1]), OSTL(route=self.route))

    def initialize_traces(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> OTPETraces:
        return OTPETraces(zero_eligibility(layer, inputs, (*states, states[0])), init_leaky_mean(states[0]))

    def window(
        self, layer: Layer, window: LayerWindow, traces: OTPETraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, OTPETraces]:
        k = output_decay(layer, self.output_decay, signal.dtype)

        def jacobians_at(point: StepPoint) -> LocalJacobians:
            # One more state, r_t = k r_{t-1} + s_t, is the output. Its eligibility trace is R_t = k R_{t-1} + eps_t, which is
            # never formed for each step: `eligibility_gradient` sums delta_t R_t over the window and returns R at its end. See
            # docs/rules.md, "From the loss to a weight"; tests/oracle/local.py has the same step by step.
            return with_leaky_sum(linearize(layer.neuron, point), k)

        gradient, sums = eligibility_gradient(layer, window, traces.sums, signal, jacobians_at)
        psi = jax.vmap(lambda point: linearize(layer.neuron, point).psi)(window.points)
        mean, g = leaky_means(traces.psi, psi, k)
        below = signal * g
        if window.penalty is not None:  # of the outputs themselves, not of their sum
            below = below + gradient.current_cotangent - psi * signal
        return gradient._replace(current_cotangent=below), OTPETraces(sums, mean)
