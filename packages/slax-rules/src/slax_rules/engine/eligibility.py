"""Eligibility traces of a layer, exact within the layer, one window at a time: the basis of OSTL and its relatives.

    eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t        gradient  sum_t delta_t eps_t

for a weight with input x and for a bias (x = 1). K steps collapse into matrix products. With the reverse recursion inside the
layer, from a_K = 0,

    c_t = psi_t delta_t + d_t . a_t        a_{t-1} = o_t delta_t + D_t^T a_t        t = K..1

    gradient  sum_t c_t x_t + a_0 E_0        E_K = (D_K ... D_1) E_0 + sum_t (D_K ... D_{t+1}) d_t x_t

where the factors of E_K come from the same recursion with delta = 0, started from a unit vector a_K for each state. A signal on
a leaky sum of the outputs, which is one more state, is added to a_t of this state. States are tuples throughout, so that XLA
fuses the operations on them.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_neurons.building_blocks import StepSize, scan_steps
from slax_rules.engine.jacobians import LocalJacobians, States, add, dot, scale, tree_sum, with_leaky_sum
from slax_rules.engine.layerwise import LayerGradient, LayerWindow
from slax_rules.engine.stack import Layer
from slax_rules.engine.synapse import (
    bias_gradient,
    current_rows,
    groups_of,
    has_bias,
    has_weights,
    input_rows,
    row_weights,
    synapse_gradients,
)

# The end of a window costs a product and a pass over the traces, so windows are long: twice the widest layer, as far as their
# largest array stays between these bytes, and at least some steps. The window's arrays then take a few times the memory of the
# traces (docs/performance.md).
SMALLEST_ARRAY, LARGEST_ARRAY = 2**22, 2**24
SHORTEST_WINDOW = 128

FEW_STEPS = 5  # up to which a pass over the traces for each step is faster on a CPU than a batched product

JacobiansAt = Callable[[Any, Any, Any], LocalJacobians]  # at the state, the current and the membrane of a step


def eligibility_window(size: StepSize) -> int:
    """The default number of steps of a window for rules with eligibility traces."""
    steps = min(max(2 * size.width, SMALLEST_ARRAY // size.bytes), LARGEST_ARRAY // size.bytes)
    return max(SHORTEST_WINDOW, steps)


class EligibilityTraces(NamedTuple):
    """The traces E after a window, for each state of the neuron.

    Args:
        kernels: traces for each synapse, per row (see `synapse`): [R, J, O].
        bias: traces of any bias, [B, N]; empty if no synapse has one.
        neuron: traces for each parameter of the neuron, per unit, [B, N].
    """

    kernels: tuple[tuple[Float[Array, "R J O"], ...], ...]
    bias: tuple[Array, ...]
    neuron: tuple[tuple[Array, ...], ...]


def zero_eligibility(layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> EligibilityTraces:
    """Return the eligibility traces before the first step, all zero, for inputs [B, I] and the neuron's states at rest.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF
        >>> from slax_rules import Layer, zero_eligibility
        >>> layer = Layer(0, (nnx.Linear(8, 4, rngs=nnx.Rngs(0)),), LIF(), above=None)
        >>> traces = zero_eligibility(layer, (jnp.zeros((2, 8)),), (jnp.zeros((2, 4)),))
        >>> traces.kernels[0][0].shape, traces.bias[0].shape
        ((2, 8, 4), (2, 4))
    """

    def kernel_traces(synapse: Any, x: Array) -> tuple[Array, ...]:
        _, rows, entries = input_rows(synapse, x[None]).shape
        zeros = jnp.zeros((rows, entries, current_rows(synapse, states[0]).shape[-1]), states[0].dtype)
        return tuple(zeros for _ in states)

    synapses = zip(layer.traced_synapses, inputs, strict=True)
    rest = tuple(jnp.zeros_like(state) for state in states)
    return EligibilityTraces(
        tuple(kernel_traces(synapse, x) if has_weights(synapse) else () for synapse, x in synapses),
        rest if any(has_bias(synapse) for synapse in layer.synapses) else (),
        tuple(rest for _ in layer.parameters),
    )


def eligibility_gradient(
    layer: Layer,
    window: LayerWindow,
    traces: EligibilityTraces,
    on_output: Float[Array, "K B *N"] | None,
    jacobians_at: JacobiansAt,
    *,
    on_sum: Float[Array, "K B *N"] | None = None,
    decay: Float[Array, ""] | None = None,
) -> tuple[LayerGradient, EligibilityTraces]:
    """Compute the gradient of a window, given a signal delta on the outputs, on their leaky sum, or on both.

        sum_t delta_t eps_t, for a signal on the outputs        sum_t delta_t R_t, for one on their leaky sum

    Args:
        traces: E before the first step.
        on_output: the signal on the outputs of the neuron; None for none.
        jacobians_at: returns the local Jacobians at the state, the current and the membrane of a step.
        on_sum: the signal on the leaky sum of the outputs, r_t = decay r_{t-1} + s_t, which is one more state, the last.
        decay: the decay of this sum; None if there is no sum.

    Returns:
        The gradient, with psi_t times both signals as the cotangent of the current, and the traces.

    Example:
        >>> import dataclasses
        >>> from functools import partial
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect
        >>> from slax_rules import OSTL, LayerRule, cross_entropy, gradients
        >>> from slax_rules import eligibility_gradient, linearize, zero_eligibility
        >>> @dataclasses.dataclass(frozen=True)
        ... class PlainOSTL(LayerRule):
        ...     def init_layer(self, layer, inputs, states):
        ...         return zero_eligibility(layer, inputs, states)
        ...     def layer_gradient(self, layer, window, traces, signal):
        ...         return eligibility_gradient(layer, window, traces, signal, partial(linearize, layer.neuron))
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LIF()])
        >>> inputs, labels = jnp.ones((10, 3, 4)), jnp.array([0, 1, 0])
        >>> def gradient(rule):
        ...     return gradients(model, cross_entropy, inputs, labels, rule=rule)[1]
        >>> jax.tree.all(jax.tree.map(jnp.allclose, gradient(PlainOSTL()), gradient(OSTL())))
        True
    """
    synapses, inputs = layer.traced_synapses, window.traced_inputs
    reverse = _reverse(window, on_output, on_sum, jacobians_at, decay)
    gradients = synapse_gradients(synapses, inputs, reverse.current)
    kernels: list[tuple[Array, ...]] = []
    for synapse, x, trace, gradient in zip(synapses, inputs, traces.kernels, gradients, strict=True):
        if trace:
            start = tuple(current_rows(synapse, a) for a in reverse.start)
            past = _contract(start, trace, groups_of(synapse))
            gradient["kernel"] += row_weights(synapse, past).astype(gradient["kernel"].dtype)
            trace = _end_traces(synapse, x, reverse, trace, past)
        kernels.append(trace)
    bias = traces.bias
    if bias:
        past = dot(reverse.start, bias)
        for synapse, x, gradient in zip(synapses, inputs, gradients, strict=True):
            if has_bias(synapse):
                gradient["bias"] += bias_gradient(synapse, x, past)
        bias = tuple(
            tree_sum([dot(row, bias), jnp.sum(origin, axis=0)])
            for row, origin in zip(reverse.transition, reverse.origin, strict=True)
        )

    def of_step(step: Any) -> tuple[LocalJacobians, Any, States]:
        point, on_output, on_sum = step
        jacobians = with_leaky_sum(jacobians_at(*point), decay)
        return jacobians, on_output, (*[None] * (len(jacobians.d) - 1), on_sum)

    neuron, neuron_traces = neuron_parameter_gradients(layer, traces.neuron, (window.steps, on_output, on_sum), of_step)
    found = LayerGradient.of(layer, gradients, neuron, reverse.within_step)
    return found, EligibilityTraces(tuple(kernels), bias, neuron_traces)


class _Reverse(NamedTuple):
    """The result of the reverse recursion over a window, for the signals and for the origin of each state after it."""

    current: Float[Array, "K B *N"]  # c_t, the cotangent of the current
    within_step: Float[Array, "K B *N"]  # psi_t delta_t, its part within the step
    origin: tuple[Float[Array, "K B *N"], ...]  # c_t for a unit cotangent of each state
    start: tuple[Array, ...]  # a_0
    transition: tuple[States, ...]  # D_K ... D_1


def _reverse(
    window: LayerWindow, on_output: Array | None, on_sum: Array | None, jacobians_at: JacobiansAt, decay: Array | None
) -> _Reverse:
    def transposed(D: tuple[States, ...], a: States) -> States:
        """Return D^T a."""
        return tuple(map(partial(dot, a), zip(*D, strict=True)))

    def step(carry: tuple[States, tuple[States, ...]], data: tuple[Any, ...]) -> tuple[Any, Any]:
        a, origins = carry
        point, delta, of_sum = data
        D, d, o, psi, *_ = with_leaky_sum(jacobians_at(*point), decay)
        given = [(signal, *row) for signal, *row in ((delta, psi, o), (of_sum, d[-1], D[-1])) if signal is not None]
        within = tree_sum(slope * signal for signal, slope, _ in given)
        c = tree_sum([within, dot(d, a)])
        before = reduce(add, [*(scale(signal, row) for signal, _, row in given), transposed(D, a)])
        ys = c, within, tuple(map(partial(dot, d), origins))
        return (before, tuple(map(partial(transposed, D), origins))), ys

    ones, zeros = jnp.ones_like(window.currents[0]), jnp.zeros_like(window.currents[0])
    first = jax.tree.map(lambda x: x[0], window.steps)
    D = jax.eval_shape(lambda: with_leaky_sum(jacobians_at(*first), decay)).D
    reached = _reached(D)
    identity = tuple(
        tuple(ones if s == r else zeros if (s, r) in reached else None for r in range(len(D))) for s in range(len(D))
    )
    a = tuple(zeros for _ in D)
    (start, transition), (current, within, origin) = scan_steps(
        step, (a, identity), (window.steps, on_output, on_sum), reverse=True
    )
    return _Reverse(current, within, origin, start, transition)


def _reached(D: tuple[tuple[Any, ...], ...]) -> set[tuple[int, int]]:
    """All (s, r) such that state s depends on an earlier state r."""
    pairs = {(s, r) for s, row in enumerate(D) for r, entry in enumerate(row) if entry is not None}
    while True:
        more = {(s, q) for s, r in pairs for p, q in pairs if r == p} - pairs
        if not more:
            return pairs
        pairs |= more


def _contract(adjoint: tuple[Array, ...], trace: tuple[Array, ...], groups: int) -> Float[Array, "G J O"]:
    """Sum adjoint [R, O] . E over states and samples; on a CPU, where XLA's reduction is slow, one sample at a time."""

    def by_sample(rows: Array) -> Array:
        return rows.reshape(-1, groups, *rows.shape[1:])

    def one_by_one(adjoint: tuple[Array, ...], trace: tuple[Array, ...]) -> Array:
        def add_sample(total: Array, sample: tuple[tuple[Array, ...], tuple[Array, ...]]) -> tuple[Array, None]:
            for a, E in zip(*sample, strict=True):
                total = total + a[..., None, :] * E
            return total, None

        # XLA copies what is reshaped here.
        samples = (adjoint, trace) if groups == 1 else jax.tree.map(by_sample, (adjoint, trace))
        total, _ = jax.lax.scan(add_sample, jnp.zeros_like(samples[1][0][0]), samples)
        return total.reshape(groups, *total.shape[-2:])

    def at_once(adjoint: tuple[Array, ...], trace: tuple[Array, ...]) -> Array:
        split = jax.tree.map(by_sample, (adjoint, trace))
        return reduce(jnp.add, (jnp.sum(a[:, :, None] * E, axis=0) for a, E in zip(*split, strict=True)))

    return jax.lax.platform_dependent(adjoint, trace, cpu=one_by_one, default=at_once)


