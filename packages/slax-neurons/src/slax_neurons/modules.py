"""The modules a stack may contain, and the facts about a module that can be found without running it."""

import contextlib
import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError
from jaxtyping import Array

from slax_neurons.delay import Delay
from slax_neurons.dropout import Dropout
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.synapses.running_sums import accumulates

EXPECTED = "expected a cell, or a callable that maps an array to an array, such as nnx.Linear"
# Modules that keep the number of features.
FEATURE_PRESERVING = (Neuron, Dropout, nnx.Dropout, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm)

# Modules that map each row by itself.
BY_ROW = (
    *(nnx.Linear, nnx.Conv, nnx.ConvTranspose, nnx.Embed, nnx.Einsum, nnx.LoRALinear, nnx.PReLU),
    *(nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.InstanceNorm),
)

# Types of variables that a module changes when it is called; a variable of any other type is taken as constant.
MUTATED = (nnx.BatchStat, nnx.Cache, nnx.Intermediate, nnx.RngState)

# The remedy for a neuron with noise.
KEY_IN_CARRY = (
    "Keep what changes in the carry: for noise, a random key for each sample, which each step splits, and "
    "mutates_state = False in the class (docs/neurons.md, Noise)."
)

_FLAX_CELLS = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.SimpleCell, nnx.GRUCell)


class Function(nnx.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[Array], Any]):
        self.function = function

    def __call__(self, inputs: Array) -> Any:
        return self.function(inputs)


def as_module(module: Any, name: str) -> nnx.Module:
    """The module itself, or a function wrapped as a module; errors refer to it by `name`.

    Raises:
        TypeError: neither a module nor a function, or a function that hides a module.
    """
    if isinstance(module, type):
        raise TypeError(
            f"connect got the class {module.__name__} as {name}, {EXPECTED}. Make one: {module.__name__}(...)."
        )
    if isinstance(module, nnx.Sequential) and any(
        isinstance(part, nnx.RNNCellBase) for _, part in nnx.iter_modules(module)
    ):
        raise TypeError(
            f"connect got an nnx.Sequential with a cell in it as {name}, {EXPECTED}: it would not keep the cell's state. Put "
            "a stack there, connect([...]), or its layers one by one."
        )
    if isinstance(module, nnx.RNN):
        raise TypeError(f"connect got an nnx.RNN as {name}, {EXPECTED}. Put its cell there: unroll runs it over time.")
    if not callable(module):
        raise TypeError(f"connect got {type(module).__name__} as {name}, {EXPECTED}.")
    if isinstance(module, nnx.Module):
        return module
    hidden = _module_inside(module)
    if hidden is not None:
        raise TypeError(
            f"connect got a function as {name} that uses {type(hidden).__name__}, expected one without parameters: they would "
            "not be part of the model. Put the module itself into the list."
        )
    return Function(module)


