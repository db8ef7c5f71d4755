"""The leaky integrate-and-fire neuron."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neuron import Neuron
from slax_neurons.parameter import REAL, UNIT_INTERVAL, Numbers, Parameter, Trainable
from slax_neurons.surrogates import Surrogate, fast_sigmoid

RESETS = ("subtract", "zero", "none")

SIGMOID_OF_2 = 0.8807970779778823


class LIF(Neuron):
    """Leaky integrate-and-fire: integrate, fire, reset, all within one step.

        v_t = decay u_{t-1} + I_t                membrane before the reset; no factor (1 - decay) on the current
        s_t = H(v_t - threshold), H(0) = 1       output: spikes, 0 or 1
        u_t = v_t - threshold s_t                reset="subtract"
              v_t (1 - s_t)                      reset="zero"
              v_t                                reset="none"

    The carry is u [B, N]. Backward, ds/dv is the derivative of `spike_fn`, and du/dv passes through the reset unless
    `stop_reset_gradient`.

    Args:
        decay: membrane decay per step, in (0, 1); a number, an array [N], or `Trainable` of either.
        threshold: a number, an array [N], or `Trainable` of either.
        reset: what a spike does to the membrane: "subtract", "zero" or "none".
        stop_reset_gradient: treat the spike in the reset as a constant.
        spike_fn: maps v - threshold to spikes; see `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: a decay outside (0, 1), an unknown reset.

    References:
        Neftci, Mostafa, Zenke: Surrogate gradient learning in spiking neural networks, 2019,
        doi 10.1109/MSP.2019.2931595, section II. Summe, Joshi: Slax, 2024, arXiv 2404.05807, for the defaults.

    Note:
        The first reference filters the current by a synapse and resets one step later; here both are left out, as in Slax.
        Slax 0.0.1 parametrises the decay as sigmoid(tau) with tau = 2; `decay` is the sigmoid's value.
    """

    def __init__(
        self,
        *,
        decay: Numbers | Trainable = SIGMOID_OF_2,
        threshold: Numbers | Trainable = 1.0,
        reset: str = "subtract",
        stop_reset_gradient: bool = False,
        spike_fn: Surrogate = fast_sigmoid(),
        param_dtype: DTypeLike = jnp.float32,
    ):
        if reset not in RESETS:
            raise ValueError(f"LIF got reset={reset!r}, expected one of {', '.join(map(repr, RESETS))}.")
        super().__init__(param_dtype=param_dtype)
        self.decay = Parameter("LIF decay", decay, UNIT_INTERVAL, param_dtype)
        self.threshold = Parameter("LIF threshold", threshold, REAL, param_dtype)
        self.reset = reset
        self.stop_reset_gradient = stop_reset_gradient
        self.spike_fn = spike_fn

    def __call__(self, carry: Float[Array, "*B N"], inputs: Float[Array, "*B N"]) -> tuple[Any, Float[Array, "*B N"]]:
        threshold = self.threshold(carry)
        v = self.decay(carry) * carry + inputs
        spikes = self.spike_fn(v - threshold)
        reset_spikes = jax.lax.stop_gradient(spikes) if self.stop_reset_gradient else spikes
        match self.reset:
            case "subtract":
                return v - threshold * reset_spikes, spikes
            case "zero":
                return v * (1 - reset_spikes), spikes
            case _:
                return v, spikes
