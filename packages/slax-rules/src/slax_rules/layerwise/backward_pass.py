"""The backward pass of rules for layers: from the last layer to the first, within each time step.

Each layer gets its signal from above, or from its route if that skips layers, and from its penalties. Its rule makes the
gradient and the new traces from the signal, and the signal for the layers below leaves through its kernels, or through the
matrices that its route puts in their place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Delay
from slax_rules.layerwise.forward_pass import ForwardPass
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow, PenaltySignal
from slax_rules.layerwise.plan import StackPlan
from slax_rules.layerwise.routes.route import Teaching
from slax_rules.layerwise.rule import LayerRule
from slax_rules.layerwise.synapse import input_gradient, sum_by_input
from slax_rules.probes import Probe


class LossSignals(NamedTuple):
    """The gradients of the losses of a window w.r.t. the quantities that they read.

    Args:
        outputs: the gradient w.r.t. the outputs of the model.
        own: the gradients of the layers' own losses w.r.t. their outputs, by the number of the layer.
        penalties: the gradients of the penalties w.r.t. the quantities of the probes.
        targets: a function that returns the targets of each step; see `Teaching`.
    """

    outputs: Any
    own: dict[int, Array]
    penalties: dict[Probe, Array]
    targets: Callable[[], Array]


def backward(
    plan: StackPlan,
    model: Any,
    rules: tuple[LayerRule, ...],
    forward_pass: ForwardPass,
    traces: tuple,
    of_losses: LossSignals,
) -> tuple[Any, tuple]:
    """Return a copy of the model that holds the gradient in place of its parameters, and the traces after the window."""
    gradient = zero_copy(model)
    layers, gradient_layers, gradient_chain = plan.layers(model), plan.layers(gradient), plan.chain(gradient)
    new_traces: list[Any] = [None] * len(layers)
    signals = {len(forward_pass.outputs) - 1: of_losses.outputs}
    error = _concatenated(of_losses.outputs)

    def send(index: int, signal: Any) -> None:
        """Add a signal to the signal at the outputs of a module; -1 stands for the inputs, which need none."""
        if index >= 0:
            signals[index] = jax.tree.map(jnp.add, signals[index], signal) if index in signals else signal

    for index in reversed(range(len(forward_pass.outputs))):
        if index in plan.input_synapses:
            continue  # part of the layer of the next module
        if index not in plan.neurons:
            by_params, by_inputs = forward_pass.pullbacks[index](signals[index])
            _add_to(gradient_chain[index], by_params)
            for sender, by_input in zip(_senders(plan, index), by_inputs, strict=True):
                send(sender, by_input)
            continue
        number = plan.neurons.index(index)
        layer, rule, window = layers[number], rules[number], forward_pass.windows[number]
        outputs, received = forward_pass.outputs[index], signals[index]
        if rule.route.skips_layers and layer.above is not None:
            teaching = Teaching(error, of_losses.targets, of_losses.own.get(number))
            received = rule.route.signal(layer, outputs, teaching)
        received, window = _with_penalties(rule, layer, window, received, of_losses.penalties)
        found, new_traces[number] = rule.window(layer, window, traces[number], received)
        if layer.above is None and not plan.has_parameters_above:
            error = _concatenated(found.current_cotangent)
        _add_layer(gradient_layers[number], found)
        delay = plan.delays[number]
        if delay is not None:
            _add_to(gradient_chain[delay], _delay_gradient(plan.chain(model)[delay], layer, found))
        if not layer.synapses:
            send(index - 1, found.current_cotangent)
            continue
        senders = [index - 2, *(edge.sender if not edge.steps else -1 for edge in plan.input_edges(number))]
        kernels = rule.route.kernels(layer)
        inputs = window.inputs[: len(senders)]
        for sender, synapse, x, kernel in zip(senders, layer.current_synapses, inputs, kernels, strict=True):
            if sender >= 0:
                send(sender, input_gradient(synapse, x, found.current_cotangent, kernel))
    return gradient, tuple(new_traces)


def zero_copy(node: Any) -> Any:
    """A copy with parameters set to zero, to accumulate gradients: its `nnx.state` has the structure of the original's."""
    graphdef, params, rest = nnx.split(node, nnx.Param, ...)
    return nnx.merge(graphdef, jax.tree.map(jnp.zeros_like, params), rest, copy=True)


def _add_to(module: Any, gradient: nnx.State) -> None:
    """Add a gradient to the parameters of a module in a copy that holds gradients."""
    params = nnx.state(module, nnx.Param)
    if jax.tree.leaves(params):
        nnx.update(module, jax.tree.map(jnp.add, params, gradient))


def _add_layer(layer: Layer, gradient: LayerGradient) -> None:
    """Add the gradient of a layer to its parameters in a copy that holds gradients."""
    for synapse, by_name in zip(layer.synapses, gradient.synapses, strict=True):
        for name, by_weights in by_name.items():
            weights = getattr(synapse, name)
            weights[...] += by_weights.astype(weights[...].dtype)
    params = nnx.state(layer.neuron, nnx.Param)
    if gradient.neuron:
        _add_to(layer.neuron, jax.tree.unflatten(jax.tree.structure(params), gradient.neuron))


def _delay_gradient(delay: Delay, layer: Layer, found: LayerGradient) -> nnx.State:
    """The gradient w.r.t. the parameters of a Delay: dL/dd_i = sum_n W_in G'_in with the gradient G' of the last synapse."""
    synapse = layer.synapses[-1]
    by_delay = sum_by_input(synapse, synapse.kernel[...] * found.synapses[-1]["kernel"])
    graphdef, params, rest = nnx.split(delay, nnx.Param, ...)
    value, pull = jax.vjp(lambda params: nnx.merge(graphdef, params, rest).delays.value, params)
    return pull(by_delay.reshape(value.shape).astype(value.dtype))[0]


def _senders(plan: StackPlan, index: int) -> list[int]:
    """The indices of the senders to a module; -1 for the inputs of the stack."""
    return [index - 1, *(edge.sender for edge in plan.edges_into(index))]


def _concatenated(signal: Any) -> Float[Array, "K B C"]:
    """A signal as one vector per step and sample."""
    return jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(signal)], axis=-1)


def _with_penalties(
    rule: LayerRule, layer: Layer, window: LayerWindow, signal: Array, penalties: dict[Probe, Array]
) -> tuple[Array, LayerWindow]:
    """The signal and the window of a layer with the gradient of its penalties in one of them.

    Raises:
        TypeError: a penalty of the membranes under a rule that does not read it.
    """
    by_outputs = penalties.get(Probe(layer.number, "outputs"))
    by_membranes = penalties.get(Probe(layer.number, "membranes"))
    if by_outputs is None and by_membranes is None:
        return signal, window
    by_outputs = jnp.zeros_like(signal) if by_outputs is None else by_outputs
    if rule.reads_penalty:
        return signal, window._replace(penalty=PenaltySignal(by_outputs, by_membranes))
    if by_membranes is not None:
        raise TypeError(
            f"{type(rule).__name__} got a penalty of the membranes of layer {layer.number}, which needs a rule that handles it "
            'with its traces (`reads_penalty = True`). Use a penalty of the outputs, of="outputs", or a rule such as OSTL().'
        )
    return signal + by_outputs, window
