"""Networks: layers in a chain, edges beside it, and what they do in a step.

The current of layer l is i = x W + b + sum over its edges of (s R + c), where x is the output of the layer below at the same
step, the network's inputs for the first layer, and s the output of the edge's sender `delay` steps before, 0 before the
first step. Every connection, those of the chain too, is an `Edge`, and may have delays that are learned, see `delays`. A
kernel is used as a matrix [I, N] of its numbers, of which those of a convolution stand in many places; `entries` says which
number stands where, and gradients of the matrix's entries are summed by it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oracle.convolution import Convolution
from oracle.delays import kappa, lags, slope
from oracle.neurons import Neuron, Step


@dataclass(frozen=True)
class Edge:
    """One input of a layer: what layer `sender` puts out `delay` steps before, through a kernel and perhaps a bias.

    Delay 0 is possible from a layer below only, at least 1 from the layer itself and from those above. Learned delays come
    on top of it.
    """

    sender: int  # index of a layer, -1 for the inputs of the network
    delay: int  # in steps
    kernel: Any  # [I, N], or [*window, I per group, O] of a convolution
    bias: Any = None  # [N], or [O]
    convolution: Convolution | None = None
    delays: Any = None  # learned: one for all inputs, one per channel, or one per input

    def __post_init__(self):
        _to_arrays(self, "kernel", "bias", "delays")

    def entries(self) -> np.ndarray:
        """Which number of the kernel joins which input to which unit, [I, N]; -1 where none does."""
        if self.convolution is not None:
            return self.convolution.entries(self.kernel.shape)
        return np.arange(self.kernel.size).reshape(self.kernel.shape)

    def matrix(self) -> np.ndarray:
        entries = self.entries()
        return np.where(entries < 0, 0.0, self.kernel.ravel()[entries])

    def delay_entries(self) -> np.ndarray:
        """Which number of the delays acts on which input, [I]."""
        features = (self.kernel.shape[0],) if self.convolution is None else self.convolution.features_in
        return np.broadcast_to(np.arange(self.delays.size).reshape(self.delays.shape), features).ravel()

    def weights_of_lags(self) -> dict[int, tuple[Any, Any]]:
        """By the number of steps that the edge reads back: the weight of each input [I], and its derivative by the delay."""
        if self.delays is None:
            return {self.delay: (np.ones(len(self.entries())), None)}
        d = self.delays.ravel()[self.delay_entries()]
        return {self.delay + k: (kappa(k - d), slope(k - d)) for k in lags(d)}

    def features(self) -> tuple[int, ...]:
        """The shape of the output, the channels last."""
        return self.kernel.shape[-1:] if self.convolution is None else self.convolution.features(self.kernel.shape)

    def current(self, x) -> np.ndarray:
        """[B, I] to [B, N]."""
        current = x @ self.matrix()
        if self.bias is not None:
            current = current + np.broadcast_to(self.bias, self.features()).ravel()
        return current


@dataclass(frozen=True)
class Layer:
    """Connections and the neuron that receives the sum of their currents."""

    kernel: Any  # of the chain, as those of an `Edge`
    bias: Any
    neuron: Neuron
    edges: tuple[Edge, ...] = ()
    convolution: Convolution | None = None
    fixed: tuple[str, ...] = ()  # parameters of the neuron that have no gradient
    delays: Any = None

    def __post_init__(self):
        _to_arrays(self, "kernel", "bias", "delays")

    @property
    def neuron_parameters(self) -> list[str]:
        """Those of the neuron that have a gradient."""
        return [name for name in self.neuron.parameters if name not in self.fixed]

    @property
    def features(self) -> tuple[int, ...]:
        return self.connections(0)[""].features()

    @property
    def size(self) -> int:
        """N, the number of neurons."""
        return int(np.prod(self.features))

    def connections(self, index) -> dict[str, Edge]:
        """All inputs of this layer, the `index`-th of its network, by the prefix of their parameters' names.

        The chain has none: "kernel", "bias" and "delays". The first edge has "edge0_kernel" and "edge0_bias", and so on.
        """
        chain = Edge(index - 1, 0, self.kernel, self.bias, self.convolution, self.delays)
        return {"": chain, **{f"edge{number}_": edge for number, edge in enumerate(self.edges)}}

    def parameters(self) -> dict[str, np.ndarray]:
        synapses = {}
        for prefix, connection in self.connections(0).items():
            synapses[f"{prefix}kernel"] = connection.kernel
            if connection.bias is not None:
                synapses[f"{prefix}bias"] = connection.bias
            if connection.delays is not None:
                synapses[f"{prefix}delays"] = connection.delays
        return synapses | {name: getattr(self.neuron, name) for name in self.neuron_parameters}

    def moved(self, by) -> "Layer":
        """The layer with numbers added to some of its parameters, by their names."""

        def added(part, names, prefix=""):
            return replace(part, **{n: getattr(part, n) + by[prefix + n] for n in names if prefix + n in by})

        synapse = ("kernel", "bias", "delays")
        edges = tuple(added(edge, synapse, f"edge{number}_") for number, edge in enumerate(self.edges))
        return replace(added(self, synapse), edges=edges, neuron=added(self.neuron, self.neuron_parameters))

    def entries(self, name) -> np.ndarray:
        """Which number of a parameter acts on which unit, [I, N] for a kernel and [N] for others; -1 for none.

        Delays act on inputs, [I].
        """
        if name.endswith("kernel"):
            return self.connections(0)[name.removesuffix("kernel")].entries()
        if name.endswith("delays"):
            return self.connections(0)[name.removesuffix("delays")].delay_entries()
        value = self.parameters()[name]
        return np.broadcast_to(np.arange(value.size).reshape(value.shape), self.features).ravel()

    def shared(self, name, per_unit) -> np.ndarray:
        """The gradient of a parameter from what each place that it acts on contributes, shaped as `entries`."""
        entries, value = self.entries(name), self.parameters()[name]
        used = entries >= 0
        return np.bincount(entries[used], per_unit[used], value.size).reshape(value.shape)

    def unit_neuron(self) -> Neuron:
        """The neuron with every parameter a scalar or [N]."""
        shared = [name for name in self.neuron.parameters if getattr(self.neuron, name).ndim]
        flat = {name: np.broadcast_to(getattr(self.neuron, name), self.features).ravel() for name in shared}
        return replace(self.neuron, **flat)


Outputs = list[np.ndarray]  # of all layers at one step, [B, N] each, and behind them the inputs of the network


def zero_states(layers, batch):
    return [np.zeros((batch, layer.size, layer.neuron.n_states)) for layer in layers]


def longest_delay(layers) -> int:
    """In steps, without learned delays."""
    return max((edge.delay for layer in layers for edge in layer.edges), default=0)


def remember(layers, now, past) -> tuple:
    """The last steps, the latest first, as far back as an edge reads; all of them if delays are learned."""
    return (now, *past)[: None if _learns_delays(layers) else longest_delay(layers)]


def recall(edge, lag, x, now, past, zeros):
    """What an edge's sender put out `lag` steps before: the inputs `x` or a layer below now, or something of the past."""
    if lag == 0:
        return x if edge.sender < 0 else now[edge.sender]
    return past[lag - 1][edge.sender] if lag <= len(past) else zeros


