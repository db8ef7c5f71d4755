"""Weights of few bits."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_neurons.synapses.synapse import Reparameterized, effective_weights


class Quantized(Reparameterized):
    """A synapse whose weights are rounded to a few bits, trained with a straight-through estimator.

        W = s q        q = round(w / s) in {-Q, ..., Q}        Q = 2^(bits - 1) - 1        s = max |w| / Q

    Quantization is uniform and symmetric: zero stays zero, and -2^(bits - 1) is not used. Halves are rounded to the even
    neighbor. The scale is computed anew from the weights in each call, so nothing is clipped. The gradient w.r.t. w is the
    gradient w.r.t. W: rounding and scale are constants for it (straight-through). Numbers are computed in the dtype of the
    weights, and a bias is not quantized; `integers` gives q and s, for hardware.

    Args:
        synapse: a Linear, a Conv, or any other synapse.
        bits: 2 to 8.
        per_output: one scale for each output, in place of one for the kernel.

    Raises:
        TypeError: anything other than a synapse.
        ValueError: a number of bits out of range.

    References:
        Bengio, Léonard, Courville: Estimating or propagating gradients through stochastic neurons for conditional computation,
        2013, arXiv 1308.3432, for the straight-through estimator. Jacob et al.: Quantization and training of neural networks
        for efficient integer-arithmetic-only inference, 2018, arXiv 1712.05877, for training with simulated quantization.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import Quantized
        >>> synapse = Quantized(nnx.Linear(100, 50, rngs=nnx.Rngs(0)), bits=4)
        >>> kernel, bias = synapse.effective()
        >>> len(jnp.unique(kernel))
        15
    """

    options = ("bits", "per_output")

    def __init__(self, synapse: Any, bits: int = 8, *, per_output: bool = False):
        super().__init__(synapse)
        if not 2 <= bits <= 8:
            raise ValueError(f"Quantized got bits={bits}, expected 2 to 8.")
        self.bits = bits
        self.per_output = per_output

    def integers(self) -> tuple[Array, Float[Array, "..."]]:
        """The integers q (int8, in the shape of the kernel) and the scale s (one number, or one for each output)."""
        kernel = effective_weights(self.synapse)[0]
        q, s = self._rounded(kernel)
        return q.astype(jnp.int8), s.reshape(-1) if self.per_output else s.reshape(())

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"] | None]:
        kernel, bias = effective_weights(self.synapse)
        q, s = self._rounded(jax.lax.stop_gradient(kernel))
        return q * s + (kernel - jax.lax.stop_gradient(kernel)), bias

    def _rounded(self, kernel: Array) -> tuple[Array, Array]:
        """The integers, as floats, and the scale in a shape that multiplies them."""
        axes = tuple(range(kernel.ndim - 1 if self.per_output else kernel.ndim))
        largest = jnp.max(jnp.abs(kernel), axis=axes, keepdims=True)
        scale = jnp.where(largest > 0, largest, jnp.ones_like(largest)) / (2 ** (self.bits - 1) - 1)
        return jnp.round(kernel / scale), scale
