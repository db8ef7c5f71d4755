"""A NIR graph as a chain with additional edges: the order of the nodes, and the links that are read one step late.

Nested graphs are opened. Neurons are hubs, and so are nodes that several nodes write to or read from; a link leads from hub to
hub through the nodes in between. Links that close a cycle, when the graph is walked from its input along its edges in their
order, are late: a discrete network reads them one step later, since their value does not exist yet. Without the late links
the hubs can be ordered; where several orders are possible, the order of the walk is used.
"""

import dataclasses
from typing import Any, NamedTuple

from slax_neurons.nir.neuron_nodes import SPIKING
from slax_neurons.nir.synapse_nodes import READERS

Edges = list[tuple[str, str]]
Neighbors = dict[str, list[str]]  # by the name of a node

MEMBRANES = ("CubaLI", "I", "LI")
KNOWN = {*READERS, *SPIKING, "Delay"}
REFUSED = {
    "CubaLI": "it does not fire, and no neuron here has its two decays. Write it as two LI, the current's first",
    "I": "it has no leak, and LI needs one. Use an LI with a tau that is long compared with the data",
    "Input": "there is one already. Write one graph for each",
    "Output": "there is one already. Write one graph for each",
    "Threshold": "it fires on its own, but here a neuron fires. Put it right after an I, LI or CubaLI that nothing else reads",
}


class Link(NamedTuple):
    """A link from hub to hub through nodes in between; `delayed` if the sender is read one step late."""

    sender: str
    receiver: str
    between: tuple[str, ...]
    delayed: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """The nodes by name, thresholds by their membrane's name, the hubs in order from Input to Output, and the links in the
    order of their last edges, which is the order of summation."""

    nodes: dict[str, Any]
    thresholds: dict[str, Any]
    hubs: list[str]
    links: list[Link]


def label(name: str, node: Any) -> str:
    """The name of a node in error messages."""
    return f"node {name!r}, {type(node).__name__},"


def is_neuron(node: Any) -> bool:
    return type(node).__name__ in SPIKING


def plan(graph: Any) -> Plan:
    """Put a graph in order.

    Raises:
        ValueError: a node that cannot be expressed, that the input does not reach or that does not reach the output, a cycle
            without a neuron, with the node's name.
    """
    graph.validate_structure()
    nodes, edges = _opened(graph, "")
    nodes, edges, thresholds = _with_thresholds(nodes, edges)
    ends = {kind: [name for name, node in nodes.items() if type(node).__name__ == kind] for kind in ("Input", "Output")}
    for kind, names in ends.items():
        if not names:
            raise ValueError(f"Got a graph without {kind}, expected one. Add a nir.{kind}, and an edge to or from it.")
    start, end = ends["Input"][0], ends["Output"][0]
    for name, node in nodes.items():
        kind = type(node).__name__
        if name not in (start, end, *thresholds) and (kind in REFUSED or kind not in KNOWN):
            raise ValueError(
                f"Got {label(name, node)} expected nodes that can be read: {REFUSED.get(kind, 'this one is not known')}."
            )
    before: Neighbors = {name: [] for name in nodes}
    after: Neighbors = {name: [] for name in nodes}
    for sender, receiver in edges:
        before[receiver].append(sender)
        after[sender].append(receiver)
    _check_reach(nodes, before, after, start, end)
    _check_cycles(nodes, after)

    hubs = {
        name
        for name in nodes
        if name in (start, end) or is_neuron(nodes[name]) or len(before[name]) > 1 or len(after[name]) > 1
    }
    links = _walk(start, {hub: _ways(hub, after, hubs) for hub in hubs})
    order = [hub for hub in _order(start, links) if hub != end] + [end]
    links.sort(key=lambda link: edges.index(((link.sender, *link.between)[-1], link.receiver)))
    return Plan(nodes, thresholds, order, links)


def _opened(graph: Any, prefix: str) -> tuple[dict[str, Any], Edges]:
    """The nodes and edges of a graph with nested graphs opened: their inputs and outputs are replaced by direct edges."""
    nodes: dict[str, Any] = {}
    edges = [(prefix + sender, prefix + receiver) for sender, receiver in graph.edges]
    for name, node in graph.nodes.items():
        if type(node).__name__ != "NIRGraph":
            nodes[prefix + name] = node
            continue
        own = prefix + name
        doors: dict[str, str] = {}
        inner, inner_edges = _opened(node, f"{own}.")
        for kind in ("Input", "Output"):
            names = [key for key, part in inner.items() if type(part).__name__ == kind]
            if len(names) != 1:
                raise ValueError(f"Got {label(own, node)} with {len(names)} nodes {kind}, expected one.")
            doors[kind] = names[0]
        edges = [
            (doors["Output"] if sender == own else sender, doors["Input"] if receiver == own else receiver)
            for sender, receiver in edges
        ]
        edges += inner_edges
        nodes |= inner
        for door in doors.values():
            edges = _bridged(edges, door)
            del nodes[door]
    return nodes, edges


