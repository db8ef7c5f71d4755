"""Sparse connectivity: a synapse with a fixed mask."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from slax_neurons.parameter import Constant
from slax_neurons.synapses.synapse import Reparameterized, effective_weights


class Masked(Reparameterized):
    """Sparse connectivity: a synapse of which only the weights under a fixed mask exist.

        W = m w        m in {0, 1}

    The gradient of all other weights is zero, and a pruned network stays pruned, whatever the optimizer does to them. Weights
    are not rescaled: a share `density` of the connections makes currents that are smaller by about sqrt(density), which the
    initializer of the kernel can make up for.

    Args:
        synapse: a Linear, a Conv, or any other synapse.
        mask: true or 1 for a connection, in the shape of the kernel: [in, out] or [*size, in / groups, out].

    Raises:
        TypeError: anything other than a synapse, such as a Conv that has a mask itself.
        ValueError: a mask of another shape.

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
        if mask.shape != shape:
            raise ValueError(
                f"Masked got a mask of shape {list(mask.shape)} for a kernel of shape {list(shape)}, expected one entry for "
                "each weight."
            )
        self.mask = Constant(mask.astype(bool))

    @classmethod
    def random(cls, synapse: Any, density: float, *, rngs: nnx.Rngs) -> "Masked":
        """Draw a mask of which a share `density` of the entries is true, rounded to whole connections.

        Args:
            synapse: see above.
            density: in (0, 1].
            rngs: the mask is drawn from the stream `params`.

        Raises:
            ValueError: a density out of range.
        """
        if not 0 < density <= 1:
            raise ValueError(f"Masked.random got density={density}, expected a number in (0, 1].")
        kernel = effective_weights(synapse)[0]
        ranks = jax.random.permutation(rngs.params(), kernel.size).reshape(kernel.shape)
        return cls(synapse, ranks < round(density * kernel.size))

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"] | None]:
        kernel, bias = effective_weights(self.synapse)
        mask: Bool[Array, "*K I O"] = self.mask[...]
        return jnp.where(mask, kernel, jnp.zeros((), kernel.dtype)), bias
