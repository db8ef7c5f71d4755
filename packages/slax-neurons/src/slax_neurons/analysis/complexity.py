"""The size of a stack and its activity on a batch, counted as NeuroBench counts them: bytes, zeros, operations, updates."""

import dataclasses
import math
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Int

from slax_neurons.analysis.activity import measured
from slax_neurons.delay import Delay
from slax_neurons.dropout import Dropout
from slax_neurons.neurons.ltc import LTC
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.neurons.steps import carries_before
from slax_neurons.synapses.block_diagonal import BlockDiagonal
from slax_neurons.synapses.synapse import with_effective_weights
from slax_neurons.unrolling import check_sequence
from slax_neurons.wiring import Connect, check_stack, parts_of

SYNAPSES = (nnx.Linear, nnx.Conv, BlockDiagonal)
# Modules that NeuroBench does not count, even if they have parameters.
UNCOUNTED = (Delay, Dropout, nnx.Dropout, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm)
Counts = dict[str, Array]


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
    """

    footprint: int
    connection_sparsity: float | None
    activation_sparsity: float | None
    effective_macs: float
    effective_acs: float
    dense: float
    membrane_updates: float
    n_steps: int


def complexity(model: Any, inputs: Array, *, chunk: int = 32) -> Complexity:
    """Count a stack's size and its activity on a batch, starting from rest, by the definitions of NeuroBench.

    Synapses are Linear, Conv and BlockDiagonal, in the chain, on edges and in stacks inside it; LTC's two gates are Linear too.
    An input x_j and an output y_i that a weight W_ij connects make, in each step and for each sample,

    * 1 dense operation,
    * 1 effective operation if W_ij != 0 and x_j != 0: an AC if all inputs of step and batch are -1, 0 or 1, else a MAC.

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

    Raises:
        TypeError: a model that is not a `Connect`, or a module whose weights or membrane are not known, such as a Flax cell.
        ValueError: inputs without time, batch and features, an empty sequence or batch, a chunk below 1, a layer with 2^31
            connections or more.

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
    check_stack(model, "complexity")
    check_sequence(inputs)
    stored = nnx.state(model, nnx.Not(nnx.RngState))  # a shared variable once
    footprint = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(stored))
    model = with_effective_weights(model, keep=(BlockDiagonal,))
    _check_modules(model)
    total: Counter[str] = Counter()
    for part in measured(_counts, model, inputs, chunk=chunk):
        for counts in part:
            total.update({name: int(np.sum(count, dtype=np.int64)) for name, count in counts.items()})
            if "updates" in counts:  # NeuroBench counts all membranes as updated in the first step
                total["updates"] += int(np.sum(counts["membranes"][0] - counts["updates"][0], dtype=np.int64))
    steps, batch = inputs.shape[:2]
    kernels = [_connected(part) for _, part in nnx.iter_modules(model) if type(part) in SYNAPSES]
    weights = sum(kernel.size for kernel in kernels)
    zeros = weights - sum(int(jnp.sum(kernel)) for kernel in kernels)
    return Complexity(
        footprint=footprint,
        connection_sparsity=zeros / weights if weights else None,
        activation_sparsity=(total["outputs"] - total["spikes"]) / total["outputs"] if total["outputs"] else None,
        effective_macs=total["macs"] / batch,
        effective_acs=total["acs"] / batch,
        dense=total["dense"] / batch,
        membrane_updates=total["updates"] / batch,
        n_steps=steps,
    )


def _connected(synapse: Any) -> Bool[Array, "..."]:
    """True where a weight is nonzero."""
    kernel, mask = synapse.kernel[...], getattr(synapse, "mask", None)
    return kernel != 0 if mask is None else (kernel != 0) & (jnp.asarray(mask) != 0)


