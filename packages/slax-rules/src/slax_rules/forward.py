"""What the rules share that carry the influence of parameters on the states of a whole model forward in time.

    h_t, y_t = cell(h_{t-1}, x_t)                        h_t [H]: all numbers in the carry, of one sample
    J_t = dh_t/dtheta = D_t J_{t-1} + F_t                D_t = dh_t/dh_{t-1},  F_t = dh_t/dtheta, the direct part
    gradient  sum_t delta_t (dy_t/dtheta + dy_t/dh_{t-1} J_{t-1})               delta_t: the cotangent of y_t

`Forward` makes a cell of any cell whose reverse pass of a window is that; an `InfluenceRule` says what is carried in the place
of J. The signal that goes below a window passes each step by itself, so that nothing of one block's time reaches another's.
"""

from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from slax_neurons.engine import check_sequence
from slax_rules.network import Network, network
from slax_rules.online import OnlineCell


class ForwardCarry(NamedTuple):
    """The carry of the plain cell, and what the rule carries in the place of J."""

    plain: Any
    influence: Any


@runtime_checkable
class InfluenceRule(Protocol):
    """What is carried in the place of J. Implementations are frozen dataclasses of their options.

    `default_window` is a number of steps that is fast and small. `stepwise` says whether `advance` takes one step at a time;
    otherwise it takes a window.
    """

    default_window: ClassVar[int]
    stepwise: ClassVar[bool]

    def initialize(self, network: Network, carry: Any, key: Key[Array, ""] | None) -> Any:
        """The influence at rest, none; `carry` is the model's. `key` is for a rule that draws."""

    def advance(self, network: Network, carry: Any, inputs: Float[Array, "K B ..."], influence: Any) -> Any:
        """The influence K steps after `carry`."""

    def meet(self, network: Network, adjoint: Float[Array, "B H"], influence: Any) -> tuple[Array, ...]:
        """adjoint J for each array of parameters, summed over samples."""


class Forward(OnlineCell):
    """A cell under a rule that carries influence forward: same parameters at the same paths, same forward pass.

    Args:
        model: any cell. It and the new cell share their parameters.
        rule: what is carried in the place of J.
        rngs: for a rule that draws.

    Raises:
        TypeError: not a cell, or one that is, or holds one that is, under a rule already.
    """

    def __init__(self, model: nnx.RNNCellBase, rule: InfluenceRule, rngs: nnx.Rngs | nnx.RngStream | None = None):
        name = type(rule).__name__
        if not isinstance(model, nnx.RNNCellBase):
            raise TypeError(
                f"{name} got {type(model).__name__}, expected a cell: a stack made by connect, a neuron, a Flax recurrent cell."
            )
        for _, part in nnx.iter_modules(model):
            if isinstance(part, OnlineCell):
                raise TypeError(
                    f"{name} got a {type(model).__name__} in which something is under {part.rule_name} already. Give it the "
                    "plain cell."
                )
        vars(self).update(vars(model))  # so that parameters have the paths that they have in the model
        self._plain_type = type(model)
        self._rule = rule
        self._noise = nnx.data(
            None if rngs is None else (rngs if isinstance(rngs, nnx.RngStream) else rngs.noise).fork()
        )

    @property
    def default_window(self) -> int:
        return self._rule.default_window

    @property
    def rule_name(self) -> str:
        return type(self._rule).__name__

    @property
    def num_feature_axes(self) -> int:
        return self._plain().num_feature_axes

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> ForwardCarry:
        """The model's carry at rest, and no influence yet, for inputs of `input_shape` [B, features...].

        `rngs` is for models and rules that draw; a rule draws from its own stream if there is none.
        """
        plain = self._plain()
        key = None
        if self._noise is not None:
            stream = self._noise if rngs is None else rngs if isinstance(rngs, nnx.RngStream) else rngs.noise
            key = stream()
        carry = plain.initialize_carry(input_shape, rngs)
        return ForwardCarry(carry, self._rule.initialize(network(plain, tuple(input_shape)), carry, key))

    def __call__(self, carry: Any, inputs: Float[Array, "B ..."]) -> tuple[Any, Float[Array, "B ..."]]:
        carry, outputs = self.unroll(carry, inputs[None])
        return carry, outputs[0]

    def unroll(self, carry: Any, inputs: Float[Array, "T B ..."]) -> tuple[ForwardCarry, Float[Array, "T B ..."]]:
        """A whole window."""
        check_sequence(inputs)
        if not isinstance(carry, ForwardCarry):
            raise ValueError(
                f"{self.rule_name} got a carry that is no ForwardCarry. Make it with initialize_carry(inputs.shape[1:]) of "
                "this cell, not of the plain one."
            )
        graphdef, params, rest = nnx.split(self._plain(), nnx.Param, ...)
        return _window(self._rule, graphdef, params, rest, carry, inputs)

    def _plain(self) -> nnx.RNNCellBase:
        """The model, sharing all that is in this cell."""
        plain = object.__new__(self._plain_type)
        own = ("_plain_type", "_rule", "_noise")
        vars(plain).update({name: value for name, value in vars(self).items() if name not in own})
        return plain


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _window(
    rule: InfluenceRule, graphdef: nnx.GraphDef, params: nnx.State, rest: nnx.State, carry: ForwardCarry, inputs: Array
) -> tuple[ForwardCarry, Array]:
    parts = network(nnx.merge(graphdef, params, rest), inputs.shape[1:])
    end, outputs = parts.run(carry.plain, inputs)
    return ForwardCarry(end, _advance(rule, parts, carry, inputs)), outputs


