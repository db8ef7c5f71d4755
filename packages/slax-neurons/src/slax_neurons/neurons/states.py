"""The states of an element-wise neuron over time, by a scan."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from slax_neurons.kernels import scan_steps

# For the reverse pass, a rematerialized function saves only its arguments and recomputes the rest; it may be inside a scan.
# Pass it a function made for this call, since JAX caches traces by function.
rematerialize = partial(jax.checkpoint, prevent_cse=False)


def fire(neuron: Any, carry: Any, membrane: Any) -> tuple[Any, Any]:
    """The carry and the output that `fire` makes; TypeError unless the carry has the shapes of the one before."""
    fired, expected = neuron.fire(membrane), jax.tree.map(jnp.shape, carry)
    is_pair = isinstance(fired, tuple | list) and len(fired) == 2
    if not is_pair or _shapes(fired[0]) != _shapes(carry):
        raise TypeError(
            f"{type(neuron).__name__}.fire returned arrays of shapes {jax.tree.map(jnp.shape, fired)}, expected "
            f"(carry, output), with a carry of shapes {expected}. End it with: return carry, output."
        )
    return fired[0], fired[1]


def fire_steps(neuron: Any, membranes: Any) -> tuple[Any, Any]:
    """The carries and the outputs that `fire` makes of the membranes of all steps [T, *B, N], each step by itself.

    `fire` gets [*B, N], as in a single step, since a neuron may tell its units by their place: s[:, :3].
    """
    return jax.vmap(lambda membrane: neuron.fire(membrane))(membranes)


def carries_before(first: Any, after: Any) -> Any:
    """The carries before each step, from the first one and the carries after each step."""
    return jax.tree.map(lambda first, after: jnp.concatenate([first[None], after[:-1]]), first, after)


def _shapes(tree: Any) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


@partial(jax.custom_jvp, nondiff_argnums=(0, 4))
def integrate_and_fire(
    graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array, per_iteration: int | None = None
) -> tuple[Any, Any]:
    """The last carry and the membranes before each firing, m_t, of a neuron that is split into `graphdef` and `state`.

    The derivative equals the derivative of the scan, but stores nothing from the scan except m_t, and I_t where the
    derivative of `integrate` depends on I_t, as for a trainable factor of the current. JAX may take the derivative after the
    block in which `unroll` sets the steps in an iteration, so they are an argument.
    """
    neuron = nnx.merge(graphdef, state)

    def step(carry: Any, current: Array) -> tuple[Any, Any]:
        membrane = neuron.integrate(carry, current)
        return fire(neuron, carry, membrane)[0], membrane

    return scan_steps(step, carry, inputs, per_iteration=per_iteration)


@integrate_and_fire.defjvp
def _integrate_and_fire_jvp(
    graphdef: nnx.GraphDef, per_iteration: int | None, primals: tuple, tangents: tuple
) -> tuple[tuple, tuple]:
    state, carry, inputs = primals
    end, membranes = integrate_and_fire(graphdef, state, carry, inputs, per_iteration)

    def tangent(
        state: nnx.State, carry: Any, inputs: Array, membranes: Any, d_state: nnx.State, d_carry: Any, d_inputs: Array
    ) -> Any:
        def integrate(carry: Any, current: Array) -> Any:
            return jax.linearize(lambda *at: nnx.merge(graphdef, at[0]).integrate(*at[1:]), state, carry, current)[1]

        def fire(membrane: Any) -> Any:
            return jax.linearize(lambda *at: nnx.merge(graphdef, at[0]).fire(at[1])[0], state, membrane)[1]

        after = fire_steps(nnx.merge(graphdef, state), membranes)[0]
        before = carries_before(carry, after)
        # The linear maps of all steps together: only the parts that depend on the states are computed, outside the scan.
        steps = jax.vmap(integrate)(before, inputs), jax.vmap(fire)(membranes)

        def step(d_carry: Any, at: tuple[Any, Any, Array]) -> tuple[Any, Any]:
            integrate, fire, d_current = at
            d_membrane = integrate(d_state, d_carry, d_current)
            return fire(d_state, d_membrane), d_membrane

        return scan_steps(step, d_carry, (*steps, d_inputs), per_iteration=per_iteration)

    return (end, membranes), rematerialize(tangent)(state, carry, inputs, membranes, *tangents)
