"""The loops of neurons over time. The derivative of `integrate_and_fire` is its own."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.surrogates import Surrogate

scan_unroll = jax.make_user_context(None)
"""`with scan_unroll(16):` loops over time, also in rules, run 16 steps in an iteration: `unroll` of `jax.lax.scan`.

More steps save kernel launches on a GPU and take longer to compile; results are equal. The default is 1 on a CPU, and elsewhere
8, since two of the three launches of an iteration belong to the loop and not to the step.

Example:
    >>> import jax.numpy as jnp
    >>> from slax_neurons import LIF, scan_unroll, unroll
    >>> neuron, currents = LIF(), jnp.ones((20, 2, 3))
    >>> with scan_unroll(16):
    ...     carry, spikes = unroll(neuron, neuron.initialize_carry((2, 3)), currents)
"""


parallel_in_time = jax.make_user_context(False)
"""`with parallel_in_time(True):` neurons with `linear = True` run all steps of a chunk together; results agree up to rounding.

Given its spikes, such a neuron is a linear recursion, m_t = A_t m_{t-1} + d_t, which an associative scan solves in log2(T)
passes over the chunk. Without spikes, one solution is enough. Else the spikes of a solution give the next recursion, until they
stay the same: they then equal the loop's. Each solution is right for at least one step more than the one before. If spikes
change no state (`reset="none"`), the second one confirms the first. The derivative is one such recursion in any case. After a
current that is infinite or NaN, the states of its unit stay NaN, where the loop may have infinities or recover.

It is for devices on which a step takes long compared with its work; on a CPU the loop is faster (docs/performance.md). Pass
`chunk=len(inputs)` to `unroll` for one chunk. Other neurons are not affected.

Example:
    >>> import jax.numpy as jnp
    >>> from slax_neurons import LIF, parallel_in_time, unroll
    >>> neuron, currents = LIF(reset="zero"), jnp.full((20, 2, 3), 0.4)
    >>> carry, spikes = unroll(neuron, neuron.initialize_carry((2, 3)), currents)
    >>> with parallel_in_time(True):
    ...     carry, same = unroll(neuron, neuron.initialize_carry((2, 3)), currents)
    >>> bool((spikes == same).all())
    True
"""


def scan_steps(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """`jax.lax.scan` over time, with as many steps in an iteration as `scan_unroll` says."""
    unroll = scan_unroll.value or (1 if jax.default_backend() == "cpu" else 8)
    return jax.lax.scan(step, carry, xs, reverse=reverse, unroll=unroll)


@contextlib.contextmanager
def explained_branches(neuron: Any) -> Iterator[None]:
    """Add to JAX's error about an `if` on an array what to write in a neuron."""
    try:
        yield
    except (jax.errors.ConcretizationTypeError, ValueError) as error:
        if isinstance(error, jax.errors.ConcretizationTypeError) or "truth value" in str(error):
            name = type(neuron).__name__
            error.add_note(
                f"A step of {name} is compiled for all units: choose by jnp.where(condition, one, other), not by if."
            )
        raise


def scan_cell(cell: nnx.RNNCellBase, carry: Any, inputs: Float[Array, "T ..."]) -> tuple[Any, Any]:
    """Run a cell step by step."""
    # Not the cell itself: JAX caches traces by function, and would keep this cell's parameters alive.
    with explained_branches(cell):
        return scan_steps(lambda carry, inputs: cell(carry, inputs), carry, inputs)


# For the reverse pass, a rematerialized function saves only its arguments and recomputes the rest; it may be inside a scan.
# Pass it a function made for this call, since JAX caches traces by function.
rematerialize = partial(jax.checkpoint, prevent_cse=False)


def fire_steps(neuron: Any, membranes: Any) -> tuple[Any, Any]:
    """The carries and the outputs that `fire` makes of the membranes of all steps [T, *B, N], each step by itself.

    `fire` gets [*B, N], as in a single step, since a neuron may select units by index: s[:, :3].
    """
    return jax.vmap(lambda membrane: neuron.fire(membrane))(membranes)


def carries_before(first: Any, after: Any) -> Any:
    """The carries before each step, from the first one and the carries after each step."""
    return jax.tree.map(lambda first, after: jnp.concatenate([first[None], after[:-1]]), first, after)


def runs_together(neuron: Any, inputs: Array) -> bool:
    """Whether `parallel_in_time` is about this neuron and these steps."""
    return parallel_in_time.value and neuron.linear and len(inputs) > 1


