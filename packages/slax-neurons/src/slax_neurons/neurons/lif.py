"""Neurons with one state: integrate-and-fire without and with a leak, and the leaky integrator, a read-out without spikes."""

from typing import Unpack

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron, SpikeOptions, SpikingNeuron, decay_of_membrane
from slax_neurons.parameter import UNIT_INTERVAL, Parameter, ParameterValue, Trainable

DEFAULT_DECAY = 0.8807970779778823  # sigmoid(2)


class IF(SpikingNeuron):
    """Integrate-and-fire: integrate, fire, reset, all within one step, without a leak.

        v_t = u_{t-1} + I_t                      # membrane before the reset
        s_t = H(v_t - threshold),  H(0) = 1      # output: spikes, 0 or 1
        u_t = reset(v_t, s_t)                    # see `SpikingNeuron`

    The carry is u [B, N].

    Args:
        **spike_options: `threshold`, `reset`, `stop_reset_gradient`, `spike_fn`, `param_dtype`, see `SpikingNeuron`.

    Raises:
        ValueError: an unknown reset.

    References:
        Gerstner, Kistler, Naud, Paninski: Neuronal Dynamics, 2014, chapter 1.3, without the leak and with a step of one.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import IF, unroll
        >>> neuron, currents = IF(), jnp.full((6, 1, 1), 0.5)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """

    linear = True

    @property
    def membrane_decay(self) -> float:
        return 1.0

    def integrate(self, carry: Float[Array, "*B N"], inputs: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
        return carry + inputs

    def fire(self, membrane: Float[Array, "*B N"]) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        return self.spike(membrane)


class LIF(SpikingNeuron):
    """Leaky integrate-and-fire: integrate, fire, reset, all within one step.

        v_t = decay u_{t-1} + I_t                # membrane before the reset; no factor (1 - decay) on the current
        s_t = H(v_t - threshold),  H(0) = 1      # output: spikes, 0 or 1
        u_t = reset(v_t, s_t)                    # see `SpikingNeuron`

    The carry is u [B, N]. With decay=Trainable(...), this is the parametric LIF, PLIF (Fang et al. 2021, arXiv 2007.05785).

    Args:
        decay: membrane decay per step, in (0, 1); a number, an array [N], or `Trainable` of either. From a time constant:
            `time_constant(tau, dt=dt)`.
        **spike_options: `threshold`, `reset`, `stop_reset_gradient`, `spike_fn`, `param_dtype`, see `SpikingNeuron`.

    Raises:
        ValueError: a decay outside (0, 1), an unknown reset.

    References:
        Neftci, Mostafa, Zenke: Surrogate gradient learning in spiking neural networks, 2019,
        doi 10.1109/MSP.2019.2931595, section II. Summe, Joshi: Slax, 2024, arXiv 2404.05807, for the defaults.

    Note:
        The first reference filters the current by a synapse and resets one step later; here both are left out, as in Slax.
        Slax 0.0.1 parametrizes the decay as sigmoid(tau) with tau = 2; `decay` is the sigmoid's value. Fang et al. weight the
        current by 1 - decay and detach the reset.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, unroll
        >>> neuron, currents = LIF(decay=0.5), jnp.full((6, 1, 1), 0.625)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    linear = True

    def __init__(self, *, decay: ParameterValue | Trainable = DEFAULT_DECAY, **spike_options: Unpack[SpikeOptions]):
        super().__init__(**spike_options)
        self.decay = Parameter("LIF decay", decay, UNIT_INTERVAL, self.param_dtype)

    membrane_decay = decay_of_membrane

    def integrate(self, carry: Float[Array, "*B N"], inputs: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
        return self.decay(carry) * carry + inputs

    def fire(self, membrane: Float[Array, "*B N"]) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        return self.spike(membrane)


class LI(Neuron):
    """Leaky integrator: its output is its state.

        u_t = decay u_{t-1} + I_t                # no factor (1 - decay) on the current

    The carry is u [B, N].

    Args:
        decay: decay per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a decay outside (0, 1).

    References:
        Neftci, Mostafa, Zenke: Surrogate gradient learning in spiking neural networks, 2019,
        doi 10.1109/MSP.2019.2931595, section II: the membrane without the reset.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LI, unroll
        >>> neuron, currents = LI(decay=0.5), jnp.array([1.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1)
        >>> carry, outputs = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> outputs[:, 0, 0].tolist()
        [1.0, 0.5, 0.25, 1.125]
    """

    linear = True

    def __init__(self, *, decay: ParameterValue | Trainable = DEFAULT_DECAY, param_dtype: DTypeLike = jnp.float32):
        super().__init__(param_dtype=param_dtype)
        self.decay = Parameter("LI decay", decay, UNIT_INTERVAL, param_dtype)

    membrane_decay = decay_of_membrane

    def integrate(self, carry: Float[Array, "*B N"], inputs: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
        return self.decay(carry) * carry + inputs

    def fire(self, membrane: Float[Array, "*B N"]) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        return membrane, membrane


class LeakyRate(Neuron):
    """Leaky rate unit: its output is its state, which follows the hyperbolic tangent of the current.

        u_t = decay u_{t-1} + (1 - decay) tanh(I_t)

    With an edge of a layer to itself, I_t = x_t W + u_{t-1} U, this is a leaky recurrent network, or a continuous-time one
    (CTRNN) in Euler steps with decay = 1 - dt / tau. The carry is u [B, N].

    Args:
        decay: decay per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a decay outside (0, 1).

    References:
        Murray: Local online learning in recurrent networks with random feedback, 2019, doi 10.7554/eLife.43299, Eq. 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LeakyRate, unroll
        >>> neuron, currents = LeakyRate(decay=0.5), jnp.array([20.0, 20.0, 0.0, -20.0]).reshape(4, 1, 1)
        >>> carry, outputs = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> outputs[:, 0, 0].tolist()
        [0.5, 0.75, 0.375, -0.3125]
    """

    def __init__(self, *, decay: ParameterValue | Trainable = 0.9, param_dtype: DTypeLike = jnp.float32):
        super().__init__(param_dtype=param_dtype)
        self.decay = Parameter("LeakyRate decay", decay, UNIT_INTERVAL, param_dtype)

    membrane_decay = decay_of_membrane

    def integrate(self, carry: Float[Array, "*B N"], inputs: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
        decay = self.decay(carry)
        return decay * carry + (1 - decay) * jnp.tanh(inputs)

    def fire(self, membrane: Float[Array, "*B N"]) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        return membrane, membrane