def _end_traces(
    synapse: Any, inputs: Array, reverse: _Reverse, trace: tuple[Array, ...], past: Float[Array, "G J O"]
) -> tuple[Array, ...]:
    """The traces E after the window, in the memory of the traces before it, which `past` has been computed from.

    In most neurons a state depends on states before it alone, so the last one is computed first: nothing reads its old trace
    any more. Any other order of dependence costs a copy, and no correctness.
    """
    x = input_rows(synapse, inputs).astype(trace[0].dtype)
    new, done = list(trace), past
    for state in reversed(range(len(trace))):
        factors, origin = reverse.transition[state], current_rows(synapse, reverse.origin[state], lead=1)
        factors = _after(done, tuple(None if factor is None else current_rows(synapse, factor) for factor in factors))
        done = new[state] = _end_trace(x, origin, factors, trace)
    return tuple(new)


def _end_trace(x: Array, origin: Array, factors: States, trace: tuple[Array, ...]) -> Float[Array, "R J O"]:
    """The trace of one state: a pass for each step if they are few and this is a CPU, else a product and a pass."""
    decayed = [factor[:, None] * old for factor, old in zip(factors, trace, strict=True) if factor is not None]

    def by_step(x: Array, origin: Array, decayed: list[Array]) -> Array:
        def add_step(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
            return total + step[0][:, :, None] * step[1][:, None], None

        first = reduce(jnp.add, [x[0][:, :, None] * origin[0][:, None], *decayed])
        return first if len(x) == 1 else jax.lax.scan(add_step, first, (x[1:], origin[1:]))[0]

    def at_once(x: Array, origin: Array, decayed: list[Array]) -> Array:
        return reduce(jnp.add, [jnp.einsum("krj,kro->rjo", x, origin), *decayed])

    if len(x) > FEW_STEPS:
        return at_once(x, origin, decayed)
    return jax.lax.platform_dependent(x, origin, decayed, cpu=by_step, default=at_once)


def _after(done: Array, factors: States) -> States:
    """The factors themselves, by operations that follow `done`: XLA then knows that `done` no longer reads the traces.

    Without such an order, XLA copies each trace before it overwrites it, which took up to half of the time of a window. It
    removes `jax.lax.optimization_barrier` too early. The condition never holds, so numbers stay as they are, NaN or not.
    """
    one = done[(0,) * done.ndim]
    never = jnp.isnan(one) & jnp.isfinite(one)
    return tuple(None if factor is None else jnp.where(never, 0, factor) for factor in factors)


Traces = tuple[tuple[Array, ...], ...]  # for each parameter, one array [B, N] per state


def neuron_parameter_gradients(
    layer: Layer, traces: Traces, steps: Any, at: Callable[[Any], tuple[LocalJacobians, Any, States]]
) -> tuple[tuple[Array, ...], Traces]:
    """The gradient w.r.t. each of the neuron's parameters, and their traces after the window: one recursion per unit.

        eps_t = o_t E_{t-1} + pO_t        E_t = D_t E_{t-1} + pS_t        gradient  sum_t delta_t eps_t + sigma_t . E_t

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
    """Sum over samples, and over the units that share a parameter: the transpose of broadcasting it to all units."""
    summed = jnp.sum(per_unit, axis=tuple(range(per_unit.ndim - parameter.ndim)))
    shared = tuple(axis for axis, size in enumerate(parameter.shape) if size == 1 != summed.shape[axis])
    return jnp.sum(summed, axis=shared, keepdims=True).astype(parameter.dtype)
