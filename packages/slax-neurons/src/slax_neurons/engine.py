"""The execution of models over time, one layer at a time on chunks of steps.

A module without a carry runs once on all rows of a chunk, one matrix product per layer and chunk; a neuron is a scan over
element-wise work; a stack runs layer by layer. The chunk bounds the working set and never changes a result.
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
from slax_neurons.kernels import LOOPS, requested, steps_in_iteration
from slax_neurons.modules import cast_inputs, is_stack, mutates_state, mutations_explained
from slax_neurons.neurons.neuron import Neuron, scan_cell
from slax_neurons.neurons.states import rematerialize
from slax_neurons.synapses.running_sums import RunningSum, accumulates
from slax_neurons.synapses.synapse import with_effective_weights

# A step of a scan costs microseconds whatever it does, and a product wants many rows: pieces are long. Arrays of a piece that
# leave the cache cost more: pieces are short. On two cores with 2 MB of cache each, the best chunk of a gradient nearly always
# has arrays of 1 to 2 MB, whatever the batch, the width and the length, and 32 steps or more (docs/performance.md).
CHUNK_BYTES = 3 * 2**19  # of the largest array of a chunk
SHORTEST_CHUNK = 32


def unroll(
    cell: nnx.RNNCellBase,
    carry: Any,
    inputs: Shaped[Array, "T B ..."],
    *,
    chunk: int | None = None,
    remat: bool = False,
    loop: str = "auto",
    steps_per_iteration: int | None = None,
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
        loop: how the states of a `Neuron` follow from its currents and are differentiated. "scan": step by step; the
            reverse pass keeps one array [T, B, N] per state and recomputes the rest. "plain": step by step; the reverse pass is
            the one that JAX makes, which keeps the outputs and their slopes as well. "fused": in one kernel for an NVIDIA GPU
            that keeps the states of a block of units in registers; the reverse pass keeps one array per state, and also the
            outputs that a layer with weights reads. On a CPU, it is interpreted, which is slow and for tests.
            "fused_or_scan": the same, and the scan with a warning for a neuron whose kernel does not compile. Results are
            equal. "auto" is "plain" on a CPU for a sequence of one chunk that nearly fits the cache, and within chunks if remat
            is true, since it is faster there for most neurons; otherwise it is "scan". Nothing has been measured on a GPU yet.
        steps_per_iteration: the number of steps in one iteration of a loop over time, >= 1, forward and in the reverse pass.
            More steps save kernel launches on a GPU but take longer to compile; results are equal. The default is 1 on a CPU,
            and elsewhere 8, by a model of the time on a GPU. For the loops of learning rules, put a call such as `gradients`
            into `with slax_neurons.kernels.steps_in_iteration(16):`.

    Returns:
        The last carry, and the outputs [T, B, features...]; a tree of such arrays if the last module of a stack makes one.

    Raises:
        ValueError: inputs without time, batch and features, an empty sequence or batch, a chunk or steps_per_iteration below 1,
            remat for a model that mutates its state, a model that does so without declaring it and runs in more than one chunk,
            or a neuron whose kernel does not compile.

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
    if loop not in LOOPS:
        raise ValueError(f"unroll got loop={loop!r}, expected one of {', '.join(map(repr, LOOPS))}.")
    if steps_per_iteration is not None and steps_per_iteration < 1:
        raise ValueError(f"unroll got steps_per_iteration={steps_per_iteration}, expected at least 1.")
    inputs = cast_inputs(cell, inputs)
    if chunk is None:
        chunk = shortest_memory(inputs.shape[0]) if remat else default_chunk(cell, carry, inputs)
    loop = loop_of(loop, cell, carry, inputs, chunk=chunk, remat=remat)
    model = with_effective_weights(cell, keep_calls=True)  # weights are made once for the sequence

    def one_chunk(model: Any, carry: Any, inputs: Array) -> tuple[Any, Any]:
        return unroll_chunk(model, carry, inputs, loop=loop)[:2]

    def scan(step: Any, carry: Any, inputs: Array) -> tuple[Any, Any]:
        return scan_chunks(rematerialize(step) if remat else step, carry, inputs, chunk)

    with mutations_explained(cell), steps_in_iteration(steps_per_iteration or steps_in_iteration.value):
        if not mutates_state(cell):
            return scan_with_sums(scan, one_chunk, model, carry, inputs)
        if remat:
            raise ValueError(
                "unroll got remat=True for a model with a module that changes its own variables when called, as BatchNorm in "
                "training does, expected none, since remat calls it twice. Leave it out, or call model.eval()."
            )
        return one_chunk(model, carry, inputs)


class Source(NamedTuple):
    """The neuron that made an array, and the membranes from which it can recompute the array."""

    neuron: Neuron
    membranes: Any


def unroll_chunk(
    module: Any, carry: Any, inputs: Array, source: Source | None = None, loop: str = "auto"
) -> tuple[Any, Any, Source | None]:
    """Run one chunk [K, B, ...] of a cell, or of a module without a carry, whose carry is ().

    Args:
        source: the origin of the inputs, if a neuron made them: a product with weights then stores the neuron's membranes,
            which are stored anyway, instead of the inputs.
        loop: see `unroll`; a stack hands it to its neurons.

    Returns:
        The carry, the outputs, and their source if a neuron made them.
    """
    if isinstance(module, Neuron) and type(module).unroll is Neuron.unroll:
        if loop == "plain" and is_all_in_a_step(module):
            module.check_carry(carry, inputs[0])
            return *scan_cell(module, carry, inputs), None
        if is_all_in_a_step(module):
            carry, membranes, outputs = module.states_and_outputs(carry, inputs, loop)
            if outputs is not None:
                return carry, outputs, None
        else:
            carry, membranes = module.pre_reset_states(carry, inputs, loop)
        outputs = rematerialize(lambda membranes: module.outputs(membranes))(membranes)
        return carry, outputs, Source(module, membranes) if module.has_split_step else None
    if isinstance(module, nnx.RNNCellBase):
        unroll = getattr(module, "unroll", functools.partial(scan_cell, module))
        if getattr(module, "forwards_loop_option", False):
            unroll = functools.partial(unroll, loop=loop)
        return *unroll(carry, inputs), None
    if loop == "plain" or type(module) not in (nnx.Linear, nnx.Conv):
        return carry, apply_rows(module, inputs), None
    kept, inputs_of = (inputs, lambda inputs: inputs) if source is None else (source.membranes, source.neuron.outputs)
    return carry, rematerialize(lambda kept: apply_rows(module, inputs_of(kept)))(kept), None


def is_all_in_a_step(neuron: Neuron) -> bool:
    """Whether integrate and fire are all that a neuron does: it has both, and its class changes no function over time."""
    return neuron.has_split_step and not replaced_over_time(neuron)


def replaced_over_time(neuron: Neuron) -> list[str]:
    """The names of the functions over time of `Neuron` that a neuron's class replaces, so that a step may not be all of it."""
    names = ("pre_reset_states", "outputs", "unroll")
    return [name for name in names if getattr(type(neuron), name) is not getattr(Neuron, name)]


