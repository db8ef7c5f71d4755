"""Modules that NIR has and Flax lacks: each maps rows [B, *spatial, channels] to rows and has no carry."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.parameter import Constant, ParameterValue


class Flatten(nnx.Module):
    """A module that flattens features into one axis in NIR's order, channels first, as the weights after it expect.

    Args:
        start: first axis to be flattened, counted in NIR's order without the batch.
        end: last axis to be flattened.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons.nir import Flatten
        >>> inputs = jnp.stack([jnp.zeros((1, 2, 2)), jnp.ones((1, 2, 2))], axis=-1)  # 0 in one channel, 1 in the other
        >>> Flatten()(inputs).tolist()
        [[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, start: int = 0, end: int = -1):
        self.start = start
        self.end = end

    def __call__(self, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        features = (inputs.shape[-1], *inputs.shape[1:-1])
        start, end = (axis % len(features) for axis in (self.start, self.end))
        flat = (*features[:start], math.prod(features[start : end + 1]), *features[end + 1 :])
        return jnp.moveaxis(jnp.moveaxis(inputs, -1, 1).reshape(-1, *flat), 1, -1)


class SumPool2d(nnx.Module):
    """Sum pooling over windows of [B, height, width, channels].

    Args:
        kernel_size: height and width of a window, or one number for both.
        stride: steps from one window to the next, or one number for both. By default the size of a window.
        padding: zeros on each side, or one number for both axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons.nir import SumPool2d
        >>> SumPool2d(2)(jnp.ones((1, 4, 4, 3)))[0, :, :, 0].tolist()
        [[4.0, 4.0], [4.0, 4.0]]
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
    ):
        self.kernel_size = _pair(kernel_size)
        self.stride = self.kernel_size if stride is None else _pair(stride)
        self.padding = _pair(padding)

    def __call__(self, inputs: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        zero, pads = np.zeros((), inputs.dtype), ((0, 0), *((side, side) for side in self.padding), (0, 0))
        return jax.lax.reduce_window(inputs, zero, jax.lax.add, (1, *self.kernel_size, 1), (1, *self.stride, 1), pads)


class AvgPool2d(SumPool2d):
    """Average pooling over windows of [B, height, width, channels]; the zeros of the padding count.

    Args:
        kernel_size: height and width of a window, or one number for both.
        stride: steps from one window to the next, or one number for both. By default the size of a window.
        padding: zeros on each side, or one number for both axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons.nir import AvgPool2d
        >>> AvgPool2d(2, padding=1)(jnp.ones((1, 4, 4, 3)))[0, :, :, 0].tolist()
        [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    """

    def __call__(self, inputs: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        return super().__call__(inputs) / math.prod(self.kernel_size)


class Scale(nnx.Module):
    """Element-wise scaling, y = scale x.

    Args:
        scale: a number, or an array of the shape of the features or of their last axes. It is not trained.
        param_dtype: dtype of an array.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons.nir import Scale
        >>> Scale([1.0, 0.5])(jnp.ones((3, 2))).tolist()
        [[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]]
    """

    def __init__(self, scale: ParameterValue, *, param_dtype: DTypeLike = jnp.float32):
        self.scale = Constant(jnp.asarray(scale, param_dtype))

    def __call__(self, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        scale = self.scale[...].astype(inputs.dtype)
        return inputs * scale.reshape((1,) * (inputs.ndim - scale.ndim) + scale.shape)


class Zeros(nnx.Module):
    """A module that replaces its input with zeros, for a layer that receives input from its edges only.

    Args:
        shape: shape of the features.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons.nir import Zeros
        >>> Zeros((4,))(jnp.ones((2, 8))).tolist()
        [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(self, shape: Sequence[int]):
        self.shape = tuple(int(size) for size in shape)

    def __call__(self, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return jnp.zeros((inputs.shape[0], *self.shape), inputs.dtype)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = np.broadcast_to(np.asarray(size), (2,)).tolist()
    return height, width
