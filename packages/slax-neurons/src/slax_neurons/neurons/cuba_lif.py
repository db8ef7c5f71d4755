"""The leaky integrate-and-fire neuron with a synaptic current."""

from typing import NamedTuple, Unpack

from jaxtyping import Array, Float

from slax_neurons.neurons.lif import DEFAULT_DECAY
from slax_neurons.neurons.neuron import SpikeOptions, SpikingNeuron, decay_of_membrane
from slax_neurons.parameter import UNIT_INTERVAL, Parameter, ParameterValue, Trainable


class CuBaLIFState(NamedTuple):
    """The synaptic current, and the membrane after the reset."""

    i: Float[Array, "*B N"]
    u: Float[Array, "*B N"]


class CuBaLIF(SpikingNeuron):
    """Current-based leaky integrate-and-fire: filter the input, integrate, fire, reset, all within one step.

        i_t = synapse_decay i_{t-1} + I_t        # synaptic current
        v_t = decay u_{t-1} + i_t                # membrane before the reset; it sees the current of the same step
        s_t = H(v_t - threshold),  H(0) = 1      # output: spikes, 0 or 1
        u_t = reset(v_t, s_t)                    # see `SpikingNeuron`

    The carry is `CuBaLIFState(i, u)`, each [B, N].

    Args:
        synapse_decay: decay of the current per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        decay: decay of the membrane per step; same domain and types.
        **spike_options: `threshold`, `reset`, `stop_reset_gradient`, `spike_fn`, `param_dtype`, see `SpikingNeuron`.

    Raises:
        ValueError: a decay outside (0, 1), an unknown reset.

    References:
        Neftci, Mostafa, Zenke: Surrogate gradient learning in spiking neural networks, 2019,
        doi 10.1109/MSP.2019.2931595, section II.

    Note:
        The reference reads the current of the previous step and resets one step later, so that a spike takes one more step
        per layer; here a current reaches the membrane, and a spike the next layer, within the step.

    Example:
        The current from one step persists, so the neuron fires one step later.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import CuBaLIF, unroll
        >>> neuron = CuBaLIF(synapse_decay=0.75, decay=0.75)
        >>> currents = jnp.array([0.75, 0.0, 0.0, 0.0]).reshape(4, 1, 1)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [0.0, 1.0, 0.0, 0.0]
        >>> carry.i.shape, carry.u.shape
        ((1, 1), (1, 1))
    """

    carry_type = CuBaLIFState
    linear = True

    def __init__(
        self,
        *,
        synapse_decay: ParameterValue | Trainable = DEFAULT_DECAY,
        decay: ParameterValue | Trainable = DEFAULT_DECAY,
        **spike_options: Unpack[SpikeOptions],
    ):
        super().__init__(**spike_options)
        self.synapse_decay = Parameter("CuBaLIF synapse_decay", synapse_decay, UNIT_INTERVAL, self.param_dtype)
        self.decay = Parameter("CuBaLIF decay", decay, UNIT_INTERVAL, self.param_dtype)

    membrane_decay = decay_of_membrane

    def integrate(self, carry: CuBaLIFState, inputs: Float[Array, "*B N"]) -> CuBaLIFState:
        i = self.synapse_decay(carry.i) * carry.i + inputs
        return CuBaLIFState(i=i, u=self.decay(carry.u) * carry.u + i)

    def fire(self, membrane: CuBaLIFState) -> tuple[CuBaLIFState, Float[Array, "*B N"]]:
        u, spikes = self.spike(membrane.u)
        return CuBaLIFState(i=membrane.i, u=u), spikes
