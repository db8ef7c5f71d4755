"""The wiring of cells and modules without a carry, in sequence and over additional edges, into one cell."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from slax_neurons.delay import Delay, DelayBuffer
from slax_neurons.dropout import Dropout
from slax_neurons.neurons.neuron import Neuron, scan_steps
from slax_neurons.parameter import check_rngs
from slax_neurons.synapses.synapse import can_be_copied, fresh_copy, geometry_of, is_synapse, kind
from slax_neurons.unrolling import (
    Function,
    apply_rows,
    cast_inputs,
    first_carry,
    input_dtype,
    is_stack,
    mutates_state,
    mutations_explained,
    scan_with_sums,
    step_module,
    unroll_chunk,
)

EXPECTED = "expected a cell, or a callable such as nnx.Linear"
# Modules that keep the number of features.
FEATURE_PRESERVING = (Neuron, Dropout, nnx.Dropout, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm)


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
        TypeError: a module that is neither a cell nor callable, an edge into a cell, an edge whose synapse cannot be derived.
        ValueError: no modules at all, or an impossible edge; in `initialize_carry`, a parameter of a neuron that has a value
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


@dataclasses.dataclass(frozen=True)
class Edge:
    """An additional input of a module in a stack: y_receiver(t) += synapse(y_sender(t - delay)).

    The delay is fixed and the same for all features. Delays that are learned, or differ from feature to feature, are made by a
    `Delay` in the chain, which may be the sender of an edge but not its receiver or synapse.

    Args:
        sender: index of the module whose output is read.
        receiver: index of the module to whose output the edge is added; it has no carry, like the Linear before a neuron.
        delay: steps, >= 0. By default 0 if the sender comes before the receiver, else 1; before the first step a sender
            is zero.
        synapse: a module or a function without a carry. By default a freshly initialized copy of the receiver, a Linear or
            Conv, for the sender's number of features (with Flax's default initializers). If the receiver is wrapped, as in
            `Standardized(Linear(...))`, so is the copy, except in `Masked`, whose mask fits one size.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, Edge, connect
        >>> rngs = nnx.Rngs(0)
        >>> recurrent = Edge(1, 0, delay=5)  # from the LIF, five steps late, to the Linear before it
        >>> inhibition = Edge(1, 0, synapse=lambda spikes: -0.5 * spikes)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF()], [recurrent, inhibition], rngs=rngs)
        >>> [edge.steps for edge in model.edges], model.synapses[0].kernel.shape
        ([5, 1], (16, 16))
    """

    sender: int
    receiver: int
    delay: int | None = None
    synapse: Any = None

    @property
    def steps(self) -> int:
        """The delay, or its default."""
        return self.earliest if self.delay is None else self.delay

    @property
    def earliest(self) -> int:
        """The smallest possible delay."""
        return 0 if self.sender < self.receiver else 1


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
            raise TypeError(
                f"{cls.__name__} defines {', '.join(own)}, which rules do not call. Hold a stack: connect([...])."
            )

    def __init__(self, modules: Any, edges: Any = None, *, rngs: nnx.Rngs | None = None):
        if isinstance(modules, nnx.Module) or callable(modules):
            raise TypeError(f"connect got one {type(modules).__name__}, expected a list of modules: connect([...]).")
        if not modules:
            raise ValueError("connect got no modules, expected at least one, as in connect([Linear(...), LIF()]).")
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
            delay = max((edge.steps for edge in self.edges if edge.sender == index), default=0)
            carries.append(DelayBuffer(carry, jnp.zeros((delay, *struct.shape), struct.dtype)) if delay else carry)
        return tuple(carries)

    def __call__(self, carry: Any, inputs: Float[Array, "B ..."]) -> tuple[tuple, PyTree[Float[Array, "B ..."]]]:
        self._check_carry(carry)
        inputs = cast_inputs(self, inputs)
        if takes_statistics(self):
            raise ValueError(
                "Got a single step with BatchNorm in training, expected all steps, over which it takes statistics. Use unroll, "
                "model.eval(), or RunningNorm. RTRL, SnAp and UORO take single steps."
            )
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
            if self._is_cycle(piece):  # its first module, a receiver, has no carry
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

    def _is_cycle(self, piece: range) -> bool:
        inside = [edge for edge in self.edges if edge.receiver in piece and edge.sender in piece]
        return any(edge.sender >= edge.receiver for edge in inside)

    def _check_cycle(self, piece: range) -> None:
        """Check a cycle: its first module sees the entire chunk; all others, and the synapses inside the cycle, are stepped."""
        stepped = [self.modules[index] for index in piece[1:]]
        stepped += [synapse for index in piece for edge, synapse in self.edges_into(index) if edge.sender in piece]
        for module in stepped:
            if mutates_state(module):
                raise ValueError(
                    f"Got {type(module).__name__}, which changes its own variables, inside a cycle, which runs step by step, "
                    "expected none there. Move it, call model.eval(), or use slax_neurons.Dropout in place of nnx.Dropout."
                )

    def _check_carry(self, carry: Any) -> None:
        got, number = len(carry) if isinstance(carry, tuple) else type(carry).__name__, len(self.modules)
        if got != number:
            raise ValueError(f"Got a carry of {got} for {number} modules. Make it: initialize_carry(inputs.shape[1:]).")


def as_edges(edges: Any, modules: int) -> list[Edge]:
    """Return the edges, {receiver: [senders]} or a list of `Edge`, as a list of `Edge`.

    Raises:
        ValueError: an edge to or from a missing module, a duplicate edge, or an impossible delay.
        TypeError: anything other than an `Edge` in a list.
    """
    if isinstance(edges, Mapping):
        edges = [Edge(sender, receiver) for receiver, senders in edges.items() for sender in senders]
    listed: list[Edge] = list(edges or ())
    seen: set[tuple[int, int, int]] = set()
    for edge in listed:
        if not isinstance(edge, Edge):
            raise TypeError(f"connect got {edge!r} as an edge, expected {{receiver: [senders]}} or a list of Edge.")
        which = f"connect got an edge from {edge.sender} to {edge.receiver}"
        if edge.sender not in range(modules) or edge.receiver not in range(modules):
            raise ValueError(f"{which}, expected indices of modules of the stack, 0 to {modules - 1}.")
        if not isinstance(edge.steps, int | np.integer) or edge.steps < edge.earliest:
            raise ValueError(
                f"{which} with delay={edge.delay}, expected whole steps, at least {edge.earliest}: a module can be read within "
                "the step only by one that comes after it, and delays between steps are learned by slax_neurons.Delay."
            )
        if (edge.sender, edge.receiver, edge.steps) in seen:
            raise ValueError(f"{which} twice, expected one of each delay.")
        seen.add((edge.sender, edge.receiver, edge.steps))
    return listed


def edge_synapse(modules: Sequence[Any], edge: Edge, rngs: nnx.Rngs | None) -> nnx.Module:
    """The synapse of an edge: its own, or a freshly initialized copy of its receiver for the sender's features.

    Raises:
        TypeError: a receiver or a synapse with a carry, or a synapse that cannot be made.
    """
    receiver, which = modules[edge.receiver], f"the edge from {edge.sender} to {edge.receiver}"
    if isinstance(receiver, nnx.RNNCellBase):
        raise TypeError(f"connect got {which}, into a cell, {kind(receiver)}. Let it end at the Linear that feeds it.")
    if edge.synapse is not None:
        synapse = as_module(edge.synapse, f"the synapse of {which}")
        if isinstance(synapse, nnx.RNNCellBase):
            raise TypeError(f"connect got {kind(synapse)} as the synapse of {which}. Put it, a cell, into the chain.")
        return synapse
    features = output_features(modules[: edge.sender + 1])
    if not can_be_copied(receiver) or features is None or rngs is None:
        raise TypeError(
            f"connect got {which} without a synapse, expected rngs and a Linear or Conv to copy for a known number of features "
            f"rather than a {kind(receiver)}. Pass rngs=nnx.Rngs(...), or Edge({edge.sender}, {edge.receiver}, synapse=...)."
        )
    return fresh_copy(receiver, in_features=features, rngs=rngs)


def cycles(edges: Sequence[Edge], modules: int) -> list[range]:
    """Cut the stack into pieces, in order: modules that share a cycle stay together, and any other is a piece by itself."""
    end = list(range(modules))  # the last module that a module has to be stepped together with
    for edge in edges:
        end[edge.receiver] = max(end[edge.receiver], edge.sender)
    pieces, start = [], 0
    while start < modules:
        stop, index = end[start], start
        while index < stop:
            index += 1
            stop = max(stop, end[index])
        pieces.append(range(start, stop + 1))
        start = stop + 1
    return pieces


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
        raise TypeError(
            f"Got a {type(output).__name__} from module {index} of the stack, expected an array, since other modules or edges "
            "read it or add to it. Only the last module may make a tree of arrays, without edges."
        )


def _sum(index: int, terms: Sequence[Any]) -> Any:
    if len(terms) == 1:
        return terms[0]  # a tree of arrays, perhaps
    for term in terms:
        _check_array(index, term)
    if len({term.shape for term in terms}) > 1:
        raise ValueError(
            f"Got outputs and inputs over edges of shapes {', '.join(str(list(term.shape)) for term in terms)} for module "
            f"{index}, expected the same shape. Give the edge a synapse that fits, Edge(..., synapse=...), and make the carry "
            "for the same batch, initialize_carry(inputs.shape[1:])."
        )
    return functools.reduce(jnp.add, terms)


def as_module(module: Any, name: str) -> nnx.Module:
    """The module itself, or a function wrapped as a module; errors refer to it by `name`.

    Raises:
        TypeError: neither a module nor a function.
    """
    if isinstance(module, type):
        raise TypeError(f"connect got the class {module.__name__} as {name}, {EXPECTED}: {module.__name__}(...).")
    parts = (part for _, part in nnx.iter_modules(module)) if isinstance(module, nnx.Sequential) else ()
    if isinstance(module, nnx.RNN) or any(isinstance(part, nnx.RNNCellBase) for part in parts):
        raise TypeError(f"connect got {type(module).__name__} of cells as {name}, {EXPECTED}. Put its cells there.")
    if not callable(module):
        raise TypeError(f"connect got {type(module).__name__} as {name}, {EXPECTED}.")
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


def check_features(module: nnx.Module, index: int, input_shape: tuple[int, ...]) -> None:
    """Raise ValueError if a module declares a different number of input features."""
    expected = getattr(module, "in_features", None)
    if isinstance(expected, int) and input_shape[-1:] != (expected,):
        raise ValueError(
            f"Got inputs of shape {list(input_shape)} per step for module {index} of the stack, {type(module).__name__}, "
            f"expected {expected} features in the last axis."
        )


def check_space(module: nnx.Module, index: int, input_shape: tuple[int, ...]) -> None:
    """Raise ValueError for a convolution whose inputs [B, space..., features] have fewer axes of space than its kernel."""
    geometry: Any = module if isinstance(module, nnx.ConvTranspose) else geometry_of(module)
    axes = len(getattr(geometry, "kernel_size", ()))
    if axes and len(input_shape) < axes + 2:
        raise ValueError(
            f"Got inputs of shape {list(input_shape)} per step for module {index} of the stack, {type(module).__name__}, "
            f"expected {axes + 2} axes: samples, {axes} of space for its kernel, and features. With fewer axes it would slide "
            "over samples and steps."
        )


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
    are_sizes = (
        jax.export.is_symbolic_dim(size) or (isinstance(size, int | np.integer) and size >= 0) for size in sizes
    )
    if len(sizes) < axes or not all(are_sizes):
        raise ValueError(f"{name} got the shape {sizes}, expected {expected}.")
    return sizes
