"""The one place where a gradient is replaced: a block of synapse and neuron with a custom reverse pass per window.

Forward, a block under a rule is the plain block. Backward, the rule makes the parameters' gradient out of the cotangent of
the block's output (the learning signal), the block's local Jacobians and the traces that it carries from window to window,
and says which signal goes below. State and traces enter a window as numbers, and signals between blocks pass within their
own step, so nothing of one block's time reaches another's.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Connect, Dropout, Neuron
from slax_neurons.engine import apply_rows, check_sequence
from slax_neurons.modules import check_features
from slax_rules.blocks import Blocks, linearise
from slax_rules.online import OnlineCell
from slax_rules.synapse import input_gradient


class Block(nnx.Module):
    """A neuron and the dense synapse that feeds it, if any."""

    def __init__(self, synapse: nnx.Linear | None, neuron: Neuron):
        self.synapse = synapse
        self.neuron = neuron


class BlockCarry(NamedTuple):
    """The neuron's state and the rule's traces."""

    state: Any
    traces: Any


class Window(NamedTuple):
    """What a rule knows of K steps of a block: the synapse's inputs, and the neuron linearised at each step."""

    inputs: Float[Array, "K B *I"]
    blocks: Blocks


class Pullback(NamedTuple):
    """What a rule makes of a learning signal.

    Args:
        synapse: gradient of each of the synapse's weights, by name.
        neuron: gradient of each of the neuron's parameters, in the order of `Blocks.pS`.
        current: the part of the signal that goes below, as a cotangent of the current.
    """

    synapse: dict[str, Array]
    neuron: tuple[Array, ...]
    current: Float[Array, "K B *N"]


@runtime_checkable
class LocalRule(Protocol):
    """A local learning rule: three functions on a window. Implementations are frozen dataclasses of their options."""

    def initialize_traces(self, block: Block, states: Float[Array, "S B *N"]) -> Any:
        """The traces at rest; `states` are the neuron's at rest."""

    def advance(self, block: Block, window: Window, traces: Any) -> Any:
        """The traces at the end of a window."""

    def pullback(
        self, block: Block, window: Window, traces: Any, signal: Float[Array, "K B *N"], end: Float[Array, "S B *N"]
    ) -> Pullback:
        """The gradient, from the traces at the start of a window, the signal, and the cotangent of the last state."""


class Ruled(Connect, OnlineCell):
    """A stack under a local rule: same parameters at the same paths, same forward pass, the rule's gradient.

    Each neuron, with the Linear right before it, becomes a block under the rule; nested stacks count as if they were
    written out. Modules without parameters pass signals on within their step. Modules with parameters behind the last
    neuron have no time, and keep their exact gradient. The carry is a tuple with one `BlockCarry` per block.

    Args:
        model: a stack made by `connect`. It and the ruled cell share their parameters.
        rule: the local rule.

    Raises:
        TypeError: a model, or a module in it, that the rule cannot treat.
    """

    # A trade: traces are touched once per window, so a longer one is faster, the more so the wider the layers, and its memory
    # grows with it.
    default_window = 128

    def __init__(self, model: nnx.RNNCellBase, rule: LocalRule):
        name = type(rule).__name__
        if isinstance(model, Ruled):
            raise TypeError(f"{name} got a stack that is under {type(model.rule).__name__} already.")
        if not isinstance(model, Connect):
            raise TypeError(
                f"{name} got {type(model).__name__}, expected a stack made by connect([Linear(...), LIF()])."
            )
        if any(isinstance(part, Connect) and part.edges for _, part in nnx.iter_modules(model)):
            raise TypeError(f"{name} treats feed-forward stacks, got one with edges. Use BPTT (the plain cell) for it.")
        self.modules = model.modules
        self.edges, self.synapses = model.edges, model.synapses
        self.rule: LocalRule = rule
        _check_modules(name, _flatten(self))

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> tuple[BlockCarry, ...]:
        """State and traces of each block at rest, for inputs of `input_shape` [B, features...]."""
        states = _states(self, super().initialize_carry(input_shape, rngs))
        blocks = [stage for stage in self._stages() if isinstance(stage, Block)]
        return tuple(
            BlockCarry(state, self.rule.initialize_traces(block, _stack(state)))
            for block, state in zip(blocks, states, strict=True)
        )

    def __call__(self, carry: Any, inputs: Float[Array, "B ..."]) -> tuple[Any, Float[Array, "B ..."]]:
        carry, outputs = self.unroll(carry, inputs[None])
        return carry, outputs[0]

    def unroll(
        self, carry: Any, inputs: Float[Array, "T B ..."]
    ) -> tuple[tuple[BlockCarry, ...], Float[Array, "T B ..."]]:
        """A whole window, block by block."""
        check_sequence(inputs)
        stages = self._stages()
        blocks = sum(isinstance(stage, Block) for stage in stages)
        if not isinstance(carry, tuple) or [type(part) for part in carry] != [BlockCarry] * blocks:
            raise ValueError(
                f"{type(self.rule).__name__} got a carry that is not a tuple of {blocks} BlockCarry, one for each block. "
                "Make it with initialize_carry(inputs.shape[1:]) of this cell, not of the plain one."
            )
        carries: list[BlockCarry] = []
        index = 0  # of the stage's first module, as in a stack that is written out
        for stage in stages:
            modules = (
                [stage] if not isinstance(stage, Block) else [m for m in (stage.synapse, stage.neuron) if m is not None]
            )
            check_features(modules[0], index, inputs.shape[1:])
            index += len(modules)
            if isinstance(stage, Block):
                state, inputs = _unroll_block(self.rule, stage, carry[len(carries)], inputs)
                carries.append(state)
            else:
                inputs = apply_rows(stage, inputs)
        return tuple(carries), inputs

    def outputs(self, carry: Any, inputs: Float[Array, "T B ..."]) -> Any:
        """Raises TypeError: a rule knows blocks, not modules."""
        raise TypeError(f"A stack under {type(self.rule).__name__} has no outputs per module. Use the plain stack.")

    def _stages(self) -> list[Block | nnx.Module]:
        """The stack in order, as blocks and as modules that stand alone."""
        stages: list[Block | nnx.Module] = []
        for module in _flatten(self):
            if isinstance(module, Neuron):
                synapse = stages.pop() if stages and _is_dense(stages[-1]) else None
                stages.append(Block(cast(nnx.Linear | None, synapse), module))
            else:
                stages.append(module)
        return stages