def affine_steps(
    maps: Float[Array, "T S S ..."], first: Float[Array, "S ..."], drives: Float[Array, "T S ..."]
) -> Array:
    """x_t = A_t x_{t-1} + d_t for t = 1..T, given x_0, all steps together; A_t [S, S] acts on each unit by itself."""

    places = range(len(first))

    def apply(A: Any, x: Any) -> list[Array]:
        return [sum(A[i][j] * x[j] for j in places) for i in places]

    def compose(earlier: Any, later: Any) -> tuple[Any, list[Array]]:
        (A, d), (B, e) = earlier, later
        columns = [apply(B, [A[i][j] for i in places]) for j in places]
        return list(map(list, zip(*columns, strict=True))), list(map(jnp.add, apply(B, d), e))

    drives = drives.at[0].add(jnp.stack(apply(maps[0], first)))
    entries = [[maps[:, i, j] for j in places] for i in places], [drives[:, i] for i in places]
    return jnp.stack(jax.lax.associative_scan(compose, entries)[1], axis=1)


def unit_maps(linear: Callable[[Array], Array], like: Float[Array, "S ..."]) -> Float[Array, "S S ..."]:
    """The matrix [S, S] of a linear function of S states, for each unit."""
    ones = jnp.eye(len(like), dtype=like.dtype).reshape(len(like), -1, *[1] * (like.ndim - 1))
    return jax.vmap(lambda one: linear(jnp.broadcast_to(one, like.shape)), out_axes=1)(ones)


def stacked(tree: Any) -> Float[Array, "S ..."]:
    return jnp.stack(jax.tree.leaves(tree))


def membranes_together(neuron: Any, carry: Any, inputs: Array) -> tuple[Any, Any]:
    """m_t of all steps of a neuron that is linear but for its spikes, and the number of solutions: see `parallel_in_time`."""
    held = neuron.replace(spike_fn=Surrogate(jnp.zeros_like)) if neuron.spikes else neuron
    rest, structure = jax.tree.flatten(held.integrate(carry, inputs[0]))

    def split(membrane: Array, axis: int = 0) -> Any:
        return jax.tree.unflatten(structure, list(jnp.moveaxis(membrane, axis, 0)))

    def solution(guess: Array) -> Array:
        """The membranes, if the spikes are as in the guess [T, S, ...]."""

        def recursion(before: Array, current: Array) -> tuple[Array, Array]:
            step = lambda m: stacked(held.integrate(held.fire(split(m))[0], current))  # noqa: E731
            after, push = jax.linearize(step, before)
            return unit_maps(push, before), after - push(before)

        maps, drives = jax.vmap(recursion)(guess[:-1], inputs[1:])
        first = jnp.stack(rest)
        return jnp.concatenate([first[None], affine_steps(maps, first, drives)])

    def is_new(state: tuple[Array, Array, Array]) -> Array:
        before, after = (fire_steps(held, split(guess, 1))[1] for guess in state[:2])
        return jnp.any(before != after)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, guess, count = state
        return guess, solution(guess), count + 1

    start = jnp.zeros((len(inputs), *jnp.stack(rest).shape), inputs.dtype)
    found = start, solution(start), jnp.asarray(1)
    if neuron.spikes:
        found = jax.lax.while_loop(is_new, again, found)
    return split(found[1], 1), found[2]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def integrate_and_fire(graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array) -> tuple[Any, Any]:
    """The last carry and the membranes before each firing, m_t, of a neuron that is split into `graphdef` and `state`.

    The derivative equals the derivative of the scan, but stores nothing from the scan except m_t, and I_t where the
    derivative of `integrate` depends on I_t, as for a trainable factor of the current.
    """
    neuron = nnx.merge(graphdef, state)
    if runs_together(neuron, inputs):
        membranes, _ = membranes_together(neuron, carry, inputs)
        return neuron.fire(jax.tree.map(lambda m: m[-1], membranes))[0], membranes

    # A loop that carries what it stores is a quarter faster in XLA, which then computes and copies each state once.
    def step(membrane: Any, at: tuple[Array, Array]) -> tuple[Any, Any]:
        current, is_first = at
        before = jax.tree.map(partial(jnp.where, is_first), carry, neuron.fire(membrane)[0])
        membrane = neuron.integrate(before, current)
        return membrane, membrane

    rest = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(neuron.integrate, carry, inputs[0])
    )
    last, membranes = scan_steps(step, rest, (inputs, jnp.arange(len(inputs)) == 0))
    return neuron.fire(last)[0], membranes


