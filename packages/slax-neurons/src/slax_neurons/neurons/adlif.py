"""The adaptive leaky integrate-and-fire neuron whose recovery current also follows the membrane."""

from typing import NamedTuple, Unpack

from jaxtyping import Array, Float

from slax_neurons.neurons.spiking import SpikeOptions, SpikingNeuron
from slax_neurons.parameter import REAL, UNIT_INTERVAL, Parameter, ParameterValue, Trainable


class AdLIFState(NamedTuple):
    """The membrane after the reset, and the recovery current of the next step."""

    u: Float[Array, "*B N"]
    w: Float[Array, "*B N"]


class AdLIF(SpikingNeuron):
    """Adaptive LIF with two coupled states: integrate, fire, reset, adapt, all within one step.

        v_t = decay u_{t-1} + (1 - decay) (I_t - w_{t-1})     membrane before the reset; the current is weighted
        s_t = H(v_t - threshold), H(0) = 1                    output: spikes, 0 or 1
        u_t = reset(v_t, s_t)                                 see `SpikingNeuron`
        w_t = adaptation_decay w_{t-1} + a v_t + b s_t        recovery current

    The carry is `AdLIFState(u, w)`, each [B, N]. With a > 0 the membrane can oscillate below the threshold, and with a < 0
    it can grow without bound.

    Args:
        decay: membrane decay per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        adaptation_decay: decay of the recovery current per step; same domain and types.
        a: strength with which the recovery current follows the membrane; a number, an array [N], or `Trainable` of either.
        b: amount that a spike adds to the recovery current; same types as `a`.
        **spike_options: `threshold`, `reset`, `stop_reset_gradient`, `spike_fn`, `param_dtype`, see `SpikingNeuron`.

    Raises:
        ValueError: a decay outside (0, 1), an unknown reset.

    References:
        Bittar, Garner: A surrogate gradient spiking baseline for speech command recognition, 2022,
        doi 10.3389/fnins.2022.865897, the adLIF model.

    Note:
        The authors reset at the start of the next step and update w there, from the membrane before the reset, which gives
        the same states one step later. They draw decay from (0.819, 0.961), adaptation_decay from (0.967, 0.992), a from
        (-1, 1) and b from (0, 2), clip them there during training, start from random states, and use a boxcar surrogate; the
        defaults are inside these ranges.

    Example:
        A neuron that responds to the onset of a current and is then silenced by its recovery current.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import AdLIF, unroll
        >>> neuron, currents = AdLIF(decay=0.5, adaptation_decay=0.875, a=0.5), jnp.full((6, 1, 1), 4.0)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        >>> carry.u.shape, carry.w.shape
        ((1, 1), (1, 1))
    """

    carry_type = AdLIFState
    linear = True

    def __init__(
        self,
        *,
        decay: ParameterValue | Trainable = 0.9,
        adaptation_decay: ParameterValue | Trainable = 0.98,
        a: ParameterValue | Trainable = 0.5,
        b: ParameterValue | Trainable = 1.0,
        **spike_options: Unpack[SpikeOptions],
    ):
        super().__init__(**spike_options)
        self.decay = Parameter("AdLIF decay", decay, UNIT_INTERVAL, self.param_dtype)
        self.adaptation_decay = Parameter("AdLIF adaptation_decay", adaptation_decay, UNIT_INTERVAL, self.param_dtype)
        self.a = Parameter("AdLIF a", a, REAL, self.param_dtype)
        self.b = Parameter("AdLIF b", b, REAL, self.param_dtype)

    @property
    def membrane_decay(self) -> float | Float[Array, ""] | None:
        return self.decay.scalar

    def integrate(self, carry: AdLIFState, inputs: Float[Array, "*B N"]) -> AdLIFState:
        decay = self.decay(carry.u)
        return AdLIFState(u=decay * carry.u + (1 - decay) * (inputs - carry.w), w=carry.w)

    def fire(self, membrane: AdLIFState) -> tuple[AdLIFState, Float[Array, "*B N"]]:
        v, w = membrane
        u, spikes = self.spike(v)
        return AdLIFState(u=u, w=self.adaptation_decay(w) * w + self.a(v) * v + self.b(v) * spikes), spikes
