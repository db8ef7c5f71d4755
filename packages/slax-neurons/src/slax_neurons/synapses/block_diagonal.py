"""A synapse in blocks, each of which connects its own inputs with its own outputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from flax.nnx.nn.linear import default_bias_init, default_kernel_init
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.parameter import check_rngs


class BlockDiagonal(nnx.Module):
    """A linear map in G blocks: group g of the inputs reaches only group g of the outputs.

        y_g = x_g W_g + b_g,    x = [x_1, ..., x_G],  y = [y_1, ..., y_G]    # W_g is [I / G, N / G]

    After a `Delay` with `groups=G`, which makes G delayed copies of its inputs, each group of outputs sees all of these inputs
    with delays of its own; with G = N each connection has its own delay. The zeros outside the blocks are not computed.

    Args:
        in_features: number of all inputs I, divisible by G.
        out_features: number of all outputs N, divisible by G.
        groups: number of blocks G.
        use_bias: whether to add a bias [N].
        kernel_init: initializer of one block [I / G, N / G]; each is drawn like the kernel of a Linear. The default is
            that of Linear.
        bias_init: initializer of the bias, by default zeros.
        dtype: dtype of the computation; by default inferred from the inputs and the parameters, as in Linear.
        param_dtype: dtype of the parameters.
        rngs: random streams; the initial weights are drawn from the stream `params`.

    Raises:
        ValueError: sizes that G does not divide.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, BlockDiagonal, Delay, connect, unroll
        >>> rngs = nnx.Rngs(0)
        >>> modules = [Delay(8, max_delay=5, groups=4, rngs=rngs), BlockDiagonal(4 * 8, 16, 4, rngs=rngs), LIF()]
        >>> model = connect(modules)  # one delay for each of 8 inputs and 4 groups of 4 neurons
        >>> model.modules[0].delays.value.shape, model.modules[1].kernel.shape
        ((4, 8), (4, 8, 4))
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))
        >>> spikes.shape
        (20, 2, 16)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        groups: int,
        *,
        use_bias: bool = True,
        kernel_init: Callable[..., Array] = default_kernel_init,
        bias_init: Callable[..., Array] = default_bias_init,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if groups < 1 or in_features % groups or out_features % groups:
            sizes = f"{in_features} inputs and {out_features} outputs"
            raise ValueError(f"BlockDiagonal got {sizes}, expected multiples of groups={groups}.")
        self.in_features = in_features
        self.out_features = out_features
        self.groups = groups
        self.dtype = dtype
        block = (in_features // groups, out_features // groups)
        check_rngs("BlockDiagonal", rngs)
        keys = jax.random.split(rngs.params(), groups)
        self.kernel = nnx.Param(jax.vmap(lambda key: kernel_init(key, block, param_dtype))(keys))
        self.bias = nnx.Param(bias_init(rngs.params(), (out_features,), param_dtype)) if use_bias else nnx.data(None)

    def __call__(self, inputs: Float[Array, "*B I"]) -> Float[Array, "*B N"]:
        bias = None if self.bias is None else self.bias[...]
        inputs, kernel, bias = promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype)
        groups = inputs.reshape(*inputs.shape[:-1], self.groups, -1)
        outputs = jnp.einsum("...gi,gin->...gn", groups, kernel).reshape(*inputs.shape[:-1], self.out_features)
        return outputs if bias is None else outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))

    def effective(self) -> tuple[Float[Array, "I N"], Float[Array, " N"] | None]:
        """The kernel with the zeros outside the blocks, and the bias: y = x W + b."""
        kernel = self.kernel[...]
        own = jnp.eye(self.groups, dtype=bool)[:, None, :, None]
        blocks = jnp.where(own, kernel[:, :, None, :], jnp.zeros((), kernel.dtype))
        return blocks.reshape(self.in_features, self.out_features), None if self.bias is None else self.bias[...]
