"""The size of a stack and its activity on a batch, counted as NeuroBench counts them: bytes, zeros, operations, updates."""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Int

from slax_neurons.delay import Delay
from slax_neurons.dropout import Dropout
from slax_neurons.engine import check_sequence, scan_chunks, undeclared_mutations_explained
from slax_neurons.modules import mutates_state
from slax_neurons.neurons.ltc import LTC
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.synapses.block_diagonal import BlockDiagonal
from slax_neurons.synapses.effective_model import with_effective_weights
from slax_neurons.synapses.synapse import fresh_copy
from slax_neurons.wiring import Connect, DelayBuffer, delayed

SYNAPSES = (nnx.Linear, nnx.Conv, BlockDiagonal)
# Modules that NeuroBench does not count, even if they have parameters.
UNCOUNTED = (Delay, Dropout, nnx.Dropout, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm)

# Counts exceed 2^31, and JAX has no int64 by default: a number is kept as high * 2^LOW_BITS + low, 0 <= low < 2^LOW_BITS.
LOW_BITS = 30
UInt64Limbs = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Complexity:
    """The counts returned by `complexity`; operations and updates are per sample, summed over its steps.

    Args:
        footprint: bytes of the parameters, trainable or not, and of statistics such as BatchNorm's.
        connection_sparsity: share of zeros among the weights, in [0, 1]; None without weights.
        activation_sparsity: share of zeros among the outputs of spiking neurons, in [0, 1]; None without such neurons.
        effective_macs: multiply-accumulates: weight and input are both nonzero, and not all inputs are -1, 0 or 1.
        effective_acs: accumulates: the same where all inputs of the layer in the step, over the entire batch, are -1, 0 or 1.
        dense: all connections between an input and an output, zeros included.
        membrane_updates: changes of membranes from one step to the next; in the first step, all membranes.
        n_steps: number of steps that the counts cover.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, complexity, connect
        >>> model = connect([nnx.Linear(8, 4, rngs=nnx.Rngs(0)), LIF()])
        >>> counts = complexity(model, jnp.ones((10, 1, 8)))
        >>> counts.n_steps, counts.dense
        (10, 320.0)
        >>> counts.per_step().dense
        32.0
    """

    footprint: int
    connection_sparsity: float | None
    activation_sparsity: float | None
    effective_macs: float
    effective_acs: float
    dense: float
    membrane_updates: float
    n_steps: int

    def per_step(self) -> "Complexity":
        """Return the same counts with the mean operations and updates of a step, for tasks that count each step as a sample."""
        names = ("effective_macs", "effective_acs", "dense", "membrane_updates")
        return dataclasses.replace(self, n_steps=1, **{name: getattr(self, name) / self.n_steps for name in names})


def complexity(model: Any, inputs: Array, *, chunk: int = 32) -> Complexity:
    """Count a stack's size and its activity on a batch, starting from rest, by the definitions of NeuroBench.

    Synapses are Linear, Conv and BlockDiagonal, in the chain, on edges and in stacks inside it; LTC's two gates are Linear too.
    An input x_j and an output y_i that a weight W_ij connects make, in each step and for each sample,

        1 dense operation
        1 effective operation if W_ij != 0 and x_j != 0: an AC if all inputs of step and batch are -1, 0 or 1, else a MAC

    A NaN is neither 0 nor 1. Biases, padding, norms, pooling, functions and the neurons' own arithmetic make no operations, and
    neither do delays; but behind a Delay by a fraction of a step, a spike is two numbers below 1, and ACs become MACs. A
    membrane is the value of the neuron's method `membrane`, after the reset; the other states are not counted.
    A read-out without spikes, such as LI, has membranes and no activations. A synapse whose weights are made of parameters,
    such as `Masked`, makes the operations of the Linear or Conv with its effective weights; its bytes are those that it stores.

    Args:
        model: a stack made by `connect`, with weights only in synapses, neurons and norms.
        inputs: a batch of inputs to the model, [T, B, features...].
        chunk: steps whose activity is kept in memory together; it never changes the result. A model with modules that
            change their own variables gets the entire sequence in one chunk, and is itself left unchanged.

    Returns:
        The numbers, exact counts divided by the number of samples, steps or weights. The carry is not part of the footprint.
        They are exact as long as no single input of a layer has more than 2^24 connections.

    Raises:
        TypeError: a model that is not a `Connect`, or a module whose weights or membrane are not known, such as a Flax cell.
        ValueError: inputs without time, batch and features, an empty sequence or batch, a chunk below 1.

    References:
        Yik et al.: The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems, 2025,
        doi 10.1038/s41467-025-56739-4, and its package neurobench 2.3.0 where the article leaves a definition open.

    Note:
        NeuroBench rounds the connection sparsity to 4 digits and calls a network without neurons 0 % sparse. It decides batch
        by batch which operations are ACs, so the counts depend on the batch here too. snnTorch keeps each neuron's constants
        as buffers, which count as bytes there; here a fixed number is part of the program.

    Example:
        Half of the inputs are 0, and the others 1.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, complexity, connect
        >>> model = connect([nnx.Linear(8, 4, rngs=nnx.Rngs(0)), LIF()])
        >>> counts = complexity(model, jnp.tile(jnp.array([0.0, 1.0]), (10, 1, 4)))
        >>> counts.footprint, counts.dense, counts.effective_acs, counts.effective_macs
        (144, 320.0, 160.0, 0.0)
    """
    if not isinstance(model, Connect):
        raise TypeError(f"complexity got {type(model).__name__}, expected a stack. Make one: connect([...]).")
    check_sequence(inputs)
    if inputs.shape[1] == 0:
        raise ValueError("complexity got a batch of 0 samples, expected at least 1.")
    footprint = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(_stored(model)))
    model = with_effective_weights(model, keep=(BlockDiagonal,))
    _check_modules(model)
    carry = model.initialize_carry(inputs.shape[1:])
    if mutates_state(model):
        chunk = max(chunk, inputs.shape[0])
    with undeclared_mutations_explained(model):
        counted = jax.tree.map(np.asarray, _count(*nnx.split(model), carry, inputs, chunk))
    return _summary(model, footprint, counted)


