"""The modules of a stack: what may be one, and the shapes that it takes and gives."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from slax_neurons.dropout import Dropout
from slax_neurons.mutation import mutations_explained
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.synapses.synapse import geometry_of
from slax_neurons.unrolling import Function, is_stack, step_module

EXPECTED = "expected a cell, or a callable such as nnx.Linear"
# Modules that keep the number of features.
FEATURE_PRESERVING = (Neuron, Dropout, nnx.Dropout, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm)


def as_module(module: Any, name: str) -> nnx.Module:
    """The module itself, or a function wrapped as a module; errors refer to it by `name`.

    Raises:
        TypeError: a class, or an RNN or a Sequential of cells.
    """
    if isinstance(module, type):
        raise TypeError(f"connect got the class {module.__name__} as {name}, {EXPECTED}: {module.__name__}(...).")
    parts = (part for _, part in nnx.iter_modules(module)) if isinstance(module, nnx.Sequential) else ()
    if isinstance(module, nnx.RNN) or any(isinstance(part, nnx.RNNCellBase) for part in parts):
        raise TypeError(f"connect got {type(module).__name__} of cells as {name}, {EXPECTED}. Put its cells there.")
    return module if isinstance(module, nnx.Module) else Function(module)


def takes_statistics(module: nnx.Module) -> bool:
    """True if the module holds a BatchNorm in training, which sees all steps and samples together."""
    return any(isinstance(part, nnx.BatchNorm) and not part.use_running_average for _, part in nnx.iter_modules(module))


def output_struct(module: nnx.Module, carry: Any, inputs: jax.ShapeDtypeStruct) -> Any:
    """The shape and dtype of a module's output, or of each array in it if it is a tree of arrays."""
    graphdef, state = nnx.split(module)
    # The dtype of a stack's input is not known.
    with jax.numpy_dtype_promotion("standard"), mutations_explained(module):
        return jax.eval_shape(lambda state, *at: _one_step(nnx.merge(graphdef, state), *at), state, carry, inputs)


def _one_step(module: Any, carry: Any, inputs: Array) -> Any:
    """The output of one step; a cell with `unroll` gets a sequence of one step, as BatchNorm in training requires."""
    if isinstance(module, nnx.RNNCellBase) and hasattr(module, "unroll"):
        return jax.tree.map(lambda outputs: outputs[0], module.unroll(carry, inputs[None])[1])
    return step_module(module, carry, inputs)[1]


def output_features(modules: Sequence[Any]) -> int | None:
    """The number of features in the last module's output, or None if the modules do not determine it."""
    for module in reversed(modules):
        own = getattr(module, "out_features", getattr(module, "hidden_features", None))
        features = output_features(module.modules) if is_stack(module) else own
        if isinstance(features, int):
            return features
        if not isinstance(module, (*FEATURE_PRESERVING, nnx.RNNCellBase)):
            return None
    return None


def check_features(module: nnx.Module, index: int | str, input_shape: tuple[int, ...]) -> None:
    """Raise ValueError if a module declares a different number of input features."""
    expected = getattr(module, "in_features", None)
    if isinstance(expected, int) and input_shape[-1:] != (expected,):
        got = f"{list(input_shape)} per step for module {index} of the stack, {type(module).__name__}"
        raise ValueError(f"Got inputs of shape {got}, expected {expected} features in the last axis.")


def check_space(module: nnx.Module, index: int, input_shape: tuple[int, ...]) -> None:
    """Raise ValueError for a convolution whose inputs [B, space..., features] have fewer axes of space than its kernel."""
    geometry: Any = module if isinstance(module, nnx.ConvTranspose) else geometry_of(module)
    axes = len(getattr(geometry, "kernel_size", ()))
    if axes and len(input_shape) < axes + 2:
        got = f"{list(input_shape)} per step for module {index} of the stack, {type(module).__name__}"
        raise ValueError(f"Got inputs of shape {got}, expected {axes + 2} axes: samples, {axes} of space, features.")


def as_shape(name: str, shape: Any, expected: str, *, axes: int = 0) -> tuple[int, ...]:
    """A shape as a tuple; errors name the caller and say what is `expected`.

    Raises:
        TypeError: no list of sizes, such as a number or an array in place of its shape.
        ValueError: fewer than `axes` sizes, or one that is no size.
    """
    if np.ndim(shape) != 1:
        given = f"an array of shape {list(np.shape(shape))}" if np.ndim(shape) else repr(shape)
        raise TypeError(f"{name} got {given} as a shape, expected {expected}.")
    sizes = tuple(shape.tolist() if hasattr(shape, "tolist") else shape)
    are_sizes = (jax.export.is_symbolic_dim(n) or (isinstance(n, int | np.integer) and n >= 0) for n in sizes)
    if len(sizes) < axes or not all(are_sizes):
        raise ValueError(f"{name} got the shape {sizes}, expected {expected}.")
    return sizes
