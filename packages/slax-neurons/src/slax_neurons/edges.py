"""The edges of a stack: which module reads which other one, how many steps late, and through which synapse."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from slax_neurons.modules import as_module, output_features
from slax_neurons.synapses.synapse import can_be_copied, fresh_copy, kind


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


def as_edges(edges: Any, modules: int) -> list[Edge]:
    """Return the edges, {receiver: [senders]} or a list of `Edge`, as a list of `Edge`.

    Raises:
        ValueError: an edge to or from a missing module, or an impossible delay.
    """
    if isinstance(edges, Mapping):
        if wrong := [senders for senders in edges.values() if not isinstance(senders, list | tuple | range)]:
            raise TypeError(f"connect got {wrong[0]!r} as senders, expected a list: {{receiver: [senders]}}.")
        edges = [Edge(sender, receiver) for receiver, senders in edges.items() for sender in senders]
    listed: list[Edge] = list(edges or ())
    for edge in listed:
        which = f"connect got an edge from {edge.sender} to {edge.receiver}"
        if edge.sender not in range(modules) or edge.receiver not in range(modules):
            raise ValueError(f"{which}, expected indices of modules of the stack, 0 to {modules - 1}.")
        if not isinstance(edge.steps, int | np.integer) or edge.steps < edge.earliest:
            why = "only a later module can be read within the step, and only slax_neurons.Delay has fractions"
            raise ValueError(f"{which} with delay={edge.delay}, expected whole steps, at least {edge.earliest}: {why}.")
    return listed


def edge_synapse(modules: Sequence[Any], edge: Edge, rngs: nnx.Rngs | None) -> nnx.Module:
    """The synapse of an edge: its own, or a freshly initialized copy of its receiver for the sender's features.

    Raises:
        TypeError: a receiver with a carry, or a synapse that cannot be made.
    """
    receiver, which = modules[edge.receiver], f"the edge from {edge.sender} to {edge.receiver}"
    if isinstance(receiver, nnx.RNNCellBase):
        raise TypeError(f"connect got {which}, into a cell, {kind(receiver)}. Let it end at the Linear that feeds it.")
    if edge.synapse is not None:
        return as_module(edge.synapse, f"the synapse of {which}")
    features = output_features(modules[: edge.sender + 1])
    if not can_be_copied(receiver) or features is None or rngs is None:
        expected = f"rngs and a Linear or Conv to copy for a known number of features rather than a {kind(receiver)}"
        cure = f"Pass rngs=nnx.Rngs(...), or Edge({edge.sender}, {edge.receiver}, synapse=...)."
        raise TypeError(f"connect got {which} without a synapse, expected {expected}. {cure}")
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