def _contents(cell: types.CellType) -> Any:
    """What a function closes over; None for a name that is assigned later."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _module_inside(function: Any) -> nnx.Module | None:
    """A module that a function closes over, is a method of, or holds among the arguments of a partial, if there is one."""
    values = [getattr(function, "__self__", None)]
    if inspect.isfunction(function):
        values += map(_contents, function.__closure__ or ())
        values += [
            function.__globals__.get(instruction.argval)
            for instruction in dis.get_instructions(function)
            if instruction.opname == "LOAD_GLOBAL"  # and not an attribute of the same name
        ]
    if isinstance(function, functools.partial):
        values += [function.func, *function.args, *function.keywords.values()]
    return next((value for value in values if isinstance(value, nnx.Module)), None)


def takes_statistics(module: nnx.Module) -> bool:
    """True if the module holds a BatchNorm in training, which sees all steps and samples together."""
    return any(isinstance(part, nnx.BatchNorm) and not part.use_running_average for _, part in nnx.iter_modules(module))


def mutates_state(module: nnx.Module) -> bool:
    """True if a call may change variables of the module, which must then see the entire sequence in one call outside a scan.

    A module declares this by `mutates_state = True` in its class. Among modules without a declaration, it is true for those
    with random streams or variables of a type in `MUTATED`, BatchNorm in training, and Flax's Dropout unless deterministic.
    """
    return any(_mutates(part) for _, part in nnx.iter_modules(module))


def changes_when_called(module: nnx.Module) -> bool:
    """True if a call may change variables of the module: it mutates its state, or adds to running sums."""
    return mutates_state(module) or accumulates(module)


def _mutates(part: nnx.Module) -> bool:
    if isinstance(part, nnx.BatchNorm):
        return not part.use_running_average
    if isinstance(part, nnx.Dropout):
        return not part.deterministic
    declared = getattr(part, "mutates_state", None)
    if declared is not None:
        return declared
    return any(isinstance(value, (nnx.Rngs, nnx.RngStream, *MUTATED)) for value in vars(part).values())


@contextlib.contextmanager
def mutations_explained(model: nnx.Module) -> Iterator[None]:
    """Explain the remedy if a module changes a variable of its own in a function that JAX traces."""
    try:
        yield
    except TraceContextError as error:
        changed = (part for _, part in nnx.iter_modules(model) if isinstance(part, nnx.RNNCellBase) and _mutates(part))
        cell = next(changed, None)
        if cell is not None:
            raise ValueError(
                f"Got {type(cell).__name__} that draws random numbers or changes a variable of its own in a step, expected "
                f"one that changes its carry alone, since steps run in a loop over time. {KEY_IN_CARRY}"
            ) from error
        if mutates_state(model):
            raise
        raise ValueError(
            "Got a model with a module that changes a variable of its own in a function that JAX traces, expected one that "
            "declares it. Put mutates_state = True into its class, or make the variable an nnx.BatchStat: the module is then "
            "called once, with the whole sequence. If jax.jit is around it, use nnx.jit."
        ) from error


def step_module(module: nnx.Module, carry: Any, inputs: Array) -> tuple[Any, Any]:
    """Run one step of a cell, or of a module without a carry, whose carry is ()."""
    if isinstance(module, nnx.RNNCellBase):
        return module(carry, inputs)
    return carry, module(inputs)


def first_carry(cell: nnx.RNNCellBase, input_shape: tuple[int, ...], rngs: Any = None) -> Any:
    """The carry of a cell before the first step, for inputs of `input_shape` [B, features...].

    Flax's own cells require a key, although zeros, their default, do not need one. Without `rngs`, a fixed key is used.
    """
    if rngs is None and isinstance(cell, _FLAX_CELLS) and cell.rngs is None:
        rngs = nnx.Rngs(0)
    return cell.initialize_carry(input_shape, rngs)


def output_struct(module: nnx.Module, carry: Any, inputs: jax.ShapeDtypeStruct) -> Any:
    """The shape and dtype of a module's output, or of each array in it if it is a tree of arrays."""
    graphdef, state = nnx.split(module)
    # The dtype of a stack's input is not known.
    with jax.numpy_dtype_promotion("standard"), mutations_explained(module):
        return jax.eval_shape(
            lambda state, carry, inputs: _one_step(nnx.merge(graphdef, state), carry, inputs), state, carry, inputs
        )


def _one_step(module: Any, carry: Any, inputs: Array) -> Any:
    """The output of one step; a cell with `unroll` gets a sequence of one step, as BatchNorm in training requires."""
    if isinstance(module, nnx.RNNCellBase) and hasattr(module, "unroll"):
        return jax.tree.map(lambda outputs: outputs[0], module.unroll(carry, inputs[None])[1])
    return step_module(module, carry, inputs)[1]


def is_stack(module: Any) -> bool:
    """True for a `Connect`, which is defined in a file that imports this one."""
    return isinstance(getattr(module, "modules", None), nnx.List)


def input_struct(modules: Sequence[nnx.Module], shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """The shape and dtype of a stack's input: the dtype of its first parameters, neuron or delay, or int32 before nnx.Embed."""
    if isinstance(_first(modules[0]), nnx.Embed):
        return jax.ShapeDtypeStruct(shape, jnp.int32)
    for module in modules:
        if isinstance(module, Neuron | Delay):
            return jax.ShapeDtypeStruct(shape, module.param_dtype)
        for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)):
            return jax.ShapeDtypeStruct(shape, leaf.dtype)
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def input_dtype(model: nnx.Module) -> Any:
    """The dtype of the input of a stack, as in `input_struct`, or of a single module."""
    return input_struct(model.modules if is_stack(model) else [model], ()).dtype  # type: ignore[attr-defined]


