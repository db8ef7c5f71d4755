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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.building_blocks import StepSize, carry_without_buffer
from slax_rules.layerwise.backward_pass import LossSignals, backward, zero_copy
from slax_rules.layerwise.forward_pass import forward, read_heads
from slax_rules.layerwise.layer import Layer
from slax_rules.layerwise.plan import StackPlan, plan_stack
from slax_rules.layerwise.rule import LayerRule
from slax_rules.probes import Probe
from slax_rules.rule import Heads, LearningRule, Objective, WindowGradient


class LayerwiseState(NamedTuple):
    """The carry of each module of the chain, and the traces of each layer."""

    carries: tuple
    traces: tuple


@dataclasses.dataclass(frozen=True)
class Layerwise(LearningRule):
    """A rule for a stack, made of rules for layers.

    Each neuron forms a layer, together with the Linear or Conv right before it and the edges into it; nested stacks are treated
    as if their modules were listed in the outer stack. Modules without parameters pass signals on within their step. Modules
    with parameters after the last neuron have no state over time, so their gradient is exact.

    Args:
        rules: one for the entire stack, or one for each layer, from the first to the last.
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
            return [tuple(x[0] for x in window.inputs) for window in windows]

        shapes = jax.eval_shape(synapse_inputs, state, carries, one_step)
        layers = plan.layers(model)
        traces = []
        for rule, layer, index, layer_inputs in zip(
            self.layer_rules(layers), layers, plan.neurons, shapes, strict=True
        ):
            at_rest = jax.tree.map(jnp.zeros_like, (layer_inputs, carry_without_buffer(carries[index])))
            traces.append(rule.initialize_traces(layer, at_rest[0], tuple(jax.tree.leaves(at_rest[1]))))
        return LayerwiseState(carries, tuple(traces))

    def traces(self, state: LayerwiseState) -> tuple:
        return state.traces

    def forward(
        self,
        plan: StackPlan,
        model: nnx.RNNCellBase,
        state: LayerwiseState,
        inputs: Float[Array, "K B ..."],
        probes: tuple[Probe, ...] = (),
    ) -> tuple[Heads, LayerwiseState]:
        forward_pass = forward(plan, model, state.carries, inputs)
        layers = plan.layers(model)
        heads, _ = read_heads(plan, layers, self.layer_rules(layers), forward_pass, probes)
        return heads, state._replace(carries=forward_pass.carries)

    def window(
        self,
        plan: StackPlan,
        model: Any,
        state: LayerwiseState,
        inputs: Float[Array, "K B ..."],
        objective: Objective,
    ) -> WindowGradient:
        forward_pass = forward(plan, model, state.carries, inputs)
        plain = plan.with_plain_synapses(model)
        layers = plan.layers(plain)
        rules = self.layer_rules(layers)
        heads, pullbacks = read_heads(plan, layers, rules, forward_pass, objective.probes)
        loss, signals = objective(heads)
        own = {layer: pull(signal)[0] for (layer, pull), signal in zip(pullbacks.items(), signals.local, strict=True)}
        penalties = dict(zip(objective.probes, signals.hidden, strict=True))
        of_losses = LossSignals(signals.outputs, own, penalties, lambda: objective.targets(heads.outputs))
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
            rule.route.add_gradients(layer, gradient.current_synapses)
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
