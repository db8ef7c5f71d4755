"""The wiring of cells and modules without a carry, in sequence and over additional edges, into one cell."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from slax_neurons.delay import Delay, DelayBuffer
from slax_neurons.dropout import Dropout
from slax_neurons.edges import Edge, as_edges, cycles, edge_synapse
from slax_neurons.modules import as_module, as_shape, check_features, check_space, output_struct, takes_statistics
from slax_neurons.mutation import mutates_state
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.neurons.steps import scan_steps
from slax_neurons.parameter import check_rngs
from slax_neurons.synapses.synapse import geometry_of, is_synapse
from slax_neurons.unrolling import (
    apply_rows,
    cast_inputs,
    first_carry,
    input_dtype,
    scan_with_sums,
    step_module,
    unroll_chunk,
)


def connect(modules: Any, edges: Any = None, *, rngs: nnx.Rngs | None = None) -> "Connect":
    """Wire modules into a stack that is itself a cell, so that stacks can be nested.

        y_i(t) = module_i(y_{i-1}(t)) + sum_j synapse_{j,i}(y_j(t - delay))    # over the edges from j to i

    Args:
        modules: the modules in order: cells (neurons, other stacks, Flax's recurrent cells) and anything without a carry that
            maps each row of an array [rows, features...] by itself: Linear, Conv, norms, pooling, a function. The rows are all
            samples at all steps of a chunk, so z.mean(axis=0) would read the future. A function has no parameters: a module
            that it closes over is no part of the model. The last module may return a tree of arrays, such as two read-outs, if
            no edge ends or starts there.
        edges: edges in addition to the chain, {receiver: [senders]} by index, or a list of `Edge`. A receiver has no carry:
            recurrence within connect([Linear, LIF]) is {0: [1]}. A sender before the receiver is read within the step, and
            any other sender one step late.
        rngs: random streams for the edges' synapses; each is a fresh copy of the receiver unless its `Edge` has one.

    Returns:
        A cell whose carry is a tuple with one entry per module: () for a module without a carry, `DelayBuffer` for a module
        with delayed outgoing edges.

    Raises:
        TypeError: a class as a module, an edge into a cell, an edge whose synapse cannot be derived.
        ValueError: an impossible edge; in `initialize_carry`, a parameter of a neuron that has a value
            for each sample.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect, unroll
        >>> rngs = nnx.Rngs(0)
        >>> modules = [nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()]
        >>> model = connect(modules, {0: [1]}, rngs=rngs)  # with recurrence: the LIF's last spikes come back to it
        >>> carry, outputs = unroll(model, model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))
        >>> outputs.shape
        (20, 2, 3)
    """
    return Connect(modules, edges, rngs=rngs)


class Connect(nnx.RNNCellBase):
    """A stack of modules, with edges in addition to the chain, as a cell; made by `connect`.

    `modules` holds the chain, `edges` the edges without their synapses, and `synapses` the synapses in the order of the edges.
    Rules run the modules one by one, so a cell that does more than they do holds the stack, and is no subclass of it.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF()], {0: [1]}, rngs=rngs)
        >>> type(model).__name__, model.modules[0].kernel.shape, model.synapses[0].kernel.shape
        ('Connect', (8, 16), (16, 16))
        >>> carry, outputs = model.outputs(model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))
        >>> [output.shape for output in outputs]  # of every module
        [(20, 2, 16), (20, 2, 16)]
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if own := {"__call__", "unroll", "outputs"} & vars(cls).keys():
            raise TypeError(f"{cls.__name__} defines {', '.join(own)}, which rules do not call. Hold a stack instead.")

    def __init__(self, modules: Any, edges: Any = None, *, rngs: nnx.Rngs | None = None):
        if isinstance(modules, nnx.Module) or callable(modules):
            raise TypeError(f"connect got one {type(modules).__name__}, expected a list of modules: connect([...]).")
        self.modules = nnx.List([as_module(module, f"module {index}") for index, module in enumerate(modules)])
        listed = as_edges(edges, len(self.modules))
        check_rngs("connect", rngs)
        self.synapses = nnx.List([edge_synapse(self.modules, edge, rngs) for edge in listed])
        self.edges = tuple(dataclasses.replace(edge, synapse=None) for edge in listed)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> tuple:
        """The carries of all modules at rest, for inputs of `input_shape` [B, features...]."""
        shape = as_shape("Connect", input_shape, "(B, features...), as in inputs.shape[1:] of [T, B, ...]")
        carries: list[Any] = []
        struct = jax.ShapeDtypeStruct(shape, input_dtype(self))
        for index, module in enumerate(self.modules):
            _check_array(index - 1, struct)
            check_space(module, index, struct.shape)
            check_features(module, index, struct.shape)
            carry = first_carry(module, struct.shape, rngs) if isinstance(module, nnx.RNNCellBase) else ()
            struct = output_struct(module, carry, struct)
            if any(index in (edge.sender, edge.receiver) for edge in self.edges):
                _check_array(index, struct)
            for edge, synapse in zip(self.edges, self.synapses, strict=True):
                if edge.sender == index:
                    check_features(synapse, f"on the edge {index} -> {edge.receiver}", struct.shape)
            delay = max((edge.steps for edge in self.edges if edge.sender == index), default=0)
            carries.append(DelayBuffer(carry, jnp.zeros((delay, *struct.shape), struct.dtype)) if delay else carry)
        return tuple(carries)

    def __call__(self, carry: Any, inputs: Float[Array, "B ..."]) -> tuple[tuple, PyTree[Float[Array, "B ..."]]]:
        self._check_carry(carry)
        inputs = cast_inputs(self, inputs)
        if takes_statistics(self):
            cure = "Use unroll, model.eval(), or RunningNorm. RTRL, SnAp and UORO take single steps."
            raise ValueError(f"Got a single step with BatchNorm in training, expected all, for its statistics. {cure}")
        carry, outputs = self._step(range(len(self.modules)), inputs, carry, {})
        return carry, outputs[-1]

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[tuple, PyTree[Float[Array, "T B ..."]]]:
        """Run all steps layer by layer; only the modules of a cycle are stepped."""
        carry, outputs = self.outputs(carry, inputs)
        return carry, outputs[-1]

    def outputs(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[tuple, tuple[Any, ...]]:
        """Run like `unroll`, but return the outputs of every module of the chain, including the contributions of edges."""
        self._check_carry(carry)
        carries: list[Any] = []
        outputs: list[Any] = []
        source = None
        for piece in cycles(self.edges, len(self.modules)):
            first = piece[0]
            x = outputs[-1] if outputs else inputs
            if outputs:
                _check_array(first - 1, x)
            check_features(self.modules[first], first, x.shape[1:])
            state, y, source = unroll_chunk(self.modules[first], carry_without_buffer(carry[first]), x, source)
            from_before = {
                index: [
                    apply_rows(synapse, delayed(carry[edge.sender], outputs[edge.sender], edge.steps))
                    for edge, synapse in self.edges_into(index)
                    if edge.sender < first
                ]
                for index in piece
            }
            inside = [edge for edge in self.edges if edge.receiver in piece and edge.sender in piece]
            if any(
                edge.sender >= edge.receiver for edge in inside
            ):  # a cycle: its first module, a receiver, has no carry
                self._check_cycle(piece)
                from_before[first].insert(0, y)

                def step(stack: Connect, carry: tuple, currents: Any, piece: range = piece) -> tuple[tuple, Any]:
                    return stack._step(piece, None, carry, currents)

                new, ys = scan_with_sums(scan_steps, step, self, carry[first : piece[-1] + 1], from_before)
            else:
                y = _sum(first, [y, *from_before[first]])
                new, ys = (_buffered(carry[first], state, y),), (y,)
            carries.extend(new)
            outputs.extend(ys)
        return tuple(carries), tuple(outputs)

    @property
    def num_feature_axes(self) -> int:
        for _, part in parts_of(self):  # the first that knows it
            if (geometry := geometry_of(part)) is not None or is_synapse(part):
                return 1 + len(getattr(geometry, "kernel_size", ()))
            if isinstance(part, nnx.RNNCellBase) and not isinstance(part, Neuron | Dropout | Delay):
                return part.num_feature_axes
        return 1

    def _step(
        self, piece: range, inputs: Array | None, carry: tuple, external_currents: dict[int, list[Array]]
    ) -> tuple[tuple, tuple[Any, ...]]:
        """Run one step of the modules of `piece` from their carries, adding the `external_currents`, which come from outside
        the piece, to their outputs. Without inputs, the output of the first module is among these currents."""
        first = piece[0]
        carries: list[Any] = []
        outputs: list[Any] = []
        for index in piece:
            entry = carry[index - first]
            x = outputs[-1] if outputs else inputs
            terms = list(external_currents.get(index, ()))
            state = carry_without_buffer(entry)
            if x is not None:
                if outputs:
                    _check_array(index - 1, x)
                check_features(self.modules[index], index, x.shape)
                module: Any = self.modules[index]
                if isinstance(module, Neuron):
                    module.check_carry(state, x)
                state, y = step_module(module, state, x)
                terms.insert(0, y)
            for edge, synapse in self.edges_into(index):
                if edge.sender >= first:
                    buffer = carry[edge.sender - first]
                    terms.append(synapse(buffer.outputs[-edge.steps] if edge.steps else outputs[edge.sender - first]))
            y = _sum(index, terms)
            carries.append(_buffered(entry, state, jax.tree.map(lambda output: output[None], y)))
            outputs.append(y)
        return tuple(carries), tuple(outputs)

    def edges_into(self, index: int) -> tuple[tuple[Edge, Any], ...]:
        """The edges that end at a module, each with its synapse."""
        pairs = zip(self.edges, self.synapses, strict=True)
        return tuple((edge, synapse) for edge, synapse in pairs if edge.receiver == index)

    def _check_cycle(self, piece: range) -> None:
        """Check a cycle: its first module sees the entire chunk; all others, and the synapses inside the cycle, are stepped."""
        stepped = [self.modules[index] for index in piece[1:]]
        stepped += [synapse for index in piece for edge, synapse in self.edges_into(index) if edge.sender in piece]
        for module in stepped:
            if mutates_state(module):
                cure = "Move it, call model.eval(), or use slax_neurons.Dropout in place of nnx.Dropout."
                raise ValueError(f"Got {type(module).__name__}, which changes its variables, inside a cycle. {cure}")

    def _check_carry(self, carry: Any) -> None:
        got, number = len(carry) if isinstance(carry, tuple) else type(carry).__name__, len(self.modules)
        if got != number:
            raise ValueError(f"Got a carry of {got} for {number} modules. Make it: initialize_carry(inputs.shape[1:]).")


def check_stack(model: Any, function: str) -> None:
    """Raise TypeError unless a function got a stack."""
    if not isinstance(model, Connect):
        raise TypeError(f"{function} got {type(model).__name__}, expected a stack. Make one: connect([...]).")


def parts_of(model: Connect, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The modules and the edges' synapses with their places, including nested stacks: "3.1" is module 1 of module 3."""
    for index, module in enumerate(model.modules):
        if isinstance(module, Connect):
            yield from parts_of(module, f"{prefix}{index}.")
        else:
            yield f"{prefix}{index}", module
    for edge, synapse in zip(model.edges, model.synapses, strict=True):
        yield f"{prefix}{edge.sender} -> {prefix}{edge.receiver}", synapse


def carry_without_buffer(entry: Any) -> Any:
    """A module's own carry, without its `DelayBuffer`."""
    return entry.carry if isinstance(entry, DelayBuffer) else entry


def _buffered(entry: Any, carry: Any, outputs: Any) -> Any:
    """A module's new carry entry after some steps with `outputs` [K, B, ...]."""
    if not isinstance(entry, DelayBuffer):
        return carry
    return DelayBuffer(carry, jnp.concatenate([entry.outputs, outputs])[-entry.outputs.shape[0] :])


def delayed(entry: Any, outputs: Array, delay: int) -> Array:
    """A module's outputs [K, B, ...], each delayed by `delay` steps."""
    if not delay:
        return outputs
    start = entry.outputs.shape[0] - delay
    return jnp.concatenate([entry.outputs, outputs])[start : start + outputs.shape[0]]


def _check_array(index: int, output: Any) -> None:
    """Raise TypeError for an output that is a tree of arrays although it is read or added to."""
    if not jax.tree_util.all_leaves([output]):
        cure = "Only the last module, without edges, may make a tree of arrays."
        raise TypeError(f"Got a {type(output).__name__} from module {index} of the stack, expected an array. {cure}")


def _sum(index: int, terms: Sequence[Any]) -> Any:
    if len(terms) == 1:
        return terms[0]  # a tree of arrays, perhaps
    for term in terms:
        _check_array(index, term)
    if len({term.shape for term in terms}) > 1:
        shapes = ", ".join(str(list(term.shape)) for term in terms)
        cure = "Give the edge a synapse that fits, Edge(..., synapse=...), and make the carry for the same batch."
        raise ValueError(f"Got outputs and edges {shapes} into module {index}, expected the same shape. {cure}")
    return functools.reduce(jnp.add, terms)