def receive(edge, x, now, past, zeros):
    """What arrives over an edge, [B, I, ...], and its derivative by the delays of the inputs, None where none is learned."""
    if edge.delays is None:
        return recall(edge, edge.delay, x, now, past, zeros), None
    arrived, changed = 0.0, 0.0
    for lag, (weight, derivative) in edge.weights_of_lags().items():
        sent = np.moveaxis(recall(edge, lag, x, now, past, zeros), 1, -1)
        arrived = arrived + np.moveaxis(sent * weight, -1, 1)
        changed = changed + np.moveaxis(sent * derivative, -1, 1)
    return arrived, changed


def forward_step(layers, states, x, past=()) -> list[Step]:
    """One step of all layers; x [B, I]; past: `Outputs` of the steps before, the latest first."""
    steps, now = [], []
    for index, (layer, previous) in enumerate(zip(layers, states, strict=True)):
        inputs, slopes = {}, {}
        for prefix, edge in layer.connections(index).items():
            inputs[prefix], slopes[prefix] = receive(edge, x, now, past, np.zeros((len(x), edge.entries().shape[0])))
        current = sum(edge.current(inputs[prefix]) for prefix, edge in layer.connections(index).items())
        steps.append(layer.unit_neuron().step(previous, current)._replace(inputs=inputs, slopes=slopes))
        now.append(steps[-1].output)
    return steps


def forward(layers, inputs, states=None, past=()) -> list[list[Step]]:
    """All steps; inputs [T, B, features...]. The result is indexed by step, then by layer; see `series`."""
    inputs = flat(inputs)
    states = zero_states(layers, inputs.shape[1]) if states is None else states
    history = []
    for x in inputs:
        history.append(forward_step(layers, states, x, past))
        states = [step.states for step in history[-1]]
        past = remember(layers, outputs_of(history[-1], x), past)
    return history


def outputs_of(steps, x) -> Outputs:
    """What edges may read of a step."""
    return [*(step.output for step in steps), x]


def carried_numbers(layers):
    """Numbers what goes to the next step, and counts it: the states [N, S] per layer, then the outputs [N] per layer, first
    those of the last step, then those of the step before, and so on."""
    assert not _learns_delays(layers)  # the numbers carried would be those of all steps so far
    shapes = [[(layer.size, layer.neuron.n_states) for layer in layers]]
    shapes += [[(layer.size,) for layer in layers]] * longest_delay(layers)
    numbers, first = [], 0
    for group in shapes:
        numbers.append([])
        for shape in group:
            numbers[-1].append(first + np.arange(np.prod(shape)).reshape(shape))
            first += np.prod(shape)
    return numbers, first


def flat(inputs) -> np.ndarray:
    """[T, B, features...] as [T, B, I]."""
    inputs = np.asarray(inputs, np.float64)
    return inputs.reshape(*inputs.shape[:2], -1)


def series(history, field, layer=-1) -> np.ndarray:
    """One field of a layer's steps over time, [T, ...], such as "output", the spikes."""
    return np.stack([getattr(steps[layer], field) for steps in history])


def _learns_delays(layers):
    return any(edge.delays is not None for layer in layers for edge in layer.connections(0).values())


def _to_arrays(instance, *names):
    for name in names:
        if getattr(instance, name) is not None:
            object.__setattr__(instance, name, np.asarray(getattr(instance, name), np.float64))
