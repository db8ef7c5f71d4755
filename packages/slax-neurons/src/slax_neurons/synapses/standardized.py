"""Weight standardization."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.synapses.synapse import Reparameterized, effective_weights


class Standardized(Reparameterized):
    """Scaled weight standardization: the weights into each output have mean 0 and a norm that is trained.

        W_io = g_o (w_io - mean_o) / sqrt(n var_o + eps)        n weights w into each output o

    with the unbiased variance, so that the weights into an output have the norm g sqrt((n - 1) / n) for a small eps, and
    independent inputs of unit variance make a current of variance about g^2. In networks that learn online it takes the place
    of a batch normalization, and needs no statistics.

    Args:
        synapse: a Linear, a Conv, or any other synapse, with at least two weights into each output.
        gain_init: initial value of the trainable gains g, one for each output; None for no gain.
        eps: keeps the root away from zero, > 0.

    Raises:
        TypeError: anything other than a synapse.
        ValueError: fewer than two weights into an output, or an eps of 0 or less.

    References:
        Brock, De, Smith: Characterizing signal propagation to close the performance gap in unnormalized ResNets, 2021,
        arXiv 2101.08692, equation 1. In spiking networks: Xiao et al.: Online training through time for spiking neural
        networks (OTTT), 2022, arXiv 2210.04195; the formula is the one of the authors' code, github.com/pkuxmq/OTTT-SNN.

    Note:
        Brock et al. have the biased variance and max(n var, eps). OTTT's authors start from gain=1 and multiply the spikes of
        each layer by 2.74; `gain_init=2.74` in the next layer does the same at the start.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import Standardized
        >>> kernel, bias = Standardized(nnx.Conv(3, 16, (3, 3), rngs=nnx.Rngs(0))).effective()
        >>> kernel.shape, bool(abs(kernel.mean(axis=(0, 1, 2))).max() < 1e-6)
        ((3, 3, 3, 16), True)
    """

    options = ("gain_init", "eps")

    def __init__(self, synapse: Any, gain_init: float | None = 1.0, *, eps: float = 1e-4):
        super().__init__(synapse)
        if not eps > 0:
            raise ValueError(f"Standardized got eps={eps}, expected a number > 0.")
        kernel = effective_weights(synapse)[0]
        if math.prod(kernel.shape[:-1]) < 2:
            raise ValueError(
                f"Standardized got a kernel of shape {list(kernel.shape)}, with one weight into each output, expected at least "
                "two: the only weight is its own mean. Use the synapse itself."
            )
        self.gain_init = gain_init
        self.eps = eps
        self.gain = (
            nnx.data(None) if gain_init is None else nnx.Param(jnp.full(kernel.shape[-1:], gain_init, kernel.dtype))
        )

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"] | None]:
        kernel, bias = effective_weights(self.synapse)
        axes = tuple(range(kernel.ndim - 1))
        inputs = math.prod(kernel.shape[:-1])
        mean = jnp.mean(kernel, axis=axes, keepdims=True)
        variance = jnp.var(kernel, axis=axes, keepdims=True, ddof=1)
        kernel = (kernel - mean) / jnp.sqrt(variance * inputs + self.eps)
        if self.gain is not None:
            kernel = kernel * self.gain[...].reshape((1,) * len(axes) + (-1,))
        return kernel, bias
