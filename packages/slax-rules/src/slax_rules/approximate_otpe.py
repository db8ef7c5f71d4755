"""OTPE with traces of inputs in the place of eligibilities."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_rules.blocks import States, added, scaled, times, total
from slax_rules.engine import Ruled
from slax_rules.input_traces import Filter, InputTraces, follow_inputs, met, zero_input_traces
from slax_rules.ottt import OTTT, OTTTTraces
from slax_rules.running_mean import Mean, running_mean, zero_mean
from slax_rules.subthreshold import Subthreshold, check_linear, output_slopes, parameter_slopes, subthreshold
from slax_rules.window import (
    Block,
    Pullback,
    Window,
    check_decay_above,
    decay_above,
    neuron_parameters,
    sum_to,
)


def approximate_otpe(model: nnx.RNNCellBase, *, decay_post: float | None = None, bias_trace: bool = True) -> Ruled:
    """Puts a stack under approximate OTPE: `otpe` at the cost of `ottt`.

        a_t = decay a_{t-1} + x_t        z_t = k z_{t-1} + a_t        gradient  sum_t delta_t g_t z_t
        signal below  delta_t g_t W^T

    with the mean g of psi and the decay k of the next layer's membrane, as in `otpe`, and the traces a of `ottt`, for LIF
    neurons; with several states a, z and g = mean of ds/dm are one for each. The last layer is under OTTT. What a parameter
    of the neuron does to the output at given membranes, as a threshold does, is summed as it is.

    Args:
        model: a stack of layers, each a Linear or Conv and a neuron, made by `connect`. The neurons must be linear but for
            their spikes and have the same parameters in the whole layer.
        decay_post: k, in [0, 1], for all layers. By default the decay of the next layer, which has to be one number.
        bias_trace: whether a bias has traces. Without, its gradient is sum_t delta_t g_t, as in the authors' code.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that approximate OTPE cannot treat.

    References:
        Summe, Schaefer, Joshi: Estimating post-synaptic effects for online training of feed-forward SNNs, 2023,
        arXiv 2311.16151.

    Note:
        The authors take the layer's own decay for k.
    """
    return Ruled(model, ApproximateOTPE(decay_post, bias_trace))


class ApproximateOTPETraces(NamedTuple):
    """Traces below the last layer.

    Args:
        inputs: of a and z, 2 S states.
        slopes: the means of ds/dm.
        neuron: for each parameter of the neuron, per unit: its traces in the states after firing, the sums of those in the
            membranes, and the sum of what it does to the output.
    """

    inputs: InputTraces
    slopes: Mean
    neuron: tuple[tuple[States, States, Array], ...]


@dataclasses.dataclass(frozen=True)
class ApproximateOTPE:
    """The rule of `approximate_otpe`, a window at a time."""

    decay_post: float | None = None
    bias_trace: bool = True

    default_window: ClassVar[int] = 32

    def check(self, block: Block, above: Neuron | None) -> None:
        check_linear("ApproximateOTPE", block.neuron)
        check_decay_above("ApproximateOTPE", above, self.decay_post, "decay_post")

    def initialize_traces(
        self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]
    ) -> ApproximateOTPETraces | OTTTTraces:
        if block.is_last:
            return OTTT(self.bias_trace).initialize_traces(block, inputs, states)
        rest = tuple(jnp.zeros_like(state) for state in states)
        membrane = jax.tree.unflatten(jax.tree.structure(block.neuron.initialize_carry((1, 1))), states)
        filter = _with_sums(subthreshold(block.neuron).filter, jnp.zeros((), rest[0].dtype))
        return ApproximateOTPETraces(
            zero_input_traces(block, inputs, filter),
            zero_mean(output_slopes(block.neuron, membrane)),
            tuple((rest, rest, rest[0]) for _ in neuron_parameters(block)),
        )

    def follow(
        self,
        block: Block,
        window: Window,
        traces: ApproximateOTPETraces | OTTTTraces,
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, ApproximateOTPETraces | OTTTTraces]:
        if isinstance(traces, OTTTTraces):
            return OTTT(self.bias_trace).follow(block, window, traces, signal, end)
        decay = decay_above(window, self.decay_post, signal.dtype)
        below = subthreshold(block.neuron)
        mean, means = running_mean(traces.slopes, output_slopes(block.neuron, window.moments.membrane), decay)
        weights, later = scaled(signal, means), below.before_firing(end)
        nothing: States = (None,) * len(later)
        # The states a and z: the signal meets z alone, and what comes from after the window a.
        synapses, inputs = follow_inputs(
            block,
            window.inputs,
            traces.inputs,
            _with_sums(below.filter, decay),
            (*nothing, *weights),
            (*later, *nothing),
            bias_trace=self.bias_trace,
        )
        neuron, of_neuron = _follow_neuron(block, window, traces.neuron, (signal, means), end, below, decay)
        return Pullback(synapses, neuron, met(below.current, weights)), ApproximateOTPETraces(inputs, mean, of_neuron)


def _with_sums(filter: Filter, decay: Float[Array, ""]) -> Filter:
    """The filter of a and of its leaky sum z: z_t = decay z_{t-1} + a_t."""
    nothing: States = (None,) * len(filter.current)
    sums = ((*row, *nothing[:i], decay, *nothing[i + 1 :]) for i, row in enumerate(filter.transition))
    return Filter((*((*row, *nothing) for row in filter.transition), *sums), 2 * filter.current)


def _follow_neuron(
    block: Block,
    window: Window,
    traces: tuple[tuple[States, States, Array], ...],
    signals: tuple[Array, States],
    end: States,
    below: Subthreshold,
    decay: Float[Array, ""],
) -> tuple[tuple[Array, ...], tuple[tuple[States, States, Array], ...]]:
    """The gradient by the neuron's parameters, and their traces at the end."""
    parameters = neuron_parameters(block)
    if not parameters:
        return (), ()

    def step(carry: tuple, at: tuple) -> tuple[tuple, None]:
        moment, (delta, mean) = at
        new = []
        for so_far, (f, z, direct), slopes in zip(*carry, parameter_slopes(block.neuron, moment), strict=True):
            e = added(below.integrated(f), slopes.membrane)
            z, direct = added(scaled(decay, z), e), decay * direct + slopes.output
            f = added(below.fired(e), slopes.state)
            new.append((so_far + delta * total([times(mean, z), direct]), (f, z, direct)))
        sums, traces = zip(*new, strict=True)
        return (sums, traces), None

    zero = tuple(jnp.zeros_like(signals[0][0]) for _ in parameters)
    (sums, traces), _ = jax.lax.scan(step, (zero, traces), (window.moments, signals))
    gradients = (total([so_far, times(end, f)]) for so_far, (f, _, _) in zip(sums, traces, strict=True))
    return tuple(sum_to(gradient, like) for gradient, like in zip(gradients, parameters, strict=True)), traces
