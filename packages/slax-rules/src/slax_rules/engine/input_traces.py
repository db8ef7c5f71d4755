"""Traces of the inputs of a layer: the form of eligibility traces where all its neurons share one decay.

Let m be a neuron's membranes before it fires, and A and b the derivatives of m_t w.r.t. m_{t-1} and I_t without any paths
through spikes, the same numbers for the entire layer (`linear_response`). Then dm/dw is one trace per input,

    a_t = A a_{t-1} + b x_t        gradient: sum_t (phi_t delta_t) . a_t        phi_t = ds_t / dm_t

instead of one per weight. K steps take one pass over the inputs, and one matrix product for each state with a phi.
"""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron, SpikingNeuron
from slax_neurons.building_blocks import scan_steps
from slax_rules.engine.jacobians import LocalJacobians, Matrix, States, add, by_leaf, dot, scale, slopes, tree_sum
from slax_rules.engine.layer import Layer, LayerWindow
from slax_rules.engine.synapse import bias_gradient, has_bias, has_weights, kernel_gradient

USE_OSTL = "Use OTPE() or OSTL(), which take any element-wise neuron."  # what rules say that need a neuron of some kind


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


def leaky_filter(decay: float, dtype: Any) -> Filter:
    """The filter of one trace, a_t = decay a_{t-1} + x_t."""
    return Filter(((jnp.asarray(decay, dtype),),), (jnp.ones((), dtype),))


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


def signal_within_step(current: States, weights: States) -> Array:
    """The cotangent of the current within its step, b . phi_t delta_t [K, B, N]; zero if no current reaches an output."""
    cotangent = dot(current, weights)
    return jnp.zeros_like(next(w for w in weights if w is not None)) if cotangent is None else cotangent


def input_trace_gradients(
    layer: Layer, window: LayerWindow, traces: InputTraces, filter: Filter, weights: States, *, bias_trace: bool
) -> tuple[tuple[dict[str, Array], ...], InputTraces]:
    """The gradients of the traced synapses, sum_t (phi_t delta_t) . a_t, and the traces after the window.

    Args:
        weights: the products phi_t delta_t, [K, B, N] for each state.
        bias_trace: whether biases have the trace of a constant input, or none.
    """
    if not layer.synapses:
        return (), traces
    first = next(weight for weight in weights if weight is not None)
    ones = jnp.ones(first.shape[:2], next(b.dtype for b in filter.current if b is not None))

    is_read = [weight is not None for weight in weights]

    def advance(before: tuple[States, ...], xs: tuple[Array, ...]) -> tuple[Any, Any]:
        after: tuple[States, ...] = tuple(filter(trace, x) for trace, x in zip(before, xs, strict=True))
        read = (tuple(a if read else None for a, read in zip(states, is_read, strict=True)) for states in after)
        return after, tuple(read)

    def summed(product: Callable[[Array, Array], Array], along: States) -> Array:
        """Return sum_t weights_t . a_t."""
        pairs = zip(along, weights, strict=True)
        return tree_sum(product(a, w) for a, w in pairs if a is not None and w is not None)

    def total_bias_gradient(synapse: Any, x: Array) -> Array:
        if not bias_trace:
            return bias_gradient(synapse, x, signal_within_step(filter.current, weights))
        return summed(lambda a, w: bias_gradient(synapse, x, jnp.expand_dims(a, range(2, w.ndim)) * w), along[-1])

    start, xs = (*traces.inputs, traces.bias), (*_weighted(layer, window.traced_inputs), ones)
    (*input_traces, bias), along = scan_steps(advance, start, tuple(x.astype(ones.dtype) for x in xs))
    filtered = iter(along[:-1])
    gradients = tuple(
        ({"kernel": summed(partial(kernel_gradient, synapse), next(filtered))} if has_weights(synapse) else {})
        | ({"bias": total_bias_gradient(synapse, x)} if has_bias(synapse) else {})
        for synapse, x in zip(layer.traced_synapses, window.traced_inputs, strict=True)
    )
    return gradients, InputTraces(tuple(input_traces), bias)


