"""Online spatio-temporal learning."""

import dataclasses
from functools import partial
from typing import ClassVar

from jaxtyping import Array, Float

from slax_neurons.building_blocks import StepSize
from slax_rules.layerwise.eligibility import (
    EligibilityTraces,
    eligibility_gradient,
    eligibility_window,
    zero_eligibility,
)
from slax_rules.layerwise.jacobians import linearize
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow
from slax_rules.layerwise.recurrent_ostl import RecurrentOSTL
from slax_rules.layerwise.rule import LayerRule


@dataclasses.dataclass(frozen=True)
class OSTL(LayerRule):
    """Online spatio-temporal learning (OSTL): one trace per weight and unit, exact within a layer.

        eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t        gradient  sum_t delta_t eps_t

    with the Jacobians D, d, o, psi of `linearize` and x the input of the weight (1 for a bias; pS and pO in place of d x
    and psi x for a parameter of the neuron). The signal below is delta_t psi_t W^T, within the step.

    The values that arrive over an edge are an additional input of the receiving layer; delayed ones are constants, so the
    recurrence of a layer is not part of its trace unless `recurrence` is set. Without it, the rule is known as e-prop without a
    filter, or D-RTRL.

    Args:
        recurrence: also follow the paths over the edges from a layer to itself: E_t [N S, P] = dh_t/dtheta is then RTRL
            within the layer. Memory per sample is N S times the layer's parameters, and time is N times as much. The option
            has no effect on layers without such edges.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        TypeError: with `recurrence`, an edge from one layer to another.

    References:
        Bohnstingl, Wozniak, Pantazi, Eleftheriou: Online spatio-temporal learning in deep neural networks, 2022,
        doi 10.1109/TNNLS.2022.3153985; with `recurrence`, its form for recurrent layers.

    Note:
        The paper's unit resets its membrane to zero one step later, which gives the same eligibility traces as reset="zero".
        Its bias is part of the threshold; here the bias is the weight of a constant input, with a trace of its own.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL())
        >>> gradient["modules"][0]["kernel"][...].shape
        (8, 16)
    """

    recurrence: bool = False

    reads_penalty: ClassVar[bool] = True

    def default_window(self, size: StepSize) -> int:
        return eligibility_window(size)

    def check(self, layer: Layer) -> None:
        if self.recurrence:
            RecurrentOSTL().check(layer)

    def for_layer(self, layer: Layer) -> LayerRule:
        return RecurrentOSTL(route=self.route) if self.recurrence and layer.self_delays else self

    def initialize_traces(
        self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]
    ) -> EligibilityTraces:
        return zero_eligibility(layer, inputs, states)

    def window(
        self, layer: Layer, window: LayerWindow, traces: EligibilityTraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, EligibilityTraces]:
        return eligibility_gradient(layer, window, traces, signal, partial(linearize, layer.neuron))
