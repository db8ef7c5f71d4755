"""Synapses that make their weights from the weights of another synapse: of low rank, sparse, of few bits, or standardized."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from slax_neurons.parameter import Constant, check_rngs, positive
from slax_neurons.synapses.synapse import Reparameterized, effective_weights, is_plain


class LowRank(Reparameterized):
    """A synapse with a kernel of low rank, the product of two thin matrices that are trained in its place.

        W = U V        # U [n, rank], V [rank, out]

    A convolution's kernel is [n, out] with n = size * in / groups. The factors start as the truncated singular value
    decomposition of the kernel, each with the roots of the singular values: the closest W of this rank. For a kernel that was
    just drawn, its norm is smaller than the kernel's.

    Args:
        synapse: a Linear or Conv, whose kernel is replaced.
        rank: number of columns of U, from 1 to min(n, out).

    Raises:
        TypeError: anything other than a Linear or a Conv without a mask. Wrap the result instead: Quantized(LowRank(...)).
        ValueError: a rank out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LowRank
        >>> synapse = LowRank(nnx.Linear(100, 50, rngs=nnx.Rngs(0)), rank=4)
        >>> synapse.left.shape, synapse.right.shape, int(jnp.linalg.matrix_rank(synapse.effective()[0]))
        ((100, 4), (4, 50), 4)
    """

    options = ("rank",)

    def __init__(self, synapse: Any, rank: int):
        if not is_plain(synapse):
            cure = "Wrap the result: Quantized(LowRank(...))."
            raise TypeError(f"LowRank got {type(synapse).__name__}, expected a Linear or a Conv. {cure}")
        kernel = synapse.kernel[...]
        inputs, outputs = math.prod(kernel.shape[:-1]), kernel.shape[-1]
        if not 1 <= rank <= min(inputs, outputs):
            raise ValueError(f"LowRank got rank={rank}, expected 1 to {min(inputs, outputs)}.")
        wide = kernel.dtype if kernel.dtype.itemsize >= 4 else jnp.float32  # half precision has no decomposition
        u, values, v = jnp.linalg.svd(kernel.reshape(inputs, outputs).astype(wide), full_matrices=False)
        roots = jnp.sqrt(values[:rank])
        super().__init__(nnx.clone(synapse))
        del self.synapse.kernel  # the rest of it gives the sizes and options, and holds the bias
        self.rank = rank
        self.kernel_shape = kernel.shape
        self.left = nnx.Param((u[:, :rank] * roots[None]).astype(kernel.dtype))
        self.right = nnx.Param((roots[:, None] * v[:rank]).astype(kernel.dtype))

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"] | None]:
        kernel = (self.left[...] @ self.right[...]).reshape(self.kernel_shape)
        return kernel, None if self.synapse.bias is None else self.synapse.bias[...]


class Masked(Reparameterized):
    """Sparse connectivity: a synapse that has only the weights under a fixed mask.

        W = m w        m in {0, 1}

    The gradient of all other weights is zero, and a pruned network stays pruned, whatever the optimizer does to them. Weights
    are not rescaled: a share `density` of the connections makes currents that are smaller by about sqrt(density), which the
    initializer of the kernel can make up for.

    Args:
        synapse: a Linear, a Conv, or any other synapse.
        mask: true or 1 for a connection, in the shape of the kernel: [in, out] or [*size, in / groups, out].

    Raises:
        TypeError: anything other than a synapse, such as a Conv that has a mask itself.
        ValueError: a mask of another shape, or with other entries than 0 and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import Masked
        >>> diagonal = Masked(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), jnp.eye(3))
        >>> kernel, bias = diagonal.effective()
        >>> int((kernel != 0).sum())
        3
    """

    def __init__(self, synapse: Any, mask: Any):
        super().__init__(synapse)
        shape = effective_weights(synapse)[0].shape
        mask = jnp.asarray(mask)
        if not isinstance(mask, jax.core.Tracer) and not np.isin(np.asarray(mask), (0, 1)).all():
            raise ValueError("Masked got a mask with other entries than 0 and 1. Compare it: mask > threshold.")
        if mask.shape != shape:
            raise ValueError(f"Masked got a mask of shape {list(mask.shape)}, expected {list(shape)} of the kernel.")
        self.mask = Constant(mask.astype(bool))

    @classmethod
    def random(cls, synapse: Any, density: float, *, rngs: nnx.Rngs) -> "Masked":
        """Draw a mask of which a share `density` of the entries is true, rounded to whole connections.

        Args:
            synapse: see above.
            density: in (0, 1].
            rngs: the mask is drawn from the stream `params`.

        Raises:
            ValueError: a density out of range, or one that leaves no connection.
        """
        kernel = effective_weights(synapse)[0]
        check_rngs("Masked.random", rngs)
        ranks = jax.random.permutation(rngs.params(), kernel.size).reshape(kernel.shape)
        count = round(density * kernel.size)
        if not 0 < count <= kernel.size:
            raise ValueError(f"Masked.random got density={density} for {kernel.size} weights, which leaves {count}.")
        return cls(synapse, ranks < count)

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"] | None]:
        kernel, bias = effective_weights(self.synapse)
        mask: Bool[Array, "*K I O"] = self.mask[...]
        return jnp.where(mask, kernel, jnp.zeros((), kernel.dtype)), bias


class Quantized(Reparameterized):
    """A synapse whose weights are rounded to a few bits, trained with a straight-through estimator.

        W = s q        q = round(w / s) in {-Q, ..., Q}        Q = 2^{bits - 1} - 1        s = max(|w|) / Q

    Quantization is uniform and symmetric: zero stays zero, and -2^(bits - 1) is not used. Halves are rounded to the even
    neighbor. The scale is computed from the weights in each call, so nothing is clipped. The gradient w.r.t. w is the
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


class Standardized(Reparameterized):
    """Scaled weight standardization: the weights into each output have mean 0 and a norm that is trained.

        W_io = g_o (w_io - mean_o) / sqrt(n var_o + eps)        # n weights w into each output o

    with the unbiased variance, so that the weights into an output have the norm g sqrt((n - 1) / n) for a small eps, and
    independent inputs of unit variance make a current of variance about g^2. In networks that learn online it takes the place
    of a batch normalization, and needs no statistics.

    Args:
        synapse: a Linear, a Conv, or any other synapse, with at least two weights into each output.
        gain_init: initial value of the trainable gains g, one for each output.
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

    def __init__(self, synapse: Any, gain_init: float = 1.0, *, eps: float = 1e-4):
        super().__init__(synapse)
        kernel = effective_weights(synapse)[0]
        if math.prod(kernel.shape[:-1]) < 2:
            raise ValueError("Standardized got one weight into each output, its own mean, expected at least two.")
        self.gain_init = gain_init
        self.eps = positive("Standardized", "eps", eps)
        outputs = kernel.shape[-1:]
        self.gain = nnx.Param(jnp.full(outputs, gain_init, kernel.dtype))

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"] | None]:
        kernel, bias = effective_weights(self.synapse)
        axes = tuple(range(kernel.ndim - 1))
        inputs = math.prod(kernel.shape[:-1])
        mean = jnp.mean(kernel, axis=axes, keepdims=True)
        variance = jnp.var(kernel, axis=axes, keepdims=True, ddof=1)
        kernel = (kernel - mean) / jnp.sqrt(variance * inputs + self.eps)
        return kernel * self.gain[...].reshape((1,) * len(axes) + (-1,)), bias
