"""Online spatio-temporal learning, also along the connections of a recurrent layer."""

import dataclasses
from typing import Any, ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Edge
from slax_neurons.building_blocks import DelayBuffer, StepSize
from slax_rules.engine.eligibility import (
    Adjoint,
    LayerTraces,
    close_window,
    reverse_pass,
    zero_adjoint,
    zero_eligibility,
)
from slax_rules.engine.influence import StateSpace, state_space
from slax_rules.engine.jacobians import psi_of_steps
from slax_rules.engine.synapse import has_weights, unmapped
from slax_rules.rules.base import Layer, LayerGradient, LayerRule, LayerWindow
from slax_rules.rules.rtrl import RTRL
from slax_rules.windows import Outputs

# After a window that is not the last, the traces cost a product and a pass over them, so windows are long: as far as their
# largest array stays below these bytes, and at least some steps, and so many that this array is a quarter of the traces. Longer
# ones take more memory and no less time (docs/performance.md).
LARGEST_ARRAY = 2**22
SHORTEST_WINDOW = 128

WINDOWS_IN_ONE = 4  # so many default windows need more memory with traces than as one window without


@dataclasses.dataclass(frozen=True)
class EligibilityRule(LayerRule):
    """The base of OSTL, OTPE and e-prop, whose windows may be computed in pieces, from the last to the first.

    `ahead` is called for each piece in the order of time, `back` for each piece in reverse, and `close_window` for the window;
    `layer_gradient` is the three of them for a window in one piece. A subclass with a leaky sum of its outputs defines
    `decay_of`, and one with more that goes ahead in time `init_ahead` and `ahead`.
    """

    goes_back_in_pieces: ClassVar[bool] = True

    def default_window(self, size: StepSize) -> int:
        return max(SHORTEST_WINDOW, LARGEST_ARRAY // size.bytes, size.width // 4)

    def offline_window(self, window: int | None, model: nnx.RNNCellBase, inputs: Any) -> int:
        """As for any rule; but a sequence of a few default windows is one window, which needs no traces."""
        steps, length = inputs.shape[0], super().offline_window(window, model, inputs)
        is_short = window is None and not self.route.skips_layers and steps <= WINDOWS_IN_ONE * length
        return steps if is_short else length

    def decay_of(self, layer: Layer) -> Float[Array, ""] | None:
        """The decay of the leaky sum on which signals are; None for signals on the outputs themselves."""
        return None

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> LayerTraces:
        sums = () if self.decay_of(layer) is None else states[:1]
        return LayerTraces(zero_eligibility(layer, inputs, (*states, *sums)), self.init_ahead(layer, states))

    def init_ahead(self, layer: Layer, states: tuple[Array, ...]) -> Any:
        """What goes ahead in time, before the first step."""
        return ()

    def ahead(self, layer: Layer, window: LayerWindow, before: Any) -> tuple[Any, Any]:
        """What `back` needs of each step of a piece, and what goes ahead after it."""
        return (), before

    def back(
        self, layer: Layer, window: LayerWindow, steps: Any, after: Adjoint, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Adjoint, Array | None]:
        """The gradient of a piece without the traces before the window, and what else `reverse_pass` returns."""
        decay = self.decay_of(layer)
        if decay is None:
            return reverse_pass(layer, window, after, signal)
        # A penalty is on the outputs themselves; the rest of the signal is on their sum.
        on_sum = signal if window.penalty is None else signal - window.penalty
        return reverse_pass(layer, window, after, window.penalty, on_sum, decay)

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: LayerTraces, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, LayerTraces]:
        decay = self.decay_of(layer)
        last = zero_adjoint(window.carry, decay, has_traces=traces.past is not None)
        steps, ahead = self.ahead(layer, window, traces.ahead)
        found, before, origins = self.back(layer, window, steps, last, signal)
        if traces.past is None or origins is None:
            return found, LayerTraces(None, ahead)
        gradient, past = close_window(layer, window, traces.past, before, origins, decay)
        return found.plus(gradient), LayerTraces(past, ahead)


