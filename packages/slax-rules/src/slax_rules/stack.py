"""A stack under a rule, written out: nested stacks as one chain, and its layers as blocks."""

from typing import Any

import jax
from flax import nnx

from slax_neurons import Connect, Dropout, Edge, Neuron
from slax_neurons.edges import cycles
from slax_rules.online import OnlineCell
from slax_rules.synapse import is_synapse


def written_out(stack: Connect) -> Connect:
    """The same stack without nesting; it shares all modules."""
    modules: list[nnx.Module] = []
    edges: list[Edge] = []

    def add(part: Connect) -> None:
        last: list[int] = []  # of each module of the part, the index of its last own module
        for module in part.modules:
            if isinstance(module, Connect) and not isinstance(module, OnlineCell):
                add(module)
            else:
                modules.append(module)
            last.append(len(modules) - 1)
        edges.extend(
            Edge(last[edge.sender], last[edge.receiver], edge.steps, synapse)
            for edge, synapse in zip(part.edges, part.synapses, strict=True)
        )

    add(stack)
    return Connect(modules, edges)


def feeds_neuron(modules: Any, index: int) -> bool:
    """Whether it is a module without a carry right before a neuron, whose output is the neuron's current."""
    return index + 1 < len(modules) and isinstance(modules[index + 1], Neuron) and is_synapse(modules[index])


def check_stack(name: str, stack: Connect) -> None:
    """Raises unless each module is a neuron, a synapse before one, free of parameters, or behind the last neuron.

    Args:
        name: of the rule.
        stack: one that is written out.
    """
    modules = stack.modules
    neurons = [index for index, module in enumerate(modules) if isinstance(module, Neuron)]
    if not neurons:
        raise TypeError(f"{name} got a stack without neurons, expected at least one [Linear, neuron] layer.")
    for index, module in enumerate(modules):
        if isinstance(module, OnlineCell):
            raise TypeError(
                f"{name} got a stack that is under {module.rule_name} already, as module {index}. Give it the plain stack."
            )
        if isinstance(module, nnx.RNNCellBase) and not isinstance(module, Neuron | Dropout):
            raise TypeError(
                f"{name} treats element-wise neurons, got {type(module).__name__} as module {index}, whose units see each "
                "other. Use rtrl, which takes any cell, or BPTT (the plain cell)."
            )
        behind = index > neurons[-1]
        if not (feeds_neuron(modules, index) or index in neurons or behind) and _has_parameters(module):
            raise TypeError(
                f"{name} traces the parameters of a Linear or Conv right before a neuron, got {type(module).__name__} as "
                f"module {index}, followed by {type(modules[index + 1]).__name__}. Use rtrl, which takes any cell, or BPTT "
                "(the plain cell)."
            )
    for edge, synapse in zip(stack.edges, stack.synapses, strict=True):
        where = f"the edge from {edge.sender} to {edge.receiver}"
        if _has_parameters(synapse) and not is_synapse(synapse):
            raise TypeError(
                f"{name} traces the parameters of a Linear or Conv, got {type(synapse).__name__} as the synapse of {where}. "
                "Use rtrl, which takes any cell, or BPTT (the plain cell)."
            )
        if feeds_neuron(modules, edge.sender) and not edge.steps:
            raise TypeError(
                f"{name} got {where}, which reads the current of a neuron within the step, but a layer is a unit for a rule. "
                "Let it begin at the neuron, or use rtrl, which takes any cell, or BPTT (the plain cell)."
            )
        if not feeds_neuron(modules, edge.receiver) and (edge.steps or _has_parameters(synapse)):
            raise TypeError(
                f"{name} got {where}, which does not end at a Linear or Conv right before a neuron. Let it end there, or use "
                "rtrl, which takes any cell, or BPTT (the plain cell)."
            )


def has_late_edges(stack: Connect) -> bool:
    return any(edge.steps for edge in stack.edges)


def pieces(stack: Connect) -> list[range]:
    return cycles(stack.edges, len(stack.modules))


def _has_parameters(module: nnx.Module) -> bool:
    return bool(jax.tree.leaves(nnx.state(module, nnx.Param)))
