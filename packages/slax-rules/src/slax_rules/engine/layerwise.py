"""The engine of rules for layers: a forward pass layer by layer, the loss, and a backward pass layer by layer.

    forward   outputs, and for each layer the data its rule needs: the inputs of its synapses, what its neuron did in each step
    loss      its value, and its gradient w.r.t. the outputs, by plain autodiff
    backward  from the last layer to the first:
                  signal               from above, or of the layer's route if that skips layers; and of the layer's penalties
                  gradient, traces     rule.layer_gradient(layer, window, traces, signal)
                  signal for below     through the kernels of the layer, or the matrices that its route puts in their place

State and traces enter a window as constants, and signals pass between layers within their time step, so no gradient through
one layer's time reaches another layer.
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
    check_features,
    delayed,
    fire_steps,
    scan_steps,
    units_are_separate,
)
from slax_rules.engine.jacobians import states_of
from slax_rules.engine.stack import (
    USE_BPTT,
    Layer,
    Stack,
    check_stack,
    flat_carry,
    pull_back,
    stacked_carry,
    with_plain_synapses,
)
from slax_rules.engine.synapse import check_maps, input_gradient, sum_by_input
from slax_rules.windows import Outputs, RuleState, WindowGradient


class LayerWindow(NamedTuple):
    """What the forward pass over K steps leaves for the rule of a layer.

    Args:
        inputs: inputs of each synapse; none if the chain feeds the neuron directly.
        states: the neuron's carry before each step, leaves [K, B, N].
        currents: its input current in each step.
        membranes: `neuron.integrate(state, current)` of each step; None for a neuron that does not define it.
        carry: carry of the neuron before the first step, with its delay buffer if it has delayed outgoing edges.
        tangents: the derivative of each delayed input w.r.t. its delay, if delays are learned; else None.
        penalty: the part of the signal that is the gradient of the layer's own penalties; None if there are none.

    Example:
        A rule gets windows from the engine. This one is made by hand, as in a test of a rule:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF
        >>> from slax_rules import Layer, LayerWindow
        >>> layer = Layer(0, (nnx.Linear(4, 2, rngs=nnx.Rngs(0)),), LIF(), above=None)
        >>> inputs, carry = jnp.ones((1, 3, 4)), jnp.zeros((3, 2))  # one step
        >>> current = layer.synapses[0](inputs)
        >>> membrane = layer.neuron.integrate(carry, current[0])[None]
        >>> window = LayerWindow((inputs,), carry[None], current, membrane, carry)
        >>> window.membranes.shape
        (1, 3, 2)
    """

    inputs: tuple[Float[Array, "K B *I"], ...]
    states: Any
    currents: Float[Array, "K B *N"]
    membranes: Any
    carry: Any
    tangents: Float[Array, "K B *I"] | None = None
    penalty: Float[Array, "K B *N"] | None = None

    @property
    def steps(self) -> tuple[Any, Array, Any]:
        """States, currents and membranes of all steps: where `linearize` differentiates the neuron."""
        return self.states, self.currents, self.membranes

    @property
    def traced_inputs(self) -> tuple[Array, ...]:
        """The inputs of `Layer.traced_synapses`."""
        return self.inputs if self.tangents is None else (*self.inputs, self.tangents)


class LayerGradient(NamedTuple):
    """The gradient of a layer over a window, and what is passed down.

    Args:
        synapses: for each synapse, the gradients w.r.t. its effective weights by name, "kernel" and "bias". The engine takes
            them from there to the parameters that the weights are made of.
        neuron: the gradient w.r.t. each of the neuron's parameters, in the order of `Layer.parameters`.
        passed_below: the cotangent of the current within each step, [K, B, N], such as psi_t delta_t. The engine takes it
            through the weights of the synapses, or the matrices of a route, to the layers below.
        by_tangents: the gradient w.r.t. the kernel of `Layer.tangent_synapse`, which has learned delays.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF
        >>> from slax_rules import SLTT, Layer, LayerWindow
        >>> layer = Layer(0, (nnx.Linear(4, 2, rngs=nnx.Rngs(0)),), LIF(), above=None)
        >>> inputs, carry = jnp.ones((1, 3, 4)), jnp.zeros((3, 2))  # one step
        >>> current = layer.synapses[0](inputs)
        >>> membrane = layer.neuron.integrate(carry, current[0])[None]
        >>> window = LayerWindow((inputs,), carry[None], current, membrane, carry)
        >>> gradient, traces = SLTT().layer_gradient(layer, window, (), jnp.ones((1, 3, 2)))
        >>> {name: array.shape for name, array in gradient.synapses[0].items()}
        {'kernel': (4, 2), 'bias': (2,)}
        >>> gradient.passed_below.shape
        (1, 3, 2)
    """

    synapses: tuple[dict[str, Array], ...]
    neuron: tuple[Array, ...]
    passed_below: Float[Array, "K B *N"]
    by_tangents: Array | None = None

    @classmethod
    def of(cls, layer: Layer, traced: Sequence[dict[str, Array]], neuron: tuple, cotangent: Array) -> "LayerGradient":
        """The same from the gradients of `Layer.traced_synapses`."""
        count = len(layer.synapses)
        by_tangents = traced[count]["kernel"] if layer.tangent_synapse is not None else None
        return cls(tuple(traced[:count]), neuron, cotangent, by_tangents)


class FeedbackSignals(NamedTuple):
    """What a route that skips layers may use for a hidden layer.

    Args:
        error: the cotangent that the rule of the last layer passes below, for most rules the gradient of the loss w.r.t. the
            current of the last layer within each step; or the gradient w.r.t. the model's outputs if modules with parameters
            follow the last layer. Several outputs are concatenated. It is divided by the number of losses in the mean, so a
            signal that is proportional to it does not depend on the window.
        targets: a function that returns the targets of each step as numbers [K, B, C], one-hot for labels, divided by the
            number of losses in the mean.
        loss: the task's loss as a function of outputs in the form of the model's, for a read-out of the layer's own.
        outputs: the outputs of the model.

    Example:
        A route that sends the sign of the error, times its mean size, through fixed matrices:

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Direct, cross_entropy, gradients
        >>> class SignOfError(Direct):
        ...     def signal(self, layer, outputs, feedback):
        ...         size = jnp.abs(feedback.error).mean(axis=-1, keepdims=True)
        ...         return super().signal(layer, outputs, feedback._replace(error=size * jnp.sign(feedback.error)))
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> rule = OSTL(route=SignOfError(rngs=rngs))
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=rule)
    """

    error: Float[Array, "K B C"]
    targets: Callable[[], Float[Array, "K B C"]]
    loss: Callable[[Any], Float[Array, ""]]
    outputs: Any


# -------------------------------------------------------------------------- methods of `Layerwise`, in `rules/base.py`


def check(rule: Any, model: Any, inputs: jax.ShapeDtypeStruct) -> None:
    """Raise TypeError or ValueError for a stack that the rules of its layers cannot handle; see `Rule.check`."""
    check_stack(rule.title, model)
    layers = Stack.read(with_plain_synapses(model)).layers
    for layer, one in zip(layers, rule.for_layers(layers), strict=True):
        one.check_layer(layer)
        if not hasattr(one.route, "skips_layers"):
            raise TypeError(
                f"{one.title} got route={one.route!r}, expected a route such as Symmetric() or Random(rngs=nnx.Rngs(0))."
            )
        one.route.check(layer)


def init(rule: Any, model: Any, carry: Any, inputs: jax.ShapeDtypeStruct) -> tuple[Any, ...]:
    """The traces of each layer before the first step; see `Rule.init`."""
    graphdef, state = nnx.split(model)

    def synapse_inputs(state: nnx.State, carry: Any, inputs: Array) -> list[tuple[Array, ...]]:
        model = nnx.merge(graphdef, state)
        windows = forward(model, flat_carry(model, carry), inputs).windows
        return [tuple(x[0] for x in window.traced_inputs) for window in windows]

    one_step = jax.ShapeDtypeStruct((1, *inputs.shape), inputs.dtype)
    shapes = jax.eval_shape(synapse_inputs, state, carry, one_step)
    stack, carries = Stack.read(with_plain_synapses(model)), flat_carry(model, carry)
    traces = []
    for one, layer, index, of_synapses in zip(
        rule.for_layers(stack.layers), stack.layers, stack.neurons, shapes, strict=True
    ):
        for synapse, x in zip(layer.synapses, of_synapses, strict=False):
            check_maps(one.title, layer.number, synapse, x)
        own_carry = carry_without_buffer(carries[index])
        is_ours = type(layer.neuron).__module__.startswith("slax_neurons.")
        if not is_ours and not units_are_separate(layer.neuron, own_carry):  # a gradient would be wrong without a sign
            raise TypeError(
                f"{one.title} got {type(layer.neuron).__name__}, whose units see each other, or samples do, expected a neuron "
                f"that treats each by itself. {USE_BPTT}"
            )
        states = states_of(own_carry)
        traces.append(one.init_layer(layer, *jax.tree.map(jnp.zeros_like, (of_synapses, states))))
    return tuple(traces)


def window(rule: Any, model: Any, state: RuleState, inputs: Float[Array, "K B ..."], loss: Any) -> WindowGradient:
    """The gradient of a window; see `Rule.window`."""
    run = forward(model, flat_carry(model, state.carry), inputs)
    plain = with_plain_synapses(model)
    stack = Stack.read(plain)
    rules = rule.for_layers(stack.layers)
    outputs = Outputs(run.outputs[-1], tuple(run.outputs[stack.neurons[layer]] for layer in loss.layers))
    value, signals = jax.value_and_grad(loss)(outputs)
    gradient = zero_copy(plain)  # holds gradients in place of parameters
    into = Stack.read(gradient)
    traces = backward(stack, into, rules, run, state.traces, loss, signals)
    own = zero_copy(rule)
    for one, layer, found in zip(own.for_layers(stack.layers), stack.layers, into.layers, strict=True):
        one.route.add_gradients(layer, found.synapses)
    carry, _ = stacked_carry(model, iter(run.carries), state.carry)
    of_model = pull_back(model, nnx.state(gradient, nnx.Param))
    return WindowGradient(value, of_model, nnx.state(own, nnx.Param), RuleState(carry, traces), outputs.final)


# -------------------------------------------------------------------------------------------------------------- forward


class ForwardPass(NamedTuple):
    """The result of a forward pass over a window.

    Args:
        carries: the carry of each module of the chain after the window.
        outputs: the outputs of each module of the chain; for a synapse of a layer its inputs, whose currents the layer adds.
        windows: the window of each layer.
        pullbacks: for each module that is not part of a layer, by index, a map from the gradient w.r.t. its outputs to the
            gradients w.r.t. its parameters and each of its inputs.
    """

    carries: tuple
    outputs: list[Any]
    windows: list[LayerWindow]
    pullbacks: dict[int, Callable[[Any], tuple[nnx.State, list[Array]]]]


def forward(model: Any, carries: list[Any], inputs: Float[Array, "K B ..."]) -> ForwardPass:
    """Run K steps forward, layer by layer, from the carries of the modules of the chain.

    In a stack with delayed edges, all steps are first run to obtain the delayed outputs; each layer is then recomputed from
    known inputs.
    """
    stack = Stack.read(model)
    stepped = _step_stack(model, carries, inputs) if stack.has_delayed_edges else None
    outputs: list[Any] = []
    new_carries: list[Any] = []
    windows: list[LayerWindow] = []
    pullbacks: dict[int, Any] = {}
    by_delay: dict[int | None, Array] = {}  # the derivatives of delayed inputs by their delays

    def sent(edge: Edge) -> Array:
        """Return the outputs that an edge carries, before its synapse."""
        if stepped is None or not edge.steps:
            return outputs[edge.sender]
        return delayed(carries[edge.sender], stepped[1][edge.sender], edge.steps)

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
            carry, y, states, membranes = run_neuron(module, carry, currents)
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
    return ForwardPass(tuple(new_carries) if stepped is None else stepped[0], outputs, windows, pullbacks)


def input_current(synapses: Sequence[Any], inputs: tuple[Array, ...]) -> Float[Array, "K B *N"]:
    """The sum of the outputs of a layer's synapses; the input itself for a layer without synapses."""
    if not synapses:
        return inputs[0]
    total, *rest = (apply_rows(synapse, x) for synapse, x in zip(synapses, inputs, strict=True))
    for current in rest:
        total = total + current
    return total