def cast_inputs(model: nnx.Module, inputs: Array) -> Array:
    """Cast inputs to the dtype of the model: frames of events, which are booleans or integers, become floating-point numbers.

    Integers of more than 8 bits may be indices, such as tokens. They stay as they are if the model begins with an `nnx.Embed`,
    a function, or a module of your own, which may use them as indices. Floating-point numbers also stay as they are.
    """
    return inputs.astype(cast_dtype(model, inputs.dtype))


def cast_dtype(model: nnx.Module, dtype: Any) -> Any:
    """The dtype to which `cast_inputs` casts inputs of `dtype`."""
    is_frame = dtype == jnp.bool_ or (jnp.issubdtype(dtype, jnp.integer) and jnp.dtype(dtype).itemsize == 1)
    is_kept = jnp.issubdtype(dtype, jnp.inexact) or _embeds(model) or (_may_index(model) and not is_frame)
    return dtype if is_kept else input_dtype(model)


def _first(model: Any) -> Any:
    while is_stack(model):
        model = model.modules[0]
    return model


def _embeds(model: Any) -> bool:
    return any(isinstance(part, nnx.Embed) for _, part in nnx.iter_modules(_first(model)))


def _may_index(model: Any) -> bool:
    """Whether the first module is none that is known to compute with its inputs."""
    first = _first(model)
    is_known = type(first) in BY_ROW or type(first).__module__.startswith("slax_neurons.")
    return isinstance(first, Function) or not (is_known or isinstance(first, Neuron))


def output_features(modules: Sequence[Any]) -> int | None:
    """The number of features in the last module's output, or None if the modules do not determine it."""
    for module in reversed(modules):
        if is_stack(module):
            features = output_features(module.modules)
            if features is not None:
                return features
        else:
            for name in ("out_features", "hidden_features"):
                if isinstance(getattr(module, name, None), int):
                    return getattr(module, name)
        if not isinstance(module, (*FEATURE_PRESERVING, nnx.RNNCellBase)):
            return None
    return None


def check_features(module: nnx.Module, index: int, input_shape: tuple[int, ...]) -> None:
    """Raise ValueError if a module declares a different number of input features."""
    expected = getattr(module, "in_features", None)
    if isinstance(expected, int) and (not input_shape or input_shape[-1] != expected):
        raise ValueError(
            f"Got inputs of shape {list(input_shape)} per step for module {index} of the stack, {type(module).__name__}, "
            f"expected {expected} features in the last axis."
        )


def check_space(module: nnx.Module, index: int, input_shape: tuple[int, ...]) -> None:
    """Raise ValueError for a convolution whose inputs [B, space..., features] have fewer axes of space than its kernel."""
    geometry: Any = module
    while getattr(geometry, "geometry", None) is not None:
        geometry = geometry.geometry
    axes = len(geometry.kernel_size) if isinstance(geometry, nnx.Conv | nnx.ConvTranspose) else 0
    if axes and len(input_shape) < axes + 2:
        raise ValueError(
            f"Got inputs of shape {list(input_shape)} per step for module {index} of the stack, {type(module).__name__}, "
            f"expected {axes + 2} axes: samples, {axes} of space for its kernel, and features. With fewer axes it would slide "
            "over samples and steps."
        )


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"


def as_shape(name: str, shape: Any, expected: str, *, axes: int = 0) -> tuple[int, ...]:
    """A shape as a tuple; errors name the caller and say what is `expected`.

    Raises:
        TypeError: no list of sizes, such as a number or an array in place of its shape.
        ValueError: fewer than `axes` sizes, or one that is no size.
    """
    if np.ndim(shape) != 1:
        given = f"an array of shape {list(np.shape(shape))}" if np.ndim(shape) else _short(shape)
        raise TypeError(f"{name} got {given} as a shape, expected {expected}.")
    sizes = tuple(shape.tolist() if hasattr(shape, "tolist") else shape)
    are_sizes = (
        jax.export.is_symbolic_dim(size) or (isinstance(size, int | np.integer) and size >= 0) for size in sizes
    )
    if len(sizes) < axes or not all(are_sizes):
        raise ValueError(f"{name} got the shape {sizes}, expected {expected}.")
    return sizes
