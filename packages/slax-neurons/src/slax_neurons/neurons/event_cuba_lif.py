"""The leaky integrate-and-fire neuron with a synaptic current whose spikes have exact times, for EventProp."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from slax_neurons.neurons.lif import DEFAULT_DECAY
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import POSITIVE, UNIT_INTERVAL, Parameter, ParameterValue, Trainable

NEWTON_STEPS = 8


class EventCuBaLIFState(NamedTuple):
    """The synaptic current, the membrane after the reset, and the part of a spike that is the output of the next step."""

    i: Float[Array, "*B N"]
    u: Float[Array, "*B N"]
    y: Float[Array, "*B N"]


class EventCuBaLIF(Neuron):
    """Current-based leaky integrate-and-fire in continuous time: its spikes have exact times, and it needs no surrogate.

        di/ds = -i / tau_syn                 # within a step, whose inputs are added to i at its start
        du/ds = (i - u) / tau_mem            # reset to 0 where it reaches the threshold: a spike at s, from 0 to 1
        u_t = u(1)                           # at the end of the step
        s_t = x(s) + y                       # output: a spike's first part, and the second part of the one a step before

    The time constants are in steps: `synapse_decay` is exp(-1 / tau_syn), and `decay` is exp(-1 / tau_mem). Inputs of x at the
    start of a step and of y at its end leave the voltage and the current of a spike at s; x falls from 1 to 0, and y rises from
    0 to 1. So a receiver with the same time constants has from there on the exact state, but not within this step: if it
    spikes in it, then at a wrong time, by an error of first order in the length of a step. (With other time constants, its
    state has an error of second order.) Inputs on the grid have no error: a single layer is exact.

    The derivative is that of the spike times, ds/dz = -(du/dz) / u'(s). So `BPTT` computes the gradient that EventProp finds by
    its adjoint equations, and `RTRL`, or `OSTL` for a single layer, computes it forward in time. Whether a neuron spikes has no
    derivative: through a silent one, nothing learns. A spike that barely reaches the threshold has a derivative without bound,
    as in the paper.

    A neuron spikes once per step at most. If it reaches the threshold again within a step, the next spike is at the start of
    the next step, where its time has no derivative: make steps shorter than the intervals between spikes. Outputs are not 0
    or 1, so `spikes` is False, and health and penalties do not count them. Only first derivatives are exact.

    A unit that spikes at t_1, t_2, ... has sum_t exp(t / tau) output_t = sum_k exp(t_k / tau) for both time constants. So the
    time of a single spike is a logarithm of its outputs. The carry is `EventCuBaLIFState(i, u, y)`, each [B, N].

    Args:
        synapse_decay: decay of the current per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        decay: decay of the membrane per step; same domain and types.
        threshold: a number > 0, an array [N], or `Trainable` of either.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a decay outside (0, 1), a threshold that is not positive.

    References:
        Wunderlich, Pehle: Event-based backpropagation can compute exact gradients for spiking neural networks, 2021,
        doi 10.1038/s41598-021-91786-z.

    Example:
        The first current is too small for a spike; of the others, the larger one makes an earlier spike.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import EventCuBaLIF, unroll
        >>> neuron = EventCuBaLIF(synapse_decay=0.5, decay=0.75)
        >>> currents = jnp.zeros((3, 1, 3)).at[0, 0].set(jnp.array([4.0, 5.0, 6.0]))
        >>> carry, outputs = unroll(neuron, neuron.initialize_carry((1, 3)), currents)
        >>> times = jnp.log2(jnp.tensordot(2.0 ** jnp.arange(3), outputs[:, 0], 1))
        >>> [round(time, 3) for time in times.tolist()]
        [-inf, 1.3, 0.893]
    """

    carry_type = EventCuBaLIFState

    def __init__(
        self,
        *,
        synapse_decay: ParameterValue | Trainable = DEFAULT_DECAY,
        decay: ParameterValue | Trainable = DEFAULT_DECAY,
        threshold: ParameterValue | Trainable = 1.0,
        param_dtype: DTypeLike = jnp.float32,
    ):
        super().__init__(param_dtype=param_dtype)
        name = type(self).__name__
        self.synapse_decay = Parameter(f"{name} synapse_decay", synapse_decay, UNIT_INTERVAL, param_dtype)
        self.decay = Parameter(f"{name} decay", decay, UNIT_INTERVAL, param_dtype)
        self.threshold = Parameter(f"{name} threshold", threshold, POSITIVE, param_dtype)

    def integrate(self, carry: EventCuBaLIFState, inputs: Float[Array, "*B N"]) -> EventCuBaLIFState:
        return carry._replace(i=carry.i + inputs)

    def fire(self, membrane: EventCuBaLIFState) -> tuple[EventCuBaLIFState, Float[Array, "*B N"]]:
        i, u, late = membrane
        rates = -jnp.log(self.synapse_decay(u)), -jnp.log(self.decay(u))
        threshold = self.threshold(u)
        crosses, at, slope = _first_crossing(*jax.lax.stop_gradient((i, u, rates, threshold)))
        # A step of Newton's method, which moves nothing and has the derivative of the crossing.
        s = jnp.where(crosses, at + (threshold - _voltage(at, i, u, rates)) / slope, 0)
        fires = crosses | (u >= threshold)
        # At the end of the step, of a spike at s.
        current, response = jnp.exp(-rates[0] * (1 - s)), _response(1 - s, rates)
        kept, of_step = jnp.exp(-rates[0]), _response(1, rates)
        x = response / of_step
        x, y = (jnp.where(fires, part, 0) for part in (x, current - x * kept))
        u = jnp.where(fires, i * jnp.exp(-rates[0] * s) * response, jnp.exp(-rates[1]) * u + i * of_step)
        return EventCuBaLIFState(i=i * kept, u=u, y=y), late + x


Rates = tuple[Array, Array]


def _response(s: Array | int, rates: Rates) -> Array:
    """The voltage after a time s that a current of 1 makes."""
    synapse, membrane = rates
    return jnp.exp(-membrane * s) * membrane * s * _growth((membrane - synapse) * s)


def _voltage(s: Array, i: Array, u: Array, rates: Rates) -> Array:
    """The voltage after a time s, from a current i and a voltage u, without a spike."""
    return jnp.exp(-rates[1] * s) * u + i * _response(s, rates)


def _growth(z: Array) -> Array:
    """(exp(z) - 1) / z, whose derivative near 0 is that of its series."""
    is_small = jnp.abs(z) < jnp.finfo(z.dtype).eps ** 0.25
    return jnp.where(is_small, 1 + z / 2 + z * z / 6 + z**3 / 24, jnp.expm1(z) / jnp.where(is_small, 1, z))


def _first_crossing(
    i: Array, u: Array, rates: Rates, threshold: Array | float
) -> tuple[Bool[Array, "..."], Array, Array]:
    """Whether the voltage reaches the threshold from below within a step, and when, with its slope there.

    It has one maximum, up to which it is concave, so Newton's method approaches the crossing from the left without passing it.
    It starts where the parabola through the maximum, of the same curvature, reaches the threshold, which is never too late.
    """
    synapse, membrane = rates
    can_rise = (i > threshold) & (u < threshold)  # since the voltage follows the current
    i, u = jnp.where(can_rise, i, 2 * threshold), jnp.where(can_rise, u, 0)
    eps = jnp.finfo(u.dtype).eps
    rise = (i - u) / (synapse * i)
    peak = rise / _growth(jnp.log1p(jnp.maximum((membrane - synapse) * rise, eps - 1)))
    end, highest = jnp.minimum(peak, 1), _voltage(peak, i, u, rates)
    above = jnp.maximum(highest, threshold)
    s = jnp.maximum(peak - jnp.sqrt(2 * (1 - threshold / above) / synapse / membrane), 0)

    def slope(s: Array) -> Array:
        return jnp.maximum(membrane * (i * jnp.exp(-synapse * s) - _voltage(s, i, u, rates)), eps)

    def newton(_: Any, s: Array) -> Array:
        return jnp.minimum(s + (threshold - _voltage(s, i, u, rates)) / slope(s), end)

    s = jax.lax.fori_loop(0, NEWTON_STEPS, newton, s)
    return can_rise & (_voltage(end, i, u, rates) >= threshold), s, slope(s)
