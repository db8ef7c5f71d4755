"""The liquid time-constant spiking neuron, whose two time constants are gates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import NeuronCell
from slax_neurons.neurons.steps import scan_steps
from slax_neurons.parameter import check_rngs
from slax_neurons.surrogates import SpikeFunction, multi_gaussian, spike_function


class LTCState(NamedTuple):
    """The membrane after the reset, the adaptation, and the last spikes."""

    u: Float[Array, "*B N"]
    b: Float[Array, "*B N"]
    s: Float[Array, "*B N"]


class LTC(NeuronCell):
    """Liquid time-constant spiking neuron: adapt, integrate, fire, reset, all within one step.

        tau_m = sigmoid(A_m [I_t, u_{t-1}] + c_m)             # gate of the membrane
        tau_a = sigmoid(A_a [I_t, b_{t-1}] + c_a)             # gate of the adaptation
        b_t = tau_a b_{t-1} + (1 - tau_a) s_{t-1}
        v_t = (1 - tau_m) u_{t-1} + tau_m I_t                 # membrane before the reset
        s_t = H(v_t - threshold - beta b_t),  H(0) = 1        # output: spikes, 0 or 1
        u_t = v_t (1 - s_t)

    Its gates see all units of the layer, so it is a cell with a size and not a `Neuron`, and rules that trace element-wise
    neurons do not apply. The carry is `LTCState(u, b, s)`, each [B, N]; at rest b is `threshold`, as in the authors' code, and
    u and s are zero. In the authors' layer I_t also holds the layer's own last spikes: connect([Linear, LTC], {0: [1]}).

    Args:
        features: number of units, N.
        threshold: any number.
        beta: weight of the adaptation in the threshold.
        spike_fn: maps the distance to the threshold to spikes; a name or a function of `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.
        rngs: random streams for the gates' weights.

    References:
        Yin, Corradi, Bohte: Accurate online training of dynamical spiking neural networks through forward propagation
        through time, 2023, doi 10.1038/s42256-023-00650-4, and the code published with it.

    Note:
        The authors start from u drawn from U(0, 1), which `carry._replace(u=...)` can do. Slax 0.0.1 updates the membrane
        differently, with a sign that alternates where the gate is below one half.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LTC, connect, unroll
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LTC(16, rngs=rngs)], {0: [1]}, rngs=rngs)
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))
        >>> spikes.shape
        (20, 2, 16)
    """

    spikes = True

    def __init__(
        self,
        features: int,
        *,
        threshold: float = 0.1,
        beta: float = 1.8,
        spike_fn: SpikeFunction | str = multi_gaussian(),
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_rngs("LTC", rngs)
        self.in_features = self.out_features = features
        self.membrane_gate = nnx.Linear(2 * features, features, param_dtype=param_dtype, rngs=rngs)
        self.adaptation_gate = nnx.Linear(2 * features, features, param_dtype=param_dtype, rngs=rngs)
        self.threshold = threshold
        self.beta = beta
        self.spike_fn = spike_function("LTC", spike_fn)
        self.param_dtype = jnp.dtype(param_dtype)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> LTCState:
        """The state at rest for a current of `input_shape` [B, N]."""
        zeros = jnp.zeros(input_shape, self.param_dtype)
        return LTCState(u=zeros, b=jnp.full_like(zeros, self.threshold), s=zeros)

    def __call__(self, carry: LTCState, inputs: Float[Array, "*B N"]) -> tuple[LTCState, Float[Array, "*B N"]]:
        return self._step(carry, (inputs, *self._of_current(inputs)))

    def unroll(self, carry: LTCState, inputs: Float[Array, "T *B N"]) -> tuple[LTCState, Float[Array, "T *B N"]]:
        """Run all steps: the gates' products with the currents in one pass, the rest in a scan."""
        return scan_steps(lambda carry, at: self._step(carry, at), carry, (inputs, *self._of_current(inputs)))

    def _of_current(self, inputs: Float[Array, "... N"]) -> tuple[Float[Array, "... N"], Float[Array, "... N"]]:
        """The parts of both gates that depend on the current alone."""

        def part(gate: nnx.Linear) -> Array:
            return inputs @ gate.kernel[: self.in_features] + jnp.broadcast_to(jnp.asarray(gate.bias), inputs.shape)

        return part(self.membrane_gate), part(self.adaptation_gate)

    def _step(self, carry: LTCState, inputs: tuple[Array, Array, Array]) -> tuple[LTCState, Array]:
        current, of_membrane, of_adaptation = inputs
        tau_m = jax.nn.sigmoid(of_membrane + carry.u @ self.membrane_gate.kernel[self.in_features :])
        tau_a = jax.nn.sigmoid(of_adaptation + carry.b @ self.adaptation_gate.kernel[self.in_features :])
        b = tau_a * carry.b + (1 - tau_a) * carry.s
        v = (1 - tau_m) * carry.u + tau_m * current
        spikes = self.spike_fn(v - (self.threshold + self.beta * b))
        return LTCState(u=v * (1 - spikes), b=b, s=spikes), spikes
