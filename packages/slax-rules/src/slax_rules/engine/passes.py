"""The two passes over the layers of a stack: forward, and back from the last layer to the first.

    forward    outputs, and for each layer the data its rule needs: the inputs of its synapses, what its neuron did in each step
    backward   from the last layer to the first:
                  signal               from above, or of the layer's route if that skips layers; and of the layer's penalties
                  gradient             of the layer by its rule, from its window and the signal
                  signal for below     through the kernels of the layer, or the matrices that its route puts in their place

State enters as constants, and signals pass between layers within their time step, so no gradient through one layer's time
reaches another layer.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Delay, Dropout, Edge, Neuron
from slax_neurons.building_blocks import (
    apply_rows,
    carries_before,
    carry_without_buffer,
    changes_when_called,
    check_features,
    delayed,
    fire_steps,
    scan_steps,
)
from slax_rules.engine.layer import FeedbackSignals, Layer, LayerGradient, LayerWindow
from slax_rules.engine.stack import Stack, with_plain_synapses
from slax_rules.engine.synapse import input_gradient, sum_by_input
from slax_rules.windows import Outputs

# -------------------------------------------------------------------------------------------------------------- forward


class ForwardPass(NamedTuple):
    """The result of a forward pass over a window.

    Args:
        carries: the carry of each module of the chain after the window.
        outputs: the outputs of each module of the chain; for a synapse of a layer its inputs, whose currents the layer adds.
        windows: the window of each layer.
        pullbacks: for each module that is not part of a layer, by index, a map from the gradient w.r.t. its outputs to the
            gradients w.r.t. its parameters and each of its inputs.
        known: what a second forward pass needs to compute no recursion again.
        neurons: the index of the neuron of each layer.
    """

    carries: tuple
    outputs: list[Any]
    windows: list[LayerWindow]
    pullbacks: dict[int, Callable[[Any], tuple[nnx.State, list[Array]]]]
    known: "Known"
    neurons: tuple[int, ...]

    def read_by(self, loss: Any) -> Outputs:
        """The outputs that a loss reads."""
        return Outputs(self.outputs[-1], tuple(self.outputs[self.neurons[layer]] for layer in loss.layers))


class Known(NamedTuple):
    """What is known of a window from a first pass.

    Args:
        membranes: the membranes of each layer in all steps; None for a neuron without `integrate`, which is run again.
        late: the outputs that delayed edges carry, by the index of the sender.
    """

    membranes: tuple[Any, ...]
    late: dict[int, Array]


def forward(
    model: Any, carries: Sequence[Any], inputs: Float[Array, "K B ..."], known: Known | None = None
) -> ForwardPass:
    """Run K steps forward, layer by layer, from the carries of the modules of the chain.

    In a stack with delayed edges, all steps are first run to obtain the delayed outputs; each layer is then recomputed from
    known inputs. With what is `known` from a first pass, neurons are not run again, and the last carries are not the
    neurons' own.
    """
    stack = Stack.read(model)
    stepped = None
    if stack.has_delayed_edges and known is None:
        stepped = _step_stack(model, carries, inputs)
    late = {edge.sender: stepped[1][edge.sender] for edge in stack.edges if edge.steps} if stepped else {}
    late = late if known is None else known.late
    outputs: list[Any] = []
    new_carries: list[Any] = []
    windows: list[LayerWindow] = []
    pullbacks: dict[int, Any] = {}
    by_delay: dict[int | None, Array] = {}  # the derivatives of delayed inputs by their delays

    def sent(edge: Edge) -> Array:
        """Return the outputs that an edge carries, before its synapse."""
        if not edge.steps:
            return outputs[edge.sender]
        return delayed(carries[edge.sender], late[edge.sender], edge.steps)

    for index, module in enumerate(stack.chain):
        x = outputs[-1] if outputs else inputs
        carry = carry_without_buffer(carries[index])
        if index not in stack.neurons:
            check_features(module, index, x.shape[1:])
        if index in stack.before_neurons:
            y = x  # its layer reads this input
        elif index in stack.neurons:
            number = stack.neurons.index(index)
            synapses, start = stack.layers[number].synapses, stack.starts[number]
            read = (x, *map(sent, stack.edges_into(start, index)))
            currents = input_current(synapses, read)
            carry, y, states, membranes = run_neuron(module, carry, currents, known and known.membranes[number])
            tangents = by_delay.get(stack.delays[number])
            of_synapses = read if synapses else ()
            windows.append(LayerWindow(of_synapses, states, currents, membranes, carries[index], tangents))
            y = y if stepped is None else stepped[1][index]
        elif isinstance(module, Delay):
            if index in stack.delays:
                by_delay[index] = module.tangent(carry, x)
            carry, y, pullbacks[index] = _run_delay(module, carry, x)
        else:
            edges = stack.edges_into(index, index + 1)
            synapses = tuple(edge.synapse for edge in edges)
            y, carry, pullbacks[index] = _run_module(module, carry, synapses, (x, *map(sent, edges)))
        outputs.append(y)
        new_carries.append(carry)
    known = Known(tuple(window.membranes for window in windows), late)
    ends = tuple(new_carries) if stepped is None else stepped[0]
    return ForwardPass(ends, outputs, windows, pullbacks, known, stack.neurons)


def input_current(synapses: Sequence[Any], inputs: tuple[Array, ...]) -> Float[Array, "K B *N"]:
    """The sum of the outputs of a layer's synapses; the input itself for a layer without synapses."""
    if not synapses:
        return inputs[0]
    total, *rest = (apply_rows(synapse, x) for synapse, x in zip(synapses, inputs, strict=True))
    for current in rest:
        total = total + current
    return total