def _weighted(layer: Layer, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """The inputs of the synapses with weights."""
    return tuple(x for synapse, x in zip(layer.traced_synapses, inputs, strict=True) if has_weights(synapse))


class LinearResponse(NamedTuple):
    """The derivatives of a step along paths that avoid spikes; the same numbers for all neurons of a layer.

    Args:
        integrate: dm_t[s] / dh_{t-1}[r].
        current: dm_t / dI_t.
        fire: dh_t[s] / dm_t[r].
    """

    integrate: Matrix
    current: States
    fire: Matrix

    def fired(self, membrane: States) -> States:
        """Map membranes to states after firing: dh_t / dm_t times `membrane`."""
        return tuple(dot(row, membrane) for row in self.fire)

    def integrated(self, state: States) -> States:
        """Map states to membranes: dm_t / dh_{t-1} times `state`."""
        return tuple(dot(row, state) for row in self.integrate)

    @property
    def transition(self) -> Matrix:
        """The map from the states after firing to the same states one step later, dh_t / dm_t dm_t / dh_{t-1}."""
        return tuple(zip(*map(self.fired, zip(*self.integrate, strict=True)), strict=True))

    @property
    def filter(self) -> Filter:
        """The map from the membranes of one step to the membranes of the next."""
        columns = map(self.integrated, zip(*self.fire, strict=True))
        return Filter(tuple(zip(*columns, strict=True)), self.current)


def linear_response(neuron: Neuron, at: float = 0.0) -> LinearResponse:
    """The linear response of a neuron that passes `check_linear`; it is the same for all states and currents."""
    held = with_detached_spikes(neuron)
    state = jax.tree.map(lambda leaf: jnp.full_like(leaf, at), neuron.initialize_carry((1, 1)))
    current = jax.tree.leaves(state)[0]

    def numbers(function: Callable[[Array], Any]) -> States:
        return tuple(slope if slope is None else slope[0, 0] for slope in slopes(function, current))

    def matrix(function: Callable[[Any], Any]) -> Matrix:
        columns = [numbers(lambda value, whole=whole: function(whole(value))) for _, whole in by_leaf(state)]
        return tuple(zip(*columns, strict=True))

    return LinearResponse(
        matrix(lambda state: held.integrate(state, current)),
        numbers(lambda current: held.integrate(state, current)),
        matrix(lambda membrane: held.fire(membrane)[0]),
    )


def with_detached_spikes(neuron: Neuron) -> Neuron:
    """A copy whose spikes are constants for derivatives: no derivative passes through them, and no state is reset to zero."""
    if not isinstance(neuron, SpikingNeuron):
        return neuron
    return neuron.replace(spike_fn=_Detached(neuron.spike_fn), reset="none" if neuron.reset == "zero" else neuron.reset)


@dataclasses.dataclass(frozen=True)
class _Detached:
    """A spike function whose derivative is zero."""

    spike_fn: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        return self.spike_fn(jax.lax.stop_gradient(x))


def check_linear(name: str, neuron: Neuron) -> None:
    """Raise TypeError unless a neuron's dynamics are linear without spikes, with one decay for the entire layer."""
    if not (neuron.linear and neuron.has_split_step):
        raise TypeError(f"{name} got {type(neuron).__name__}, expected one that is linear except in spikes. {USE_OSTL}")
    shapes = [leaf.shape for leaf in jax.tree.leaves(nnx.state(neuron)) if leaf.ndim]
    if shapes:
        raise TypeError(f"{name} got {type(neuron).__name__} with a number for each neuron, not one. {USE_OSTL}")


def step_slopes(neuron: Neuron, membranes: Any) -> States:
    """The derivatives ds_t / dm_t at the membranes of all steps [K, B, *N], each step by itself, as in `fire_steps`."""
    return jax.vmap(partial(output_slopes, neuron))(membranes)


def output_slopes(neuron: Neuron, membrane: Any) -> States:
    """The derivatives ds / dm at the membranes of a step."""
    by_membrane = (slopes(lambda m, whole=whole: neuron.fire(whole(m))[1], m) for m, whole in by_leaf(membrane))
    found = tuple(itertools.chain.from_iterable(by_membrane))
    if all(slope is None for slope in found):
        raise TypeError(f"Got {type(neuron).__name__}, expected a surrogate gradient: self.spike(membrane).")
    return found


def response_jacobians(response: LinearResponse, direct: list["ParameterSlopes"], c: States) -> LocalJacobians:
    """The local Jacobians of a step in which spikes affect nothing except the output, with phi_t = ds_t / dm_t.

    With the linear response m_t = A h_{t-1} + b I_t, h_t = F m_t they are D = F A, d = F b, o = A^T c and psi = c . b; for a
    parameter of the neuron, with its `direct` effects dm, dh and ds, they are pS = F dm + dh and pO = c . dm + ds.
    """
    return LocalJacobians(
        D=response.transition,
        d=response.fired(response.current),
        o=tuple(dot(column, c) for column in zip(*response.integrate, strict=True)),
        psi=dot(c, response.current),
        pS=tuple(add(response.fired(by.membrane), by.state) for by in direct),
        pO=tuple(tree_sum([dot(c, by.membrane), by.output]) for by in direct),
    )


class ParameterSlopes(NamedTuple):
    """The derivatives of a step w.r.t. a parameter of the neuron, per unit.

    Args:
        membrane: derivatives of the membranes, at a given state and current.
        state: derivatives of the states after firing, at given membranes.
        output: derivative of the output, at given membranes.
    """

    membrane: tuple[Array, ...]
    state: tuple[Array, ...]
    output: Float[Array, "*N"]


def parameter_slopes(neuron: Neuron, state: Any, current: Array, membrane: Any) -> list[ParameterSlopes]:
    """The derivatives w.r.t. each of the neuron's parameters, in one step."""
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)

    def merged(params: Any) -> Any:
        return nnx.merge(graphdef, params, rest)

    def along(leaf: Array, params_with: Callable[[Array], Any]) -> ParameterSlopes:
        def slope(function: Any) -> Any:
            return jax.jvp(lambda leaf: function(params_with(leaf)), (leaf,), (jnp.ones_like(leaf),))[1]

        return ParameterSlopes(
            membrane=_leaves(slope(lambda params: merged(params).integrate(state, current))),
            state=_leaves(slope(lambda params: with_detached_spikes(merged(params)).fire(membrane)[0])),
            output=slope(lambda params: merged(params).fire(membrane)[1]),
        )

    return [along(*of_leaf) for of_leaf in by_leaf(params)]


