"""Conversion of stacks to NIR's graphs."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons.delay import Delay
from slax_neurons.dropout import Dropout
from slax_neurons.edges import Edge
from slax_neurons.modules import as_module, as_shape, check_features, output_struct
from slax_neurons.nir.conventions import INTEGRATION, STEP, Integration, expect, library, shape_first
from slax_neurons.nir.graph import plan
from slax_neurons.nir.layers import Zeros
from slax_neurons.nir.nodes import NODES, WRITERS, write_delay, write_neuron
from slax_neurons.synapses.synapse import with_effective_weights
from slax_neurons.unrolling import Function
from slax_neurons.wiring import Connect, check_stack

Shape = tuple[int, ...]


def to_nir(
    model: Any, *, dt: float, input_shape: tuple[int, ...], integration: str = "exponential", fold_r: bool = False
) -> Any:
    """Convert a stack of Linear, Conv, Delay, IF, LIF, LI and CuBaLIF to a NIR graph, for `nir.write`.

    Trained parameters are written by value; `from_nir` returns the same numbers, bit for bit in float32. NIR cannot express how
    slax resets and when it fires, and no other framework reads the marks that `to_nir` leaves for `from_nir`:

    * a reset by subtraction, which is the default here, and no reset are a reset to zero for other readers;
    * a neuron fires at its threshold here, and above it in NIR, which differs where a membrane is exactly at it;
    * surrogates and `stop_reset_gradient` are not written.

    An edge that is read one step late is written as a cycle, which other readers also delay; their first step may lack the bias
    of its synapse. A synapse whose weights are made of parameters, such as `Standardized` or `RunningNorm`, is written as the
    Linear or Conv with its effective weights.

    Args:
        model: a stack made by `connect`. Nested stacks become part of the graph; Dropout that is switched off does not.
        dt: length of a step in seconds.
        input_shape: shape of one sample in one step, without batch, channels last: (64,) or (height, width, channels).
            In the graph it has the channels first.
        integration: "exponential" writes time constants for which a decay is exp(-dt / tau), "euler" time constants
            for which it is 1 - dt / tau, as norse and snnTorch read them. It is noted in the graph's metadata, and so is
            `dt`.
        fold_r: whether the resistance r of each neuron, the factor of its current, is multiplied into the weights before it and
            written as 1, for readers that ignore r, as norse 1.1 does.

    Returns:
        A `nir.NIRGraph`.

    Raises:
        ImportError: the package nir is not installed.
        TypeError: a model that is not a stack, or a module that has no node in NIR.
        ValueError: a setting that no node supports, an edge that NIR cannot express, or with `fold_r`, a neuron after anything
            but weights of its own.

    Warns:
        UserWarning: a neuron with `reset="subtract"`. Other frameworks read every reset as one to zero: train with
            `reset="zero"` for them. The reset is noted in the graph's metadata, which `from_nir` reads.

    References:
        Pedersen et al.: Neuromorphic intermediate representation: a unified instruction set for interoperable
        brain-inspired computing, 2024, doi 10.1038/s41467-024-52259-9, table 1.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect
        >>> from slax_neurons.nir import to_nir
        >>> model = connect([nnx.Linear(8, 16, rngs=nnx.Rngs(0)), LIF(reset="zero")])
        >>> graph = to_nir(model, dt=1e-3, input_shape=(8,))
        >>> {name: type(node).__name__ for name, node in graph.nodes.items()}
        {'input': 'Input', 'affine_0': 'Affine', 'lif_1': 'LIF', 'output': 'Output'}
    """
    nir = library()
    check_stack(model, "to_nir")
    shape = as_shape("to_nir", input_shape, "that of one sample in one step, such as (64,)")
    check_features(model.modules[0], 0, shape)
    if any(getattr(part, "reset", None) == "subtract" for _, part in nnx.iter_modules(model)):
        which = 'a neuron with reset="subtract", which other frameworks read as a reset to zero'
        warnings.warn(f'to_nir got {which}. For others, train with reset="zero".', stacklevel=2)
    graph = _Writer(nir, Integration(integration, dt)).graph(with_effective_weights(model), shape)
    return _with_folded_r(graph) if fold_r else graph


def _with_folded_r(graph: Any) -> Any:
    """The graph with the resistance of each neuron in the weights before it."""
    for name, node in graph.nodes.items():
        r = np.asarray(getattr(node, "r", 1.0))
        if np.all(r == 1):
            continue
        of_channels = r.reshape(len(r), -1)
        before = [sender for sender, reader in graph.edges if reader == name]
        others = [reader for sender, reader in graph.edges if sender in before and reader != name]
        is_own = not others and all(hasattr(graph.nodes[sender], "weight") for sender in before)
        says = "expected one resistance for each channel, and Linear or Conv modules of its own before it. Leave out fold_r."
        fits = is_own and np.all(of_channels == of_channels[:, :1])
        expect(f"fold_r for {name} after {', '.join(before)},", fits, says)
        for weights in map(graph.nodes.get, before):
            factors = of_channels[:, 0].astype(weights.weight.dtype)
            weights.weight = weights.weight * factors.reshape(-1, *[1] * (weights.weight.ndim - 1))
            if getattr(weights, "bias", None) is not None:
                weights.bias = weights.bias * factors
        node.r = np.ones_like(r)
    return graph


class Signal(list[Any]):
    """The terms that are added up to one signal: names of nodes, and other signals. It may grow until all edges are written."""


class Delayed(Signal):
    """A signal that is read one step late."""


class _Writer:
    """A writer of nodes in order, which records the inputs of each; edges come last, when all terms of each sum are known."""

    def __init__(self, nir: Any, integration: Integration):
        self.nir = nir
        self.integration = integration
        self.nodes: dict[str, Any] = {}
        self.reads: list[tuple[Signal, str]] = []
        self.feedback: list[Callable[[], None]] = []

    def graph(self, model: Connect, input_shape: tuple[int, ...]) -> Any:
        self.nodes["input"] = self.nir.Input({"input": shape_first(input_shape)})
        signal, shape = self._stack(model, "", Signal(["input"]), input_shape)
        self.nodes["output"] = self.nir.Output({"output": shape_first(shape)})
        self.reads.append((signal, "output"))
        for write in self.feedback:
            write()
        terms = [(name, reader, delayed) for signal, reader in self.reads for name, delayed in _terms(signal)]
        edges = [(name, reader) for name, reader, _ in terms]
        for edge in edges:
            cure = "from node to node, expected one, as in NIR. Put slax_neurons.nir.Scale(1.0) into one of them."
            expect("two paths without a module", edges.count(edge) == 1, f"from {edge[0]} to {edge[1]}, {cure}")
        metadata = {INTEGRATION: self.integration.kind, STEP: self.integration.dt}
        graph = self.nir.NIRGraph(self.nodes, edges, metadata=metadata, type_check=False)
        self._check_delayed(graph, {(name, reader) for name, reader, delayed in terms if delayed})
        return graph

    def _stack(self, model: Connect, prefix: str, signal: Signal, shape: Shape) -> tuple[Signal, Shape]:
        outputs: list[tuple[Signal, Shape]] = []
        for index, module in enumerate(model.modules):
            name = f"{prefix}{index}"
            signal, shape = self._module(module, name, f"module {name.replace('_', '.')} of the stack,", signal, shape)
            signal = Signal([signal])  # its own list, since edges are added to it
            outputs.append((signal, shape))
            signal += [self._edge(edge, synapse, prefix, outputs) for edge, synapse in model.edges_into(index)]
        return signal, shape

    def _edge(self, edge: Edge, synapse: Any, prefix: str, outputs: list[tuple[Signal, Shape]]) -> Signal:
        """The signal that arrives over an edge; if it is late, the signal is filled once all nodes of the chain are written."""
        label = f"the synapse of the edge from {edge.sender} to {edge.receiver},"
        says = f"with a delay of {edge.steps} steps, expected 0 to a later module and 1 in a cycle, as in NIR."
        expect(label, edge.steps == edge.earliest, says)
        name = f"{prefix}{edge.sender}_to_{edge.receiver}"
        if not edge.steps:
            return self._module(synapse, name, label, *outputs[edge.sender])[0]
        delayed = Signal()

        def write() -> None:
            signal, shape = outputs[edge.sender]
            delayed.append(self._module(synapse, name, label, Delayed([signal]), shape)[0])

        self.feedback.append(write)
        return delayed

    def _module(self, module: Any, name: str, label: str, signal: Signal, shape: Shape) -> tuple[Signal, Shape]:
        """Write a module, and return the signal and shape of its output."""
        if isinstance(module, Connect):
            return self._stack(module, f"{name}_", signal, shape)
        if isinstance(module, nnx.Sequential):
            for index, layer in enumerate(module.layers):
                signal, shape = self._module(as_module(layer, label), f"{name}_{index}", label, signal, shape)
            return signal, shape
        if isinstance(module, Zeros):
            return Signal(), module.shape
        if _is_identity(module):
            return signal, shape
        label = f"{label} {type(module.function if isinstance(module, Function) else module).__name__},"
        if type(module) in NODES:
            return self._add(write_neuron(module, shape, self.integration), name, signal, shape, shape)
        if type(module) is Delay:
            return self._add(write_delay(module, shape, label, self.integration.dt), name, signal, shape, shape)
        if type(module) not in WRITERS:
            known = ", ".join(one.__name__ for one in (*NODES, *WRITERS, Delay))
            raise TypeError(f"Got {label} expected what has a node in NIR: {known}.")
        node = WRITERS[type(module)](module, shape, label)
        struct = output_struct(module, (), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
        return self._add(node, name, signal, shape, struct.shape[1:])

    def _add(self, node: Any, name: str, signal: Signal, shape: Shape, output: Shape) -> tuple[Signal, Shape]:
        key = f"{type(node).__name__.lower()}_{name}"
        node.input_type, node.output_type = {"input": shape_first(shape)}, {"output": shape_first(output)}
        self.nodes[key] = node
        self.reads.append((signal, key))
        return Signal([key]), output

    def _check_delayed(self, graph: Any, expected: set[tuple[str, str]]) -> None:
        """Raise ValueError unless a reader of the graph will find the same edges to be late."""
        found = {(link.sender, (*link.between, link.receiver)[0]) for link in plan(graph).links if link.delayed}
        for sender, reader in sorted(expected - found):
            which = f"to_nir got an edge from {sender} to {reader} that is read one step late"
            cure = "Let each late edge lead from a neuron back to the layer right before it or one that feeds it."
            raise ValueError(f"{which} where the graph cannot show it, since NIR has no late edges. {cure}")


def _is_identity(module: Any) -> bool:
    if isinstance(module, Dropout | nnx.Dropout):
        return bool(module.deterministic)
    return isinstance(module, Function) and module.function is jax.nn.identity


def _terms(signal: Signal) -> Iterator[tuple[str, bool]]:
    """The names of a signal, and whether each is delayed."""
    for part in signal:
        for name, delayed in _terms(part) if isinstance(part, Signal) else [(part, False)]:
            yield name, delayed or isinstance(signal, Delayed)
