"""What NIR has and Flax has no module for: each maps rows [B, *spatial, channels] to rows and has no carry."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.parameter import Constant, ParameterValue


class Flatten(nnx.Module):
    """Features in one axis, in NIR's order, which has the channels first: that of the weights that come after it.

    Args:
        start: first axis to be flattened, counted in NIR's order without the batch.
        end: last one.
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
    """Sums over windows of [B, height, width, channels].

    Args:
        kernel_size: of a window, height and width, or one number for both.
        stride: from one window to the next, likewise. By default the size of a window.
        padding: zeros on each side, likewise.
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
        return jax.lax.reduce_window(
            inputs,
            np.zeros((), inputs.dtype),
            jax.lax.add,
            (1, *self.kernel_size, 1),
            (1, *self.stride, 1),
            ((0, 0), *((padding, padding) for padding in self.padding), (0, 0)),
        )


class AvgPool2d(SumPool2d):
    """Means over windows of [B, height, width, channels]; zeros of the padding count.

    Args:
        kernel_size: of a window, height and width, or one number for both.
        stride: from one window to the next, likewise. By default the size of a window.
        padding: zeros on each side, likewise.
    """

    def __call__(self, inputs: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        return super().__call__(inputs) / math.prod(self.kernel_size)


class Scale(nnx.Module):
    """y = scale x, element by element.

    Args:
        scale: a number, or an array of the shape of the features or of the last of them. Not trained.
        param_dtype: dtype of an array.
    """

    def __init__(self, scale: ParameterValue, *, param_dtype: DTypeLike = jnp.float32):
        self.scale = Constant(jnp.asarray(scale, param_dtype))

    def __call__(self, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        scale = self.scale[...].astype(inputs.dtype)
        return inputs * scale.reshape((1,) * (inputs.ndim - scale.ndim) + scale.shape)


class Zeros(nnx.Module):
    """Zeros instead of what comes down the chain, for a layer that hears its edges only.

    Args:
        shape: of the features.
    """

    def __init__(self, shape: Sequence[int]):
        self.shape = tuple(int(size) for size in shape)

    def __call__(self, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return jnp.zeros((inputs.shape[0], *self.shape), inputs.dtype)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = np.broadcast_to(np.asarray(size), (2,)).tolist()
    return height, width