def _window_forward(
    rule: InfluenceRule, graphdef: nnx.GraphDef, params: nnx.State, rest: nnx.State, carry: ForwardCarry, inputs: Array
) -> tuple[tuple[ForwardCarry, Array], Any]:
    parts = network(nnx.merge(graphdef, params, rest), inputs.shape[1:])
    (end, outputs), pull = parts.pull(carry.plain, inputs)
    return (ForwardCarry(end, _advance(rule, parts, carry, inputs)), outputs), (params, rest, carry, inputs, pull)


def _window_backward(
    rule: InfluenceRule, graphdef: nnx.GraphDef, residuals: Any, cotangents: tuple[ForwardCarry, Array]
) -> tuple[nnx.State, None, None, Array]:
    params, rest, carry, inputs, pull = residuals
    end, signal = cotangents
    parts = network(nnx.merge(graphdef, params, rest), inputs.shape[1:])
    adjoint, influence = parts.states(end.plain), carry.influence
    if rule.stepwise:
        direct, influence = _follow(rule, parts, carry, inputs, signal)
    else:
        direct, adjoint = pull(adjoint, signal)
    before = rule.meet(parts, adjoint, influence)
    gradient = [now + past.astype(now.dtype) for now, past in zip(direct, before, strict=True)]
    below = _signal_below(parts, carry.plain, inputs, signal)
    return jax.tree.unflatten(jax.tree.structure(params), gradient), None, None, below


_window.defvjp(_window_forward, _window_backward)


def _advance(rule: InfluenceRule, parts: Network, carry: ForwardCarry, inputs: Array) -> Any:
    """The influence at the end of a window."""
    if not rule.stepwise:
        return rule.advance(parts, carry.plain, inputs, carry.influence)

    def step(carry: ForwardCarry, x: Array) -> tuple[ForwardCarry, None]:
        influence = rule.advance(parts, carry.plain, x[None], carry.influence)
        return ForwardCarry(parts.run(carry.plain, x[None])[0], influence), None

    return jax.lax.scan(step, carry, inputs)[0].influence


def _follow(
    rule: InfluenceRule, parts: Network, carry: ForwardCarry, inputs: Array, signal: Array
) -> tuple[tuple[Array, ...], Any]:
    """The gradient of a window's outputs, with the influence made again step by step, and the influence at its end."""

    def step(at: tuple[ForwardCarry, tuple[Array, ...]], now: tuple[Array, Array]) -> tuple[Any, None]:
        carry, total = at
        x, delta = now
        (end, _), pull = parts.pull(carry.plain, x[None])
        direct, adjoint = pull(jnp.zeros_like(parts.states(end)), delta[None])
        before = rule.meet(parts, adjoint, carry.influence)
        total = tuple(sum_ + d + b.astype(d.dtype) for sum_, d, b in zip(total, direct, before, strict=True))
        return (ForwardCarry(end, rule.advance(parts, carry.plain, x[None], carry.influence)), total), None

    zero = tuple(jnp.zeros_like(leaf) for leaf in jax.tree.leaves(parts.params))
    (end, total), _ = jax.lax.scan(step, (carry, zero), (inputs, signal))
    return total, end.influence


def _signal_below(parts: Network, carry: Any, inputs: Array, signal: Array) -> Array:
    """delta_t dy_t/dx_t: what passes each step by itself, for all steps at once."""

    def step(carry: Any, x: Array) -> tuple[Any, Any]:
        return parts.run(carry, x[None])[0], carry

    def below(carry: Any, x: Array, delta: Array) -> Array:
        _, pull = jax.vjp(lambda x: parts.run(carry, x[None])[1][0], x)
        return pull(delta)[0]

    return jax.vmap(below)(jax.lax.scan(step, carry, inputs)[1], inputs, signal)
