"""A neuron's parameter: fixed or trainable, one for the layer or one per neuron, kept inside its domain."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike

Numbers = float | Sequence[float] | np.ndarray | jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Trainable:
    """Marks the initial value of a parameter that is to be trained: `LIF(decay=Trainable(0.9))`.

    Args:
        value: one number for the layer, or an array of the shape of its features for one per neuron.
    """

    value: Numbers


@dataclasses.dataclass(frozen=True)
class Domain:
    """An open interval, and the map from all real numbers onto it under which a parameter is trained."""

    low: float
    high: float
    constrain: Callable[[Array], Array]
    unconstrain: Callable[[np.ndarray], np.ndarray]

    def __contains__(self, value: np.ndarray) -> bool:
        return bool(np.all((value > self.low) & (value < self.high)))


UNIT_INTERVAL = Domain(0.0, 1.0, jax.nn.sigmoid, lambda p: np.log(p) - np.log1p(-p))
REAL = Domain(-np.inf, np.inf, lambda x: x, lambda x: x)


class Constant(nnx.Variable):
    """An array that belongs to a model and is not trained."""


class Parameter(nnx.Module):
    """A named number or array inside a domain.

    A trainable one is an `nnx.Param` called `unconstrained`, whose value is mapped into the domain at each use, so that no
    optimiser step can leave it; rounding can end at a bound. A fixed number is part of the program, a fixed array a
    `Constant`.

    Args:
        name: how errors call it, as "LIF decay".
        value: a number or an array, or `Trainable` of one.
        domain: where the value must lie.
        param_dtype: dtype of a trainable or fixed array.

    Raises:
        ValueError: a value outside the domain, or not a number.
    """

    def __init__(self, name: str, value: Numbers | Trainable, domain: Domain, param_dtype: DTypeLike):
        trainable = isinstance(value, Trainable)
        initial = np.asarray(value.value if isinstance(value, Trainable) else value, np.float64)
        if initial not in domain:
            raise ValueError(
                f"{name} got {np.array2string(initial, threshold=6)}, expected numbers inside ({domain.low}, {domain.high})."
            )
        with jax.ensure_compile_time_eval():  # a neuron may be made inside a function that is being traced
            stored = jnp.asarray(domain.unconstrain(initial) if trainable else initial, param_dtype)
            used = np.asarray(domain.constrain(stored) if trainable else stored, np.float64)
        if used not in domain:
            raise ValueError(
                f"{name} got {np.array2string(initial, threshold=6)}, which {stored.dtype} rounds to a bound of "
                f"({domain.low}, {domain.high}). Use a wider param_dtype."
            )
        self.name = name
        self.domain = domain
        if trainable:
            self.unconstrained = nnx.Param(stored)
        elif initial.ndim:
            self.constant = Constant(stored)
        else:
            self.number = float(initial)

    def __call__(self, state: Array) -> Array | float:
        """The value as it multiplies `state` [..., features], in its dtype."""
        if hasattr(self, "number"):
            return self.number
        trainable = hasattr(self, "unconstrained")
        value = self.domain.constrain(self.unconstrained[...]) if trainable else self.constant[...]
        if value.ndim and value.shape != state.shape[state.ndim - value.ndim :]:
            raise ValueError(
                f"{self.name} has shape {value.shape}, but the neurons it is for have features of shape "
                f"{state.shape[-value.ndim :]}. Give one number for the layer, or one per neuron."
            )
        return value.astype(state.dtype).reshape((1,) * (state.ndim - value.ndim) + value.shape)