def _flatten(stack: Connect) -> list[nnx.Module]:
    """The modules of a stack and of the plain stacks in it, in order."""
    leaves: list[nnx.Module] = []
    for module in stack.modules:
        if isinstance(module, Connect) and not isinstance(module, Ruled):
            leaves.extend(_flatten(module))
        else:
            leaves.append(module)
    return leaves


def _is_dense(module: nnx.Module) -> bool:
    """Whether it is a Linear; a subclass may compute something else."""
    return type(module) is nnx.Linear


def _states(stack: Connect, carry: tuple) -> list[Any]:
    """The neurons' parts of a stack's carry, in the order of `_flatten`."""
    states: list[Any] = []
    for module, part in zip(stack.modules, carry, strict=True):
        if isinstance(module, Connect):
            states.extend(_states(module, part))
        elif isinstance(module, Neuron):
            states.append(part)
    return states


def _check_modules(name: str, modules: list[nnx.Module]) -> None:
    """Raises unless each module is a neuron, a Linear before one, free of parameters, or behind the last neuron."""
    neurons = [index for index, module in enumerate(modules) if isinstance(module, Neuron)]
    if not neurons:
        raise TypeError(f"{name} got a stack without neurons, expected at least one [Linear, neuron] layer.")
    for index, module in enumerate(modules):
        if isinstance(module, Ruled):
            raise TypeError(f"{name} got a stack that is under {type(module.rule).__name__} already.")
        if isinstance(module, Dropout):
            raise TypeError(
                f"{name} got a Dropout as module {index}, which it does not treat. Use BPTT (the plain cell) for it."
            )
        if isinstance(module, nnx.RNNCellBase) and index not in neurons:
            raise TypeError(
                f"{name} treats element-wise neurons, got {type(module).__name__} as module {index}, whose units see each "
                "other. Use BPTT (the plain cell) for it."
            )
        feeds_neuron = _is_dense(module) and index + 1 in neurons
        if not (feeds_neuron or index in neurons or index > neurons[-1]) and jax.tree.leaves(
            nnx.state(module, nnx.Param)
        ):
            raise TypeError(
                f"{name} traces the parameters of a Linear right before a neuron, got {type(module).__name__} as module "
                f"{index}, followed by {type(modules[index + 1]).__name__}. Use BPTT (the plain cell) for it."
            )


def _unroll_block(rule: LocalRule, block: Block, carry: BlockCarry, inputs: Array) -> tuple[BlockCarry, Array]:
    graphdef, params, constants = nnx.split(block, nnx.Param, ...)
    return _window(rule, graphdef, params, constants, carry, inputs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _window(
    rule: LocalRule, graphdef: nnx.GraphDef, params: nnx.State, constants: nnx.State, carry: BlockCarry, inputs: Array
) -> tuple[BlockCarry, Array]:
    return _window_forward(rule, graphdef, params, constants, carry, inputs)[0]


def _window_forward(
    rule: LocalRule, graphdef: nnx.GraphDef, params: nnx.State, constants: nnx.State, carry: BlockCarry, inputs: Array
) -> tuple[tuple[BlockCarry, Array], Any]:
    block = nnx.merge(graphdef, params, constants)
    currents = inputs if block.synapse is None else apply_rows(block.synapse, inputs)
    block.neuron.check_carry(carry.state, currents[0])

    def step(state: Any, current: Array) -> tuple[Any, tuple[Any, Array]]:
        new_state, output = block.neuron(state, current)
        return new_state, (state, output)

    state, (states, outputs) = jax.lax.scan(step, carry.state, currents)
    window = Window(inputs, linearise(block.neuron, states, currents))
    traces = rule.advance(block, window, carry.traces)
    return (BlockCarry(state, traces), outputs), (params, constants, window, carry.traces)


def _window_backward(
    rule: LocalRule, graphdef: nnx.GraphDef, residuals: Any, cotangents: tuple[BlockCarry, Array]
) -> tuple[nnx.State, None, None, Array]:
    params, constants, window, traces = residuals
    carry, signal = cotangents
    block = nnx.merge(graphdef, params, constants)
    pullback = rule.pullback(block, window, traces, signal, _stack(carry.state))
    below = pullback.current
    if block.synapse is not None:
        below = input_gradient(block.synapse, window.inputs, below)
    return _as_state(params, pullback), None, None, below


_window.defvjp(_window_forward, _window_backward)


def _as_state(params: nnx.State, pullback: Pullback) -> nnx.State:
    """The gradients in the structure of the block's parameters, whose leaves are sorted: neuron, then synapse by name."""
    leaves = [*pullback.neuron, *(pullback.synapse[name] for name in sorted(pullback.synapse))]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _stack(carry: Any) -> Array:
    """The states of a carry as one array, in the order of its leaves."""
    return jnp.stack(jax.tree.leaves(carry))