def _leaves(tree: Any) -> tuple[Array, ...]:
    return tuple(jax.tree.leaves(tree))


Traces = tuple[tuple[Array, ...], ...]  # for each parameter, one array [B, N] per state


def neuron_parameter_gradients(
    layer: Layer, traces: Traces, steps: Any, at: Callable[[Any], tuple[LocalJacobians, Any, States]]
) -> tuple[tuple[Array, ...], Traces]:
    """The gradient w.r.t. each of the neuron's parameters, and their traces after the window: one recursion per unit.

        eps_t = o_t E_{t-1} + pO_t        E_t = D_t E_{t-1} + pS_t        gradient: sum_t delta_t eps_t + sigma_t . E_t

    Args:
        traces: E before the first step.
        steps: the data of the steps that `at` needs, leaves [K, ...].
        at: maps the data of a step to its Jacobians, of which D, pS, o and pO are read, to the signal delta on the output, and
            to the signal sigma on each state after the step; None for none.
    """
    if not traces:
        return (), ()

    def step(carry: tuple[Any, Any], data: Any) -> tuple[Any, None]:
        sums, traces = carry
        (D, _, o, _, pS, pO), delta, on_states = at(data)
        new = tuple(
            tuple(tree_sum([dot(row, E), direct]) for row, direct in zip(D, directs, strict=True))
            for E, directs in zip(traces, pS, strict=True)
        )
        eps = [None if delta is None else delta * tree_sum([dot(o, E), by]) for E, by in zip(traces, pO, strict=True)]
        sums = tuple(tree_sum([*terms[:2], dot(on_states, terms[2])]) for terms in zip(sums, eps, new, strict=True))
        return (sums, new), None

    zero = tuple(jnp.zeros_like(states[0]) for states in traces)
    (sums, traces), _ = scan_steps(step, (zero, traces), steps)
    return tuple(map(sum_to_parameter, sums, layer.parameters)), traces


def sum_to_parameter(per_unit: Float[Array, "B *N"], parameter: Array) -> Array:
    """Sum over samples, and over units, or currents of a unit, that share a parameter: the transpose of broadcasting it."""
    summed = jnp.sum(per_unit, axis=tuple(range(per_unit.ndim - parameter.ndim)))
    if parameter.ndim and 1 < parameter.shape[-1] < summed.shape[-1]:
        summed = summed.reshape(*summed.shape[:-1], -1, parameter.shape[-1]).sum(axis=-2)
    shared = tuple(axis for axis, size in enumerate(parameter.shape) if size == 1 != summed.shape[axis])
    return jnp.sum(summed, axis=shared, keepdims=True).astype(parameter.dtype)