def run_neuron(neuron: Neuron, carry: Any, currents: Float[Array, "K B *N"]) -> tuple[Any, Array, Any, Any]:
    """Run a neuron in one scan over element-wise work.

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
    end, membranes = neuron.pre_reset_states(carry, currents)
    after, outputs = fire_steps(neuron, membranes)
    return end, outputs, carries_before(carry, after), membranes


def _step_stack(model: Any, carries: list[Any], inputs: Array) -> tuple[tuple, tuple]:
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
    stack: Stack, into: Stack, rules: Sequence[Any], run: ForwardPass, traces: tuple, loss: Any, signals: Outputs
) -> tuple[Any, ...]:
    """Add the gradients to the parameters of `into`, a copy of the stack, and return the traces after the window."""
    penalties = dict(zip(loss.layers, signals.hidden, strict=True))
    new_traces: list[Any] = [None] * len(rules)
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
        found, new_traces[number] = rule.layer_gradient(layer, window, traces[number], signal)  # such as OTPE's
        if layer.above is None and not stack.has_parameters_above:
            error = _concatenated(found.passed_below)
        _add_layer(into.layers[number], found)
        delay, start = stack.delays[number], stack.starts[number]
        if delay is not None:
            _add_to(into.chain[delay], _delay_gradient(rule, stack.chain[delay], layer, found))
        if start is None:
            send(index - 1, found.passed_below)
            continue
        edges = stack.edges_into(start, index)
        senders = [start - 1, *(edge.sender if not edge.steps else -1 for edge in edges)]
        kernels = rule.route.kernels(layer)
        for sender, synapse, x, kernel in zip(senders, layer.synapses, window.inputs, kernels, strict=True):
            if sender >= 0:
                send(sender, input_gradient(synapse, x, found.passed_below, kernel))
    return tuple(new_traces)


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


def _delay_gradient(rule: Any, delay: Delay, layer: Layer, found: LayerGradient) -> nnx.State:
    """The gradient w.r.t. the parameters of a Delay: dL/dd_i = sum_n W_in G'_in with the gradient G' by the tangents.

    Raises:
        TypeError: a rule that does not handle learned delays.
    """
    if found.by_tangents is None:
        raise TypeError(
            f"{rule.title} got learned delays before layer {layer.number}, expected fixed ones, since it does not "
            "return LayerGradient.by_tangents. Fix the delays, Delay(..., delays=[2.0, 3.0]), or use a rule such as OSTL()."
        )
    by_delay = sum_by_input(layer.tangent_synapse, layer.tangent_synapse.kernel[...] * found.by_tangents)
    graphdef, params, rest = nnx.split(delay, nnx.Param, ...)
    value, pull = jax.vjp(lambda params: nnx.merge(graphdef, params, rest).delays.value, params)
    return pull(by_delay.reshape(value.shape).astype(value.dtype))[0]


def _concatenated(signal: Any) -> Float[Array, "K B C"]:
    """A signal as one vector per step and sample."""
    return jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(signal)], axis=-1)
