"""The forward pass of rules for layers: a window through a stack, layer by layer, with the data that the rules need.

Of each layer these are the inputs of its synapses and the points of its neuron; of each module that is not part of a layer, its
pullback within the step.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Delay, Dropout, Edge
from slax_neurons.building_blocks import apply_rows, carry_without_buffer, check_features, delayed
from slax_rules.layerwise.layer import Layer, LayerWindow, input_current, run_neuron
from slax_rules.layerwise.plan import StackPlan
from slax_rules.layerwise.rule import LayerRule
from slax_rules.probes import Probe, membrane_of
from slax_rules.rule import Heads


class ForwardPass(NamedTuple):
    """The result of a forward pass over a window.

    Args:
        carries: the carry of each module of the chain after the window.
        outputs: the outputs of each module of the chain.
        windows: the window of each layer.
        pullbacks: for each module that is not part of a layer, by index, a map from the gradient w.r.t. its outputs to the
            gradients w.r.t. its parameters and each of its inputs.
    """

    carries: tuple
    outputs: list[Any]
    windows: list[LayerWindow]
    pullbacks: dict[int, Callable[[Any], tuple[nnx.State, list[Array]]]]


def forward(plan: StackPlan, model: Any, carries: tuple, inputs: Float[Array, "K B ..."]) -> ForwardPass:
    """Run K steps forward, layer by layer.

    In a stack with delayed edges, all steps are first run to obtain the delayed outputs; each layer is then recomputed from
    known inputs.
    """
    chain = plan.chain(model)
    stepped = _step_stack(plan, model, carries, inputs) if plan.has_delayed_edges else None
    outputs: list[Any] = []
    new_carries: list[Any] = []
    windows: list[LayerWindow] = []
    pullbacks: dict[int, Any] = {}
    by_delay: dict[int | None, Array] = {}  # the derivatives of delayed inputs by their delays

    def sent(edge: Any) -> Array:
        """Return the outputs that an edge carries, before its synapse."""
        if stepped is None or not edge.steps:
            return outputs[edge.sender]
        return delayed(carries[edge.sender], stepped[1][edge.sender], edge.steps)

    for index, module in enumerate(chain):
        x = outputs[-1] if outputs else inputs
        if index not in plan.neurons:
            check_features(module, index, x.shape[1:])
        carry = carry_without_buffer(carries[index])
        if index in plan.input_synapses:
            y = x  # its layer reads this input
        elif index in plan.neurons:
            number = plan.neurons.index(index)
            synapses = plan.input_modules(model, number)
            read = (x, *map(sent, plan.input_edges(number)))
            carry, y, points = run_neuron(module, carry, input_current(synapses, read))
            tangents = (by_delay[plan.delays[number]],) if plan.delays[number] is not None else ()
            windows.append(LayerWindow((*read, *tangents) if synapses else (), points, carries[index]))
            y = y if stepped is None else stepped[1][index]
        elif isinstance(module, Delay):
            if index in plan.delays:
                by_delay[index] = module.tangent(carry, x)
            carry, y, pullbacks[index] = _run_delay(module, carry, x)
        else:
            edges = plan.edges_into(index)
            read = (x, *map(sent, edges))
            synapses = tuple(plan.synapse(model, edge) for edge in edges)
            y, carry, pullbacks[index] = _run_module(module, carry, synapses, read)
        outputs.append(y)
        new_carries.append(carry)
    return ForwardPass(tuple(new_carries) if stepped is None else stepped[0], outputs, windows, pullbacks)


def read_heads(
    plan: StackPlan,
    layers: tuple[Layer, ...],
    rules: tuple[LayerRule, ...],
    forward_pass: ForwardPass,
    probes: tuple[Probe, ...],
) -> tuple[Heads, dict[int, Callable]]:
    """The heads of a window, and the pullbacks of the read-outs of hidden layers by the number of the layer."""
    read_outs, pullbacks = [], {}
    for index, layer, rule in zip(plan.neurons, layers, rules, strict=True):

        def read_out(outputs: Array, layer: Layer = layer, rule: LayerRule = rule) -> Any:
            return rule.route.read_out(layer, outputs, forward_pass.outputs[-1])

        if rule.route.skips_layers and layer.above is not None:
            found, pull = jax.vjp(read_out, forward_pass.outputs[index])
            if jax.tree.leaves(found):
                read_outs.append(found)
                pullbacks[layer.number] = pull

    def probed(probe: Probe) -> Array:
        if probe.quantity == "outputs":
            return forward_pass.outputs[plan.neurons[probe.layer]]
        return membrane_of(layers[probe.layer].neuron, forward_pass.windows[probe.layer].points.membrane)

    hidden = tuple(map(probed, probes))
    return Heads(forward_pass.outputs[-1], hidden, tuple(read_outs)), pullbacks


def _step_stack(plan: StackPlan, model: Any, carries: tuple, inputs: Array) -> tuple[tuple, tuple]:
    """The carries and outputs of the chain, computed step by step where a cycle requires it. The model keeps its variables."""
    model = plan.with_plain_synapses(nnx.clone(model))
    edges = [Edge(edge.sender, edge.receiver, edge.steps, plan.synapse(model, edge)) for edge in plan.edges]
    return Connect(plan.chain(model), edges).outputs(carries, inputs)


def _run_module(
    module: Any, carry: Any, synapses: Sequence[Any], inputs: tuple[Array, ...]
) -> tuple[Any, Any, Callable]:
    """The outputs, the carry and the pullback of a module that is not part of a layer, and of the edges into it."""
    if isinstance(module, Dropout):
        y, pull_input, end = jax.vjp(lambda x: module.unroll(carry, x)[::-1], inputs[0], has_aux=True)
        return y, end, lambda signal: (nnx.State({}), pull_input(signal))
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)

    def run(params: nnx.State, inputs: tuple[Array, ...]) -> tuple[Any, nnx.State]:
        copy = nnx.merge(graphdef, params, rest, copy=True)
        y = apply_rows(copy, inputs[0])
        for synapse, x in zip(synapses, inputs[1:], strict=True):
            y = y + apply_rows(synapse, x)
        return y, nnx.state(copy, nnx.Not(nnx.Param))

    y, pull, changed = jax.vjp(run, params, inputs, has_aux=True)
    nnx.update(module, changed)
    return y, carry, pull


def _run_delay(module: Delay, carry: Any, inputs: Array) -> tuple[Any, Array, Callable]:
    """The carry, the outputs and the pullback within the step of a Delay, whose own gradient is found with its layer."""
    end, outputs = module.unroll(carry, inputs)
    zero = jax.tree.map(jnp.zeros_like, nnx.state(module, nnx.Param))

    def pull(signal: Array) -> tuple[nnx.State, list[Array]]:
        by_group = signal.reshape(*signal.shape[:-1], module.groups, module.in_features)
        return zero, [jnp.einsum("...gi,gi->...i", by_group, module.taps()[0])]

    return end, outputs, pull
