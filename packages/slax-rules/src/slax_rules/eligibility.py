"""Eligibility traces of a block, exact within it, a window at a time: what OSTL and its relatives are made of.

    eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t        gradient  sum_t delta_t eps_t

for a weight with input x, a bias (x = 1), and a parameter of the neuron (pS, pO in the place of d x, psi x). For weights, K
steps collapse into matrix products. With the reverse recursion inside the block

    g_t = psi_t delta_t + d_t . a_t        a_{t-1} = o_t delta_t + D_t^T a_t        t = K..1

    gradient  sum_t g_t x_t + a_0 E_0        E_K = (D_K ... D_1) E_0 + sum_t (D_K ... D_{t+1}) d_t x_t

where a_K is the cotangent of the state at the end, zero as a rule, and the factors of E_K are g_t and a_0 for a unit cotangent
of each state at the end in the place of the signal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.blocks import Blocks, linearise, with_leaky_sum
from slax_rules.synapse import (
    bias_gradient,
    current_rows,
    groups_of,
    has_bias,
    input_rows,
    is_synapse,
    row_weights,
    synapse_gradients,
)
from slax_rules.window import Block, Pullback, Window, neuron_parameters, sum_to


class Eligibility(NamedTuple):
    """E at the end of a window.

    Args:
        kernels: for each synapse and state of the neuron, per row (see `synapse`): [R, J, O].
        bias: of any bias, [S, B, N]; None if no synapse has one.
        neuron: for each parameter of the neuron, per unit, [S, B, N].
    """

    kernels: tuple[tuple[Float[Array, "R J O"], ...], ...]
    bias: Array | None
    neuron: tuple[Array, ...]


def zero_eligibility(block: Block, inputs: tuple[Array, ...], states: Float[Array, "S B *N"]) -> Eligibility:
    """The traces at rest, for inputs [B, I] and the neuron's states at rest."""
    kernels: list[tuple[Array, ...]] = []
    for synapse, x in zip(block.synapses, inputs, strict=True):
        if is_synapse(synapse):
            _, rows, entries = input_rows(synapse, x[None]).shape
            zeros = jnp.zeros((rows, entries, current_rows(synapse, states[0]).shape[-1]), states.dtype)
            kernels.append(tuple(zeros for _ in states))
        else:
            kernels.append(())
    rest = jnp.zeros_like(states)
    biased = any(has_bias(synapse) for synapse in block.synapses)
    return Eligibility(tuple(kernels), rest if biased else None, tuple(rest for _ in neuron_parameters(block)))


def follow(
    block: Block,
    window: Window,
    traces: Eligibility,
    signal: Float[Array, "K B *N"],
    end: Float[Array, "S B *N"],
    blocks_at: Callable[[Any], Blocks],
) -> tuple[Pullback, Eligibility]:
    """The gradient of a window for the signal, from the traces at its start, and the traces at its end.

    Args:
        end: the cotangent of the states at the end.
        blocks_at: the blocks of a moment; of the neuron itself, or of one with more states.

    Returns:
        The pullback, with psi_t delta_t as the signal that goes below.
    """
    reverse = _reverse(window, signal, end, blocks_at)
    gradients = synapse_gradients(block.synapses, window.inputs, reverse.current)
    kernels: list[tuple[Array, ...]] = []
    for synapse, x, trace, gradient in zip(block.synapses, window.inputs, traces.kernels, gradients, strict=True):
        if trace:
            past = _meet(current_rows(synapse, reverse.start, lead=1), trace, groups_of(synapse))
            gradient["kernel"] += row_weights(synapse, past).astype(gradient["kernel"].dtype)
            trace = _advanced(synapse, x, reverse, trace, past)
        kernels.append(trace)
    bias = traces.bias
    if bias is not None:
        past = jnp.sum(reverse.start * bias, axis=0)
        for synapse, gradient in zip(block.synapses, gradients, strict=True):
            if has_bias(synapse):
                gradient["bias"] += bias_gradient(synapse, past)
        bias = jnp.sum(reverse.transition * bias[None], axis=1) + jnp.sum(reverse.origin, axis=0)
    neuron, of_neuron = _follow_neuron(block, window, traces.neuron, signal, end, blocks_at)
    return Pullback(gradients, neuron, reverse.below), Eligibility(tuple(kernels), bias, of_neuron)


def zero_sums(block: Block, inputs: tuple[Array, ...], states: Float[Array, "S B *N"]) -> Eligibility:
    """The traces of `follow_sums` at rest."""
    return zero_eligibility(block, inputs, jnp.concatenate([states, states[:1]]))


