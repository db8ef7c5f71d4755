"""The engine of rules that carry the influence of parameters on the states of an entire model forward in time.

h_t, y_t = cell(h_{t-1}, x_t)                        h_t [H]: all numbers in the carry, of one sample
J_t = dh_t/dtheta = D_t J_{t-1} + F_t                D_t = dh_t/dh_{t-1},  F_t = dh_t/dtheta, the direct part
gradient  sum_t delta_t (dy_t/dtheta + dy_t/dh_{t-1} J_{t-1})               delta_t: the gradient of the loss w.r.t. y_t
"""

import abc
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import unroll
from slax_neurons.building_blocks import StepSize, accumulates, steps_in_cache
from slax_rules.influence.state_space import StateSpace, state_space
from slax_rules.probes import Probe
from slax_rules.rule import Heads, LearningRule, Objective, WindowGradient, check_cell, no_parameters


class InfluenceState(NamedTuple):
    """The carry of the model, and the quantity that the rule carries in place of J."""

    carry: Any
    influence: Any


class InfluenceRule(LearningRule):
    """A rule for any cell; a subclass defines the quantity that is carried in place of J.

    If `stepwise` is true, `advance` takes one time step at a time; otherwise it takes a window.
    """

    stepwise: ClassVar[bool]

    def default_window(self, size: StepSize) -> int:
        return steps_in_cache(size)

    @abc.abstractmethod
    def initialize_influence(self, space: StateSpace, carry: Any) -> Any:
        """The influence before the first step, which is zero; `carry` is the model's carry."""

    @abc.abstractmethod
    def advance(self, space: StateSpace, carry: Any, inputs: Float[Array, "K B ..."], influence: Any) -> Any:
        """The influence K steps after `carry`."""

    @abc.abstractmethod
    def contract(self, space: StateSpace, adjoint: Float[Array, "B H"], influence: Any) -> tuple[Array, ...]:
        """The product of the adjoint with J for each array of parameters, summed over samples."""

    def plan(self, model: nnx.RNNCellBase, input_shape: tuple[int, ...]) -> StateSpace:
        check_cell(self.title, model)
        return state_space(model, (1, *input_shape))

    def initialize(
        self, plan: StateSpace, model: nnx.RNNCellBase, carry: Any, inputs: jax.ShapeDtypeStruct
    ) -> InfluenceState:
        return InfluenceState(carry, self.initialize_influence(plan.bind(model), carry))

    def traces(self, state: InfluenceState) -> Any:
        return state.influence

    def forward(
        self,
        plan: StateSpace,
        model: nnx.RNNCellBase,
        state: InfluenceState,
        inputs: Float[Array, "K B ..."],
        probes: tuple[Probe, ...] = (),
    ) -> tuple[Heads, InfluenceState]:
        carry, heads = plan.bind(model, probes).run(state.carry, inputs)
        return heads, state._replace(carry=carry)

    def window(
        self,
        plan: StateSpace,
        model: nnx.RNNCellBase,
        state: InfluenceState,
        inputs: Float[Array, "K B ..."],
        objective: Objective,
    ) -> WindowGradient:
        space = plan.bind(model, objective.probes)
        if accumulates(model):
            unroll(model, state.carry, inputs)  # for its running sums alone
        if self.stepwise:
            heads, _ = self.forward(plan, model, state, inputs, objective.probes)
            loss, signal = objective(heads)
            gradient, state = self._step_by_step(space, state, inputs, signal)
        else:
            (end, heads), pull = space.vjp(state.carry, inputs)
            loss, signal = objective(heads)
            gradient = self._gradient(space, pull, end, signal, state.influence)
            state = InfluenceState(end, self.advance(space, state.carry, inputs, state.influence))
        return WindowGradient(loss, space.as_gradient(gradient), no_parameters(), state)

    def _step_by_step(
        self, space: StateSpace, state: InfluenceState, inputs: Array, signal: Any
    ) -> tuple[tuple[Array, ...], InfluenceState]:
        """Compute the gradient of a window and the state after it, one time step at a time."""

        def step(carry: tuple[InfluenceState, tuple[Array, ...]], now: tuple[Array, Any]) -> tuple[Any, None]:
            state, total = carry
            x, delta = jax.tree.map(lambda leaf: leaf[None], now)
            (end, _), pull = space.vjp(state.carry, x)
            gradient = self._gradient(space, pull, end, delta, state.influence)
            influence = self.advance(space, state.carry, x, state.influence)
            return (InfluenceState(end, influence), tuple(map(jnp.add, total, gradient))), None

        zero = tuple(jnp.zeros_like(leaf) for leaf in jax.tree.leaves(space.params))
        (state, total), _ = jax.lax.scan(step, (state, zero), (inputs, signal))
        return total, state

    def _gradient(self, space: StateSpace, pull: Any, end: Any, signal: Any, influence: Any) -> tuple[Array, ...]:
        """The gradient sum_t delta_t dy_t/dtheta within the window, plus the part a_0 J_0 of the influence before it."""
        direct, adjoint = pull(jnp.zeros_like(space.states(end)), signal)
        past = self.contract(space, adjoint, influence)
        return tuple(now + before.astype(now.dtype) for now, before in zip(direct, past, strict=True))
