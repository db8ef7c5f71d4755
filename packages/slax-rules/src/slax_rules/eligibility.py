"""Eligibility traces of a layer, exact within it, a window at a time: what OSTL and its relatives are made of.

    eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t        gradient  sum_t delta_t eps_t

for a weight with input x, a bias (x = 1), and a parameter of the neuron (pS, pO in the place of d x, psi x). For weights, K
steps collapse into matrix products. With the reverse recursion inside the layer

    g_t = psi_t delta_t + d_t . a_t        a_{t-1} = o_t delta_t + D_t^T a_t        t = K..1

    gradient  sum_t g_t x_t + a_0 E_0        E_K = (D_K ... D_1) E_0 + sum_t (D_K ... D_{t+1}) d_t x_t

where a_K is the cotangent of the state at the end, zero as a rule, and the factors of E_K are g_t and a_0 for a unit cotangent
of each state at the end in the place of the signal. States are tuples throughout: XLA fuses what is done to them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.blocks import Blocks, States, linearise, times, total, with_leaky_sum
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

BlocksAt = Callable[[Any], Blocks]


class Eligibility(NamedTuple):
    """E at the end of a window, for each state of the neuron.

    Args:
        kernels: for each synapse, per row (see `synapse`): [R, J, O].
        bias: of any bias, [B, N]; empty if no synapse has one.
        neuron: for each parameter of the neuron, per unit, [B, N].
    """

    kernels: tuple[tuple[Float[Array, "R J O"], ...], ...]
    bias: tuple[Array, ...]
    neuron: tuple[tuple[Array, ...], ...]


def zero_eligibility(block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Eligibility:
    """The traces at rest, for inputs [B, I] and the neuron's states at rest."""

    def of_kernel(synapse: Any, x: Array) -> tuple[Array, ...]:
        _, rows, entries = input_rows(synapse, x[None]).shape
        zeros = jnp.zeros((rows, entries, current_rows(synapse, states[0]).shape[-1]), states[0].dtype)
        return tuple(zeros for _ in states)

    synapses = zip(block.synapses, inputs, strict=True)
    rest = tuple(jnp.zeros_like(state) for state in states)
    return Eligibility(
        tuple(of_kernel(synapse, x) if is_synapse(synapse) else () for synapse, x in synapses),
        rest if any(has_bias(synapse) for synapse in block.synapses) else (),
        tuple(rest for _ in neuron_parameters(block)),
    )


