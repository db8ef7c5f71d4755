"""A NIR graph as a chain with additional edges: the order of the nodes, and the links that are read one step late.

Nested graphs are opened. Neurons are hubs, and so are nodes that several nodes write to or read from; a link leads from hub to
hub through the nodes in between. Links that close a cycle, when the graph is walked from its input along its edges in their
order, are late: a discrete network reads them one step later, since their value does not exist yet. Without the late links
the hubs can be ordered; where several orders are possible, the order of the walk is used.
"""

from typing import Any, NamedTuple

from slax_neurons.nir.conventions import expect
from slax_neurons.nir.nodes import NEURONS, READERS

Edges = list[tuple[str, str]]
Neighbors = dict[str, list[str]]  # by the name of a node


class Link(NamedTuple):
    """A link from hub to hub through nodes in between; `delayed` if the sender is read one step late."""

    sender: str
    receiver: str
    between: tuple[str, ...]
    delayed: bool


class Plan(NamedTuple):
    """The nodes by name, the hubs in order from Input to Output, and the links in the order of their last edges, which is the
    order of summation."""

    nodes: dict[str, Any]
    hubs: list[str]
    links: list[Link]


def label(name: str, node: Any) -> str:
    """The name of a node in error messages."""
    return f"node {name!r}, {type(node).__name__},"


def is_neuron(node: Any) -> bool:
    return type(node).__name__ in NEURONS


def plan(graph: Any) -> Plan:
    """Put a graph in order.

    Raises:
        ValueError: a node that cannot be expressed, that the input does not reach or that does not reach the output.
    """
    graph.validate_structure()
    nodes, edges = _opened(graph, "")
    start, end = _ends(nodes, "a graph")
    for name, node in nodes.items():
        kind = type(node).__name__
        is_known = name in (start, end) or kind in {*READERS, *NEURONS}
        expect(label(name, node), is_known, f"expected one of {', '.join([*READERS, *NEURONS])} (docs/nir.md).")
    before: Neighbors = {name: [] for name in nodes}
    after: Neighbors = {name: [] for name in nodes}
    for sender, receiver in edges:
        before[receiver].append(sender)
        after[sender].append(receiver)
    _check_reach(nodes, start, after, "not reached from the Input")
    _check_reach(nodes, end, before, "without a way to the Output")

    joins = {name for name in nodes if max(len(before[name]), len(after[name])) > 1}
    hubs = {start, end} | joins | {name for name, node in nodes.items() if is_neuron(node)}
    links = _links(start, after, hubs)
    order = [hub for hub in _order(start, links) if hub != end] + [end]
    links.sort(key=lambda link: edges.index(((link.sender, *link.between)[-1], link.receiver)))
    return Plan(nodes, order, links)


def _opened(graph: Any, prefix: str) -> tuple[dict[str, Any], Edges]:
    """The nodes and edges of a graph with nested graphs opened: their inputs and outputs are replaced by direct edges."""
    nodes: dict[str, Any] = {}
    edges = [(prefix + sender, prefix + receiver) for sender, receiver in graph.edges]
    for name, node in graph.nodes.items():
        own = prefix + name
        if type(node).__name__ != "NIRGraph":
            nodes[own] = node
            continue
        inner, inner_edges = _opened(node, f"{own}.")
        first, last = _ends(inner, label(own, node))
        edges = [(last if one == own else one, first if other == own else other) for one, other in edges]
        edges += inner_edges
        nodes |= inner
        for door in (first, last):
            edges = _bridged(edges, door)
            del nodes[door]
    return nodes, edges


def _ends(nodes: dict[str, Any], where: str) -> list[str]:
    """The names of the Input and the Output."""
    ends = []
    for kind in ("Input", "Output"):
        names = [name for name, node in nodes.items() if type(node).__name__ == kind]
        expect(where, len(names) == 1, f"with {len(names)} nodes {kind}, expected one. Write a graph for each.")
        ends += names
    return ends


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


def _check_reach(nodes: dict[str, Any], origin: str, ways: Neighbors, said: str) -> None:
    reached = [origin]
    for name in reached:  # it grows
        reached += [other for other in ways[name] if other not in reached]
    for name, node in nodes.items():
        expect(label(name, node), name in reached, f"{said}, expected a path. Remove it, or add an edge.")


def _links(start: str, after: Neighbors, hubs: set[str]) -> list[Link]:
    """All links, in the order of a depth-first walk from the start; a link that leads back to a hub on its path is late."""
    links: list[Link] = []
    seen = {start}

    def walk(path: tuple[str, ...]) -> None:
        for name in after[path[-1]]:
            between = []
            while name not in hubs:
                between.append(name)
                (name,) = after[name]
            links.append(Link(path[-1], name, tuple(between), delayed=name in path))
            if name not in seen:
                seen.add(name)
                walk((*path, name))

    walk((start,))
    return links


def _order(start: str, links: list[Link]) -> list[str]:
    """The hubs, each after the hubs that it reads within the step, and otherwise in the order in which they were found."""
    found = list(dict.fromkeys([start, *(link.receiver for link in links)]))
    order: list[str] = []
    while len(order) < len(found):
        waiting = {link.receiver for link in links if not link.delayed and link.sender not in order}
        order.append(next(hub for hub in found if hub not in order and hub not in waiting))
    return order
