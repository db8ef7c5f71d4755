"""Wiring: cells and modules without a carry, one after the other, as one cell."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.engine import unroll_chunk
from slax_neurons.parameter import Constant


def connect(modules: Any) -> "Connect":
    """Wires modules into a stack that is itself a cell, so stacks nest.

    Args:
        modules: in order: cells (neurons, other stacks, Flax's recurrent cells) and anything that maps an array
            [rows, features...] to an array row by row: Linear, Conv, norms, pooling, a function.

    Returns:
        A cell whose carry is a tuple with one entry per module, () for one without a carry.

    Raises:
        TypeError: a module that is neither a cell nor callable, or that keeps state outside the carry (BatchNorm, Dropout).
        ValueError: no modules at all.
    """
    return Connect(modules)


class Connect(nnx.RNNCellBase):
    """A feed-forward stack of modules as a cell; made by `connect`."""

    def __init__(self, modules: Any):
        if isinstance(modules, nnx.Module) or callable(modules):
            raise TypeError(f"connect got one {type(modules).__name__}, expected a list of modules: connect([...]).")
        if not modules:
            raise ValueError("connect got no modules, expected at least one, as in connect([Linear(...), LIF()]).")
        self.modules = nnx.List([_as_module(module, index) for index, module in enumerate(modules)])

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> tuple:
        """The carries of all modules at rest, for inputs of `input_shape` [B, features...]."""
        carries = []
        for index, module in enumerate(self.modules):
            check_features(module, index, input_shape)
            carry, input_shape = _carry_and_output_shape(module, input_shape, rngs)
            carries.append(carry)
        return tuple(carries)

    def __call__(self, carry: Any, inputs: Float[Array, "*B N"]) -> tuple[tuple, Float[Array, "*B M"]]:
        self._check_carry(carry)
        carries = []
        for index, (module, state) in enumerate(zip(self.modules, carry, strict=True)):
            check_features(module, index, inputs.shape)
            state, inputs = _step(module, state, inputs)
            carries.append(state)
        return tuple(carries), inputs

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[tuple, Float[Array, "T B ..."]]:
        """All steps at once, layer by layer."""
        self._check_carry(carry)
        carries = []
        for index, (module, state) in enumerate(zip(self.modules, carry, strict=True)):
            check_features(module, index, inputs.shape[1:])
            state, inputs = unroll_chunk(module, state, inputs)
            carries.append(state)
        return tuple(carries), inputs

    @property
    def num_feature_axes(self) -> int:
        first = self.modules[0]
        if isinstance(first, nnx.Conv):
            return len(first.kernel_size) + 1
        return first.num_feature_axes if isinstance(first, nnx.RNNCellBase) else 1

    def _check_carry(self, carry: Any) -> None:
        if not isinstance(carry, tuple) or len(carry) != len(self.modules):
            raise ValueError(
                f"Got a carry of {len(carry) if isinstance(carry, tuple) else type(carry).__name__} for "
                f"{len(self.modules)} modules. Make it with initialize_carry(inputs.shape[1:])."
            )


class Function(nnx.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[Array], Array]):
        self.function = function

    def __call__(self, inputs: Array) -> Array:
        return self.function(inputs)


def _as_module(module: Any, index: int) -> nnx.Module:
    expected = (
        "expected a cell (a neuron, a stack, a Flax recurrent cell) or a callable that maps an array to an array, "
        "such as nnx.Linear"
    )
    if isinstance(module, type):
        raise TypeError(
            f"connect got the class {module.__name__} as module {index}, {expected}. Make one: {module.__name__}(...)."
        )
    if isinstance(module, nnx.RNN):
        raise TypeError(
            f"connect got an nnx.RNN as module {index}, {expected}. Put its cell there: unroll runs it over time."
        )
    if not callable(module):
        raise TypeError(f"connect got {type(module).__name__} as module {index}, {expected}.")
    if not isinstance(module, nnx.Module):
        hidden = _module_inside(module)
        if hidden is not None:
            raise TypeError(
                f"connect got a function as module {index} that uses {type(hidden).__name__}, whose parameters would not be "
                "part of the model. Put the module itself into the list."
            )
        return Function(module)
    if not isinstance(module, nnx.RNNCellBase) and jax.tree.leaves(
        nnx.state(module, nnx.Not(nnx.Any(nnx.Param, Constant)))
    ):
        raise TypeError(
            f"connect got {type(module).__name__} as module {index}, which holds state besides its parameters. "
            f"A cell has no state but its carry, so a change of it would be lost; {expected}, LayerNorm or GroupNorm."
        )
    return module


def _module_inside(function: Any) -> nnx.Module | None:
    """A module that a function uses from outside, is a method of, or has among the arguments of a partial."""
    values = [getattr(function, "__self__", None)]
    if inspect.isfunction(function):
        values += [cell.cell_contents for cell in function.__closure__ or ()]
        values += [function.__globals__.get(name) for name in function.__code__.co_names]
    if isinstance(function, functools.partial):
        values += [function.func, *function.args, *function.keywords.values()]
    return next((value for value in values if isinstance(value, nnx.Module)), None)


def _step(module: nnx.Module, carry: Any, inputs: Array) -> tuple[Any, Array]:
    if isinstance(module, nnx.RNNCellBase):
        return module(carry, inputs)
    return carry, module(inputs)


def _carry_and_output_shape(module: nnx.Module, input_shape: tuple[int, ...], rngs: Any) -> tuple[Any, tuple[int, ...]]:
    carry = module.initialize_carry(input_shape, rngs) if isinstance(module, nnx.RNNCellBase) else ()
    graphdef, state = nnx.split(module)
    with jax.numpy_dtype_promotion("standard"):  # only the shape is asked for, so any dtype of input will do
        _, outputs = jax.eval_shape(
            lambda state, carry, inputs: _step(nnx.merge(graphdef, state), carry, inputs),
            state,
            carry,
            jax.ShapeDtypeStruct(input_shape, jnp.float32),
        )
    return carry, outputs.shape


def check_features(module: nnx.Module, index: int, input_shape: tuple[int, ...]) -> None:
    expected = getattr(module, "in_features", None)
    if isinstance(expected, int) and (not input_shape or input_shape[-1] != expected):
        raise ValueError(
            f"Module {index} of the stack, {type(module).__name__}, expects {expected} features in the last axis, got "
            f"inputs of shape {list(input_shape)} per step."
        )
