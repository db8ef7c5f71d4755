"""The execution of models over time, one layer at a time on chunks of steps.

A module without a carry runs once on all rows of a chunk, one matrix product per layer and chunk; a neuron is a scan over
element-wise work; a stack runs layer by layer. The chunk bounds the working set and never changes a result.

The end of the file has the facts about a module that decide how it is run: whether a call changes its variables, and the dtype
of its inputs.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree, Shaped

from slax_neurons.delay import Delay, DelayBuffer
from slax_neurons.mutation import mutates_state, mutations_explained
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.neurons.steps import explained_branches, fire_steps, parallel_in_time, rematerialize, scan_cell
from slax_neurons.synapses.synapse import RunningSum, accumulates, with_effective_weights

# A step of a scan costs microseconds whatever it does, and a product wants many rows: pieces are long. Arrays of a piece that
# leave the cache cost more: pieces are short. On two cores with 2 MB of cache each, the best chunk of a gradient nearly always
# has arrays of 1 to 2 MB, whatever the batch, the width and the length, and 32 steps or more (docs/performance.md).
CHUNK_BYTES = 3 * 2**19  # of the largest array of a chunk
SHORTEST_CHUNK = 32

_FLAX_CELLS = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.SimpleCell, nnx.GRUCell)


def unroll(
    cell: nnx.RNNCellBase,
    carry: Any,
    inputs: Shaped[Array, "T B ..."],
    *,
    chunk: int | None = None,
    remat: bool = False,
) -> tuple[Any, PyTree[Float[Array, "T B ..."]]]:
    """Run a cell over a sequence: carry_t, outputs_t = cell(carry_{t-1}, inputs_t) for t = 1..T.

    The results agree with `nnx.RNN(cell, time_major=True, return_carry=True)`, up to the order of summation in products.
    Outside of a compiled function its loops are compiled in each call: call it within `nnx.jit`, or use `slax_rules.predict`.
    Integer or boolean inputs, such as frames of events, are cast to the dtype of the model. Integers of more than 8 bits stay
    integers if the model begins with an `nnx.Embed`, a function or a module of your own, which may use them as indices.

    Args:
        cell: a neuron, a stack made by `connect`, or any Flax cell. A cell with a method `unroll(carry, inputs)` is
            called on entire chunks, any other cell step by step.
        carry: the initial carry, as made by `cell.initialize_carry(inputs.shape[1:])`.
        inputs: time first, [T, B, features...].
        chunk: number of steps computed together, >= 1; chosen from the layers' sizes and the device by default. A model with
            modules that change their own variables when called gets the entire sequence in one chunk; they are changed in
            place, as in Flax NNX. Such modules are BatchNorm in training, nnx.Dropout, and your own modules that hold an
            nnx.Rngs, nnx.BatchStat, nnx.Cache or nnx.Intermediate, or whose class sets `mutates_state = True`, as it must for
            any other kind of variable except a `RunningSum`.
        remat: keep only the carries between chunks for the reverse pass, and run each chunk forward again there: less memory
            for about a third more time. A chunk then has about the square root of the steps by default, which needs the least.

    Returns:
        The last carry, and the outputs [T, B, features...]; a tree of such arrays if the last module of a stack makes one.

    Raises:
        ValueError: inputs without time, batch and features, an empty sequence or batch, a chunk below 1, remat for
            a model that mutates its state, or a model that does so without declaring it and runs in more than one chunk.

    Example:
        A sequence in one call, and the same sequence in two parts.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect, unroll
        >>> model, inputs = connect([nnx.Linear(8, 3, rngs=nnx.Rngs(0)), LIF()]), jnp.ones((20, 2, 8))
        >>> carry, outputs = unroll(model, model.initialize_carry((2, 8)), inputs)
        >>> outputs.shape
        (20, 2, 3)
        >>> carry, first = unroll(model, model.initialize_carry((2, 8)), inputs[:15])
        >>> carry, rest = unroll(model, carry, inputs[15:])
        >>> bool(jnp.array_equal(jnp.concatenate([first, rest]), outputs))
        True
    """
    check_sequence(inputs)
    inputs = cast_inputs(cell, inputs)
    if chunk is None:
        chunk = shortest_memory(inputs.shape[0]) if remat else default_chunk(cell, carry, inputs)
    by_jax = reverse_pass_of_jax.value
    if by_jax is None:
        by_jax = jax_is_faster(cell, carry, inputs, chunk=chunk, remat=remat)
    model = with_effective_weights(cell, keep_calls=True)  # weights are made once for the sequence

    def one_chunk(model: Any, carry: Any, inputs: Array) -> tuple[Any, Any]:
        return unroll_chunk(model, carry, inputs)[:2]

    def scan(step: Any, carry: Any, inputs: Array) -> tuple[Any, Any]:
        return scan_chunks(rematerialize(step) if remat else step, carry, inputs, chunk)

    with mutations_explained(cell), reverse_pass_of_jax(by_jax):
        if not mutates_state(cell):
            return scan_with_sums(scan, one_chunk, model, carry, inputs)
        if remat:
            which = "for one that changes its own variables when called, as BatchNorm in training does"
            raise ValueError(f"unroll got remat=True, which calls modules twice, {which}. Call model.eval().")
        return one_chunk(model, carry, inputs)


reverse_pass_of_jax = jax.make_user_context(None)
"""`with reverse_pass_of_jax(False):` neurons have the reverse pass of `integrate_and_fire`, also where JAX's own is faster.

