"""Online training through time."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_rules.blocks import States, added, scaled, times, total
from slax_rules.engine import Ruled
from slax_rules.input_traces import InputTraces, follow_inputs, met, zero_input_traces
from slax_rules.subthreshold import Subthreshold, check_linear, output_slopes, parameter_slopes, subthreshold
from slax_rules.window import Block, Pullback, Window, neuron_parameters, sum_to


def ottt(model: nnx.RNNCellBase, *, bias_trace: bool = True) -> Ruled:
    """Puts a stack under online training through time (OTTT): one trace per input, what a membrane would keep of it.

        a_t = decay a_{t-1} + x_t        gradient  sum_t delta_t psi_t a_t        signal below  delta_t psi_t W^T

    for a LIF with the derivative psi of its spike at the membrane before the reset. A bias has x = 1. For a neuron with S
    states a is S traces, see `input_traces`; a parameter of the neuron has a trace of its own, per unit, in which nothing
    passes through spikes either.

    Args:
        model: a stack of layers, each a Linear or Conv and a neuron, made by `connect`. The neurons must be linear but for
            their spikes and have the same parameters in the whole layer.
        bias_trace: whether a bias has a trace. Without, its gradient is sum_t delta_t psi_t, as in the authors' code, in
            Slax 0.0.1 and in SpikingJelly.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that OTTT cannot treat.

    References:
        Xiao, Meng, Zhang, He, Lin: Online training through time for spiking neural networks, 2022, arXiv 2210.04195.

    Note:
        The authors leave the trace out in the first convolution, whose input is constant; here every layer has one. They
        divide the loss by the number of steps, as the mean over time does here.
    """
    return Ruled(model, OTTT(bias_trace))


class OTTTTraces(NamedTuple):
    """a of the inputs, and the same per unit for each parameter of the neuron, of each state after firing, [B, N]."""

    inputs: InputTraces
    neuron: tuple[States, ...]


@dataclasses.dataclass(frozen=True)
class OTTT:
    """The rule of `ottt`, a window at a time."""

    bias_trace: bool = True

    default_window: ClassVar[int] = 32

    def check(self, block: Block, above: Neuron | None) -> None:
        check_linear(type(self).__name__, block.neuron)

    def initialize_traces(self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> OTTTTraces:
        rest = tuple(jnp.zeros_like(state) for state in states)
        neuron = tuple(rest for _ in neuron_parameters(block))
        return OTTTTraces(zero_input_traces(block, inputs, subthreshold(block.neuron).filter), neuron)

    def follow(
        self,
        block: Block,
        window: Window,
        traces: OTTTTraces,
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, OTTTTraces]:
        below = subthreshold(block.neuron)
        slopes = output_slopes(block.neuron, window.moments.membrane)
        weights = scaled(signal, slopes)
        synapses, inputs = follow_inputs(
            block,
            window.inputs,
            traces.inputs,
            below.filter,
            weights,
            below.before_firing(end),
            bias_trace=self.bias_trace,
        )
        neuron, of_neuron = _follow_neuron(block, window, traces.neuron, (signal, slopes), end, below)
        return Pullback(synapses, neuron, met(below.current, weights)), OTTTTraces(inputs, of_neuron)


def _follow_neuron(
    block: Block,
    window: Window,
    traces: tuple[States, ...],
    signals: tuple[Array, States],
    end: States,
    below: Subthreshold,
) -> tuple[tuple[Array, ...], tuple[States, ...]]:
    """The gradient by the neuron's parameters, and their traces at the end.

    e_t = A f_{t-1} + dm_t/dphi        gradient  sum_t delta_t (c_t . e_t + ds_t/dphi)        f_t = F e_t + dh_t/dphi
    """
    parameters = neuron_parameters(block)
    if not parameters:
        return (), ()

    def step(carry: tuple, at: tuple) -> tuple[tuple, None]:
        moment, (delta, slopes) = at
        new = []
        for so_far, f, direct in zip(*carry, parameter_slopes(block.neuron, moment), strict=True):
            e = added(below.integrated(f), direct.membrane)
            so_far = so_far + delta * total([times(slopes, e), direct.output])
            new.append((so_far, added(below.fired(e), direct.state)))
        sums, traces = zip(*new, strict=True)
        return (sums, traces), None

    zero = tuple(jnp.zeros_like(signals[0][0]) for _ in parameters)
    (sums, traces), _ = jax.lax.scan(step, (zero, traces), (window.moments, signals))
    gradients = (total([so_far, times(end, trace)]) for so_far, trace in zip(sums, traces, strict=True))
    return tuple(sum_to(gradient, like) for gradient, like in zip(gradients, parameters, strict=True)), traces
