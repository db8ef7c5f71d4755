"""The local Jacobians of a neuron: all that a local learning rule knows of it.

For a neuron with S states h, output s and input current I at each unit, and parameters phi,

    D = dh_t / dh_{t-1}     d = dh_t / dI_t     pS = dh_t / dphi
    o = ds_t / dh_{t-1}   psi = ds_t / dI_t     pO = ds_t / dphi

come from forward-mode differentiation of the neuron itself, so that no rule knows a leak, a reset or the number of states.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron


class Blocks(NamedTuple):
    """The local Jacobians of K steps, per sample and unit, states in the order of `jax.tree.leaves` of the carry.

    Args:
        D: dh_t[s] / dh_{t-1}[r].
        d: dh_t[s] / dI_t.
        o: ds_t / dh_{t-1}[r].
        psi: ds_t / dI_t, at the membrane before its reset.
        pS: dh_t[s] / dphi for each leaf of the neuron's parameters; per unit, also where the layer shares it.
        pO: ds_t / dphi, likewise.
    """

    D: Float[Array, "K S S *N"]
    d: Float[Array, "K S *N"]
    o: Float[Array, "K S *N"]
    psi: Float[Array, "K *N"]
    pS: tuple[Float[Array, "K S *N"], ...]
    pO: tuple[Float[Array, "K *N"], ...]


def linearise(neuron: Neuron, states: Any, currents: Float[Array, "K *N"]) -> Blocks:
    """The blocks of `neuron` at the states before each step and the currents of each step.

    Args:
        neuron: an element-wise neuron.
        states: its carry before each of the K steps, leaves [K, B, N].
        currents: [K, B, N].
    """
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    leaves, treedef = jax.tree.flatten(states)
    shape = currents.shape

    def step(params: Any, states: tuple[Array, ...], currents: Array) -> tuple[Array, Array]:
        """All steps in one call, as rows of a batch."""
        states = tuple(state.reshape(-1, *shape[2:]) for state in states)
        carry, output = nnx.merge(graphdef, params, rest)(
            jax.tree.unflatten(treedef, states), currents.reshape(-1, *shape[2:])
        )
        return jnp.stack([state.reshape(shape) for state in jax.tree.leaves(carry)], axis=1), output.reshape(shape)

    point = (params, tuple(leaves), currents)
    at_rest, structure = jax.tree.flatten(jax.tree.map(jnp.zeros_like, point))

    def along(index: int) -> tuple[Array, Array]:
        """The derivative by one leaf of `point`, at each unit: each unit depends on its own entry alone."""
        tangents = [jnp.ones_like(leaf) if i == index else leaf for i, leaf in enumerate(at_rest)]
        return jax.jvp(step, point, jax.tree.unflatten(structure, tangents))[1]

    derivatives = [along(index) for index in range(len(at_rest))]
    by_parameter, by_state, (d, psi) = (
        derivatives[: -len(leaves) - 1],
        derivatives[-len(leaves) - 1 : -1],
        derivatives[-1],
    )
    return Blocks(
        D=jnp.stack([dh for dh, _ in by_state], axis=2),
        d=d,
        o=jnp.stack([ds for _, ds in by_state], axis=1),
        psi=psi,
        pS=tuple(dh for dh, _ in by_parameter),
        pO=tuple(ds for _, ds in by_parameter),
    )


class Adjoints(NamedTuple):
    """What the reverse recursion over a window leaves: see `reverse`."""

    current: Float[Array, "K *N"]
    states: Float[Array, "K S *N"]
    start: Float[Array, "S *N"]


def reverse(blocks: Blocks, signal: Float[Array, "K *N"], end: Float[Array, "S *N"]) -> Adjoints:
    """The reverse pass over a window of K steps, inside this neuron alone.

        g_t = psi_t delta_t + d_t . a_t        a_{t-1} = o_t delta_t + D_t^T a_t        t = K..1

    Args:
        signal: delta_t, the cotangent of the output.
        end: a_K, the cotangent of the state at the end.

    Returns:
        g_t, a_t for t = 1..K, and a_0.
    """

    def step(a: Array, at: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        D, d, o, psi, delta = at
        return o * delta[None] + jnp.sum(D * a[:, None], axis=0), (psi * delta + jnp.sum(d * a, axis=0), a)

    start, (current, states) = jax.lax.scan(step, end, (*blocks[:4], signal), reverse=True)
    return Adjoints(current, states, start)