def _check_modules(model: Connect) -> None:
    for place, module in parts_of(model):
        if type(module) in SYNAPSES or isinstance(module, (Neuron, LTC, *UNCOUNTED)):
            continue
        if isinstance(module, nnx.RNNCellBase) or jax.tree.leaves(nnx.state(module, nnx.Param)):
            sender, arrow, receiver = place.partition(" -> ")
            where = f"the synapse of the edge from {sender} to {receiver}" if arrow else f"module {place}"
            known = "Linear, Conv, BlockDiagonal, neurons, delays, norms, or what has no parameters"
            raise TypeError(f"complexity got {type(module).__name__} as {where}, expected {known}.")


def _counts(module: Any, carry: Any, inputs: Array, outputs: Any, mask: None) -> list[Counts]:
    """The counts [T, B] of a part of the stack: outputs and membranes are all that there are, active or not."""
    if isinstance(module, Neuron | LTC):
        counts = _count_neurons(module, carry, inputs, outputs)
    elif type(module) in SYNAPSES:
        counts = [_count_synapse(module, inputs)]
    else:
        counts = []
    return jax.tree.map(lambda count: jnp.broadcast_to(count, inputs.shape[:2]), counts)


def _count_synapse(synapse: Any, inputs: Array) -> Counts:
    """The operations of a synapse."""
    outputs = jax.eval_shape(synapse, inputs[0]).shape[1:]
    if math.prod(outputs) * math.prod(synapse.kernel.shape[:-1]) >= 2**31:
        raise ValueError("complexity got a synapse of 2^31 operations in a step, expected fewer. Use a smaller batch.")
    connected = _connected(synapse)
    effective = _sum(jnp.where(inputs != 0, _fan_out(synapse, connected, inputs), 0))
    binary = jnp.all((inputs == 0) | (jnp.abs(inputs) == 1), tuple(range(1, inputs.ndim)))[:, None]
    dense = _sum(_fan_out(synapse, jnp.ones_like(connected), inputs))
    return {"macs": jnp.where(binary, 0, effective), "acs": jnp.where(binary, effective, 0), "dense": dense}


def _fan_out(synapse: Any, connected: Bool[Array, "..."], inputs: Array) -> Int[Array, "1 1 ..."]:
    """The number of outputs connected to each input of a sample: the derivative of their sum, all weights being 1."""
    ones = nnx.clone(synapse)
    ones.kernel = nnx.Param(connected.astype(jnp.float32))
    ones.dtype, ones.mask, ones.preferred_element_type = jnp.float32, None, None
    sample = jnp.zeros((1, *inputs.shape[2:]), jnp.float32)
    return jax.grad(lambda sample: jnp.sum(ones(sample)))(sample)[None].astype(jnp.int32)


def _count_neurons(cell: Any, carry: Any, currents: Array, outputs: Array) -> list[Counts]:
    """The spikes and the membrane updates of a layer of neurons, and the operations of LTC's gates."""

    def step(carry: Any, current: Array) -> tuple[Any, Any]:
        after = cell(carry, current)[0]
        return after, after

    after = jax.lax.scan(step, carry, currents)[1]
    before = carries_before(carry, after)
    changed = cell.membrane(before) != cell.membrane(after)
    counts = {"updates": _sum(changed), "membranes": jnp.full((1, 1), math.prod(changed.shape[2:]), jnp.int32)}
    if cell.spikes:
        counts |= {"spikes": _sum(outputs != 0), "outputs": jnp.full((1, 1), math.prod(outputs.shape[2:]), jnp.int32)}
    if not isinstance(cell, LTC):
        return [counts]
    gates = ((cell.membrane_gate, before.u), (cell.adaptation_gate, before.b))
    return [counts, *(_count_synapse(gate, jnp.concatenate([currents, state], -1)) for gate, state in gates)]


def _sum(values: Int[Array, "T B ..."] | Bool[Array, "T B ..."]) -> Int[Array, "T B"]:
    return jnp.sum(values, tuple(range(2, values.ndim)), dtype=jnp.int32)