class Counts(NamedTuple):
    """The counts over all layers for each step and sample, as halves [T, B]; `outputs` and `membranes` are totals, active or
    not."""

    macs: UInt64Limbs
    acs: UInt64Limbs
    dense: UInt64Limbs
    spikes: UInt64Limbs
    outputs: UInt64Limbs
    updates: UInt64Limbs
    membranes: UInt64Limbs


def _summary(model: Connect, footprint: int, counts: Counts) -> Complexity:
    macs, acs, dense, spikes, outputs, updates, _ = map(_total, counts)
    steps, batch = counts.updates[0].shape
    zeros, weights = _connections(model)
    # Before the first step there is no membrane for comparison: NeuroBench counts all of them as updated.
    first = jax.tree.map(lambda half: half[0], counts)
    updates += _total(first.membranes) - _total(first.updates)
    return Complexity(
        footprint=footprint,
        connection_sparsity=zeros / weights if weights else None,
        activation_sparsity=(outputs - spikes) / outputs if outputs else None,
        effective_macs=macs / batch,
        effective_acs=acs / batch,
        dense=dense / batch,
        membrane_updates=updates / batch,
        n_steps=steps,
    )


def _stored(model: nnx.Module) -> Any:
    """All variables except random states; a shared variable is included once."""
    return nnx.state(model, nnx.Not(nnx.RngState))


def _connections(model: Connect) -> tuple[int, int]:
    """The number of weights that are zero, and the number of all weights."""
    kernels = [_connected(part) for _, part in nnx.iter_modules(model) if type(part) in SYNAPSES]
    return sum(int(jnp.sum(~kernel)) for kernel in kernels), sum(kernel.size for kernel in kernels)


def _connected(synapse: Any) -> Bool[Array, "..."]:
    """True where a weight is nonzero."""
    kernel, mask = synapse.kernel[...], getattr(synapse, "mask", None)
    return kernel != 0 if mask is None else (kernel != 0) & (jnp.asarray(mask) != 0)


