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
    """The local Jacobians of one step, per sample and unit, states in the order of `jax.tree.leaves` of the carry.

    Args:
        D: dh_t[s] / dh_{t-1}[r].
        d: dh_t[s] / dI_t.
        o: ds_t / dh_{t-1}[r].
        psi: ds_t / dI_t, at the membrane before its reset.
        pS: dh_t[s] / dphi for each leaf of the neuron's parameters; per unit, also where the layer shares it.
        pO: ds_t / dphi, likewise.
    """

    D: Float[Array, "S S *N"]
    d: Float[Array, "S *N"]
    o: Float[Array, "S *N"]
    psi: Float[Array, "*N"]
    pS: tuple[Float[Array, "S *N"], ...]
    pO: tuple[Float[Array, "*N"], ...]


class Moment(NamedTuple):
    """Where a neuron is in a step: its state before it, the current, and the membrane before it fires.

    Args:
        state: the carry, leaves [B, N].
        current: [B, N].
        membrane: `neuron.integrate(state, current)`; None for a neuron that is not in halves.
    """

    state: Any
    current: Float[Array, "*N"]
    membrane: Any


def linearise(neuron: Neuron, at: Moment) -> Blocks:
    """The blocks of an element-wise neuron in one step.

    Where the neuron is in halves, the second is taken at the membrane, which often is all that the blocks depend on.
    """
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    leaves, treedef = jax.tree.flatten(at.state)

    def merged(params: Any) -> Any:
        return nnx.merge(graphdef, params, rest)

    def call(params: Any, leaves: tuple[Array, ...], current: Array) -> tuple[Any, Array]:
        return merged(params)(jax.tree.unflatten(treedef, leaves), current)

    def integrate(params: Any, leaves: tuple[Array, ...], current: Array) -> Any:
        return merged(params).integrate(jax.tree.unflatten(treedef, leaves), current)

    point = (params, tuple(leaves), at.current)
    at_rest, structure = jax.tree.flatten(jax.tree.map(jnp.zeros_like, point))

    def along(index: int) -> tuple[Array, Array]:
        """The derivative by one leaf of `point`, at each unit: each unit depends on its own entry alone."""
        leaves = [jnp.ones_like(leaf) if i == index else leaf for i, leaf in enumerate(at_rest)]
        tangents = jax.tree.unflatten(structure, leaves)
        if neuron.in_halves:
            _, d_membrane = jax.jvp(integrate, point, tangents)
            _, (d_carry, d_output) = jax.jvp(
                lambda params, membrane: merged(params).fire(membrane), (params, at.membrane), (tangents[0], d_membrane)
            )
        else:
            _, (d_carry, d_output) = jax.jvp(call, point, tangents)
        return jnp.stack(jax.tree.leaves(d_carry)), d_output

    *derivatives, (d, psi) = (along(index) for index in range(len(at_rest)))
    by_parameter, by_state = derivatives[: -len(leaves)], derivatives[-len(leaves) :]
    return Blocks(
        D=jnp.stack([dh for dh, _ in by_state], axis=1),
        d=d,
        o=jnp.stack([ds for _, ds in by_state]),
        psi=psi,
        pS=tuple(dh for dh, _ in by_parameter),
        pO=tuple(ds for _, ds in by_parameter),
    )


def with_leaky_sum(blocks: Blocks, decay: Float[Array, ""]) -> Blocks:
    """The blocks of the neuron with one more state, which is its output from now on: r_t = decay r_{t-1} + s_t."""
    zeros = jnp.zeros_like(blocks.o)
    fading = jnp.broadcast_to(decay, blocks.psi.shape)
    within = jnp.concatenate([blocks.D, zeros[:, None]], axis=1)
    of_sum = jnp.concatenate([blocks.o, fading[None]])
    return Blocks(
        D=jnp.concatenate([within, of_sum[None]]),
        d=jnp.concatenate([blocks.d, blocks.psi[None]]),
        o=of_sum,
        psi=blocks.psi,
        pS=tuple(jnp.concatenate([pS, pO[None]]) for pS, pO in zip(blocks.pS, blocks.pO, strict=True)),
        pO=blocks.pO,
    )