def _bridged(edges: Edges, name: str) -> Edges:
    """The edges with a node bypassed: each edge into the node is replaced by edges to the node's receivers."""
    targets = [receiver for sender, receiver in edges if sender == name]
    past = []
    for sender, receiver in edges:
        if receiver == name:
            past += [(sender, target) for target in targets if sender != name]
        elif sender != name:
            past.append((sender, receiver))
    return past


def _with_thresholds(nodes: dict[str, Any], edges: Edges) -> tuple[dict[str, Any], Edges, dict[str, Any]]:
    """Take each Threshold right after a membrane out of the graph, and keep it under the membrane's name."""
    thresholds = {}
    for name, node in list(nodes.items()):
        senders = [sender for sender, receiver in edges if receiver == name]
        if type(node).__name__ == "Threshold" and len(senders) == 1:
            (membrane,) = senders
            readers = [receiver for sender, receiver in edges if sender == membrane]
            if type(nodes[membrane]).__name__ in MEMBRANES and len(readers) == 1:
                thresholds[membrane] = nodes.pop(name)
                edges = [
                    (membrane if sender == name else sender, receiver) for sender, receiver in edges if receiver != name
                ]
    return nodes, edges, thresholds


def _check_reach(nodes: dict[str, Any], before: Neighbors, after: Neighbors, start: str, end: str) -> None:
    tried = ((start, after, "not reached from the Input"), (end, before, "without a way to the Output"))
    for origin, ways, said in tried:
        reached, ahead = {origin}, [origin]
        while ahead:
            new = [name for name in ways[ahead.pop()] if name not in reached]
            reached.update(new)
            ahead += new
        for name, node in nodes.items():
            if name not in reached:
                raise ValueError(f"Got {label(name, node)} {said}, expected a path. Remove it, or add an edge.")


def _check_cycles(nodes: dict[str, Any], after: Neighbors) -> None:
    """Raise ValueError for a cycle without a neuron, found by repeatedly removing nodes without a predecessor or successor."""
    left = {name for name, node in nodes.items() if not is_neuron(node)}
    while True:
        edges = [(name, receiver) for name in left for receiver in after[name] if receiver in left]
        inner = {name for name, _ in edges} & {receiver for _, receiver in edges}
        if inner == left:
            break
        left = inner
    if left:
        name = min(left)
        raise ValueError(f"Got {label(name, nodes[name])} in a cycle without a neuron, expected one. Add it.")


def _ways(hub: str, after: Neighbors, hubs: set[str]) -> list[Link]:
    """The links that leave a hub."""
    links = []
    for name in after[hub]:
        between = []
        while name not in hubs:
            between.append(name)
            (name,) = after[name]
        links.append(Link(hub, name, tuple(between), delayed=False))
    return links


def _walk(start: str, ways: dict[str, list[Link]]) -> list[Link]:
    """All links, in the order of a depth-first walk from the start; a link that leads back to an open hub is late."""
    links: list[Link] = []
    open_hubs, seen = [start], {start}
    ahead = [iter(ways[start])]
    while ahead:
        link = next(ahead[-1], None)
        if link is None:
            ahead.pop()
            open_hubs.pop()
            continue
        links.append(link._replace(delayed=link.receiver in open_hubs))
        if link.receiver not in seen:
            seen.add(link.receiver)
            open_hubs.append(link.receiver)
            ahead.append(iter(ways[link.receiver]))
    return links


def _order(start: str, links: list[Link]) -> list[str]:
    """The hubs, each after the hubs that it reads within the step, and otherwise in the order in which they were found."""
    found = list(dict.fromkeys([start, *(link.receiver for link in links)]))
    order: list[str] = []
    while len(order) < len(found):
        waiting = {link.receiver for link in links if not link.delayed and link.sender not in order}
        order.append(next(hub for hub in found if hub not in order and hub not in waiting))
    return order