@integrate_and_fire.defjvp
def _integrate_and_fire_jvp(graphdef: nnx.GraphDef, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    state, carry, inputs = primals
    end, membranes = integrate_and_fire(graphdef, state, carry, inputs)

    def push(*point_and_tangents: Any) -> tuple[Any, Any]:
        return push_through_steps(partial(nnx.merge, graphdef), *point_and_tangents)

    return (end, membranes), rematerialize(push)(state, carry, inputs, membranes, *tangents)


def push_through_steps(
    make: Callable[[Any], Any],
    params: Any,
    carry: Any,
    inputs: Array,
    membranes: Any,
    d_params: Any,
    d_carry: Any,
    d_inputs: Array,
) -> tuple[Any, Any]:
    """The derivative of a loop over time: the tangents of the last carry and of the membranes m_t, at known membranes.

    Args:
        make: makes the neuron from its parameters.
        params: its parameters.
        carry: the carry before the first step.
        inputs: the currents, [T, *B, N].
        membranes: m_t of all steps.
        d_params: the tangent of the parameters.
        d_carry: the tangent of the carry before the first step.
        d_inputs: the tangents of the currents.
    """

    after = fire_steps(make(params), membranes)[0]
    before = carries_before(carry, after)

    def drive(before: Any, current: Array, d_current: Array) -> Any:
        """The part of a membrane's tangent that is known before the loop."""
        at, along = (params, current), (d_params, d_current)
        return jax.jvp(lambda params, current: make(params).integrate(before, current), at, along)[1]

    def keeping(before: Any, current: Array) -> Any:
        """The linear map from the tangent of a carry to that of the next membrane."""
        return jax.linearize(lambda carry: make(params).integrate(carry, current), before)[1]

    def firing(membrane: Any) -> Any:
        """The linear map from the tangents of the parameters and of a membrane to that of the carry."""
        return jax.linearize(lambda *at: make(at[0]).fire(at[1])[0], params, membrane)[1]

    # The linear maps of all steps together: only the parts that depend on the states are computed, outside the scan. It carries
    # the tangent of the next membrane as far as it is known, so that its transpose carries what it stores. After the last step
    # it carries the tangent of the carry; the map to a next membrane is then that of the first step, and is not used.
    following = jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), (before, inputs))
    steps = jax.vmap(drive)(before, inputs, d_inputs), jax.vmap(firing)(membranes), jax.vmap(keeping)(*following)
    first, of_membrane = jax.tree.flatten(keeping(carry, inputs[0])(d_carry))
    ends, of_carry = jax.tree.flatten(carry)

    def padded(leaves: list[Array]) -> list[Array]:
        """As many arrays as a membrane or a carry has, whichever has more."""
        return leaves + [jnp.zeros_like(leaves[0])] * (max(len(first), len(ends)) - len(leaves))

    def step(d_kept: list[Array], at: tuple[Any, Any, Any, Array], d_params: Any = d_params) -> tuple[list[Array], Any]:
        driven, fire, keep, is_last = at
        d_membrane = jax.tree.map(jnp.add, jax.tree.unflatten(of_membrane, d_kept[: len(first)]), driven)
        d_carry = fire(d_params, d_membrane)
        d_end, d_next = (padded(jax.tree.leaves(tree)) for tree in (d_carry, keep(d_carry)))
        return [jnp.where(is_last, end, kept) for end, kept in zip(d_end, d_next, strict=True)], d_membrane

    each = *steps, jnp.arange(len(inputs)) == len(inputs) - 1
    if runs_together(make(params), inputs):
        kept, still = jnp.stack(padded(first)), jax.tree.map(jnp.zeros_like, (d_params, steps[0]))

        def recursion(at: tuple[Any, Any, Any, Array]) -> tuple[Array, Array]:
            alone = (jax.tree.map(lambda leaf: leaf[0], still[1]), *at[1:])
            push = lambda kept: jnp.stack(step(list(kept), alone, still[0])[0])  # noqa: E731
            return unit_maps(push, kept), jnp.stack(step(list(jnp.zeros_like(kept)), at)[0])

        maps, drives = jax.vmap(recursion)(each)
        after = affine_steps(maps, kept, drives)
        before = jnp.concatenate([kept[None], after[:-1]])
        d_end, d_membranes = list(after[-1]), jax.vmap(lambda kept, at: step(list(kept), at)[1])(before, each)
    else:
        d_end, d_membranes = scan_steps(step, padded(first), each)
    return jax.tree.unflatten(of_carry, d_end[: len(ends)]), d_membranes
