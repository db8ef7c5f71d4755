"""Online spatio-temporal learning."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_rules.blocks import reverse
from slax_rules.engine import Block, Pullback, Ruled, Window
from slax_rules.synapse import fade, grow, meet, weight_gradient, zero_traces


def ostl(model: nnx.RNNCellBase) -> Ruled:
    """Puts a stack under online spatio-temporal learning (OSTL) for layers without recurrence.

        eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t        gradient  sum_t delta_t eps_t

    with the blocks D, d, o, psi of `linearise` and x the input of the weight (1 for a bias; pS and pO in the place of d x
    and psi x for a parameter of the neuron). The signal below is delta_t psi_t W^T, within the step.

    Equals BPTT for the last layer, and for a hidden layer if nothing above it has a memory. Drops every path that leaves a
    layer and comes back to time in a layer above. Memory per sample S times the parameters, whatever the length of the
    sequence; time 2 to 3 products per layer and window.

    Args:
        model: a stack of [Linear, neuron] layers made by `connect`.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that OSTL cannot treat.

    References:
        Bohnstingl, Wozniak, Pantazi, Eleftheriou: Online spatio-temporal learning in deep neural networks, 2022,
        doi 10.1109/TNNLS.2022.3153985.

    Note:
        The paper's unit resets its membrane to zero one step later, which gives the same eligibilities as reset="zero".
        Its bias is part of the threshold; here the bias is the weight of a constant input, with a trace of its own.
    """
    return Ruled(model, OSTL())


class Traces(NamedTuple):
    """E of OSTL, at the end of a window.

    Args:
        synapse: by the name of the weight, [S, B, *weight].
        neuron: for each parameter of the neuron, per unit, [S, B, N].
    """

    synapse: dict[str, Array]
    neuron: tuple[Array, ...]


@dataclasses.dataclass(frozen=True)
class OSTL:
    """The rule of `ostl`, a window at a time.

    With the reverse recursion of `reverse` inside the block, K steps of the equations are matrix products:

        gradient  sum_t g_t x_t + a_0 E_0
        E_K = (D_K ... D_1) E_0 + sum_t (D_K ... D_{t+1}) d_t x_t

    where g_t and a_0 belong to the signal delta, and the factors of E_K are g_t and a_0 for a unit cotangent of each state
    at the end of the window in place of the signal.
    """

    def initialize_traces(self, block: Block, states: Float[Array, "S B *N"]) -> Traces:
        return Traces(
            synapse={} if block.synapse is None else zero_traces(block.synapse, states),
            neuron=tuple(jnp.zeros_like(states) for _ in _neuron_parameters(block)),
        )

    def advance(self, block: Block, window: Window, traces: Traces) -> Traces:
        blocks = window.blocks
        silence = jnp.zeros_like(blocks.psi)
        # One reverse pass for a unit cotangent of each state at the end: [s, ...] is how state s there came about.
        origin = jax.vmap(lambda end: reverse(blocks, silence, end))(_unit_cotangents(blocks.d[0]))
        synapse = traces.synapse
        if block.synapse is not None:
            grown = grow(block.synapse, window.inputs, origin.current)
            synapse = jax.tree.map(jnp.add, fade(origin.start, synapse), grown)
        neuron = tuple(
            jnp.sum(origin.start * trace[None], axis=1) + jnp.sum(origin.states * pS[None], axis=(1, 2))
            for trace, pS in zip(traces.neuron, blocks.pS, strict=True)
        )
        return Traces(synapse, neuron)

    def pullback(
        self,
        block: Block,
        window: Window,
        traces: Traces,
        signal: Float[Array, "K B *N"],
        end: Float[Array, "S B *N"],
    ) -> Pullback:
        blocks = window.blocks
        adjoints = reverse(blocks, signal, end)
        synapse: dict[str, Array] = {}
        if block.synapse is not None:
            within = weight_gradient(block.synapse, window.inputs, adjoints.current)
            before = meet(adjoints.start, traces.synapse)
            synapse = jax.tree.map(lambda now, past: now + past.astype(now.dtype), within, before)
        neuron = tuple(
            _sum_to(
                jnp.sum(adjoints.states * pS, axis=(0, 1))
                + jnp.sum(signal * pO, axis=0)
                + jnp.sum(adjoints.start * trace, axis=0),
                parameter.shape,
            )
            for parameter, trace, pS, pO in zip(
                _neuron_parameters(block), traces.neuron, blocks.pS, blocks.pO, strict=True
            )
        )
        return Pullback(synapse, neuron, blocks.psi * signal)


def _neuron_parameters(block: Block) -> list[Array]:
    return jax.tree.leaves(nnx.state(block.neuron, nnx.Param))


def _unit_cotangents(states: Float[Array, "S B *N"]) -> Float[Array, "S S B *N"]:
    """Entry s is 1 at state s of each unit, 0 elsewhere."""
    count = states.shape[0]
    identity = jnp.eye(count, dtype=states.dtype).reshape(count, count, *(1,) * (states.ndim - 1))
    return jnp.broadcast_to(identity, (count, *states.shape))


def _sum_to(per_unit: Float[Array, "B *N"], shape: tuple[int, ...]) -> Array:
    """Sums over samples, and over the units that share a parameter of `shape`."""
    return jnp.sum(per_unit, axis=tuple(range(per_unit.ndim - len(shape))))