def _modules(model: Connect, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The modules and the edges' synapses, each with its place, nested stacks included."""
    for index, module in enumerate(model.modules):
        if isinstance(module, Connect):
            yield from _modules(module, f"{prefix}{index}.")
        else:
            yield f"module {prefix}{index}", module
    for edge, synapse in zip(model.edges, model.synapses, strict=True):
        yield f"the synapse of the edge from {prefix}{edge.sender} to {prefix}{edge.receiver}", synapse


def _check_modules(model: Connect) -> None:
    for place, module in _modules(model):
        if type(module) in SYNAPSES or isinstance(module, (Neuron, LTC, *UNCOUNTED)):
            continue
        if isinstance(module, nnx.RNNCellBase) or jax.tree.leaves(nnx.state(module, nnx.Param)):
            raise TypeError(
                f"complexity got {type(module).__name__} as {place}, and does not know how its weights are used. Expected "
                "Linear, Conv or BlockDiagonal, neurons, delays, norms, and modules without parameters: use these, with edges "
                "for recurrence."
            )


@partial(jax.jit, static_argnums=(0, 4))
def _count(graphdef: Any, state: Any, carry: Any, inputs: Array, chunk: int) -> Counts:
    model = nnx.merge(graphdef, state, copy=True)
    return scan_chunks(lambda carry, inputs: _walk(model, carry, inputs), carry, inputs, chunk)[1]


def _walk(model: Connect, carry: Any, inputs: Array) -> tuple[Any, Counts]:
    """Run the stack over a chunk and return its carry and its counts."""
    last, outputs = model.outputs(carry, inputs)
    nothing = jnp.zeros(inputs.shape[:2], jnp.int32)
    counts = Counts(*[(nothing, nothing)] * len(Counts._fields))
    currents = (inputs, *outputs[:-1])
    for index, (module, entry, current, output) in enumerate(zip(model.modules, carry, currents, outputs, strict=True)):
        before = entry.carry if isinstance(entry, DelayBuffer) else entry
        if isinstance(module, Connect):
            counts = _added(counts, _walk(module, before, current)[1])
        elif isinstance(module, Neuron | LTC):
            counts = _with_neurons(counts, module, before, current, output)
        else:
            counts = _with_synapse(counts, module, current)
        for edge, synapse in model.edges_into(index):
            counts = _with_synapse(counts, synapse, delayed(carry[edge.sender], outputs[edge.sender], edge.steps))
    return last, counts


def _added(counts: Counts, more: Counts) -> Counts:
    return Counts(*map(_plus, counts, more))


def _with_synapse(counts: Counts, synapse: Any, inputs: Array) -> Counts:
    """Add the operations of a synapse; any other module makes none."""
    if type(synapse) not in SYNAPSES:
        return counts
    connected = _connected(synapse)
    effective = _sum(jnp.where(inputs != 0, _fan_out(synapse, connected, inputs), 0))
    dense = _sum(_fan_out(synapse, jnp.ones_like(connected), inputs))
    binary = jnp.all((inputs == 0) | (jnp.abs(inputs) == 1), tuple(range(1, inputs.ndim)))[:, None]
    return counts._replace(
        macs=_plus(counts.macs, jax.tree.map(lambda half: jnp.where(binary, 0, half), effective)),
        acs=_plus(counts.acs, jax.tree.map(lambda half: jnp.where(binary, half, 0), effective)),
        dense=_plus(counts.dense, dense),
    )


def _fan_out(synapse: Any, connected: Bool[Array, "..."], inputs: Array) -> Int[Array, "1 1 ..."]:
    """The number of outputs connected to each input of a sample: the derivative of their sum, all weights being 1."""
    if isinstance(synapse, BlockDiagonal):
        outputs = jnp.sum(connected, axis=-1, dtype=jnp.int32).reshape((1,) * (inputs.ndim - 1) + (-1,))
        return jnp.broadcast_to(outputs, (1, 1, *inputs.shape[2:]))
    options = {"use_bias": False, "dtype": jnp.float32, "param_dtype": jnp.float32, "preferred_element_type": None}
    if isinstance(synapse, nnx.Conv):
        options["mask"] = None
    ones = fresh_copy(
        synapse, kernel_init=lambda key, shape, dtype: connected.astype(dtype), **options, rngs=nnx.Rngs(0)
    )
    sample = jnp.zeros((1, *inputs.shape[2:]), jnp.float32)
    return jax.grad(lambda sample: jnp.sum(ones(sample)))(sample)[None].astype(jnp.int32)


def _with_neurons(counts: Counts, cell: Any, carry: Any, currents: Array, outputs: Array) -> Counts:
    """Add the spikes and the membrane updates of a layer of neurons, and the operations of LTC's gates."""

    def step(carry: Any, current: Array) -> tuple[Any, Any]:
        after = cell(carry, current)[0]
        return after, after

    after = jax.lax.scan(step, carry, currents)[1]
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), carry, after)
    changed = cell.membrane(before) != cell.membrane(after)
    counts = counts._replace(
        updates=_plus(counts.updates, _sum(changed)),
        membranes=_plus(counts.membranes, _halves(math.prod(changed.shape[2:]))),
    )
    if isinstance(cell, LTC):
        for gate, state in ((cell.membrane_gate, before.u), (cell.adaptation_gate, before.b)):
            counts = _with_synapse(counts, gate, jnp.concatenate([currents, state], -1))
    if not cell.spikes:
        return counts
    return counts._replace(
        spikes=_plus(counts.spikes, _sum(outputs != 0)),
        outputs=_plus(counts.outputs, _halves(math.prod(outputs.shape[2:]))),
    )


def _sum(values: Int[Array, "T B ..."] | Bool[Array, "T B ..."]) -> UInt64Limbs:
    """The exact sum over the features, for values below 2^31."""
    halves = _halves(values.astype(jnp.int32))
    return jax.lax.reduce(halves, (np.int32(0), np.int32(0)), _plus, tuple(range(2, values.ndim)))


def _halves(number: Any) -> UInt64Limbs:
    return number >> LOW_BITS, number & (2**LOW_BITS - 1)


def _plus(one: UInt64Limbs, other: UInt64Limbs) -> UInt64Limbs:
    """The sum of two numbers below 2^61; the sum of two lower halves is below 2^31."""
    carried, low = _halves(one[1] + other[1])
    return one[0] + other[0] + carried, low


def _total(halves: UInt64Limbs) -> int:
    """The sum over steps and samples."""
    high, low = (int(np.sum(half, dtype=np.int64)) for half in halves)
    return (high << LOW_BITS) + low
