"""Weights of low rank."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.synapses.synapse import Reparameterized, is_plain


class LowRank(Reparameterized):
    """A synapse with a kernel of low rank, the product of two thin matrices that are trained in its place.

        W = U V        U [n, rank], V [rank, out]

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
            raise TypeError(
                f"LowRank got a {type(synapse).__name__}, expected a Linear or a Conv without a mask, whose kernel it "
                "replaces. Wrap it the other way around: Quantized(LowRank(Linear(...), rank=4))."
            )
        kernel = synapse.kernel[...]
        inputs, outputs = math.prod(kernel.shape[:-1]), kernel.shape[-1]
        if not 1 <= rank <= min(inputs, outputs):
            raise ValueError(
                f"LowRank got rank={rank} for a kernel of {inputs} by {outputs}, expected from 1 to {min(inputs, outputs)}."
            )
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
