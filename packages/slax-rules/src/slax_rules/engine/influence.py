"""The engine of rules that carry the influence of parameters on the states of an entire model forward in time.

h_t, y_t = cell(h_{t-1}, x_t)                        h_t [H]: all numbers in the carry, of one sample
J_t = dh_t/dtheta = D_t J_{t-1} + F_t                D_t = dh_t/dh_{t-1},  F_t = dh_t/dtheta, the direct part
gradient  sum_t delta_t (dy_t/dtheta + dy_t/dh_{t-1} J_{t-1})               delta_t: the gradient of the loss w.r.t. y_t
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Dropout, RunningSum, unroll
from slax_neurons.building_blocks import (
    DropoutState,
    accumulates,
    input_dtype,
    scan_steps,
    unroll_chunk,
)
from slax_rules.engine.coloring import ColumnColoring, color_reached, contract, jacobian_sparsity, zero_influence
from slax_rules.engine.jacobians import is_state
from slax_rules.engine.stack import run_with_layers
from slax_rules.rules.base import Rule, RuleState, WindowGradient, batch_axis, check_cell
from slax_rules.windows import Outputs


@dataclasses.dataclass(frozen=True, eq=False)
class StateSpace:
    """A cell in parts. Its states are the floating-point numbers in its carry, H per sample; only they have derivatives.

    Args:
        graphdef, params, rest: the cell, as split by `nnx.split(cell, nnx.Param, ...)`.
        axes: for each leaf of the carry, the axis of the samples, or None where samples share the leaf.
        carry: shapes of the carry of one sample.
        inputs: shape of the inputs of one step and sample.
        layers: the numbers of the hidden layers whose outputs a run returns.
    """

    graphdef: nnx.GraphDef
    params: nnx.State
    rest: nnx.State
    axes: tuple[Any, ...]
    carry: Any
    inputs: Any
    layers: tuple[int, ...] = ()

    @property
    def cell(self) -> nnx.RNNCellBase:
        """A copy of the cell."""
        return nnx.merge(self.graphdef, self.params, self.rest, copy=True)

    def alone(self, leaves: Sequence[Array], structure: Any) -> Any:
        """The carry of a batch of one sample, from the leaves of a sample."""
        pairs = zip(leaves, self.axes, strict=True)
        return jax.tree.unflatten(structure, [x if axis is None else jnp.expand_dims(x, axis) for x, axis in pairs])

    def states(self, carry: Any) -> Float[Array, "B H"]:
        """The states of a carry, or the cotangents of the states in the cotangent of a carry."""
        numbers = [(leaf, axis) for leaf, axis in zip(jax.tree.leaves(carry), self.axes, strict=True) if is_state(leaf)]
        widest = max((leaf.dtype for leaf, _ in numbers), key=lambda dtype: dtype.itemsize)
        rows = (jnp.moveaxis(leaf, axis, 0) for leaf, axis in numbers)
        return jnp.concatenate([row.reshape(row.shape[0], -1).astype(widest) for row in rows], axis=1)

    def with_states(self, carry: Any, states: Float[Array, "B H"]) -> Any:
        """Return the carry with these states in place of its own."""
        leaves, structure = jax.tree.flatten(carry)
        done = 0
        for index, (leaf, axis) in enumerate(zip(leaves, self.axes, strict=True)):
            if is_state(leaf):
                shape = np.delete(leaf.shape, axis)
                piece = states[:, done : done + int(np.prod(shape))]
                leaves[index] = jnp.moveaxis(piece.reshape(-1, *shape), 0, axis).astype(leaf.dtype)
                done += piece.shape[1]
        return jax.tree.unflatten(structure, leaves)

    def run(self, carry: Any, inputs: Float[Array, "K B ..."], params: nnx.State | None = None) -> tuple[Any, Outputs]:
        """Run K steps; return the carry after them, and the outputs.

        Raises:
            ValueError: a module changed its own variables.
        """
        cell = self.cell if params is None else nnx.merge(self.graphdef, params, self.rest, copy=True)
        carry, outputs = run_with_layers(lambda *run: unroll_chunk(*run)[:2], cell, carry, inputs, self.layers)
        states = self.rest, nnx.state(cell, nnx.Not(nnx.Param))  # running sums are left to InfluenceRule.window
        before, after = (
            jax.tree_util.tree_leaves_with_path(nnx.filter_state(state, nnx.Not(RunningSum))) for state in states
        )
        for (path, old), (_, new) in zip(before, after, strict=True):
            if old is not new:
                raise ValueError(
                    f"Got a model that changes {jax.tree_util.keystr(path)} when called, as BatchNorm in training does. A rule "
                    "that carries influence forward needs a model whose state is all in the carry: call model.eval(), or use "
                    "slax_neurons.Dropout in place of nnx.Dropout."
                )
        return carry, outputs

    def vjp(
        self, carry: Any, inputs: Float[Array, "K B ..."]
    ) -> tuple[tuple[Any, Outputs], Callable[[Array, Outputs], tuple[tuple[Array, ...], Array]]]:
        """Return the carry after K steps and the outputs, and the reverse pass of the K steps.

        The reverse pass maps the cotangents of the states at the end [B, H] and of the outputs to the gradients of the
        parameters, summed over samples, and the cotangent of the states at the start [B, H].
        """

        def run(params: nnx.State, states: Array) -> tuple[tuple[Array, Outputs], Any]:
            end, outputs = self.run(self.with_states(carry, states), inputs, params)
            return (self.states(end), outputs), end

        (_, outputs), back, end = jax.vjp(run, self.params, self.states(carry), has_aux=True)

        def pull(end: Array, signal: Outputs) -> tuple[tuple[Array, ...], Array]:
            by_params, by_states = back((end, signal))
            return tuple(jax.tree.leaves(by_params)), by_states

        return (end, outputs), pull

    def vjp_states(
        self, carry: Any, inputs: Float[Array, "K B ..."], seeds: Sequence[Any]
    ) -> list[tuple[tuple[Float[Array, "B C ..."], ...], Float[Array, "B C H"]]]:
        """The derivatives of seeds . h_K w.r.t. each array of parameters and h_0, for each sample.

        Args:
            seeds: sets of cotangents of the states after K steps, [C, H] for all samples, or [B, C, H].

        Returns:
            Both derivatives for each set.
        """
        sets = [jnp.asarray(one, self.states(carry).dtype) for one in seeds]
        leaves, structure = jax.tree.flatten(carry)

        def sample(leaves: list[Array], xs: Array, sets: list[Array]) -> list[tuple[tuple[Array, ...], Array]]:
            alone = self.alone(leaves, structure)

            def end(params: nnx.State, states: Array) -> Array:
                return self.states(self.run(self.with_states(alone, states), xs[:, None], params)[0])[0]

            _, back = jax.vjp(end, self.params, self.states(alone))
            pulled = [jax.vmap(back)(one) for one in sets]
            return [(tuple(jax.tree.leaves(by_params)), by_states[:, 0]) for by_params, by_states in pulled]

        each = [0 if one.ndim == 3 else None for one in sets]
        return jax.vmap(sample, in_axes=(list(self.axes), 1, each))(leaves, inputs, sets)

    def jvp_states(self, carry: Any, inputs: Float[Array, "K B ..."], tangents: Float[Array, "B H"]) -> Array:
        """The product of dh_K/dh_0 and the tangents for each sample, [B, H]."""

        def end(states: Array) -> Array:
            return self.states(self.run(self.with_states(carry, states), inputs)[0])

        return jax.jvp(end, (self.states(carry),), (tangents,))[1]

    def as_gradient(self, arrays: Sequence[Array]) -> nnx.State:
        """Put arrays in the order of `jax.tree.leaves` into the structure of the parameters."""
        return jax.tree.unflatten(jax.tree.structure(self.params), arrays)

    def coloring(self, steps: int | None) -> tuple[ColumnColoring, ...]:
        """The coloring of the states that each parameter can reach within some steps, or any number; one for each array."""
        return self._coloring(steps)[0]

    def unknown_primitive(self, steps: int | None) -> str | None:
        """The name of a primitive for which the coloring counts everything as connected; None if the reach is known.

        A guard against renamed primitives of JAX: it is None for stacks of Linear, Conv and neurons without a loop.
        """
        return self._coloring(steps)[1]

    def _coloring(self, steps: int | None) -> tuple[tuple[ColumnColoring, ...], str | None]:
        leaves, structure = jax.tree.flatten((self.params, self.rest, self.carry, self.inputs))
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        return _coloring(self.graphdef, self.axes, structure, shapes, steps)


def state_space(cell: nnx.RNNCellBase, input_shape: tuple[int, ...], layers: tuple[int, ...] = ()) -> StateSpace:
    """Split a cell into parts, for inputs of `input_shape` [B, features...] per step.

    Args:
        layers: the numbers of the hidden layers whose outputs a run returns.

    Raises:
        ValueError: a carry without numbers, or with numbers or a random key that samples share, or masks that are not drawn per
            sample.
    """
    for _, part in nnx.iter_modules(cell):
        if isinstance(part, Dropout) and part.per == "step" and not part.deterministic:
            raise ValueError(
                'Got a Dropout(per="step"), whose masks are drawn for all samples together, but influence is carried sample '
                'by sample. Use per="sequence", or call model.eval().'
            )
    graphdef, params, rest = nnx.split(cell, nnx.Param, ...)
    # Only shapes are computed: nothing is drawn with this key.
    one, two = (
        jax.eval_shape(
            lambda batch=batch: nnx.merge(graphdef, params, rest, copy=True).initialize_carry(
                (batch, *input_shape[1:]), nnx.Rngs(0)
            )
        )
        for batch in (1, 2)
    )
    axes = tuple(map(batch_axis, jax.tree.leaves(one), jax.tree.leaves(two)))
    numbers = [axis for leaf, axis in zip(jax.tree.leaves(one), axes, strict=True) if is_state(leaf)]
    if not numbers or None in numbers:
        problem = (
            "without numbers, so nothing has an influence on it" if not numbers else "with numbers that samples share"
        )
        raise ValueError(
            f"{type(cell).__name__} has a carry {problem}. A rule that carries influence forward needs states [B, ...]; count "
            "steps in integers."
        )
    if any(a.shape == b.shape for a, b in zip(_keys(one), _keys(two), strict=True)):
        raise ValueError(
            f"{type(cell).__name__} has a random key in its carry that samples share, but influence is carried sample by "
            "sample. Expected a key for each sample: jax.random.split(key, batch)."
        )
    inputs = jax.ShapeDtypeStruct((1, *input_shape[1:]), input_dtype(cell))
    return StateSpace(graphdef, params, rest, axes, one, inputs, layers)


@lru_cache(maxsize=64)
def _coloring(
    graphdef: nnx.GraphDef, axes: tuple[int | None, ...], structure: Any, shapes: tuple[Any, ...], steps: int | None
) -> tuple[tuple[ColumnColoring, ...], str | None]:
    """Find the coloring, which depends on shapes alone: once for a model, even if its parameters are traced."""
    params, rest, carry, inputs = jax.tree.unflatten(structure, shapes)

    def step(point: tuple[nnx.State, Array], rest: nnx.State, carry: Any, inputs: Array) -> Array:
        params, states = point
        one = StateSpace(graphdef, params, rest, axes, carry, inputs)
        end, _ = nnx.merge(graphdef, params, rest, copy=True)(one.with_states(carry, states), inputs)
        return one.states(end)[0]

    parts = StateSpace(graphdef, params, rest, axes, carry, inputs)
    with jax.numpy_dtype_promotion("standard"):  # the dtype of the inputs is not known
        states = jax.eval_shape(parts.states, carry)
        (*by_parameter, by_state), unknown = jacobian_sparsity(step, (params, states), rest, carry, inputs)
    direct_by_state = by_state[:, 0].astype(np.float32)
    return tuple(color_reached(direct_by_state, direct, steps) for direct in by_parameter), unknown


def _keys(carry: Any) -> list[Any]:
    """The random keys in a carry, except in a Dropout, which nothing reads: one that is on was refused."""
    leaves = jax.tree.leaves(carry, is_leaf=lambda part: isinstance(part, DropoutState))
    arrays = (leaf for leaf in leaves if not isinstance(leaf, DropoutState))
    return [leaf for leaf in arrays if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]


class InfluenceRule(Rule):
    """A rule for any cell, whose traces are the quantity that a subclass carries in place of J.

    If `stepwise` is true, `advance` takes one time step at a time; otherwise it takes a window.
    """

    stepwise: ClassVar[bool]

    @abc.abstractmethod
    def init_influence(self, space: StateSpace, carry: Any) -> Any:
        """The influence before the first step, which is zero; `carry` is the model's carry."""

    @abc.abstractmethod
    def advance(self, space: StateSpace, carry: Any, inputs: Float[Array, "K B ..."], influence: Any) -> Any:
        """The influence K steps after `carry`."""

    @abc.abstractmethod
    def contract(self, space: StateSpace, adjoint: Float[Array, "B H"], influence: Any) -> tuple[Array, ...]:
        """The product of the adjoint with J for each array of parameters, summed over samples."""

    def check(self, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> None:
        check_cell(self.title, model)
        state_space(model, inputs.shape)

    def init(self, model: nnx.RNNCellBase, carry: Any, inputs: jax.ShapeDtypeStruct) -> Any:
        return self.init_influence(state_space(model, inputs.shape), carry)

    def window(
        self, model: nnx.RNNCellBase, state: RuleState, inputs: Float[Array, "K B ..."], loss: Any
    ) -> WindowGradient:
        space = state_space(model, inputs.shape[1:], loss.layers)
        if accumulates(model):
            unroll(model, state.carry, inputs)  # for its running sums alone
        if self.stepwise:
            _, outputs = space.run(state.carry, inputs)
            value, signal = jax.value_and_grad(loss)(outputs)
            gradient, state = self._step_by_step(space, state, inputs, signal)
        else:
            (end, outputs), pull = space.vjp(state.carry, inputs)
            value, signal = jax.value_and_grad(loss)(outputs)
            gradient, _ = self.gradient(space, pull, end, signal, state.traces)
            state = RuleState(end, self.advance(space, state.carry, inputs, state.traces))
        of_model, of_rule = jax.tree.unflatten(jax.tree.structure(self._params(space)), gradient)
        return WindowGradient(value, of_model, of_rule, state, outputs.final)

    def _params(self, space: StateSpace) -> tuple[nnx.State, nnx.State]:
        return space.params, nnx.state(self, nnx.Param)

    def _step_by_step(
        self, space: StateSpace, state: RuleState, inputs: Array, signal: Any
    ) -> tuple[tuple[Array, ...], RuleState]:
        """Compute the gradient of a window and the state after it, one time step at a time."""

        def step(carry: tuple[RuleState, tuple[Array, ...]], now: tuple[Array, Any]) -> tuple[Any, None]:
            state, total = carry
            x, delta = jax.tree.map(lambda leaf: leaf[None], now)
            (end, _), pull = space.vjp(state.carry, x)
            gradient, _ = self.gradient(space, pull, end, delta, state.traces)
            influence = self.advance(space, state.carry, x, state.traces)
            return (RuleState(end, influence), tuple(map(jnp.add, total, gradient))), None

        zero = tuple(jnp.zeros_like(leaf) for leaf in jax.tree.leaves(self._params(space)))
        (state, total), _ = scan_steps(step, (state, zero), (inputs, signal))
        return total, state

    def gradient(
        self, space: StateSpace, pull: Any, end: Any, signal: Any, influence: Any
    ) -> tuple[tuple[Array, ...], Float[Array, "B H"]]:
        """The gradient sum_t delta_t dy_t/dtheta within the window, plus the part a_0 J_0 of influence before it; and a_0.

        A rule with parameters of its own adds an array for each of them.
        """
        direct, adjoint = pull(jnp.zeros_like(space.states(end)), signal)
        past = self.contract(space, adjoint, influence)
        return tuple(now + before.astype(now.dtype) for now, before in zip(direct, past, strict=True)), adjoint


class ColoredInfluence(InfluenceRule):
    """A rule whose influence is J without the states that a parameter does not reach within `steps`: see `coloring`."""

    @property
    def steps(self) -> int | None:
        """The number of steps of reach, None for any number."""
        return None

    def init_influence(self, space: StateSpace, carry: Any) -> tuple[Array, ...]:
        return zero_influence(space.coloring(self.steps), space.states(carry).shape[0], space.params)

    def contract(
        self, space: StateSpace, adjoint: Float[Array, "B H"], influence: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        colorings = space.coloring(self.steps)
        pairs = zip(influence, colorings, strict=True)
        return tuple(contract(adjoint.astype(old.dtype), old, coloring) for old, coloring in pairs)