def follow(
    block: Block, window: Window, traces: Eligibility, signal: Float[Array, "K B *N"], end: States, blocks_at: BlocksAt
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
            start = tuple(current_rows(synapse, a) for a in reverse.start)
            past = _meet(start, trace, groups_of(synapse))
            gradient["kernel"] += row_weights(synapse, past).astype(gradient["kernel"].dtype)
            trace = _advanced(synapse, x, reverse, trace, past)
        kernels.append(trace)
    bias = traces.bias
    if bias:
        past = times(reverse.start, bias)
        for synapse, gradient in zip(block.synapses, gradients, strict=True):
            if has_bias(synapse):
                gradient["bias"] += bias_gradient(synapse, past)
        bias = tuple(
            total([times(row, bias), jnp.sum(origin, axis=0)])
            for row, origin in zip(reverse.transition, reverse.origin, strict=True)
        )
    neuron, of_neuron = _follow_neuron(block, window, traces.neuron, signal, end, blocks_at)
    return Pullback(gradients, neuron, reverse.below), Eligibility(tuple(kernels), bias, of_neuron)


def zero_sums(block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Eligibility:
    """The traces of `follow_sums` at rest."""
    return zero_eligibility(block, inputs, (*states, states[0]))


def follow_sums(
    block: Block, window: Window, traces: Eligibility, signal: Float[Array, "K B *N"], end: States, decay: Array
) -> tuple[Pullback, Eligibility]:
    """Like `follow`, with leaky sums of the eligibilities: R_t = decay R_{t-1} + eps_t, gradient sum_t delta_t R_t.

    R is the eligibility of a leaky sum of the output, so that this is the neuron with one more state.
    """

    def blocks_at(moment: Any) -> Blocks:
        return with_leaky_sum(linearise(block.neuron, moment), decay)

    return follow(block, window, traces, signal, (*end, None), blocks_at)


class _Reverse(NamedTuple):
    """What the reverse recursion over a window leaves, for the signal and for the origin of each state at the end."""

    current: Float[Array, "K B *N"]  # g_t
    below: Float[Array, "K B *N"]  # psi_t delta_t
    origin: tuple[Float[Array, "K B *N"], ...]  # g_t of each state at the end
    start: tuple[Array, ...]  # a_0
    transition: tuple[States, ...]  # D_K ... D_1


def _reverse(window: Window, signal: Array, end: States, blocks_at: BlocksAt) -> _Reverse:
    def backward(D: tuple[States, ...], a: States) -> States:
        """D^T a."""
        return tuple(times(column, a) for column in zip(*D, strict=True))

    def step(carry: tuple[States, tuple[States, ...]], at: tuple[Any, Array]) -> tuple[Any, Any]:
        a, origins = carry
        moment, delta = at
        D, d, o, psi, _, _ = blocks_at(moment)
        below = psi * delta
        ys = total([below, times(d, a)]), below, tuple(times(d, origin) for origin in origins)
        a = tuple(total([b * delta, c]) for b, c in zip(o, backward(D, a), strict=True))
        return (a, tuple(backward(D, origin) for origin in origins)), ys

    ones, zeros = jnp.ones_like(signal[0]), jnp.zeros_like(signal[0])
    reached = _reached(jax.eval_shape(blocks_at, jax.tree.map(lambda x: x[0], window.moments)).D)
    identity = tuple(
        tuple(ones if s == r else zeros if (s, r) in reached else None for r in range(len(end)))
        for s in range(len(end))
    )
    a = tuple(zeros if state is None else state for state in end)
    (start, transition), (current, below, origin) = jax.lax.scan(
        step, (a, identity), (window.moments, signal), reverse=True
    )
    return _Reverse(current, below, origin, start, transition)


def _reached(D: tuple[tuple[Any, ...], ...]) -> set[tuple[int, int]]:
    """All (s, r) such that state s depends on an earlier state r."""
    pairs = {(s, r) for s, row in enumerate(D) for r, entry in enumerate(row) if entry is not None}
    while True:
        more = {(s, q) for s, r in pairs for p, q in pairs if r == p} - pairs
        if not more:
            return pairs
        pairs |= more


def _follow_neuron(
    block: Block, window: Window, traces: tuple[tuple[Array, ...], ...], signal: Array, end: States, blocks_at: BlocksAt
) -> tuple[tuple[Array, ...], tuple[tuple[Array, ...], ...]]:
    """The gradient by the neuron's parameters, and their traces at the end: the recursion as it is, per unit."""
    parameters = neuron_parameters(block)
    if not parameters:
        return (), ()

    def step(carry: tuple[Any, Any], at: tuple[Any, Array]) -> tuple[Any, None]:
        sums, traces = carry
        moment, delta = at
        D, _, o, _, pS, pO = blocks_at(moment)
        sums = tuple(
            so_far + delta * total([times(o, trace), direct])
            for so_far, trace, direct in zip(sums, traces, pO, strict=True)
        )
        traces = tuple(
            tuple(total([times(row, trace), direct]) for row, direct in zip(D, directs, strict=True))
            for trace, directs in zip(traces, pS, strict=True)
        )
        return (sums, traces), None

    zero = tuple(jnp.zeros_like(signal[0]) for _ in parameters)
    (sums, traces), _ = jax.lax.scan(step, (zero, traces), (window.moments, signal))
    gradients = (total([so_far, times(end, trace)]) for so_far, trace in zip(sums, traces, strict=True))
    return tuple(sum_to(gradient, like) for gradient, like in zip(gradients, parameters, strict=True)), traces


def _meet(adjoint: tuple[Array, ...], trace: tuple[Array, ...], groups: int) -> Float[Array, "G J O"]:
    """sum over states and samples of adjoint [R, O] . E, one sample after the other: XLA's reduction is slow on a CPU."""

    def add(so_far: Array, sample: tuple[tuple[Array, ...], tuple[Array, ...]]) -> tuple[Array, None]:
        for a, E in zip(*sample, strict=True):
            so_far = so_far + a[:, None] * E
        return so_far, None

    split = jax.tree.map(lambda x: x.reshape(-1, groups, *x.shape[1:]), (adjoint, trace))
    return jax.lax.scan(add, jnp.zeros_like(split[1][0][0]), split)[0]


def _advanced(
    synapse: Any, inputs: Array, reverse: _Reverse, trace: tuple[Array, ...], past: Array
) -> tuple[Array, ...]:
    """E at the end of the window: one batched product per state, and one pass over it."""
    x = input_rows(synapse, inputs).astype(trace[0].dtype)
    # Zero, but XLA does not know: after `past` has read the trace, the new one can take its place without a copy.
    zero = jnp.minimum(jnp.abs(past[0, 0, 0]), 0)

    def faded(factor: Any, trace: Array) -> Any:
        return None if factor is None else (current_rows(synapse, factor) + zero)[:, None] * trace

    return tuple(
        total(
            [
                jnp.einsum("krj,kro->rjo", x, current_rows(synapse, origin, lead=1)),
                *(faded(factor, old) for factor, old in zip(row, trace, strict=True)),
            ]
        )
        for origin, row in zip(reverse.origin, reverse.transition, strict=True)
    )