def run_neuron(
    neuron: Neuron, carry: Any, currents: Float[Array, "K B *N"], membranes: Any = None
) -> tuple[Any, Array, Any, Any]:
    """Run a neuron in one scan over element-wise work, or none if its membranes are known.

    Returns:
        Its last carry, its outputs [K, B, N], and of all steps the states before them and the membranes.
    """
    neuron.check_carry(carry, currents[0])
    if not neuron.has_split_step:

        def step(carry: Any, current: Array) -> tuple[Any, tuple[Any, Array]]:
            new, output = neuron(carry, current)
            return new, (carry, output)

        end, (states, outputs) = scan_steps(step, carry, currents)
        return end, outputs, states, None
    end = None
    if membranes is None:
        end, membranes = neuron.pre_reset_states(carry, currents)
    after, outputs = fire_steps(neuron, membranes)
    return end, outputs, carries_before(carry, after), membranes


def _step_stack(model: Any, carries: Sequence[Any], inputs: Array) -> tuple[tuple, tuple]:
    """The carries and outputs of the chain, computed step by step where a cycle requires it. The model keeps its variables."""
    stack = Stack.read(with_plain_synapses(nnx.clone(model)))
    return Connect(stack.chain, stack.edges).outputs(tuple(carries), inputs)


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
    if changes_when_called(module):
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


# ------------------------------------------------------------------------------------------------------------- backward