JAX's own, which keeps outputs and their slopes as well, is for a loop that `unroll` sees the whole of; see `jax_is_faster`.
"""


def jax_is_faster(model: nnx.RNNCellBase, carry: Any, inputs: Array, *, chunk: int, remat: bool) -> bool:
    """Whether JAX's own reverse pass of neurons is faster than that of `integrate_and_fire`; results are equal.

    Outputs and slopes that JAX stores are worth their place if no loop over chunks has to collect them, and if they are in the
    cache of a CPU, or nearly so: below the 1.5 `CHUNK_BYTES` from which a sequence is cut by default.
    """
    if jax.default_backend() != "cpu":
        return False
    steps = min(chunk, inputs.shape[0])
    in_cache = 2 * steps * step_size(model, carry, inputs).bytes < 3 * CHUNK_BYTES
    return in_cache and (remat or steps == inputs.shape[0])


class Source(NamedTuple):
    """The neuron that made an array, and the membranes from which it can recompute the array."""

    neuron: Neuron
    membranes: Any


def unroll_chunk(
    module: Any, carry: Any, inputs: Array, source: Source | None = None
) -> tuple[Any, Any, Source | None]:
    """Run one chunk [K, B, ...] of a cell, or of a module without a carry, whose carry is ().

    Args:
        source: the origin of the inputs, if a neuron made them: a product with weights then stores the neuron's membranes,
            which are stored anyway, instead of the inputs.

    Returns:
        The carry, the outputs, and their source if a neuron made them.
    """
    if isinstance(module, nnx.RNNCellBase) and hasattr(module, "unroll"):
        return *module.unroll(carry, inputs), None
    if isinstance(module, Neuron) and module.has_split_step:
        if reverse_pass_of_jax.value and not parallel_in_time.value:
            module.check_carry(carry, inputs[0])
            return *scan_cell(module, carry, inputs), None
        carry, membranes = module.pre_reset_states(carry, inputs)
        outputs = rematerialize(lambda membranes: fire_steps(module, membranes)[1])(membranes)
        return carry, outputs, Source(module, membranes)
    if isinstance(module, nnx.RNNCellBase):
        return *scan_cell(module, carry, inputs), None
    if reverse_pass_of_jax.value or type(module) not in (nnx.Linear, nnx.Conv):
        return carry, apply_rows(module, inputs), None
    if source is None:
        return carry, rematerialize(lambda inputs: apply_rows(module, inputs))(inputs), None
    neuron, membranes = source
    return carry, rematerialize(lambda m: apply_rows(module, fire_steps(neuron, m)[1]))(membranes), None


def apply_rows(module: Callable[[Array], Any], inputs: Array) -> Any:
    """Apply a module without a carry to all K * B rows of a chunk [K, B, ...]; the output is an array or a tree of arrays."""
    steps, batch = inputs.shape[:2]
    outputs = module(inputs.reshape(steps * batch, *inputs.shape[2:]))
    return jax.tree.map(lambda leaf: leaf.reshape(steps, batch, *leaf.shape[1:]), outputs)


def scan_chunks(function: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any, size: int) -> tuple[Any, Any]:
    """Apply `carry, outputs = function(carry, inputs)` to consecutive pieces of `size` steps; the last may be shorter.

    Args:
        function: maps the carry and K steps of inputs, K <= size, to the carry and K steps of outputs, or None for none.
        inputs: a tree of arrays [T, ...].

    Raises:
        ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"Got a length of {size} steps for a chunk or window, expected at least 1.")
    steps = jax.tree.leaves(inputs)[0].shape[0]
    if size >= steps:
        return function(carry, inputs)
    if size == 1:  # XLA would copy the inputs of all steps if they were pieces of one step

        def one(carry: Any, step: Any) -> tuple[Any, Any]:
            carry, outputs = function(carry, jax.tree.map(lambda x: x[None], step))
            return carry, jax.tree.map(lambda y: y[0], outputs)

        return jax.lax.scan(one, carry, inputs)
    whole, rest = divmod(steps, size)
    pieces = jax.tree.map(lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), inputs)
    carry, outputs = jax.lax.scan(function, carry, pieces)
    outputs = jax.tree.map(lambda y: y.reshape(whole * size, *y.shape[2:]), outputs)
    if rest:
        carry, last = function(carry, jax.tree.map(lambda x: x[whole * size :], inputs))
        outputs = jax.tree.map(lambda y, z: jnp.concatenate([y, z]), outputs, last)
    return carry, outputs


