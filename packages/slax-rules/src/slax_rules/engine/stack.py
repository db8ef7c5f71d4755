"""A stack as a rule for layers sees it: nested stacks as one chain, with its layers and all other modules.

Rules know only Linear and Conv. Other synapses make their weights of parameters, W = effective(theta), in the module itself:

    layers      with_plain_synapses(model): the same stack with a Linear or Conv of the weights W in each layer
    gradient    by W from the rule; by theta through the Jacobian of `effective`, once per window: `pull_back`
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Delay, Dropout, Edge, Neuron
from slax_neurons.building_blocks import (
    KEY_IN_CARRY,
    DelayBuffer,
    carry_without_buffer,
    effective_synapse,
    is_plain,
    is_synapse,
    mutates_state,
)
from slax_rules.engine.layer import Layer
from slax_rules.engine.synapse import MOVE_IT, Mapped, unmapped, without_bias
from slax_rules.windows import Outputs


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """A stack as one chain of modules.

    Args:
        chain: the modules that are not stacks themselves, in order.
        edges: all edges, between indices of the chain, with their synapses.
        neurons: the index of the neuron of each layer.
        starts: for each layer, the index of the synapse of the chain that it begins with, which maps of the current may follow;
            None if the chain feeds the neuron directly.
        delays: for each layer, the index of the `Delay` with learned delays before its synapse, or None.
        layers: the layers.
        before_neurons: the indices of the modules that make the currents of layers: synapses, and maps.
        has_delayed_edges: whether an edge is late.
        has_parameters_above: whether modules with parameters follow the last neuron.
    """

    chain: tuple[Any, ...]
    edges: tuple[Edge, ...]
    neurons: tuple[int, ...]
    starts: tuple[int | None, ...]
    delays: tuple[int | None, ...]
    layers: tuple[Layer, ...]
    before_neurons: set[int]
    has_delayed_edges: bool
    has_parameters_above: bool

    @classmethod
    def read(cls, model: Connect) -> "Stack":
        """Read a model; `check_stack` says whether a rule for layers can handle it."""
        chain: list[Any] = []
        edges: list[Edge] = []

        def add(stack: Connect) -> None:
            last: list[int] = []  # for each module of the stack, the last module of the chain that is part of it
            for module in stack.modules:
                if isinstance(module, Connect):
                    add(module)
                else:
                    chain.append(module)
                last.append(len(chain) - 1)
            for edge, synapse in zip(stack.edges, stack.synapses, strict=True):
                edges.append(Edge(last[edge.sender], last[edge.receiver], edge.steps, synapse))

        add(model)
        neurons = tuple(index for index, module in enumerate(chain) if isinstance(module, Neuron))
        starts, delays, layers, before = [], [], [], set[int]()
        for number, index in enumerate(neurons):
            start = _start(chain, index)
            synapses: list[Any] = []
            into = _edges_into(edges, start, index)
            if start is not None:
                before.update(range(start, index))
                places = [(chain[start], start), *((edge.synapse, edge.receiver) for edge in into)]
                maps = [chain[place + 1 : index] for _, place in places]
                synapses = [Mapped(one, after) if after else one for (one, _), after in zip(places, maps, strict=True)]
            learned = start - 1 if start and _learns_delays(chain[start - 1]) else None
            starts.append(start)
            delays.append(learned)
            layers.append(
                Layer(
                    number,
                    tuple(synapses),
                    chain[index],
                    chain[neurons[number + 1]] if number + 1 < len(neurons) else None,
                    tuple(edge.steps for edge in into if edge.sender == index),
                    None if learned is None else without_bias(synapses[0]),
                )
            )
        is_late = any(edge.steps for edge in edges)
        learns_above = any(map(_has_parameters, chain[neurons[-1] + 1 :] if neurons else []))
        parts = (neurons, tuple(starts), tuple(delays), tuple(layers), before, is_late, learns_above)
        return cls(tuple(chain), tuple(edges), *parts)

    def edges_into(self, start: int | None, end: int) -> list[Edge]:
        """The edges that end at a module from `start` to before `end`: into a layer, or into a module by itself."""
        return _edges_into(self.edges, start, end)


def _edges_into(edges: Any, start: int | None, end: int) -> list[Edge]:
    return [] if start is None else [edge for edge in edges if start <= edge.receiver < end]


def _made_synapses(stack: Stack) -> list[Any]:
    """The synapses of the layers that are no Linear or Conv, but make the weights of one."""
    found = [unmapped(synapse) for layer in stack.layers for synapse in layer.synapses]
    return [synapse for synapse in found if is_synapse(synapse) and not is_plain(synapse)]


def with_plain_synapses(model: Connect) -> Connect:
    """A copy whose layers have Linears and Convs of the effective weights; the model itself if it has no other synapses.

    All other variables are shared with the model. A synapse that occurs in several layers stays one.
    """
    if not _made_synapses(Stack.read(model)):
        return model
    copy = nnx.clone(model, variables=False)
    old = _made_synapses(Stack.read(copy))
    new = {id(synapse): effective_synapse(synapse) for synapse in old}
    for _, stack in list(nnx.iter_modules(copy)):
        if isinstance(stack, Connect):
            for modules in (stack.modules, stack.synapses):
                for index, module in enumerate(modules):
                    modules[index] = new.get(id(module), module)
    return copy


def pull_back(model: Connect, gradient: nnx.State) -> nnx.State:
    """The gradient w.r.t. the parameters of a model, from that w.r.t. the parameters of its copy with plain synapses."""
    if not _made_synapses(Stack.read(model)):
        return gradient
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def weights(params: nnx.State) -> nnx.State:
        return nnx.state(with_plain_synapses(nnx.merge(graphdef, params, rest)), nnx.Param)

    return jax.vjp(weights, params)[1](gradient)[0]


def flat_carry(stack: Connect, carry: Any) -> list[Any]:
    """The carries of the modules of the chain, from the carry of a stack."""
    if not isinstance(carry, tuple) or len(carry) != len(stack.modules):
        raise ValueError("Got the carry of another stack, expected model.initialize_carry(inputs.shape[1:]).")
    entries: list[Any] = []
    for module, entry in zip(stack.modules, carry, strict=True):
        if not isinstance(module, Connect):
            entries.append(entry)
            continue
        entries += flat_carry(module, carry_without_buffer(entry))
        if isinstance(entry, DelayBuffer):  # the outputs of a stack are its last module's outputs
            entries[-1] = _longer_buffer(entries[-1], entry)
    return entries


def stacked_carry(stack: Connect, entries: Iterator[Any], like: Any) -> tuple[tuple[Any, ...], Any]:
    """The carry of a stack, in the form of `like`, from the carries of the modules of the chain, and the last of these."""
    carry, last = [], None
    for module, form in zip(stack.modules, like, strict=True):
        if isinstance(module, Connect):
            own, last = stacked_carry(module, entries, carry_without_buffer(form))
        else:
            last = next(entries)
            own = carry_without_buffer(last)
        is_buffered = isinstance(form, DelayBuffer)
        carry.append(DelayBuffer(own, last.outputs[-len(form.outputs) :]) if is_buffered else own)
    return tuple(carry), last


def run_with_layers(
    unroll: Callable[..., tuple[Any, Any]], model: Any, carry: Any, inputs: Array, layers: tuple[int, ...]
) -> tuple[Any, Outputs]:
    """Run a model with `unroll`, and return the carry and its outputs, with the outputs of some hidden layers by number."""
    if not layers:
        carry, final = unroll(model, carry, inputs)
        return carry, Outputs(final)
    carry, (final, hidden) = unroll(_WithLayers(model, layers), carry, inputs)
    return carry, Outputs(final, hidden)


class _WithLayers(nnx.RNNCellBase):
    """A stack that returns its own outputs and the outputs of the neurons of some layers, numbered as in `Stack`."""

    def __init__(self, model: Connect, layers: tuple[int, ...]):
        self.model, self.layers = model, layers

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[Any, tuple[Any, tuple[Array, ...]]]:
        stack = Stack.read(self.model)
        end, outputs = Connect(stack.chain, stack.edges).outputs(tuple(flat_carry(self.model, carry)), inputs)
        hidden = tuple(outputs[stack.neurons[layer]] for layer in self.layers)
        return stacked_carry(self.model, iter(end), carry)[0], (outputs[-1], hidden)


def _start(chain: list[Any], neuron: int) -> int | None:
    """The index of the synapse that makes the current of a neuron, right before it or before modules without variables."""
    for index in reversed(range(neuron)):
        module = chain[index]
        if is_synapse(module) and (index == neuron - 1 or _has_parameters(module)):
            return index
        if isinstance(module, nnx.RNNCellBase) or jax.tree.leaves(nnx.state(module)) or mutates_state(module):
            return None
    return None


def _longer_buffer(inner: Any, outer: DelayBuffer) -> DelayBuffer:
    """The delay buffer of a module with delayed edges both inside its stack and from the stack's output."""
    if not isinstance(inner, DelayBuffer):
        return DelayBuffer(inner, outer.outputs)
    return inner if inner.outputs.shape[0] >= outer.outputs.shape[0] else DelayBuffer(inner.carry, outer.outputs)