def backward(
    plain: Any,
    gradient: nnx.State,
    rules: Sequence[Any],
    run: ForwardPass,
    loss: Any,
    signals: Outputs,
    gradient_of: Callable[[int, LayerWindow, Array], LayerGradient],
) -> nnx.State:
    """Add the gradients of a window, or of one of its pieces, to a gradient w.r.t. the parameters of the stack.

    Args:
        gradient_of: the gradient of a layer by its rule, given its number, its window and its signal.
    """
    stack, holder = Stack.read(plain), holding(plain, gradient)
    into = Stack.read(holder)
    penalties = dict(zip(loss.layers, signals.hidden, strict=True))
    received = {len(run.outputs) - 1: signals.final}
    error = _concatenated(signals.final)

    def send(index: int, signal: Any) -> None:
        """Add a signal to that at the outputs of a module; -1 stands for the inputs, which need none."""
        if index >= 0:
            received[index] = jax.tree.map(jnp.add, received[index], signal) if index in received else signal

    for index in reversed(range(len(run.outputs))):
        if index in stack.before_neurons:
            continue  # part of the layer of the next neuron
        if index not in stack.neurons:
            by_params, by_inputs = run.pullbacks[index](received[index])
            _add_to(into.chain[index], by_params)
            edges = stack.edges_into(index, index + 1)
            senders = [index - 1, *(edge.sender for edge in edges)]  # -1 for the inputs of the stack
            for sender, by_input in zip(senders, by_inputs, strict=True):
                send(sender, by_input)
            continue
        number = stack.neurons.index(index)
        layer, rule, window, outputs = stack.layers[number], rules[number], run.windows[number], run.outputs[index]
        signal = received[index]
        if rule.route.skips_layers and layer.above is not None:
            feedback = FeedbackSignals(error, lambda: loss.targets(run.outputs[-1]), loss.task, run.outputs[-1])
            signal = rule.route.signal(layer, outputs, feedback)
        if number in penalties:
            window = window._replace(penalty=penalties[number])
            signal = signal + penalties[number]
        found = gradient_of(number, window, signal)  # such as OTPE's
        assert found.passed_below is not None
        if layer.above is None and not stack.has_parameters_above:
            error = _concatenated(found.passed_below)
        add_layer(stack, into, number, rule, found)
        start = stack.starts[number]
        if start is None:
            send(index - 1, found.passed_below)
            continue
        edges = stack.edges_into(start, index)
        senders = [start - 1, *(edge.sender if not edge.steps else -1 for edge in edges)]
        kernels = rule.route.kernels(layer)
        for sender, synapse, x, kernel in zip(senders, layer.synapses, window.inputs, kernels, strict=True):
            if sender >= 0:
                send(sender, input_gradient(synapse, x, found.passed_below, kernel))
    return nnx.state(holder, nnx.Param)


def zero_copy(node: Any) -> Any:
    """A copy with parameters set to zero, to accumulate gradients: its `nnx.state` has the structure of the original's."""
    return holding(node, zeros_of(node))


def zeros_of(node: Any) -> nnx.State:
    """Zeros in the structure of the parameters."""
    return jax.tree.map(jnp.zeros_like, nnx.state(node, nnx.Param))


def holding(node: Any, gradient: nnx.State) -> Any:
    """A copy that holds a gradient in place of parameters; other Variables keep their values."""
    graphdef, _, rest = nnx.split(node, nnx.Param, ...)
    return nnx.merge(graphdef, gradient, rest, copy=True)


def _add_to(module: Any, gradient: nnx.State) -> None:
    """Add a gradient to the parameters of a module in a copy that holds gradients."""
    params = nnx.state(module, nnx.Param)
    if jax.tree.leaves(params):
        nnx.update(module, jax.tree.map(jnp.add, params, gradient))


def add_layer(stack: Stack, into: Stack, number: int, rule: Any, found: LayerGradient) -> None:
    """Add the gradient of a layer to its parameters, in a stack that holds gradients."""
    layer, delay = into.layers[number], stack.delays[number]
    for synapse, by_name in zip(layer.synapses, found.synapses, strict=True):
        for name, by_weights in by_name.items():
            weights = getattr(synapse, name)
            weights[...] += by_weights.astype(weights[...].dtype)
    if found.neuron:
        structure = jax.tree.structure(nnx.state(layer.neuron, nnx.Param))
        _add_to(layer.neuron, jax.tree.unflatten(structure, found.neuron))
    if delay is not None:
        _add_to(into.chain[delay], _delay_gradient(rule, stack.chain[delay], stack.layers[number], found))


def _delay_gradient(rule: Any, delay: Delay, layer: Layer, found: LayerGradient) -> nnx.State:
    """The gradient w.r.t. the parameters of a Delay: dL/dd_i = sum_n W_in G'_in with the gradient G' by the tangents.

    Raises:
        TypeError: a rule that does not handle learned delays.
    """
    if found.by_tangents is None:
        raise TypeError(f"{rule.title} got learned delays before layer {layer.number}, expected fixed. Use OSTL().")
    by_delay = sum_by_input(layer.tangent_synapse, layer.tangent_synapse.kernel[...] * found.by_tangents)
    graphdef, params, rest = nnx.split(delay, nnx.Param, ...)
    value, pull = jax.vjp(lambda params: nnx.merge(graphdef, params, rest).delays.value, params)
    return pull(by_delay.reshape(value.shape).astype(value.dtype))[0]


def _concatenated(signal: Any) -> Float[Array, "K B C"]:
    """A signal as one vector per step and sample."""
    return jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(signal)], axis=-1)
