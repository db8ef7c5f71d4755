"""Traces of the inputs of a layer: what is left of eligibility traces where all its neurons forget alike.

Let m be a neuron's membranes before it fires, and A and b the derivatives of m_t by m_{t-1} and I_t with everything that
passes through spikes left out, the same numbers for the whole layer (`subthreshold`). Then dm/dw is one trace per input,

    a_t = A a_{t-1} + b x_t        gradient  sum_t (c_t delta_t) . a_t        c_t = ds_t / dm_t

in the place of one per weight, and K steps are

    r_t = c_t delta_t + A^T r_{t+1}
    gradient  sum_t (b . r_t) x_t + (A^T r_1) a_0        a_K = A^K a_0 + sum_t A^{K-t} b x_t

with A, b, c, or with those of more states, as for a leaky sum of a.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_rules.blocks import States, added, total
from slax_rules.synapse import bias_gradient, has_bias, is_synapse, kernel_gradient, synapse_gradients
from slax_rules.window import Block


class InputTraces(NamedTuple):
    """a at the end of a window.

    Args:
        inputs: for each synapse with weights, [S, B, *I]; None for one without.
        bias: of a constant input, [S].
    """

    inputs: tuple[Array | None, ...]
    bias: Float[Array, " S"]


def zero_input_traces(block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> InputTraces:
    """The traces at rest, for inputs [B, I] of each synapse and the states at rest that traces are kept of."""
    return InputTraces(
        tuple(
            jnp.zeros((len(states), *x.shape), x.dtype) if is_synapse(synapse) else None
            for synapse, x in zip(block.synapses, inputs, strict=True)
        ),
        jnp.zeros(len(states), states[0].dtype),
    )


class Filter(NamedTuple):
    """A and b of the states whose traces are kept."""

    transition: Float[Array, "S S"]
    current: Float[Array, " S"]

    def backward(self, r: States) -> States:
        """A^T r."""
        return tuple(self._weighted(self.transition[:, state], r) for state in range(len(r)))

    def of_current(self, r: States) -> Any:
        """b . r."""
        return self._weighted(self.current, r)

    @staticmethod
    def _weighted(weights: Float[Array, " S"], r: States) -> Any:
        return total(weight * part for weight, part in zip(weights, r, strict=True) if part is not None)


class Reverse(NamedTuple):
    """What the reverse recursion leaves: b . r_t, b . c_t delta_t, and A^T r_1 for each state."""

    current: Float[Array, "K B *N"]
    below: Float[Array, "K B *N"]
    start: tuple[Array, ...]


def reverse(
    filter: Filter, slopes_at: Callable[[Any], States], at: Any, signal: Float[Array, "K B *N"], end: States
) -> Reverse:
    """The reverse recursion over a window.

    Args:
        slopes_at: c_t of the entry of `at` for a step.
        end: the cotangent of the membranes of the last step that comes from after it.
    """

    def step(later: States, at: tuple[Any, Array]) -> tuple[States, tuple[Array, Array]]:
        now = tuple(None if slope is None else slope * at[1] for slope in slopes_at(at[0]))
        r = added(now, later)
        return filter.backward(r), (filter.of_current(r), filter.of_current(now))

    start, (current, below) = jax.lax.scan(step, end, (at, signal), reverse=True)
    return Reverse(current, below, start)


def follow_inputs(
    block: Block,
    inputs: tuple[Array, ...],
    traces: InputTraces,
    filter: Filter,
    reverse: Reverse,
    untraced: Float[Array, "K B *N"] | None,
) -> tuple[tuple[dict[str, Array], ...], InputTraces]:
    """The gradients of the synapses, and the traces at the end.

    Args:
        untraced: what biases get in the place of `reverse.current` if they have no trace.
    """
    gradients = synapse_gradients(block.synapses, inputs, reverse.current)
    powers = _powers(filter, reverse.current.shape[0])
    new: list[Array | None] = []
    for synapse, x, trace, gradient in zip(block.synapses, inputs, traces.inputs, gradients, strict=True):
        if trace is None:
            new.append(None)
            continue
        gradient["kernel"] += kernel_gradient(synapse, trace, jnp.stack(reverse.start))
        if has_bias(synapse):
            gradient["bias"] = (
                bias_gradient(synapse, untraced)
                if untraced is not None
                else gradient["bias"]
                + bias_gradient(synapse, total(c * a for c, a in zip(traces.bias, reverse.start, strict=True)))
            )
        weighted = jnp.tensordot(powers.of_inputs, x.astype(trace.dtype), axes=((0,), (0,)))
        new.append(jnp.tensordot(powers.whole, trace, axes=1) + weighted)
    bias = powers.whole @ traces.bias + jnp.sum(powers.of_inputs, axis=0)
    return gradients, InputTraces(tuple(new), bias)


class _Powers(NamedTuple):
    of_inputs: Float[Array, "K S"]  # A^{K-t} b
    whole: Float[Array, "S S"]  # A^K


def _powers(filter: Filter, steps: int) -> _Powers:
    def step(power: Array, _: None) -> tuple[Array, Array]:
        return power @ filter.transition, power @ filter.current

    identity = jnp.eye(filter.current.shape[0], dtype=filter.current.dtype)
    whole, of_inputs = jax.lax.scan(step, identity, length=steps)
    return _Powers(of_inputs[::-1], whole)
