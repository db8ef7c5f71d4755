"""The leaky rate unit, a continuous-time recurrent network's unit in steps of time."""

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import UNIT_INTERVAL, Parameter, ParameterValue, Trainable


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

    @property
    def membrane_decay(self) -> float | Float[Array, ""] | None:
        return self.decay.scalar

    def integrate(self, carry: Float[Array, "*B N"], inputs: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
        decay = self.decay(carry)
        return decay * carry + (1 - decay) * jnp.tanh(inputs)

    def fire(self, membrane: Float[Array, "*B N"]) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        return membrane, membrane
