"""The one place where a gradient is replaced: a layer with a custom reverse pass per window.

Forward, a layer under a rule is the plain layer. Backward, the rule makes the parameters' gradient out of the cotangent of the
layer's output (the learning signal), the neuron's local Jacobians and the traces that it carries from window to window, and
says which signal goes below. State and traces enter a window as numbers, and signals pass between layers within their step,
so nothing of one layer's time reaches another's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values
from jaxtyping import Array, Float

from slax_neurons import Connect, Dropout, Neuron
from slax_neurons.engine import apply_rows, check_sequence
from slax_neurons.modules import check_features, input_struct
from slax_neurons.wiring import Sent, late
from slax_rules.blocks import States
from slax_rules.online import OnlineCell, RuledCarry
from slax_rules.stack import check_stack, feeds_neuron, has_late_edges, written_out
from slax_rules.synapse import input_gradient
from slax_rules.window import Block, Pullback, Window, currents_of, membrane_decay, run


@runtime_checkable
class LocalRule(Protocol):
    """A local learning rule: what it does with a window of a layer. Implementations are frozen dataclasses of their options.

    `default_window` is a number of steps that is fast and small.
    """

    default_window: ClassVar[int]

    def check(self, block: Block, above: Neuron | None) -> None:
        """Raises TypeError for a layer that the rule cannot treat; `above` is the neuron of the next layer of the chain."""

    def initialize_traces(self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        """The traces at rest, for inputs [B, I] of each synapse and the neuron's states at rest."""

    def follow(
        self,
        block: Block,
        window: Window,
        traces: Any,
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, Any]:
        """The gradient for the cotangents of the outputs, and of the states at the end, from the traces at the start of the
        window, and the traces at its end.

        `end` is in the order of the leaves of the carry; None stands for zero, which it is unless a loss looks at the carry.
        """


