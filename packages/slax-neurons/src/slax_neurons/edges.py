"""The edges of a stack in addition to its chain: their senders, receivers, delays and synapses."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from slax_neurons.modules import as_module, output_features
from slax_neurons.synapses.synapse import can_be_copied, fresh_copy, is_synapse, kind


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
    """Return the edges as a list of `Edge`.

    Raises:
        ValueError: an edge to or from a missing module, a duplicate edge, or an impossible delay.
        TypeError: anything other than {receiver: [senders]} or a list of `Edge`, or a delay that is no integer.
    """
    if isinstance(edges, Mapping):
        edges = [
            Edge(sender, receiver) for receiver, senders in edges.items() for sender in _senders(receiver, senders)
        ]
    listed: list[Edge] = [] if edges is None else list(edges)
    seen: set[tuple[int, int, int]] = set()
    for edge in listed:
        if not isinstance(edge, Edge):
            raise TypeError(
                f"connect got {edge!r} as an edge, expected {{receiver: [senders]}} or a list of Edge(sender, receiver)."
            )
        for role, index in (("sender", edge.sender), ("receiver", edge.receiver)):
            if not isinstance(index, int | np.integer):
                raise TypeError(
                    f"connect got an edge with {index!r} as its {role}, expected the index of a module, an int."
                )
            if not 0 <= index < modules:
                raise ValueError(
                    f"connect got an edge from {edge.sender} to {edge.receiver} with module {index} as its {role}, "
                    f"expected one of the modules of the stack, 0 to {modules - 1}."
                )
        if not isinstance(edge.steps, int | np.integer):
            raise TypeError(
                f"connect got an edge from {edge.sender} to {edge.receiver} with delay={edge.delay!r}, expected a whole number "
                "of steps. Delays between steps are learned by slax_neurons.Delay."
            )
        if edge.steps < edge.earliest:
            raise ValueError(
                f"connect got an edge from {edge.sender} to {edge.receiver} with delay={edge.delay}, expected at least "
                f"{edge.earliest}: a module can be read within the step only by one that comes after it."
            )
        if (edge.sender, edge.receiver, edge.steps) in seen:
            raise ValueError(
                f"connect got the edge from {edge.sender} to {edge.receiver} twice, expected one of each delay."
            )
        seen.add((edge.sender, edge.receiver, edge.steps))
    return listed


def _senders(receiver: int, senders: Any) -> Sequence[int]:
    if not isinstance(senders, Sequence) or not senders:
        raise TypeError(
            f"connect got {senders!r} as the senders of module {receiver}, expected a list of indices, as in {{0: [1]}}."
        )
    return senders


def edge_synapse(modules: Sequence[Any], edge: Edge, rngs: nnx.Rngs | None) -> nnx.Module:
    """The synapse of an edge: its own, or a freshly initialized copy of its receiver for the sender's features.

    Raises:
        TypeError: a receiver or a synapse with a carry, or a synapse that cannot be made.
    """
    receiver, which = modules[edge.receiver], f"the edge from {edge.sender} to {edge.receiver}"
    if isinstance(receiver, nnx.RNNCellBase):
        raise TypeError(
            f"connect got {which}, into {type(receiver).__name__}, expected a receiver without a carry: a cell takes "
            "input only from the chain. Let the edge end at the module before it, such as the Linear that feeds it."
        )
    if edge.synapse is not None:
        synapse = as_module(edge.synapse, f"the synapse of {which}")
        if isinstance(synapse, nnx.RNNCellBase):
            raise TypeError(
                f"connect got {type(synapse).__name__} as the synapse of {which}, expected no carry. Put it into the chain."
            )
        return synapse
    if not can_be_copied(receiver):
        why = ", whose weights fit its own sizes" if is_synapse(receiver) else ""
        raise TypeError(
            f"connect got {which} without a synapse, expected one: only a Linear or Conv can be copied for it, not a "
            f"{kind(receiver)}{why}. Give it: Edge({edge.sender}, {edge.receiver}, synapse=...)."
        )
    features = output_features(modules[: edge.sender + 1])
    if features is None or rngs is None:
        missing = "rngs" if features is not None else f"the number of output features of module {edge.sender}"
        raise TypeError(
            f"connect got {which} without {missing}, expected it to make the synapse. Pass rngs=nnx.Rngs(...), or give the "
            f"edge a synapse: Edge({edge.sender}, {edge.receiver}, synapse=...)."
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
