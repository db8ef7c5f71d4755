"""pp-prop: each eligibility trace as a product of two traces, one of the input and one of the neuron."""

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_neurons.building_blocks import scan_steps
from slax_rules.engine.input_traces import (
    USE_OSTL,
    InputTraces,
    input_trace_gradients,
    leaky_filter,
    output_slopes,
    zero_input_traces,
)
from slax_rules.engine.jacobians import States, dot
from slax_rules.rules.base import Layer, LayerGradient, LayerRule, LayerWindow


class PPPropTraces(NamedTuple):
    """The traces of a layer.

    Args:
        inputs: the trace ex.
        state: the trace ef as it enters the next step, after firing.
        left: the factor decay^t of each sample, [B, 1, ...]: samples may have started at different steps.
    """

    inputs: InputTraces
    state: States
    left: Float[Array, "B ..."]


@dataclasses.dataclass(frozen=True)
class PPProp(LayerRule):
    """pp-prop (ES-D-RTRL): each eligibility trace as a product of a trace of the input and a trace of the neuron.

        ex_t = decay ex_{t-1} + x_t        ef_t = decay dm_t/dm_{t-1} ef_{t-1} + (1 - decay) dm_t/dI_t
        gradient: sum_t delta_t ds_t/dm_t ef_t ex_t / (1 - decay^t)        signal below: delta_t psi_t W^T

    where m are the membranes before firing. The two traces have the sizes of the layer's input and output. A bias has ex = 1
    and no trace. The rule serves as a comparison with `OSTL`, which it factorizes, and `OTTT`.

    Args:
        decay: decay of both traces, in [0, 1); 0 is `SLTT`.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`.

    Raises:
        TypeError: a neuron with parameters, or one that does not define `integrate` and `fire`.
        ValueError: a decay outside [0, 1).

    References:
        Wang et al.: Model-agnostic linear-memory online learning in spiking neural networks, 2026,
        doi 10.1038/s41467-026-68453-w. The division by 1 - decay^t follows its implementation, braintrace.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import PPProp, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=PPProp(decay=0.8))
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        if isinstance(self.decay, numbers.Real) and not 0 <= np.float32(self.decay) < 1:
            raise ValueError(f"PPProp got decay={self.decay}, expected one in [0, 1) that float32 keeps below 1.")

    def check_layer(self, layer: Layer) -> None:
        name = type(layer.neuron).__name__
        if not layer.neuron.has_split_step:
            raise TypeError(f"PPProp got {name}, expected a neuron that defines `integrate` and `fire`. {USE_OSTL}")
        layer.check_fixed("PPProp")
        dtype = layer.neuron.param_dtype
        if isinstance(self.decay, numbers.Real) and float(np.asarray(self.decay, dtype)) >= 1:
            raise ValueError(f"PPProp got decay={self.decay}, which {dtype} rounds to 1, expected a smaller one.")

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> PPPropTraces:
        return PPPropTraces(
            zero_input_traces(layer, inputs, leaky_filter(self.decay, states[0].dtype)),
            tuple(jnp.zeros_like(s) for s in states),
            jnp.ones((states[0].shape[0], *[1] * (states[0].ndim - 1)), states[0].dtype),
        )

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: PPPropTraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, PPPropTraces]:
        neuron = layer.neuron

        def step(carry: tuple[States, Array], at: Any) -> tuple[tuple[States, Array], tuple[Array, Array]]:
            ef, left = carry
            (state, current, membrane), delta = at
            slopes = output_slopes(neuron, membrane)
            by_state, by_current = _integrated(neuron, state, current, ef)
            ef = tuple(self.decay * a + (1 - self.decay) * b for a, b in zip(by_state, by_current, strict=True))
            left = self.decay * left
            weight = dot(slopes, ef) / (1 - left) * delta
            return (_fired(neuron, membrane, ef), left), (weight, dot(slopes, by_current) * delta)

        (state, left), (weight, cotangent) = scan_steps(step, (traces.state, traces.left), (window.steps, signal))
        synapses, inputs = input_trace_gradients(
            layer, window, traces.inputs, leaky_filter(self.decay, state[0].dtype), (weight,), bias_trace=False
        )
        return LayerGradient.of(layer, synapses, (), cotangent), PPPropTraces(inputs, state, left)


def _integrated(neuron: Neuron, state: Any, current: Array, along: States) -> tuple[States, States]:
    """The derivatives of the membranes: dm_t/dh_{t-1} times `along`, and dm_t/dI_t."""
    structure = jax.tree.structure(state)

    def push(states: States, d_current: Array) -> States:
        tangents = jax.tree.unflatten(structure, states), d_current
        return tuple(jax.tree.leaves(jax.jvp(neuron.integrate, (state, current), tangents)[1]))

    nothing = tuple(jnp.zeros_like(current) for _ in along)
    return push(along, jnp.zeros_like(current)), push(nothing, jnp.ones_like(current))


def _fired(neuron: Neuron, membrane: Any, along: States) -> States:
    """The derivative of the states after firing: dh_t/dm_t times `along`."""
    tangent = jax.tree.unflatten(jax.tree.structure(membrane), along)
    return tuple(jax.tree.leaves(jax.jvp(lambda m: neuron.fire(m)[0], (membrane,), (tangent,))[1]))