class Ruled(Connect, OnlineCell):
    """A stack under a local rule: same parameters at the same paths, same forward pass, the rule's gradient.

    Each neuron is a layer, with the Linear or Conv right before it and what comes over edges; nested stacks count as if they
    were written out. Modules without parameters pass signals on within their step. Modules with parameters behind the last
    neuron have no time, and keep their exact gradient.

    Args:
        model: a stack made by `connect`. It and the ruled cell share their parameters.
        rule: the local rule, or one for each layer.
        feedback: for each layer and synapse what takes the place of its kernel on the way down.

    Raises:
        TypeError: a model, or a module in it, that a rule cannot treat.
        ValueError: a list of rules that is not one for each layer.
    """

    def __init__(
        self,
        model: nnx.RNNCellBase,
        rule: LocalRule | Sequence[LocalRule],
        *,
        feedback: Sequence[Sequence[nnx.Variable]] | None = None,
    ):
        rules = [rule] if isinstance(rule, LocalRule) else list(rule)
        name = type(rules[0]).__name__
        if isinstance(model, OnlineCell):
            raise TypeError(f"{name} got a stack that is under {model.rule_name} already. Give it the plain stack.")
        if not isinstance(model, Connect):
            raise TypeError(
                f"{name} got {type(model).__name__}, expected a stack made by connect([Linear(...), LIF()])."
            )
        self.modules = model.modules
        self.edges, self.synapses = model.edges, model.synapses
        self.feedback = nnx.List([nnx.List(matrices) for matrices in feedback or ()])
        check_stack(name, written_out(self))
        blocks = self.blocks()
        if isinstance(rule, LocalRule):
            rules = rules * len(blocks)
        if len(rules) != len(blocks):
            raise ValueError(f"Got {len(rules)} rules for a stack of {len(blocks)} layers, expected one for each.")
        self.rules = tuple(rules)
        for block, above, own in zip(blocks, [*blocks[1:], None], rules, strict=True):
            own.check(block, above.neuron if above else None)

    @property
    def default_window(self) -> int:
        return min(rule.default_window for rule in self.rules)

    @property
    def rule_name(self) -> str:
        return ", ".join(dict.fromkeys(type(rule).__name__ for rule in self.rules))

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> RuledCarry:
        """State and traces of each layer at rest, for inputs of `input_shape` [B, features...]."""
        plain = written_out(self).initialize_carry(input_shape, rngs)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._shapes(plain, input_shape))
        layers = zip(self.rules, self.blocks(), zeros, strict=True)
        return RuledCarry(plain, tuple(rule.initialize_traces(block, *at) for rule, block, at in layers))

    def rest(self, input_shape: tuple[int, ...]) -> list[jax.ShapeDtypeStruct]:
        """Shape and dtype of the state [B, N] of each layer's neuron."""
        plain = written_out(self).initialize_carry(input_shape)
        return [states[0] for _, states in self._shapes(plain, input_shape)]

    def _shapes(self, plain: tuple, input_shape: tuple[int, ...]) -> list[Any]:
        """What each layer's synapses get in a step, and its neuron's states."""

        def shapes(plain: tuple, inputs: Array) -> list[tuple[tuple[Array, ...], tuple[Array, ...]]]:
            seen: list[tuple[tuple[Array, ...], tuple[Array, ...]]] = []

            def look(index: int, block: Block, state: Any, xs: tuple[Array, ...], known: Any) -> tuple[Any, Array]:
                read = tuple(x[0] for x in xs) if block.synapses else ()
                seen.append((read, tuple(jax.tree.leaves(state))))
                return run(block.neuron, state, currents_of(block, xs))[:2]

            self._walk(plain, inputs, look)
            return seen

        dtype = input_struct(written_out(self).modules, input_shape).dtype
        with jax.numpy_dtype_promotion("standard"):  # the dtype of a stack's input is not known
            return jax.eval_shape(shapes, plain, jax.ShapeDtypeStruct((1, *input_shape), dtype))

    def __call__(self, carry: Any, inputs: Float[Array, "B ..."]) -> tuple[Any, Float[Array, "B ..."]]:
        carry, outputs = self.unroll(carry, inputs[None])
        return carry, outputs[0]

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[RuledCarry, Float[Array, "T B ..."]]:
        """A whole window, layer by layer; what a cycle holds together is stepped, forward only.

        The carry has a gradient too, for a loss of the last state, but not in a stack with late edges.
        """
        carry, outputs, _ = self.run(carry, inputs)
        return carry, outputs

    def run(
        self, carry: Any, inputs: Float[Array, "T B ..."], *, local: bool = False
    ) -> tuple[RuledCarry, Float[Array, "T B ..."], list[Float[Array, "T B ..."]]]:
        """`unroll`, and the outputs of each layer; where they are `local`, no signal goes below."""
        check_sequence(inputs)
        if not isinstance(carry, RuledCarry) or len(carry.traces) != len(self.rules):
            raise ValueError(
                f"{self.rule_name} got a carry that is not a RuledCarry of {len(self.rules)} layers. Make it with "
                "initialize_carry(inputs.shape[1:]) of this cell, not of the plain one."
            )
        decays = [membrane_decay(block.neuron, inputs.dtype) for block in self.blocks()[1:]] + [None]
        traces: list[Any] = []
        of_layers: list[Array] = []

        def layer(index: int, block: Block, state: Any, xs: tuple[Array, ...], known: Any) -> tuple[Any, Array]:
            graphdef, params, constants = nnx.split(block, nnx.Param, ...)
            xs = jax.lax.stop_gradient(xs) if local else xs
            arguments = (params, constants, state, carry.traces[index], xs, known, decays[index])
            state, new_traces, outputs = _layer(self.rules[index], graphdef, *arguments)
            traces.append(new_traces)
            of_layers.append(outputs)
            return state, outputs

        plain, outputs = self._walk(carry.plain, inputs, layer)
        return RuledCarry(plain, tuple(traces)), outputs[-1], of_layers

    def outputs(self, carry: Any, inputs: Float[Array, "T B ..."]) -> Any:
        """Raises TypeError: a rule knows layers, not modules."""
        raise TypeError(f"A stack under {self.rule_name} has no outputs per module. Use the plain stack.")

    def _walk(self, carry: tuple, inputs: Array, layer: Callable[..., tuple[Any, Array]]) -> tuple[tuple, list[Array]]:
        """The stack in order, `layer` in the place of each neuron and what feeds it.

        Args:
            carry: of the plain stack.
            layer: maps its index, the block, its state, the inputs of its synapses, and its outputs where they are known
                already, because the stack has late edges and was stepped, to the new state and the outputs.

        Returns:
            The new carry of the plain stack, and the outputs of all modules.
        """
        stack = written_out(self)
        stepped, known = None, None
        if has_late_edges(stack):
            stepped, known = jax.lax.stop_gradient(stack.outputs(carry, inputs))
        blocks = iter(self.blocks())
        outputs: list[Array] = []
        states: list[Any] = []
        count = 0
        feeding: tuple[Array, ...] | None = None
        for index, module in enumerate(stack.modules):
            x = outputs[-1] if outputs else inputs
            check_features(module, index, x.shape[1:])
            state = carry[index].carry if isinstance(carry[index], Sent) else carry[index]
            beside = [
                (
                    synapse,
                    late(carry[edge.sender], known[edge.sender], edge.steps)
                    if known and edge.steps
                    else outputs[edge.sender],
                )
                for edge, synapse in stack.edges_into(index)
            ]
            if feeds_neuron(stack.modules, index):
                feeding = (x, *(sent for _, sent in beside))
                y = x  # the neuron reads `feeding`
            elif isinstance(module, Neuron):
                block = next(blocks)
                state, y = layer(count, block, state, feeding or (x,), known and known[index])
                feeding, count = None, count + 1
            elif isinstance(module, Dropout):
                state, y = module.unroll(state, x)
            else:
                y = sum((apply_rows(synapse, sent) for synapse, sent in beside), start=apply_rows(module, x))
            states.append(state)
            outputs.append(y)
        return (stepped or tuple(states)), outputs

    def blocks(self) -> list[Block]:
        """The layers in order."""
        stack = written_out(self)
        blocks: list[Block] = []
        last = max(index for index, module in enumerate(stack.modules) if isinstance(module, Neuron))
        for index, module in enumerate(stack.modules):
            if isinstance(module, Neuron):
                synapses = [stack.modules[index - 1]] if index and feeds_neuron(stack.modules, index - 1) else []
                synapses += [synapse for _, synapse in stack.edges_into(index - 1)] if synapses else []
                feedback = list(self.feedback[len(blocks)]) if self.feedback else []
                blocks.append(Block(synapses, module, feedback, is_last=index == last))
        return blocks


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _layer(rule: LocalRule, graphdef: nnx.GraphDef, *arguments: Any) -> tuple[Any, Any, Array]:
    """State and traces at the end of a window, and the outputs, of the arguments of `_forward`."""
    return _forward(rule, graphdef, *arguments)[0]