def apply_rows(module: Callable[[Array], Any], inputs: Array) -> Any:
    """Apply a module without a carry to all K * B rows of a chunk [K, B, ...]; the output is an array or a tree of arrays.

    Raises:
        ValueError: no output, or an array with a different number of rows than the inputs.
    """
    steps, batch = inputs.shape[:2]
    outputs = module(inputs.reshape(steps * batch, *inputs.shape[2:]))
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(outputs)]
    if any(shape[:1] != (steps * batch,) for shape in shapes) or not shapes:
        raise ValueError(
            f"Got {', '.join(str(list(shape)) for shape in shapes) or 'nothing'} from {type(module).__name__} for "
            f"{steps * batch} rows, expected one row for each: a module without a carry may not mix samples or steps."
        )
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


def loop_of(loop: str, model: nnx.RNNCellBase, carry: Any, inputs: Array, *, chunk: int, remat: bool) -> str:
    """The loop of a model's neurons: what "auto" is depends on where the arrays of a chunk are.

    Outputs and slopes that JAX stores are worth their place if no loop over chunks has to collect them, and if they are in the
    cache of a CPU, or nearly so: below the 1.5 `CHUNK_BYTES` from which a sequence is cut by default.
    """
    loop = requested(loop)
    if loop != "auto":
        return loop
    steps = min(chunk, inputs.shape[0])
    on_cpu = jax.default_backend() == "cpu"
    in_cache = on_cpu and 2 * steps * step_size(model, carry, inputs).bytes < 3 * CHUNK_BYTES
    return "plain" if in_cache and (remat or steps == inputs.shape[0]) else "scan"


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
        return _one_step_of_delays(module, carry.carry), jax.ShapeDtypeStruct(
            carry.outputs.shape[1:], carry.outputs.dtype
        )
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


def check_sequence(inputs: Array) -> None:
    """Raise TypeError unless the inputs of a sequence are an array, ValueError unless they are [T, B, features...], T >= 1."""
    if not hasattr(inputs, "ndim"):
        raise TypeError(
            f"Got a {type(inputs).__name__} as inputs, expected an array [T, B, features...]. Make it: jnp.asarray(inputs)."
        )
    if inputs.ndim < 3:
        raise ValueError(
            f"Got inputs of shape {list(inputs.shape)}, expected [T, B, features...] with time first. "
            "A single sequence [T, features] needs a batch axis: inputs[:, None]."
        )
    if inputs.shape[0] == 0:
        raise ValueError("Got a sequence of 0 steps, expected at least 1.")
    if inputs.shape[1] == 0:
        raise ValueError(f"Got inputs of shape {list(inputs.shape)}, a batch of 0 samples, expected at least 1.")