def scan_with_sums(
    scan: Callable[..., tuple[Any, Any]], run: Callable[..., tuple[Any, Any]], model: Any, carry: Any, inputs: Any
) -> tuple[Any, Any]:
    """Return scan(step, carry, inputs) for the step run(model, carry, input), with the model's running sums in the carry."""
    if not accumulates(model):
        return scan(functools.partial(run, model), carry, inputs)
    graphdef, sums, rest = nnx.split(model, RunningSum, ...)

    def step(carry: tuple[Any, nnx.State], inputs: Any) -> tuple[tuple[Any, nnx.State], Any]:
        before, sums = carry
        copy = nnx.merge(graphdef, sums, rest, copy=True)
        after, outputs = run(copy, before, inputs)
        return (after, nnx.state(copy, RunningSum)), outputs

    (carry, sums), outputs = scan(step, (carry, sums), inputs)
    nnx.update(model, sums)
    return carry, outputs


def shortest_memory(steps: int) -> int:
    """The length of a chunk that needs the least memory with `remat`: T/K carries and K steps, so about the root of T."""
    return even_length(steps, math.isqrt(steps))


def default_chunk(model: nnx.RNNCellBase, carry: Any, inputs: Array) -> int:
    """The default chunk length: on a CPU, chunks whose arrays fit the cache; elsewhere the entire sequence."""
    steps = inputs.shape[0]
    if jax.default_backend() != "cpu":
        return steps
    return even_length(steps, steps_in_cache(step_size(model, carry, inputs)))


class StepSize(NamedTuple):
    """The largest array of one step of a model, [B, ...].

    Args:
        bytes: its size; twice that of float32 for half precision, of which XLA makes float32 copies on a CPU.
        width: its entries per sample, the units of the widest layer or the inputs.

    Example:
        8 samples of a layer of 512 units in float32:

        >>> from slax_neurons.building_blocks import StepSize
        >>> size = StepSize(bytes=4 * 8 * 512, width=512)
        >>> size.bytes // size.width
        32
    """

    bytes: int
    width: int


