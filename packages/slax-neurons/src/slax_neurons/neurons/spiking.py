"""The base of neurons with a membrane, a threshold and a reset."""

import inspect
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import REAL, Parameter, ParameterValue, Trainable, one_of
from slax_neurons.surrogates import SpikeFunction, fast_sigmoid

RESETS = ("subtract", "zero", "none")


# Names of options in other libraries.
ELSEWHERE = {
    "beta": "decay",
    "tau": "decay=time_constant(tau, dt=dt)",
    "v_threshold": "threshold",
    "spike_grad": "spike_fn",
}


class SpikeOptions(TypedDict, total=False):
    """The options that every `SpikingNeuron` has."""

    threshold: ParameterValue | Trainable
    reset: str
    stop_reset_gradient: bool
    spike_fn: SpikeFunction | str
    param_dtype: DTypeLike


class SpikingNeuron(Neuron):
    """A neuron that fires where its membrane reaches the threshold, and is then reset, within one step:

        s_t = H(v_t - threshold), H(0) = 1       output: spikes, 0 or 1
        u_t = v_t - threshold s_t                reset="subtract"
              v_t (1 - s_t)                      reset="zero"
              v_t                                reset="none"

    v is the membrane before the reset and u the membrane after it. In the backward pass, ds/dv is the derivative of `spike_fn`,
    and du/dv passes through the reset unless `stop_reset_gradient` is set.

    Args:
        threshold: a number, an array of the shape of the features, or `Trainable` of either.
        reset: effect of a spike on the membrane: "subtract", "zero" or "none".
        stop_reset_gradient: treat the spike in the reset as a constant.
        spike_fn: maps v - threshold to spikes; a name or a function of `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        TypeError: an option that the neuron does not have.
        ValueError: an unknown reset.

    Example:
        A quadratic integrate-and-fire neuron, which has all options of a `SpikingNeuron`.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import SpikingNeuron, unroll
        >>> class QIF(SpikingNeuron):
        ...     def integrate(self, carry, inputs):
        ...         return carry + 0.5 * carry**2 + inputs
        ...
        ...     def fire(self, membrane):
        ...         return self.spike(membrane)
        >>> neuron, currents = QIF(threshold=2.0, reset="zero"), jnp.full((6, 1, 1), 0.5)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    spikes = True

    def __init__(
        self,
        *,
        threshold: ParameterValue | Trainable = 1.0,
        reset: str = "subtract",
        stop_reset_gradient: bool = False,
        spike_fn: SpikeFunction | str = fast_sigmoid(),
        param_dtype: DTypeLike = jnp.float32,
        **unknown: Any,
    ):
        name = type(self).__name__
        if unknown:
            bases = (inspect.signature(base.__init__).parameters.values() for base in type(self).__mro__)
            known = dict.fromkeys(one.name for base in bases for one in base if one.kind is one.KEYWORD_ONLY)
            here = (
                f" {theirs} of other libraries is {ours} here."
                for theirs, ours in ELSEWHERE.items()
                if theirs in unknown
            )
            raise TypeError(f"{name} got {', '.join(unknown)}, expected {', '.join(known)}.{''.join(here)}")
        super().__init__(param_dtype=param_dtype)
        self.threshold = Parameter(f"{name} threshold", threshold, REAL, param_dtype)
        self.reset = one_of(name, "reset", reset, RESETS)
        self.stop_reset_gradient = stop_reset_gradient
        self.spike_fn: SpikeFunction = spike_fn  # type: ignore[assignment]  # a name becomes a function

    def spike(
        self, v: Float[Array, "*B N"], threshold_offset: Float[Array, "*B N"] | float = 0.0
    ) -> tuple[Float[Array, "*B N"], Float[Array, "*B N"]]:
        """Return the membrane u after the reset, and the spikes at a threshold raised by `threshold_offset` in this step."""
        threshold = self.threshold(v)
        spikes = self.spike_fn(v - (threshold + threshold_offset))
        reset_spikes = jax.lax.stop_gradient(spikes) if self.stop_reset_gradient else spikes
        match self.reset:
            case "subtract":
                return v - threshold * reset_spikes, spikes
            case "zero":
                return v * (1 - reset_spikes), spikes
            case "none":
                return v, spikes
        raise ValueError(
            f"{type(self).__name__} has reset={self.reset!r}, expected one of {', '.join(map(repr, RESETS))}."
        )

    def replace(self, **attributes: Any) -> Any:
        if "reset" in attributes:
            one_of(type(self).__name__, "reset", attributes["reset"], RESETS)
        return super().replace(**attributes)
