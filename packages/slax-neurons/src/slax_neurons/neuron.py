"""What all neurons share: an element-wise cell without sizes, unrolled by a scan over element-wise work."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Float


class Neuron(nnx.RNNCellBase):
    """A layer of neurons that do not see each other: a cell `(carry, current) -> (carry, output)`.

    State and output of each unit depend on the state and the current of this unit alone, so a neuron takes no size: its
    carry has the shape of its input. Subclasses define `__call__`, and `carry_type`, a NamedTuple with one array of that same
    shape per state, if they have more than one. The layer's connections, its own recurrent ones included, are not part of
    it (see `connect`).

    Args:
        param_dtype: dtype of the state and of the parameters.
    """

    carry_type: ClassVar[Any] = None

    def __init__(self, *, param_dtype: DTypeLike = jnp.float32):
        self.param_dtype = jnp.dtype(param_dtype)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        """The state at rest: zeros of `input_shape` [B, ...]. `rngs` and `carry_init` are Flax's and unused."""
        rest = jnp.zeros(input_shape, self.param_dtype)
        if self.carry_type is None:
            return rest
        return self.carry_type(*[rest] * len(self.carry_type._fields))

    def __call__(self, carry: Any, inputs: Float[Array, "*B N"]) -> tuple[Any, Float[Array, "*B N"]]:
        raise NotImplementedError

    def unroll(self, carry: Any, inputs: Float[Array, "T *B N"]) -> tuple[Any, Float[Array, "T *B N"]]:
        """All steps at once: a scan over element-wise work."""
        self.check_carry(carry, inputs[0])
        return jax.lax.scan(self, carry, inputs)

    @property
    def num_feature_axes(self) -> int:
        return 1

    def check_carry(self, carry: Any, inputs: Array) -> None:
        """Raises ValueError unless each state has shape and dtype of the current of one step, [B, N]."""
        for state in jax.tree.leaves(carry):
            if state.shape != inputs.shape or state.dtype != inputs.dtype:
                raise ValueError(
                    f"{type(self).__name__} got a carry of {state.dtype}{list(state.shape)} for a current of "
                    f"{inputs.dtype}{list(inputs.shape)} per step. Make the carry with "
                    f"initialize_carry({inputs.shape}), and build the neuron with "
                    f"param_dtype={inputs.dtype.name} if the dtypes differ."
                )