def _layer_forward(rule: LocalRule, graphdef: nnx.GraphDef, *arguments: Any) -> Any:
    return _forward(rule, graphdef, *custom_vjp_primal_tree_values(arguments))


def _forward(
    rule: LocalRule,
    graphdef: nnx.GraphDef,
    params: nnx.State,
    constants: nnx.State,
    state: Any,
    traces: Any,
    inputs: tuple[Array, ...],
    known: Array | None,
    decay_above: Array | None,
) -> tuple[tuple[Any, Any, Array], Any]:
    block = nnx.merge(graphdef, params, constants)
    currents = currents_of(block, inputs)
    block.neuron.check_carry(state, currents[0])
    state, outputs, moments = run(block.neuron, state, currents)
    window = Window(inputs if block.synapses else (), moments, decay_above)
    _, new_traces = rule.follow(block, window, traces, jnp.zeros_like(outputs), (None,) * len(jax.tree.leaves(state)))
    return (state, new_traces, outputs if known is None else known), (params, constants, window, traces)


def _layer_backward(
    rule: LocalRule, graphdef: nnx.GraphDef, residuals: Any, cotangents: tuple[Any, Any, Any]
) -> tuple[nnx.State, None, None, Any, tuple[Array, ...], None, None]:
    params, constants, window, traces = residuals
    block = nnx.merge(graphdef, params, constants)
    end, _, signal = cotangents
    states = tuple(None if isinstance(state, SymbolicZero) else state for state in jax.tree.leaves(end))
    signal = jnp.zeros(signal.shape, signal.dtype) if isinstance(signal, SymbolicZero) else signal
    pullback, new_traces = rule.follow(block, window, traces, signal, states)
    instead = [matrix[...] for matrix in block.feedback] or [None] * len(block.synapses)
    below = tuple(
        input_gradient(synapse, x, pullback.current, kernel)
        for synapse, x, kernel in zip(block.synapses, window.inputs, instead, strict=True)
    )
    # Not a cotangent: the traces at the end of the window, which a loop over windows takes from here (`gradients.py`), since
    # then each trace is read and written in one place. Whoever differentiates by the traces of a rule gets this.
    return _as_state(params, pullback), None, None, new_traces, below or (pullback.current,), None, None


_layer.defvjp(_layer_forward, _layer_backward, symbolic_zeros=True)


def _as_state(params: nnx.State, pullback: Pullback) -> nnx.State:
    """The gradients in the structure of the block's parameters."""
    neuron = iter(pullback.neuron)

    def gradient(path: tuple[Any, ...], _: Array) -> Array:
        names: list[Any] = [getattr(key, "key", getattr(key, "idx", None)) for key in path]
        if names[0] == "neuron":
            return next(neuron)
        return pullback.synapses[names[1]]["kernel" if names[0] == "feedback" else names[2]]

    return jax.tree_util.tree_map_with_path(gradient, params)