def step_size(model: nnx.RNNCellBase, carry: Any, inputs: Any) -> StepSize:
    """The largest array of one step.

    Args:
        model: the model.
        carry: its carry, [B, ...] in each leaf; what a `Delay` or a delayed edge keeps is [D, B, ...]. Shapes are enough.
        inputs: the inputs, [T, B, ...]. Shapes are enough.
    """
    batch = inputs.shape[1]
    arrays = [(math.prod(inputs.shape[1:]), inputs.dtype)]
    for leaf in jax.tree.leaves(_one_step_of_delays(model, carry)):
        if leaf.ndim:
            is_late = leaf.shape[0] != batch
            arrays.append((leaf.size // max(leaf.shape[0] if is_late else 1, 1), leaf.dtype))
    sizes = (entries * (dtype.itemsize if dtype.itemsize >= 4 else 8) for entries, dtype in arrays)
    return StepSize(max(sizes), max(entries for entries, _ in arrays) // batch)


def _one_step_of_delays(module: Any, carry: Any) -> Any:
    """A carry in which what delays keep, [D, B, ...], is the shape of one step, [B, ...], also where D = B."""
    if isinstance(module, Delay):
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), carry)
    if isinstance(carry, DelayBuffer):
        outputs = jax.ShapeDtypeStruct(carry.outputs.shape[1:], carry.outputs.dtype)
        return _one_step_of_delays(module, carry.carry), outputs
    if is_stack(module) and isinstance(carry, tuple):
        return tuple(map(_one_step_of_delays, module.modules, carry))
    return carry


def steps_in_cache(size: StepSize) -> int:
    """The number of steps whose largest array has `CHUNK_BYTES`, but at least `SHORTEST_CHUNK`."""
    return max(SHORTEST_CHUNK, CHUNK_BYTES // size.bytes)


def even_length(steps: int, length: int) -> int:
    """A length near `length` that divides a sequence if there is one, since a shorter rest is a second program to compile."""
    pieces = max(1, round(steps / length))
    divisors = (number for number in range(pieces, 2 * pieces) if steps % number == 0)
    return -(-steps // next(divisors, pieces))


def check_sequence(inputs: Any) -> None:
    """Raise TypeError unless the inputs of a sequence are an array, ValueError unless they are [T, B, features...], T >= 1."""
    if not hasattr(inputs, "ndim"):
        raise TypeError(f"Got a {type(inputs).__name__} as inputs, expected an array: jnp.asarray(inputs).")
    if inputs.ndim < 3:
        cure = "A single sequence [T, features] needs a batch axis: inputs[:, None]."
        raise ValueError(f"Got inputs {list(inputs.shape)}, expected [T, B, features...], with time first. {cure}")
    if 0 in inputs.shape[:2]:
        raise ValueError(f"Got {inputs.shape[0]} steps of {inputs.shape[1]} samples, expected at least 1 of each.")


class Function(nnx.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[Array], Any]):
        self.function = function

    def __call__(self, inputs: Array) -> Any:
        return self.function(inputs)


def step_module(module: nnx.Module, carry: Any, inputs: Array) -> tuple[Any, Any]:
    """Run one step of a cell, or of a module without a carry, whose carry is ()."""
    with explained_branches(module):
        return module(carry, inputs) if isinstance(module, nnx.RNNCellBase) else (carry, module(inputs))


def first_carry(cell: nnx.RNNCellBase, input_shape: tuple[int, ...], rngs: Any = None) -> Any:
    """The carry of a cell before the first step, for inputs of `input_shape` [B, features...].

    Flax's own cells require a key, although zeros, their default, do not need one. Without `rngs`, a fixed key is used.
    """
    if rngs is None and isinstance(cell, _FLAX_CELLS) and cell.rngs is None:
        rngs = nnx.Rngs(0)
    return cell.initialize_carry(input_shape, rngs)


def is_stack(module: Any) -> bool:
    """True for a `Connect`, which is defined in a file that imports this one."""
    return isinstance(getattr(module, "modules", None), nnx.List)


def input_dtype(model: Any) -> Any:
    """The dtype of a model's input: that of its first parameters, neuron or delay, or int32 before nnx.Embed."""
    if isinstance(_first(model), nnx.Embed):
        return jnp.dtype(jnp.int32)
    for module in model.modules if is_stack(model) else [model]:
        if isinstance(module, Neuron | Delay):
            return module.param_dtype
        for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)):
            return leaf.dtype
    return jnp.dtype(jnp.float32)


def cast_inputs(model: nnx.Module, inputs: Array) -> Array:
    """Cast inputs to the dtype of the model: frames of events, which are booleans or integers, become floating-point numbers.

    Integers of more than 8 bits may be indices, such as tokens. They stay as they are if the model begins with an `nnx.Embed`,
    a function, or a module of your own, which may use them as indices. Floating-point numbers also stay as they are.
    """
    if jnp.issubdtype(inputs.dtype, jnp.inexact):
        return inputs
    first = _first(model)
    is_known = isinstance(first, Neuron) or type(first).__module__.startswith(("flax.", "slax_neurons."))
    is_own = isinstance(first, Function | nnx.Sequential) or not is_known
    are_indices = is_own and inputs.dtype.itemsize > 1
    if are_indices or any(isinstance(part, nnx.Embed) for _, part in nnx.iter_modules(first)):
        return inputs
    return inputs.astype(input_dtype(model))


def _first(model: Any) -> Any:
    while is_stack(model):
        model = model.modules[0]
    return model
