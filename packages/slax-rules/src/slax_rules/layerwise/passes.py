"""The engine of rules for layers: a forward pass layer by layer, the loss, and a backward pass layer by layer.

    forward   outputs, and for each layer the data its rule needs: the inputs of its synapses, the points of its neuron
    loss      its value, and its gradient w.r.t. the outputs, by plain autodiff
    backward  from the last layer to the first:
                  signal               from above, or of the layer's route if that skips layers; and of the layer's penalties
                  gradient, traces     rule.window(layer, window, traces, signal)
                  signal for below     through the kernels of the layer, or the matrices that its route puts in their place

State and traces enter a window as constants, and signals pass between layers within their time step, so no gradient through
one layer's time reaches another layer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Delay, Dropout, Edge
from slax_neurons.building_blocks import StepSize, apply_rows, carry_without_buffer, check_features, delayed
from slax_rules.layerwise.jacobians import has_separate_units, states_of
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerWindow, input_current, run_neuron
from slax_rules.layerwise.layer_rule import LayerRule
from slax_rules.layerwise.returned import checked_kernels, checked_signal, checked_window
from slax_rules.layerwise.route import Route, Teaching
from slax_rules.layerwise.stack import USE_BPTT, StackPlan, plan_stack
from slax_rules.layerwise.synapse import check_maps, input_gradient, sum_by_input
from slax_rules.rule import Heads, LearningRule, Objective, WindowGradient


class LayerwiseState(NamedTuple):
    """The carry of each module of the chain, and the traces of each layer."""

    carries: tuple
    traces: tuple


@dataclasses.dataclass(frozen=True)
class Layerwise(LearningRule):
    """A rule for a stack, made of rules for layers.

    Each neuron forms a layer, together with the Linear or Conv right before it and the edges into it; average pooling, or any
    other linear map that is the same for each feature, may stand between them. Nested stacks are treated as if their modules
    were listed in the outer stack. Modules without parameters pass signals on within their step. Modules with parameters after
    the last neuron have no state over time, so their gradient is exact.

    Args:
        rules: one for the entire stack, or, if `is_list`, one for each layer, from the first to the last.
        is_list: whether each layer has its own rule.
    """

    rules: tuple[LayerRule, ...]
    is_list: bool = False

    @property
    def title(self) -> str:
        return ", ".join(dict.fromkeys(type(rule).__name__ for rule in self.rules))

    def default_window(self, size: StepSize) -> int:
        return max(rule.default_window(size) for rule in self.rules)

    def plan(self, model: Any, input_shape: tuple[int, ...]) -> StackPlan:
        plan = plan_stack(self.title, model)
        layers = plan.layers(model)
        for layer, rule in zip(layers, self.layer_rules(layers), strict=True):
            rule.check(layer)
            if not isinstance(rule.route, Route):
                raise TypeError(
                    f"{type(rule).__name__} got route={rule.route!r}, expected a route such as Symmetric() or "
                    "Random(rngs=nnx.Rngs(0))."
                )
            rule.route.check(layer)
        return plan

    def layer_rules(self, layers: tuple[Layer, ...]) -> tuple[LayerRule, ...]:
        """The rule of each layer."""
        if not self.is_list:
            return self.rules[0].for_layers(layers)
        if len(self.rules) != len(layers):
            raise ValueError(
                f"Got {len(self.rules)} rules for a stack of {len(layers)} layers, expected one rule for each layer."
            )
        return tuple(rule.for_layer(layer) for rule, layer in zip(self.rules, layers, strict=True))

    def initialize(self, plan: StackPlan, model: Any, carry: Any, inputs: jax.ShapeDtypeStruct) -> LayerwiseState:
        carries = plan.flatten_carry(model, carry)
        one_step = jax.ShapeDtypeStruct((1, *inputs.shape), inputs.dtype)
        graphdef, state = nnx.split(model)

        def synapse_inputs(state: nnx.State, carries: tuple, inputs: Array) -> list[tuple[Array, ...]]:
            windows = forward(plan, nnx.merge(graphdef, state), carries, inputs).windows
            return [tuple(x[0] for x in window.traced_inputs) for window in windows]

        shapes = jax.eval_shape(synapse_inputs, state, carries, one_step)
        layers = plan.layers(model)
        traces = []
        for rule, layer, index, layer_inputs in zip(
            self.layer_rules(layers), layers, plan.neurons, shapes, strict=True
        ):
            for synapse, x in zip(layer.synapses, layer_inputs, strict=False):
                check_maps(self.title, layer.number, synapse, x)
            carry = carry_without_buffer(carries[index])
            if not has_separate_units(layer.neuron, carry):
                raise TypeError(
                    f"{self.title} got {type(layer.neuron).__name__}, whose units see each other, or samples do, expected a "
                    f"neuron that treats each by itself. {USE_BPTT}"
                )
            states = states_of(carry)
            traces.append(rule.initialize_traces(layer, *jax.tree.map(jnp.zeros_like, (layer_inputs, states))))
        return LayerwiseState(carries, tuple(traces))

    def traces(self, state: LayerwiseState) -> tuple:
        return state.traces

    def forward(
        self,
        plan: StackPlan,
        model: nnx.RNNCellBase,
        state: LayerwiseState,
        inputs: Float[Array, "K B ..."],
        probes: tuple[int, ...] = (),
    ) -> tuple[Heads, LayerwiseState]:
        forward_pass = forward(plan, model, state.carries, inputs)
        layers = plan.layers(model)
        heads, _ = read_heads(plan, layers, self.layer_rules(layers), forward_pass, probes)
        return heads, state._replace(carries=forward_pass.carries)

    def window(
        self, plan: StackPlan, model: Any, state: LayerwiseState, inputs: Float[Array, "K B ..."], objective: Objective
    ) -> WindowGradient:
        forward_pass = forward(plan, model, state.carries, inputs)
        plain = plan.with_plain_synapses(model)
        layers = plan.layers(plain)
        rules = self.layer_rules(layers)
        heads, pullbacks = read_heads(plan, layers, rules, forward_pass, objective.probes)
        loss, signals = objective(heads)  # a WindowObjective
        pulled = zip(pullbacks.items(), signals.read_outs, strict=True)
        read_outs = {layer: pull(signal)[0] for (layer, pull), signal in pulled}
        penalties = dict(zip(objective.probes, signals.probes, strict=True))
        of_losses = LossSignals(signals.outputs, read_outs, penalties, lambda: objective.targets(heads.outputs))
        gradient, traces = backward(plan, plain, rules, forward_pass, state.traces, of_losses)
        return WindowGradient(
            loss,
            plan.pull_back(model, nnx.state(gradient, nnx.Param)),
            self._own_gradient(layers, plan.layers(gradient)),
            LayerwiseState(forward_pass.carries, traces),
        )

    def _own_gradient(self, layers: tuple[Layer, ...], gradients: tuple[Layer, ...]) -> nnx.State:
        """The gradient w.r.t. the parameters of the routes, from the layers as modules that hold their gradients."""
        total = zero_copy(self)
        for rule, layer, gradient in zip(total.layer_rules(layers), layers, gradients, strict=True):
            rule.route.add_gradients(layer, gradient.synapses)
        return nnx.state(total, nnx.Param)


def as_rule(rule: Any) -> LearningRule:
    """Return a rule for an entire model: the rule itself, or one made from a rule for layers, or a list of one for each layer.

    Raises:
        TypeError: anything other than a rule, such as its class or its name.
    """
    if isinstance(rule, LearningRule):
        return rule
    if isinstance(rule, LayerRule):
        return Layerwise((rule,))
    if isinstance(rule, list | tuple) and rule and all(isinstance(one, LayerRule) for one in rule):
        return Layerwise(tuple(rule), is_list=True)
    got = f"the class {rule.__name__}" if isinstance(rule, type) else repr(rule)
    make = f"Make one: rule={rule.__name__}()" if isinstance(rule, type) else "By name: rule=RULES['otpe'].make()"
    raise TypeError(
        f"Got {got} as the rule, expected a rule such as BPTT() or OTPE(), or a list of rules for layers with one for each "
        f"layer. {make}."
    )


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
        if index in plan.before_neurons:
            y = x  # its layer reads this input
        elif index in plan.neurons:
            number = plan.neurons.index(index)
            synapses = plan.input_modules(model, number)
            read = (x, *map(sent, plan.input_edges(number)))
            carry, y, points = run_neuron(module, carry, input_current(synapses, read))
            windows.append(
                LayerWindow(read if synapses else (), points, carries[index], by_delay.get(plan.delays[number]))
            )
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
    probes: tuple[int, ...],
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

    hidden = tuple(forward_pass.outputs[plan.neurons[probe]] for probe in probes)
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


class LossSignals(NamedTuple):
    """The gradients of the losses of a window w.r.t. the quantities that they read.

    Args:
        outputs: the gradient w.r.t. the outputs of the model.
        read_outs: the gradients of the losses of the layers' read-outs w.r.t. their outputs, by the number of the layer.
        penalties: the gradients of the penalties w.r.t. the outputs of layers, by the number of the layer.
        targets: a function that returns the targets of each step; see `Teaching`.
    """

    outputs: Any
    read_outs: dict[int, Array]
    penalties: dict[int, Array]
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
        if index in plan.before_neurons:
            continue  # part of the layer of the next neuron
        if index not in plan.neurons:
            by_params, by_inputs = forward_pass.pullbacks[index](signals[index])
            _add_to(gradient_chain[index], by_params)
            senders = [index - 1, *(edge.sender for edge in plan.edges_into(index))]  # -1 for the inputs of the stack
            for sender, by_input in zip(senders, by_inputs, strict=True):
                send(sender, by_input)
            continue
        number = plan.neurons.index(index)
        layer, rule, window = layers[number], rules[number], forward_pass.windows[number]
        outputs, received = forward_pass.outputs[index], signals[index]
        if rule.route.skips_layers and layer.above is not None:
            teaching = Teaching(error, of_losses.targets, of_losses.read_outs.get(number))
            received = checked_signal(rule.route, layer, outputs, rule.route.signal(layer, outputs, teaching))
        penalty = of_losses.penalties.get(number)
        if penalty is not None and rule.reads_penalty:
            window = window._replace(penalty=penalty)
        elif penalty is not None:
            received = received + penalty
        returned = rule.window(layer, window, traces[number], received)  # such as OTPE.window
        found, new_traces[number] = checked_window(rule, layer, window, traces[number], returned)
        if layer.above is None and not plan.has_parameters_above:
            error = _concatenated(found.current_cotangent)
        _add_layer(gradient_layers[number], found)
        delay = plan.delays[number]
        if delay is not None:
            _add_to(gradient_chain[delay], _delay_gradient(rule, plan.chain(model)[delay], layer, found))
        start = plan.starts[number]
        if start is None:
            send(index - 1, found.current_cotangent)
            continue
        senders = [start - 1, *(edge.sender if not edge.steps else -1 for edge in plan.input_edges(number))]
        kernels = checked_kernels(rule.route, layer, rule.route.kernels(layer))
        for sender, synapse, x, kernel in zip(senders, layer.synapses, window.inputs, kernels, strict=True):
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


def _delay_gradient(rule: LayerRule, delay: Delay, layer: Layer, found: LayerGradient) -> nnx.State:
    """The gradient w.r.t. the parameters of a Delay: dL/dd_i = sum_n W_in G'_in with the gradient G' by the tangents.

    Raises:
        TypeError: a rule that does not handle learned delays.
    """
    if found.by_tangents is None:
        raise TypeError(
            f"{type(rule).__name__} got learned delays before layer {layer.number}, expected fixed ones, since it does not "
            "return LayerGradient.by_tangents. Fix the delays, Delay(..., delays=[2.0, 3.0]), or use a rule such as OSTL()."
        )
    by_delay = sum_by_input(layer.tangent_synapse, layer.tangent_synapse.kernel[...] * found.by_tangents)
    graphdef, params, rest = nnx.split(delay, nnx.Param, ...)
    value, pull = jax.vjp(lambda params: nnx.merge(graphdef, params, rest).delays.value, params)
    return pull(by_delay.reshape(value.shape).astype(value.dtype))[0]


def _concatenated(signal: Any) -> Float[Array, "K B C"]:
    """A signal as one vector per step and sample."""
    return jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(signal)], axis=-1)
