"""The leaky integrate-and-fire neuron whose threshold adapts."""

from typing import NamedTuple, Unpack

from jaxtyping import Array, Float

from slax_neurons.neurons.lif import DEFAULT_DECAY
from slax_neurons.neurons.neuron import SpikeOptions, SpikingNeuron, decay_of_membrane
from slax_neurons.parameter import REAL, UNIT_INTERVAL, Parameter, ParameterValue, Trainable


class ALIFState(NamedTuple):
    """The membrane after the reset, and the adaptation."""

    u: Float[Array, "*B N"]
    a: Float[Array, "*B N"]


class ALIF(SpikingNeuron):
    """Adaptive leaky integrate-and-fire: integrate, fire at a raised threshold, reset, adapt, all within one step.

        v_t = decay u_{t-1} + I_t                             # membrane before the reset
        s_t = H(v_t - threshold - beta a_{t-1}),  H(0) = 1    # output: spikes, 0 or 1
        u_t = reset(v_t, s_t)                                 # see `SpikingNeuron`; "subtract" uses `threshold`
        a_t = adaptation_decay a_{t-1} + s_t                  # adaptation

    The carry is `ALIFState(u, a)`, each [B, N]. `stop_reset_gradient` concerns the reset; a_t keeps its dependence on s_t.

    Args:
        decay: membrane decay per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        adaptation_decay: decay of the adaptation per step; same domain and types. By default it lasts about 200 steps.
        beta: amount by which one spike raises the threshold; a number, an array [N], or `Trainable` of either. With the
            default, firing at every step would raise it by 1.8.
        **spike_options: `threshold`, `reset`, `stop_reset_gradient`, `spike_fn`, `param_dtype`, see `SpikingNeuron`.

    Raises:
        ValueError: a decay outside (0, 1), an unknown reset.

    References:
        Bellec et al.: A solution to the learning dilemma for recurrent networks of spiking neurons, 2020,
        doi 10.1038/s41467-020-17236-y, methods. Yin, Corradi, Bohte: Accurate and efficient time-domain classification with
        adaptive spiking recurrent neural networks, 2021, doi 10.1038/s42256-021-00397-w, for the size of the adaptation.

    Note:
        Bellec et al. have separate terms for recurrent and input currents; here they are one current, made by the
        wiring before the neuron, and there is no refractory period. Yin et al. write b_t = rho b_{t-1} + (1 - rho) s_{t-1}
        and a threshold of 0.1 + 1.8 b_t: the same with beta = 1.8 (1 - rho) and threshold = 0.1. Both reset one step later,
        after the leak; Yin et al. subtract the raised threshold there, and weight the current by 1 - decay.

    Example:
        Under a constant current, spikes become rarer; these are the steps at which they occur.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import ALIF, unroll
        >>> neuron, currents = ALIF(decay=0.75, adaptation_decay=0.9, beta=1.0), jnp.full((14, 1, 1), 0.75)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> jnp.flatnonzero(spikes).tolist()
        [1, 4, 8, 13]
        >>> carry.u.shape, carry.a.shape
        ((1, 1), (1, 1))
    """

    carry_type = ALIFState
    linear = True

    def __init__(
        self,
        *,
        decay: ParameterValue | Trainable = DEFAULT_DECAY,
        adaptation_decay: ParameterValue | Trainable = 0.995,
        beta: ParameterValue | Trainable = 0.009,
        **spike_options: Unpack[SpikeOptions],
    ):
        super().__init__(**spike_options)
        self.decay = Parameter("ALIF decay", decay, UNIT_INTERVAL, self.param_dtype)
        self.adaptation_decay = Parameter("ALIF adaptation_decay", adaptation_decay, UNIT_INTERVAL, self.param_dtype)
        self.beta = Parameter("ALIF beta", beta, REAL, self.param_dtype)

    membrane_decay = decay_of_membrane

    def integrate(self, carry: ALIFState, inputs: Float[Array, "*B N"]) -> ALIFState:
        return ALIFState(u=self.decay(carry.u) * carry.u + inputs, a=carry.a)

    def fire(self, membrane: ALIFState) -> tuple[ALIFState, Float[Array, "*B N"]]:
        u, spikes = self.spike(membrane.u, threshold_offset=self.beta(membrane.a) * membrane.a)
        return ALIFState(u=u, a=self.adaptation_decay(membrane.a) * membrane.a + spikes), spikes