# The ways out of what a rule for layers refuses. RTRL is one for small models, and for none whose modules change themselves.
USE_BPTT = "Use rule=BPTT(), or RTRL() for a small model: both take any cell."
SYNAPSE = "synapse (Linear, Conv, or a module with effective())"


def check_stack(name: str, model: Any) -> None:
    """Raise TypeError for a model that no rule for layers can handle; `name` is the name of the rule.

    A module other than a neuron, a synapse before one, one without parameters, or one after the last neuron; an edge that does
    not end at a layer.
    """
    if not isinstance(model, Connect):
        raise TypeError(f"{name} got {type(model).__name__}, expected a stack of connect([...]). {USE_BPTT}")
    stack = Stack.read(model)
    if not stack.neurons:
        raise TypeError(f"{name} got a stack without neurons, expected at least one [Linear, neuron] layer. {USE_BPTT}")
    for index, module in enumerate(stack.chain):
        got = f"{name} got {type(module).__name__} as module {index}"
        if isinstance(module, nnx.RNNCellBase) and not isinstance(module, Neuron | Dropout | Delay):
            raise TypeError(f"{got}, a cell of another kind, expected an element-wise neuron. {USE_BPTT}")
        if isinstance(module, nnx.Dropout) and not module.deterministic:
            raise TypeError(f"{got}, whose masks differ by window. Use slax_neurons.Dropout, with masks in the carry.")
        is_of_layer = index in stack.before_neurons or index in stack.neurons
        if is_of_layer and mutates_state(module):
            raise TypeError(f"{got}, which changes variables. {KEY_IN_CARRY if index in stack.neurons else USE_BPTT}")
        if _learns_delays(module):
            if index not in stack.delays or any(edge.sender == index for edge in stack.edges):
                raise TypeError(
                    f"{got}, with learned delays, expected it right before the synapse of a layer, as in [Delay(...), "
                    "Linear(...), LIF()], and no edge that begins there. Move it, or fix its delays: Delay(..., "
                    f"delays=[2.0, 3.0]). {USE_BPTT}"
                )
        elif not is_of_layer and index < stack.neurons[-1]:
            if _has_parameters(module):
                raise TypeError(
                    f"{got}, followed by {type(stack.chain[index + 1]).__name__}, expected parameters only in a {SYNAPSE} "
                    f"right before a neuron. {_way_out(module, stack.chain[index + 1])}"
                )
            if not isinstance(module, Dropout) and mutates_state(module):
                raise TypeError(f"{got}, which changes variables when called. Call model.eval(), or use BPTT().")
    for edge in stack.edges:
        where, synapse = f"the edge from {edge.sender} to {edge.receiver}", edge.synapse
        if _has_parameters(synapse) and not is_synapse(synapse):
            raise TypeError(f"{name} got {type(synapse).__name__} on {where}, no {SYNAPSE}. {_way_out(synapse, None)}")
        if edge.sender in stack.before_neurons and not edge.steps:
            raise TypeError(f"{name} got {where}, which begins inside a layer. Let it begin at the neuron. {USE_BPTT}")
        if edge.receiver not in stack.before_neurons and (edge.steps or _has_parameters(synapse)):
            raise TypeError(f"{name} got {where}, which ends outside of a layer. Let it end there. {USE_BPTT}")


def _way_out(module: Any, following: Any) -> str:
    """The way out for a module with parameters that is not right before a neuron, or is no synapse."""
    if any(isinstance(one, nnx.BatchNorm) for one in (module, following)):
        return (
            "In place of a BatchNorm between a synapse and a neuron, wrap the synapse: slax_neurons.RunningNorm(Conv(...)) "
            "normalizes by running statistics. Or use rule=BPTT()."
        )
    if type(module) is nnx.Conv and module.mask is not None:
        return "In place of a Conv with a mask, use slax_neurons.Masked(Conv(...), mask). Or use rule=BPTT()."
    is_before_map = is_synapse(module) and following is not None and not _has_parameters(following)
    return MOVE_IT if is_before_map else USE_BPTT


def _learns_delays(module: Any) -> bool:
    return isinstance(module, Delay) and _has_parameters(module)


def _has_parameters(module: nnx.Module) -> bool:
    return bool(jax.tree.leaves(nnx.state(module, nnx.Param)))
