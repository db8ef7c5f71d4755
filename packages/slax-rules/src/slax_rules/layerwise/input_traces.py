"""Traces of the inputs of a layer: the form of eligibility traces where all its neurons forget in the same way.

Let m be a neuron's membranes before it fires, and A and b the derivatives of m_t w.r.t. m_{t-1} and I_t without any paths
through spikes, the same numbers for the entire layer (`linear_response`). Then dm/dw is one trace per input,

    a_t = A a_{t-1} + b x_t        gradient  sum_t (phi_t delta_t) . a_t        phi_t = ds_t / dm_t

instead of one per weight. K steps take one pass over the inputs, and one matrix product for each state with a c.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from slax_neurons.building_blocks import scan_each
from slax_rules.layerwise.jacobians import Matrix, States, add, add_up, dot, scale
from slax_rules.layerwise.layer import Layer
from slax_rules.layerwise.synapse import bias_gradient, has_bias, has_weights, kernel_gradient


class Filter(NamedTuple):
    """The derivatives A and b of the states whose traces are kept; None for structural zeros.

    Args:
        transition: scalar derivatives A of each state w.r.t. each state.
        current: scalar derivatives b of each state w.r.t. the current.
    """

    transition: Matrix
    current: States

    def __call__(self, trace: States, x: Array) -> States:
        """Return the traces one step later, A a + b x."""
        return add(tuple(dot(row, trace) for row in self.transition), scale(x, self.current))

    def zeros(self, shape: tuple[int, ...]) -> States:
        """Return the traces of an input of the given shape at rest; None for a state that no input reaches."""
        reached = [b is not None for b in self.current]
        for _ in reached:
            reached = [
                known or any(a is not None and before for a, before in zip(row, reached, strict=True))
                for row, known in zip(self.transition, reached, strict=True)
            ]
        numbers = next(b for b in self.current if b is not None)
        return tuple(jnp.zeros(shape, numbers.dtype) if known else None for known in reached)


class InputTraces(NamedTuple):
    """The traces a after a window.

    Args:
        inputs: traces for each synapse with weights, one per state, [B, *I].
        bias: traces of a constant input, one per state, [B]: samples may have started at different steps; none without
            synapses.
    """

    inputs: tuple[States, ...]
    bias: States


def zero_input_traces(layer: Layer, inputs: tuple[Array, ...], filter: Filter) -> InputTraces:
    """The traces before the first step, for inputs [B, I] of each synapse; none for a layer without synapses."""
    bias = filter.zeros(inputs[0].shape[:1]) if inputs else ()
    return InputTraces(tuple(filter.zeros(x.shape) for x in _weighted(layer, inputs)), bias)


def current_cotangent(current: States, weights: States) -> Array:
    """The cotangent of the current within its step, b . phi_t delta_t [K, B, N]; zero if no current reaches an output."""
    cotangent = dot(current, weights)
    return jnp.zeros_like(next(w for w in weights if w is not None)) if cotangent is None else cotangent


def input_trace_gradients(
    layer: Layer,
    inputs: tuple[Array, ...],
    traces: InputTraces,
    filter: Filter,
    weights: States,
    *,
    bias_trace: bool,
) -> tuple[tuple[dict[str, Array], ...], InputTraces]:
    """The gradients of the synapses, sum_t (phi_t delta_t) . a_t, and the traces after the window.

    Args:
        weights: the products phi_t delta_t, [K, B, N] for each state.
        bias_trace: whether biases have the trace of a constant input, or none.
    """
    if not layer.synapses:
        return (), traces
    first = next(weight for weight in weights if weight is not None)
    ones = jnp.ones(first.shape[:2], next(b.dtype for b in filter.current if b is not None))

    is_read = [weight is not None for weight in weights]

    def advance(numbers: tuple[Matrix, States], before: States, x: Array) -> tuple[States, States]:
        after = Filter(*numbers)(before, x)
        return after, tuple(a if read else None for a, read in zip(after, is_read, strict=True))

    def summed(product: Callable[[Array, Array], Array], along: States) -> Array:
        """Return sum_t weights_t . a_t."""
        pairs = zip(along, weights, strict=True)
        return add_up(product(a, w) for a, w in pairs if a is not None and w is not None)

    def total_bias_gradient(synapse: Any) -> Array:
        if not bias_trace:
            return bias_gradient(synapse, current_cotangent(filter.current, weights))
        return summed(lambda a, w: bias_gradient(synapse, jnp.expand_dims(a, range(2, w.ndim)) * w), along[-1])

    start, xs = (*traces.inputs, traces.bias), (*_weighted(layer, inputs), ones)
    (*input_traces, bias), along = scan_each(advance, tuple(filter), start, [x.astype(ones.dtype) for x in xs])
    filtered = iter(along[:-1])
    gradients = tuple(
        ({"kernel": summed(partial(kernel_gradient, synapse), next(filtered))} if has_weights(synapse) else {})
        | ({"bias": total_bias_gradient(synapse)} if has_bias(synapse) else {})
        for synapse in layer.synapses
    )
    return gradients, InputTraces(tuple(input_traces), bias)


def _weighted(layer: Layer, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """The inputs of the synapses with weights."""
    return tuple(x for synapse, x in zip(layer.synapses, inputs, strict=True) if has_weights(synapse))
