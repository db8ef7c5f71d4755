"""The leaky integrator, a read-out without spikes."""

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.lif import DEFAULT_DECAY
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import UNIT_INTERVAL, Parameter, ParameterValue, Trainable


class LI(Neuron):
    """Leaky integrator: its output is its state.

        u_t = decay u_{t-1} + I_t                no factor (1 - decay) on the current

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

    @property
    def membrane_decay(self) -> float | Float[Array, ""] | None:
        return self.decay.scalar

    def integrate(self, carry: Float[Array, "*B N"], inputs: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
        return self.decay(carry) * carry + inputs

    def fire(self, membrane: Float[Array, "*B N"]) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        return membrane, membrane
