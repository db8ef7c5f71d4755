"""The engine of rules for layers: a forward pass layer by layer, the loss, and a backward pass layer by layer.

    forward   outputs, and the window of each layer, in `passes.py`
    loss      its value, and its gradient w.r.t. the outputs, by plain autodiff
    backward  from the last layer to the first, with the gradient of each layer by its rule

A window whose arrays do not fit the cache goes through both passes in pieces, if its rules can go back piece by piece: all
layers of a piece, then the next piece.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Surrogate
from slax_neurons.building_blocks import (
    carry_without_buffer,
    changes_when_called,
    step_size,
    steps_in_cache,
    units_are_separate,
)
from slax_rules.engine.eligibility import close_window, zero_adjoint
from slax_rules.engine.jacobians import states_of
from slax_rules.engine.layer import LayerGradient, LayerWindow
from slax_rules.engine.passes import add_layer, backward, forward, holding, zero_copy, zeros_of
from slax_rules.engine.stack import (
    USE_BPTT,
    Stack,
    check_stack,
    flat_carry,
    pull_back,
    stacked_carry,
    with_plain_synapses,
)
from slax_rules.engine.synapse import check_maps
from slax_rules.windows import Outputs, RuleState, WindowGradient

SHORTEST_PIECE = 32  # steps


def check(rule: Any, model: Any, inputs: jax.ShapeDtypeStruct) -> None:
    """Raise TypeError or ValueError for a stack that the rules of its layers cannot handle; see `Rule.check`."""
    check_stack(rule.title, model)
    layers = Stack.read(with_plain_synapses(model)).layers
    for layer, one in zip(layers, rule.for_layers(layers), strict=True):
        if layer.neuron.currents_per_unit > 1 and not one.takes_several_currents:
            raise TypeError(f"{one.title} got units with several currents, expected one. Use OSTL(), SLTT() or BPTT().")
        one.check_layer(layer)
        if isinstance(one.route, type) or not hasattr(one.route, "skips_layers"):
            raise TypeError(f"{one.title} got route={one.route!r}, expected one such as Random(rngs=nnx.Rngs(0)).")
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
        is_ours = type(layer.neuron).__module__.startswith("slax_neurons.") and isinstance(
            getattr(layer.neuron, "spike_fn", None), Surrogate | None
        )
        if not is_ours and not units_are_separate(layer.neuron, own_carry):  # a gradient would be wrong without a sign
            raise TypeError(f"{one.title} got {type(layer.neuron).__name__}, whose units see each other. {USE_BPTT}")
        states = states_of(own_carry)
        traces.append(one.init_layer(layer, *jax.tree.map(jnp.zeros_like, (of_synapses, states))))
    return tuple(traces)


def window(rule: Any, model: Any, state: RuleState, inputs: Float[Array, "K B ..."], loss: Any) -> WindowGradient:
    """The gradient of a window; see `Rule.window`."""
    plain = with_plain_synapses(model)
    layers = Stack.read(plain).layers
    rules = rule.for_layers(layers)
    size = steps_of_a_piece(rules, model, state.carry, inputs)
    if size == len(inputs):
        found = _in_one_piece(rules, model, plain, state, inputs, loss)
    else:
        found = _in_pieces(rules, plain, state, inputs, loss, size)
    own, into = zero_copy(rule), Stack.read(holding(plain, found.gradient))
    for one, layer, of_layer in zip(own.for_layers(layers), layers, into.layers, strict=True):
        one.route.add_gradients(layer, of_layer.synapses)
    carry, _ = stacked_carry(model, iter(found.carries), state.carry)
    of_model = pull_back(model, found.gradient)
    of_rule = nnx.state(own, nnx.Param)
    return WindowGradient(found.loss, of_model, of_rule, RuleState(carry, found.traces), found.outputs.final)


class _Found(NamedTuple):
    """The result of a window; the gradient and the carries belong to the stack with plain synapses and to its chain."""

    loss: Array
    gradient: nnx.State
    carries: tuple
    traces: tuple
    outputs: Outputs


def _in_one_piece(rules: Sequence[Any], model: Any, plain: Any, state: RuleState, inputs: Array, loss: Any) -> _Found:
    """All steps of a layer together."""
    run, stack, traces = forward(model, flat_carry(model, state.carry), inputs), Stack.read(plain), list(state.traces)
    outputs = run.read_by(loss)
    value, signals = jax.value_and_grad(loss)(outputs)

    def gradient_of(number: int, window: LayerWindow, signal: Array) -> LayerGradient:
        before = state.traces[number]
        found, traces[number] = rules[number].layer_gradient(stack.layers[number], window, before, signal)
        return found

    gradient = backward(plain, zeros_of(plain), rules, run, loss, signals, gradient_of)
    return _Found(value, gradient, run.carries, tuple(traces), outputs)


def _in_pieces(rules: Sequence[Any], plain: Any, state: RuleState, inputs: Array, loss: Any, size: int) -> _Found:
    """Pieces of `size` steps, whose arrays fit the cache: all layers of a piece forward, and after the loss, back.

    Between the two passes membranes are kept, from which the second one recomputes the rest.
    """
    layers, start = Stack.read(plain).layers, tuple(flat_carry(plain, state.carry))

    def ahead(before: tuple[tuple, tuple], inputs: Array) -> tuple[tuple[tuple, tuple], tuple]:
        carries, of_rules = before
        run = forward(plain, carries, inputs)
        layerwise = zip(rules, layers, run.windows, of_rules, strict=True)
        steps, of_rules = zip(*(one.ahead(layer, *of) for one, layer, *of in layerwise), strict=True)
        return (run.carries, of_rules), (carries, run.known, steps, run.read_by(loss))

    first = start, tuple(of_layer.ahead for of_layer in state.traces)
    (end, of_rules), (starts, *kept) = jax.lax.scan(ahead, first, _cut(inputs, size))
    known, steps, outputs = _joined(kept)
    value, signals = jax.value_and_grad(loss)(outputs)

    def back(after: tuple[nnx.State, tuple], piece: tuple) -> tuple[tuple[nnx.State, tuple], tuple]:
        gradient, adjoints = after
        carries, inputs, known, signals, steps = piece
        run, before, origins = forward(plain, carries, inputs, known), list(adjoints), [None] * len(rules)

        def gradient_of(number: int, window: LayerWindow, signal: Array) -> LayerGradient:
            given = layers[number], window, steps[number], adjoints[number], signal
            found, before[number], origins[number] = rules[number].back(*given)
            return found

        gradient = backward(plain, gradient, rules, run, loss, signals, gradient_of)
        return (gradient, tuple(before)), tuple(origins)

    has_traces = state.traces[0].past is not None
    of_neurons = [start[index] for index in Stack.read(plain).neurons]
    both = zip(rules, layers, of_neurons, strict=True)
    last = tuple(zero_adjoint(carry, one.decay_of(layer), has_traces=has_traces) for one, layer, carry in both)
    pieces = starts, *(_cut(of_steps, size) for of_steps in (inputs, known, signals, steps))
    (gradient, adjoints), origins = jax.lax.scan(back, (zeros_of(plain), last), pieces, reverse=True)
    after = [one._replace(ahead=ahead) for one, ahead in zip(state.traces, of_rules, strict=True)]
    if not has_traces:
        return _Found(value, gradient, end, tuple(after), outputs)
    whole, holder = forward(plain, start, inputs, known).windows, holding(plain, gradient)
    for number, one in enumerate(rules):
        decay, given = one.decay_of(layers[number]), (after[number].past, adjoints[number], _joined(origins[number]))
        found, past = close_window(layers[number], whole[number], *given, decay)
        add_layer(Stack.read(plain), Stack.read(holder), number, one, found)
        after[number] = after[number]._replace(past=past)
    return _Found(value, nnx.state(holder, nnx.Param), end, tuple(after), outputs)


def steps_of_a_piece(rules: Sequence[Any], model: Any, carry: Any, inputs: Any) -> int:
    """The steps of a window that are computed together: on a CPU a part that fits the cache, if all rules allow it.

    The window is one piece for rules that cannot go back piece by piece, for routes that skip layers, whose signals need the
    whole window, for models that change variables of their own, and for a number of steps that no suitable length divides.
    """
    steps: int = inputs.shape[0]
    may_cut = all(one.goes_back_in_pieces and not one.route.skips_layers for one in rules)
    if not may_cut or changes_when_called(model) or jax.default_backend() != "cpu":
        return steps
    in_cache = steps_in_cache(step_size(model, carry, inputs))
    if steps <= in_cache:
        return steps
    length = max(SHORTEST_PIECE, in_cache // 3)  # a piece has more arrays than a chunk of `unroll`, and keeps g of OTPE
    fits = [size for size in range(1, length + 1) if steps % size == 0]
    return fits[-1] if 4 * fits[-1] > length else steps


def _cut(tree: Any, size: int) -> Any:
    """Arrays [K, ...] in pieces [K / size, size, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def _joined(tree: Any) -> Any:
    """Pieces [P, size, ...] as arrays [P size, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
