"""The sliding parallel spiking neuron, whose membrane is a weighted sum of its last currents."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.parameter import REAL, Parameter, ParameterValue, Trainable
from slax_neurons.surrogates import SpikeFunction, fast_sigmoid, spike_function


class SlidingPSNState(NamedTuple):
    """The membrane, and for each of the next k - 1 steps what the currents so far add to its membrane."""

    u: Float[Array, "*B N"]
    later: tuple[Float[Array, "*B N"], ...]


class SlidingPSN(Neuron):
    """Sliding parallel spiking neuron: its membrane is a weighted sum of its last k currents, and is never reset.

        u_t = w_0 I_t + w_1 I_{t-1} + ... + w_{k-1} I_{t-k+1}
        s_t = H(u_t - threshold)    # H(0) = 1

    It forgets a current after k steps, and can weight an older one more than a later one, as no neuron with a decay can. The
    carry is `SlidingPSNState(u, later)`, k arrays [B, N]. OSTL keeps as many numbers for each weight of the synapse before it.

    Args:
        weights: w_0, ..., w_{k-1}, of the latest current first: k numbers, or [k, N] for other ones in each unit, or
            `Trainable` of either.
        threshold: a number, an array of the shape of the features, or `Trainable` of either.
        spike_fn: maps u - threshold to spikes; a name or a function of `SURROGATES`.
        param_dtype: dtype of the state and of the parameters.

    Raises:
        ValueError: no weights.

    References:
        Fang, Yu, Zhou, Chen, Ma, Masquelier, Tian: Parallel spiking neurons with high efficiency and ability to learn long-term
        dependencies, 2023, arXiv 2304.12760.

    Note:
        The default weights halve from step to step; the paper trains weights and threshold. Its other neurons, the parallel
        spiking neuron and the masked one, have a weight for each pair of steps of a sequence of known length. They are not
        cells, and have no online rule: without the mask, a step depends on later ones.

    Example:
        A unit that fires one step after a current, not with it.

        >>> import jax.numpy as jnp
        >>> from slax_neurons import SlidingPSN, unroll
        >>> neuron, currents = SlidingPSN(weights=[0.0, 1.0]), jnp.array([1.0, 0.0, 1.0, 1.0, 0.0]).reshape(5, 1, 1)
        >>> carry, spikes = unroll(neuron, neuron.initialize_carry((1, 1)), currents)
        >>> spikes[:, 0, 0].tolist()
        [0.0, 1.0, 0.0, 1.0, 1.0]
    """

    fixed = Neuron.fixed | {"weights": "each of which is a parameter"}
    spikes = True
    linear = True

    def __init__(
        self,
        *,
        weights: Any = (1.0, 0.5, 0.25, 0.125),
        threshold: ParameterValue | Trainable = 1.0,
        spike_fn: SpikeFunction | str = fast_sigmoid(),
        param_dtype: DTypeLike = jnp.float32,
    ):
        super().__init__(param_dtype=param_dtype)
        trained = isinstance(weights, Trainable)
        rows = np.asarray(weights.value if trained else weights, float)
        if not rows.size or not rows.ndim:
            raise ValueError(
                f"SlidingPSN got weights={weights}, expected one for each of the last k steps: [1.0, 0.5]."
            )
        named = ((f"SlidingPSN weights[{lag}]", Trainable(row) if trained else row) for lag, row in enumerate(rows))
        self.weights = nnx.List(Parameter(name, value, REAL, param_dtype) for name, value in named)
        self.threshold = Parameter("SlidingPSN threshold", threshold, REAL, param_dtype)
        self.spike_fn = spike_function("SlidingPSN", spike_fn)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        rest = super().initialize_carry(input_shape)
        return SlidingPSNState(rest, (rest,) * (len(self.weights) - 1))

    def integrate(self, carry: SlidingPSNState, inputs: Float[Array, "*B N"]) -> SlidingPSNState:
        now = [weight(inputs) * inputs for weight in self.weights]
        last = now.pop()
        u, *later = [*(new + old for new, old in zip(now, carry.later, strict=True)), last]
        return SlidingPSNState(u, tuple(later))

    def fire(self, membrane: SlidingPSNState) -> tuple[SlidingPSNState, Float[Array, "*B N"]]:
        return membrane, self.spike_fn(membrane.u - self.threshold(membrane.u))
