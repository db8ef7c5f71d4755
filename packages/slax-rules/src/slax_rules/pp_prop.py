"""pp-prop: an eligibility as a product of two traces, one of the input and one of the neuron."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_rules.blocks import Moment, States, times
from slax_rules.engine import Ruled
from slax_rules.input_traces import Filter, InputTraces, follow_inputs, zero_input_traces
from slax_rules.subthreshold import output_slopes
from slax_rules.window import Block, Pullback, Window, neuron_parameters


def pp_prop(model: nnx.RNNCellBase, *, decay: float = 0.9) -> Ruled:
    """Puts a stack under pp-prop (ES-D-RTRL).

        ex_t = decay ex_{t-1} + x_t        ef_t = decay dm_t/dm_{t-1} ef_{t-1} + (1 - decay) dm_t/dI_t
        gradient  sum_t delta_t ds_t/dm_t ef_t ex_t / (1 - decay^t)        signal below  delta_t psi_t W^T

    with the membranes m before they fire. The two traces have the sizes of the layer's input and output. A bias has ex = 1,
    and no trace. For comparison with `ostl`, of which it is a factorisation, and `ottt`.

    Args:
        model: a stack of layers, each a Linear or Conv and a neuron in halves without parameters, made by `connect`.
        decay: in [0, 1); 0 is `sltt`.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that pp-prop cannot treat.
        ValueError: a decay outside [0, 1).

    References:
        Wang et al.: Model-agnostic linear-memory online learning in spiking neural networks, 2024, and its implementation in
        braintrace, whose division by 1 - decay^t is kept here.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"pp_prop got decay={decay}, expected a number in [0, 1).")
    return Ruled(model, PPProp(decay))


class PPPropTraces(NamedTuple):
    """Traces of a layer.

    Args:
        inputs: ex.
        state: ef as it enters the next step, after firing.
        left: decay^t.
    """

    inputs: InputTraces
    state: States
    left: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class PPProp:
    """The rule of `pp_prop`, a window at a time."""

    decay: float = 0.9

    default_window: ClassVar[int] = 32

    def check(self, block: Block, above: Neuron | None) -> None:
        if not block.neuron.in_halves:
            raise TypeError(
                f"PPProp needs a neuron in halves, `integrate` and `fire`, got {type(block.neuron).__name__}. Use ostl, which "
                "takes any element-wise neuron."
            )
        if neuron_parameters(block):
            raise TypeError(
                f"PPProp is not defined for parameters of a neuron, got a {type(block.neuron).__name__} that has some. Fix "
                "them, or use ostl."
            )

    def initialize_traces(self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> PPPropTraces:
        return PPPropTraces(
            zero_input_traces(block, inputs, _filter(self.decay, states[0].dtype)),
            tuple(jnp.zeros_like(s) for s in states),
            jnp.ones((), states[0].dtype),
        )

    def follow(
        self,
        block: Block,
        window: Window,
        traces: PPPropTraces,
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, PPPropTraces]:
        def step(carry: tuple[States, Array], moment: Moment) -> tuple[tuple[States, Array], tuple[Array, Array]]:
            state, left = carry
            of_state, of_current = _integrated(block.neuron, moment, state)
            ef = tuple(self.decay * a + (1 - self.decay) * b for a, b in zip(of_state, of_current, strict=True))
            slopes, left = output_slopes(block.neuron, moment.membrane), self.decay * left
            return (_fired(block.neuron, moment, ef), left), (times(slopes, ef) / (1 - left), times(slopes, of_current))

        (state, left), (slopes, psi) = jax.lax.scan(step, (traces.state, traces.left), window.moments)
        later = times(end, state)
        synapses, inputs = follow_inputs(
            block,
            window.inputs,
            traces.inputs,
            _filter(self.decay, state[0].dtype),
            (slopes * signal,),
            (None if later is None else later / (1 - left),),
            bias_trace=False,
        )
        return Pullback(synapses, (), psi * signal), PPPropTraces(inputs, state, left)


def _filter(decay: float, dtype: Any) -> Filter:
    """ex_t = decay ex_{t-1} + x_t."""
    return Filter(((jnp.asarray(decay, dtype),),), (jnp.ones((), dtype),))


def _integrated(neuron: Neuron, at: Moment, state: States) -> tuple[States, States]:
    """dm_t/dh_{t-1} times `state`, and dm_t/dI_t."""
    structure = jax.tree.structure(at.state)

    def along(state: States, current: Array) -> States:
        tangents = jax.tree.unflatten(structure, state), current
        return tuple(jax.tree.leaves(jax.jvp(neuron.integrate, (at.state, at.current), tangents)[1]))

    nothing = tuple(jnp.zeros_like(at.current) for _ in state)
    return along(state, jnp.zeros_like(at.current)), along(nothing, jnp.ones_like(at.current))


def _fired(neuron: Neuron, at: Moment, membrane: States) -> States:
    """dh_t/dm_t times `membrane`."""
    tangent = jax.tree.unflatten(jax.tree.structure(at.membrane), membrane)
    return tuple(jax.tree.leaves(jax.jvp(lambda m: neuron.fire(m)[0], (at.membrane,), (tangent,))[1]))