def follow_sums(
    block: Block,
    window: Window,
    traces: Eligibility,
    signal: Float[Array, "K B *N"],
    end: Float[Array, "S B *N"],
    decay: Float[Array, ""],
) -> tuple[Pullback, Eligibility]:
    """Like `follow`, with leaky sums of the eligibilities: R_t = decay R_{t-1} + eps_t, gradient sum_t delta_t R_t.

    R is the eligibility of a leaky sum of the output, so that this is the neuron with one more state.
    """
    padded = jnp.concatenate([end, jnp.zeros_like(end[:1])])
    return follow(
        block, window, traces, signal, padded, lambda moment: with_leaky_sum(linearise(block.neuron, moment), decay)
    )


class _Reverse(NamedTuple):
    """What the reverse recursion over a window leaves, for the signal and for the origin of each state at the end."""

    current: Float[Array, "K B *N"]  # g_t
    below: Float[Array, "K B *N"]  # psi_t delta_t
    origin: Float[Array, "K S B *N"]  # g_t of the states at the end
    start: Float[Array, "S B *N"]  # a_0
    transition: Float[Array, "S S B *N"]  # D_K ... D_1


def _reverse(window: Window, signal: Array, end: Array, blocks_at: Callable[[Any], Blocks]) -> _Reverse:
    def step(carry: tuple[Array, Array], at: tuple[Any, Array]) -> tuple[Any, Any]:
        a, origin = carry
        moment, delta = at
        D, d, o, psi, _, _ = blocks_at(moment)
        ys = (psi * delta + jnp.sum(d * a, axis=0), psi * delta, jnp.sum(d[None] * origin, axis=1))
        return (o * delta[None] + jnp.sum(D * a[:, None], axis=0), jnp.sum(D[None] * origin[:, :, None], axis=1)), ys

    states = end.shape[0]
    identity = jnp.eye(states, dtype=end.dtype).reshape(states, states, *(1,) * (end.ndim - 1))
    first = end, jnp.broadcast_to(identity, (states, *end.shape))
    (start, transition), (current, below, origin) = jax.lax.scan(step, first, (window.moments, signal), reverse=True)
    return _Reverse(current, below, origin, start, transition)


def _follow_neuron(
    block: Block,
    window: Window,
    traces: tuple[Array, ...],
    signal: Array,
    end: Array,
    blocks_at: Callable[[Any], Blocks],
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The gradient by the neuron's parameters, and their traces at the end: the recursion as it is, per unit."""
    parameters = neuron_parameters(block)
    if not parameters:
        return (), ()

    def step(carry: tuple[Any, Any], at: tuple[Any, Array]) -> tuple[Any, None]:
        totals, traces = carry
        moment, delta = at
        D, _, o, _, pS, pO = blocks_at(moment)
        totals = tuple(
            total + delta * (jnp.sum(o * trace, axis=0) + direct)
            for total, trace, direct in zip(totals, traces, pO, strict=True)
        )
        traces = tuple(jnp.sum(D * trace[None], axis=1) + direct for trace, direct in zip(traces, pS, strict=True))
        return (totals, traces), None

    zero = tuple(jnp.zeros_like(signal[0]) for _ in parameters)
    (totals, traces), _ = jax.lax.scan(step, (zero, traces), (window.moments, signal))
    gradients = (total + jnp.sum(end * trace, axis=0) for total, trace in zip(totals, traces, strict=True))
    return tuple(sum_to(gradient, like) for gradient, like in zip(gradients, parameters, strict=True)), traces


def _meet(adjoint: Float[Array, "S R O"], trace: tuple[Array, ...], groups: int) -> Float[Array, "G J O"]:
    """sum over states and samples of adjoint . E, one sample after the other: XLA's reduction is slow on a CPU."""

    def add(total: Array, sample: tuple[tuple[Array, ...], tuple[Array, ...]]) -> tuple[Array, None]:
        for a, E in zip(*sample, strict=True):
            total = total + a[:, None] * E
        return total, None

    split = jax.tree.map(lambda x: x.reshape(-1, groups, *x.shape[1:]), (tuple(adjoint), trace))
    return jax.lax.scan(add, jnp.zeros_like(split[1][0][0]), split)[0]


def _advanced(
    synapse: Any, inputs: Array, reverse: _Reverse, trace: tuple[Array, ...], past: Array
) -> tuple[Array, ...]:
    """E at the end of the window: one batched product per state, and one pass over it."""
    x = input_rows(synapse, inputs).astype(trace[0].dtype)
    # Zero, but XLA does not know: after `past` has read the trace, the new one can take its place without a copy.
    zero = jnp.minimum(jnp.abs(past[0, 0, 0]), 0)
    transition = current_rows(synapse, reverse.transition, lead=2) + zero
    new = []
    for state in range(len(trace)):
        E = jnp.einsum("krj,kro->rjo", x, current_rows(synapse, reverse.origin[:, state], lead=1))
        for before, old in enumerate(trace):
            E = E + transition[state, before][:, None] * old
        new.append(E)
    return tuple(new)