@dataclasses.dataclass(frozen=True)
class OSTL(EligibilityRule):
    """Online spatio-temporal learning (OSTL): one trace per weight and unit, exact within a layer.

        eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t        gradient: sum_t delta_t eps_t

    with the Jacobians D, d, o, psi of `linearize` and x the input of the weight (1 for a bias; pS and pO in place of d x
    and psi x for a parameter of the neuron). The signal below is delta_t psi_t W^T, within the step.

    Values that arrive over an edge are an additional input of the receiving layer. Delayed values are treated as constants, so
    the recurrence of a layer is not part of its trace unless `recurrence` is set. Without it, the rule is known as e-prop
    without a filter, or D-RTRL.

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
    takes_several_currents: ClassVar[bool] = True

    def check_layer(self, layer: Layer) -> None:
        if self.recurrence:
            RecurrentOSTL().check_layer(layer)

    def for_layer(self, layer: Layer) -> LayerRule:
        return RecurrentOSTL(route=self.route) if self.recurrence and layer.self_delays else self


@dataclasses.dataclass(frozen=True)
class RecurrentOSTL(LayerRule):
    """The rule of a layer with edges to itself under `OSTL(recurrence=True)`: RTRL within the layer.

    E_t [N S, P] = dh_t/dtheta, with h_t and s_t of the layer alone, including paths over its own edges
    gradient: sum_t delta_t ds_t/dtheta        signal below: delta_t psi_t W^T
    """

    def check_layer(self, layer: Layer) -> None:
        if layer.self_delays and layer.tangent_synapse is not None:
            raise TypeError("OSTL(recurrence=True) got learned delays before a recurrent layer. Use OSTL() or RTRL().")
        if len(layer.self_delays) < len(layer.synapses) - 1:
            raise TypeError("OSTL(recurrence=True) got an edge from another layer to it. Use OSTL() or RTRL().")

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        carry = _cell(layer).initialize_carry(inputs[0].shape)
        return RTRL().init_influence(_space(layer, inputs[0].shape), carry)

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: Any, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Any]:
        rule, inputs = RTRL(), window.inputs[0]
        space = _space(layer, inputs.shape[1:])
        buffer: DelayBuffer = window.carry
        carry = ((), buffer._replace(outputs=buffer.outputs[-max(layer.self_delays) :]))
        (end, _), pull = space.vjp(carry, inputs)
        gradient = space.as_gradient(rule.gradient(space, pull, end, Outputs(signal), traces)[0])
        cotangent = psi_of_steps(layer.neuron, window.steps) * signal
        holder = nnx.merge(space.graphdef, gradient, space.rest)  # the layer, with gradients as its parameters
        neuron = tuple(jax.tree.leaves(nnx.state(holder.modules[1], nnx.Param)))
        found = LayerGradient(_by_synapse([holder.modules[0], *holder.synapses]), neuron, cotangent)
        return found, rule.advance(space, carry, inputs, traces)


def _by_synapse(synapses: list[Any]) -> tuple[dict[str, Array], ...]:
    """The gradients of synapses by name; a parameter that occurs twice has its total gradient at the first occurrence."""
    parts: list[dict[str, Array]] = []
    seen: list[Any] = [None]
    for synapse in map(unmapped, synapses):
        names = ("kernel", "bias") if has_weights(synapse) else ()
        found = {name: getattr(synapse, name) for name in names}
        parts.append({name: one[...] for name, one in found.items() if all(one is not other for other in seen)})
        seen += found.values()
    return tuple(parts)


def _cell(layer: Layer) -> Connect:
    """The layer by itself, with its own edges."""
    edges = [Edge(1, 0, steps, synapse) for steps, synapse in zip(layer.self_delays, layer.synapses[1:], strict=True)]
    return Connect([layer.synapses[0], layer.neuron], edges)


def _space(layer: Layer, input_shape: tuple[int, ...]) -> StateSpace:
    return state_space(_cell(layer), input_shape)
