"""Conversion of NIR's graphs to stacks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import DTypeLike

from slax_neurons.delay import Delay
from slax_neurons.edges import Edge
from slax_neurons.neurons.neuron import RESETS
from slax_neurons.nir.conventions import INTEGRATION, STEP, Integration, Values, expect, library, shape_last
from slax_neurons.nir.graph import Link, Plan, is_neuron, label, plan
from slax_neurons.nir.layers import Zeros
from slax_neurons.nir.nodes import READERS, Options, read_neuron, scaled
from slax_neurons.parameter import one_of
from slax_neurons.surrogates import SpikeFunction, fast_sigmoid
from slax_neurons.wiring import Connect, connect


def from_nir(
    graph: Any,
    *,
    dt: float,
    integration: str | None = None,
    reset: str = "zero",
    spike_fn: SpikeFunction | str = fast_sigmoid(),
    trainable: bool = False,
    param_dtype: DTypeLike = jnp.float32,
) -> Connect:
    """Convert a NIR graph, as read by `nir.read`, to a model: a stack, with edges where the graph is more than a chain.

    NIR's nodes are differential equations. `Integration` turns them into steps, gains go into thresholds and weights (see
    `slax_neurons.nir.nodes`), and weights turn from [out, in] to [in, out]. Data that has the channels first in NIR,
    [channels, height, width], has them last here. A link that closes a cycle is read one step late, since NIR does not specify
    this. A membrane starts at its reset value, or at v_leak if it has no reset.

    Args:
        graph: a `nir.NIRGraph` with one input and one output.
        dt: length of a step, in the unit of the graph's time constants, which is the second.
        integration: "exponential" for the solution of the equations, "euler" for forward Euler, as in most frameworks
            (for example norse and snnTorch). By default as in the graph's metadata, written by `to_nir`, else "exponential".
        reset: the reset of neurons whose node was not written by `to_nir` and does not specify it: "zero" for NIR's own, to
            v_reset, "subtract" for a framework that subtracts the threshold without recording it, or "none".
        spike_fn: spike function of all neurons, a name or a function of `SURROGATES`.
        trainable: whether the neurons' parameters are to be trained. Weights always are.
        param_dtype: dtype of all parameters and states.

    Returns:
        A `Connect`. Its inputs are the graph's, with the channels last.

    Raises:
        ImportError: the package nir is not installed.
        TypeError: anything other than a NIR graph.
        ValueError: a node that cannot be expressed, an option out of range, or another `dt` than the one of `to_nir`.

    References:
        Pedersen et al.: Neuromorphic intermediate representation: a unified instruction set for interoperable
        brain-inspired computing, 2024, doi 10.1038/s41467-024-52259-9, table 1.

    Note:
        NIR's neurons fire above their threshold and neurons here at it, so a threshold is moved up to the next number, except
        for neurons that `to_nir` wrote, which are marked. A membrane is in units of its gain g, and so is x in ds/dx of
        `spike_fn`: for the gradient of a surrogate of slope k in NIR's units, set its slope to k g.

    Example:
        >>> import nir
        >>> import numpy as np
        >>> from slax_neurons.nir import from_nir
        >>> ones, zeros = np.ones(16), np.zeros(16)
        >>> lif = nir.LIF(tau=0.02 * ones, r=ones, v_leak=zeros, v_threshold=ones)
        >>> graph = nir.NIRGraph.from_list(nir.Affine(np.ones((16, 8)), zeros), lif)
        >>> model = from_nir(graph, dt=1e-3)
        >>> [type(module).__name__ for module in model.modules], round(model.modules[1].membrane_decay, 4)
        (['Linear', 'LIF'], 0.9512)
    """
    if not isinstance(graph, library().NIRGraph):
        raise TypeError(f"from_nir got {type(graph).__name__}, expected a nir.NIRGraph, as nir.read gives it.")
    written = float(graph.metadata.get(STEP, dt))
    if not math.isclose(written, dt, rel_tol=1e-6):
        raise ValueError(f"from_nir got dt={dt} for a graph that to_nir wrote with dt={written}: take the same.")
    kind = graph.metadata.get(INTEGRATION, "exponential") if integration is None else integration
    one_of("from_nir", "reset", reset, RESETS)
    return _Reader(plan(graph), Options(Integration(kind, dt), reset, spike_fn, trainable, param_dtype)).model()


class _Reader:
    """A builder of the modules, hub by hub: the link from the previous hub is the chain, and each other link an edge."""

    def __init__(self, plan: Plan, options: Options):
        self.plan = plan
        self.options = options
        self.modules: list[Any] = []
        self.index: dict[str, int] = {}
        self.pending: list[tuple[str, int, Any]] = []  # sender, whose index comes later, receiver and synapse

    def model(self) -> Connect:
        start, *hubs = self.plan.hubs
        chain = {
            after: next((link for link in self._into(after) if link.sender == before and not link.delayed), None)
            for before, after in zip([start, *hubs], hubs, strict=False)
        }
        if any(link.sender == start and link != chain[link.receiver] for link in self.plan.links):
            self.index[start] = self._add(jax.nn.identity)
        for hub in hubs:
            self._add_hub(hub, chain[hub])
        edges = [Edge(self.index[sender], receiver, synapse=synapse) for sender, receiver, synapse in self.pending]
        return connect(self.modules, edges)

    def _add_hub(self, hub: str, chain: Link | None) -> None:
        node = self.plan.nodes[hub]
        neuron, scale = read_neuron(node, label(hub, node), self.options) if is_neuron(node) else (None, None)
        links = self._into(hub)
        if chain is None:
            self._add(Zeros(self._shape(hub)))
        else:
            links.remove(chain)
            for synapse in self._synapses(chain, scale):
                self._add(synapse)
        # An edge can end at what was just added, unless it is a Delay, which is a cell.
        fresh = chain is None or (bool(chain.between) and not isinstance(self.modules[-1], Delay))
        senders: set[str] = set()
        for link in links:
            if not fresh or link.sender in senders:
                self._add(jax.nn.identity)
                fresh, senders = True, set()
            senders.add(link.sender)
            synapses = self._synapses(link, scale)
            says = "with a Delay on an edge beside the chain. Take it out, and add Edge(..., delay=steps) to the model."
            expect(label(hub, node), not any(isinstance(synapse, Delay) for synapse in synapses), says)
            synapse = nnx.Sequential(*synapses) if len(synapses) > 1 else next(iter(synapses), jax.nn.identity)
            self.pending.append((link.sender, len(self.modules) - 1, synapse))
        if neuron is not None:
            self.index[hub] = self._add(neuron)
        elif hub != self.plan.hubs[-1]:
            self.index[hub] = self._add(self._synapse(hub, node))

    def _into(self, hub: str) -> list[Link]:
        return [link for link in self.plan.links if link.receiver == hub]

    def _add(self, module: Any) -> int:
        self.modules.append(module)
        return len(self.modules) - 1

    def _synapses(self, link: Link, scale: Values | None) -> list[Any]:
        """The modules of a link, with the factor of the current, which a last node with weights absorbs."""
        nodes = [(name, self.plan.nodes[name]) for name in link.between]
        if scale is not None:
            folded = scaled(nodes[-1][1], scale) if nodes else None
            if folded is None:
                nodes.append((link.receiver, library().Scale(scale)))
            else:
                nodes[-1] = (nodes[-1][0], folded)
        return [self._synapse(name, node) for name, node in nodes]

    def _synapse(self, name: str, node: Any) -> Any:
        return READERS[type(node).__name__](node, label(name, node), self.options)

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape of a node's input, with the channels last."""
        node = self.plan.nodes[name]
        (shape,) = node.input_type.values()
        expect(label(name, node), shape is not None, "without an input type, expected one. Call graph.infer_types().")
        return shape_last(shape)
