"""The local Jacobians of a neuron: everything that a local learning rule needs to know about the neuron.

They come from forward-mode differentiation of the neuron itself, so no rule assumes a leak, a reset or a number of states.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import Var
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_neurons.building_blocks import push_through_steps, scan_cell
from slax_rules.engine.layer import LayerWindow

States = tuple[Any, ...]  # one array [B, N] per state of a neuron; None for a zero that costs nothing
Matrix = tuple[States, ...]  # a row for each state


def is_state(leaf: Any) -> bool:
    """True for floating-point numbers in a carry, which have derivatives; a random key or a count has none."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def states_of(carry: Any) -> States:
    """The states of a neuron: the floating-point numbers in its carry."""
    return tuple(filter(is_state, jax.tree.leaves(carry)))


class LocalJacobians(NamedTuple):
    """The derivatives of a neuron's states and output within one step, per sample and unit.

    States are in the order of `jax.tree.leaves` of the carry.

    Args:
        D: dh_t[s] / dh_{t-1}[r], for each s and r.
        d: dh_t[s] / dI_t.
        o: ds_t / dh_{t-1}[r].
        psi: ds_t / dI_t, at the membrane before its reset.
        pS: dh_t[s] / dphi for each leaf of the neuron's parameters; per unit, even if the layer shares the parameter.
        pO: ds_t / dphi, in the same form.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LI
        >>> from slax_rules import linearize
        >>> neuron, carry, current = LI(decay=0.5), jnp.zeros(1), jnp.ones(1)
        >>> jacobians = linearize(neuron, carry, current, neuron.integrate(carry, current))
        >>> jacobians.D, jacobians.d
        (((Array([0.5], dtype=float32),),), (Array([1.], dtype=float32),))
        >>> jacobians.o, jacobians.psi
        ((Array([0.5], dtype=float32),), Array([1.], dtype=float32))
    """

    D: tuple[States, ...]
    d: States
    o: States
    psi: Float[Array, "*N"]
    pS: tuple[States, ...]
    pO: tuple[Float[Array, "*N"], ...]


def slopes(function: Callable[[Array], Any], at: Array) -> States:
    """The derivative of each output of an element-wise function; None for outputs that do not depend on the argument.

    What depends on the argument is read from the program of the derivative, with the variables of `jax.extend.core`: the slopes
    of `lambda x: (2 * x, jnp.ones_like(x))` are twos and None.
    """
    _, push = jax.linearize(function, at)
    one = jnp.ones_like(at)
    program = jax.make_jaxpr(push)(one).jaxpr
    reached = set(program.invars)
    for equation in program.eqns:
        if any(isinstance(operand, Var) and operand in reached for operand in equation.invars):
            reached.update(equation.outvars)
    known = (isinstance(output, Var) and output in reached for output in program.outvars)
    return tuple(slope if some else None for slope, some in zip(jax.tree.leaves(push(one)), known, strict=True))


def by_leaf(tree: Any) -> list[tuple[Array, Callable[[Array], Any]]]:
    """Each leaf of a tree, and the tree as a function of this leaf alone.

    A derivative of such a function has no terms for the other leaves. With tangents of zero for them, it would compute zeros.
    """
    leaves, structure = jax.tree.flatten(tree)

    def with_leaf(index: int, leaf: Array) -> Any:
        return jax.tree.unflatten(structure, [*leaves[:index], leaf, *leaves[index + 1 :]])

    return [(leaf, functools.partial(with_leaf, index)) for index, leaf in enumerate(leaves)]


def dot(a: States, b: States) -> Any:
    """The inner product of two vectors of states, sum_s a[s] b[s]; None if it is structurally zero."""
    total = None
    for x, y in zip(a, b, strict=True):
        if x is not None and y is not None:
            total = x * y if total is None else total + x * y
    return total


def tree_sum(terms: Iterable[Any]) -> Any:
    """The sum of the terms that are not None; None if there are none."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def add(a: States, b: States) -> States:
    """The sum of two vectors of states, a + b."""
    return tuple(map(tree_sum, zip(a, b, strict=True)))


def scale(factor: Array, states: States) -> States:
    """A vector of states times a factor."""
    return tuple(None if state is None else factor * state for state in states)


def linearize(neuron: Neuron, state: Any, current: Float[Array, "*N"], membrane: Any) -> LocalJacobians:
    """Return the local Jacobians of an element-wise neuron in one step.

    For a neuron with S states h, output s and input current I at each unit, and parameters phi, these are

        D = dh_t/dh_{t-1}    d = dh_t/dI_t      pS = dh_t/dphi
        o = ds_t/dh_{t-1}    psi = ds_t/dI_t    pO = ds_t/dphi

    If the neuron defines `integrate` and `fire`, `fire` is linearized at the membrane, which is often the only quantity on
    which the Jacobians depend.

    Args:
        neuron: the neuron.
        state: the carry before the step, leaves [B, N].
        current: the input current, [B, N].
        membrane: `neuron.integrate(state, current)`; None for a neuron that does not define it.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, triangular
        >>> from slax_rules import linearize
        >>> neuron = LIF(decay=0.5, reset="none", spike_fn=triangular(height=1.0, width=1.0))
        >>> carry, current = jnp.zeros(3), jnp.array([0.0, 1.0, 1.5])
        >>> jacobians = linearize(neuron, carry, current, neuron.integrate(carry, current))
        >>> jacobians.D[0][0]
        Array([0.5, 0.5, 0.5], dtype=float32)
        >>> jacobians.psi
        Array([0. , 1. , 0.5], dtype=float32)
    """
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    leaves, treedef = jax.tree.flatten(state)
    states = states_of(leaves)

    def step_from(params: Any, states: States, current: Array) -> tuple[Any, Any, Array]:
        """The neuron with these parameters, the carry with these states, and the current."""
        given = iter(states)
        carry = jax.tree.unflatten(treedef, [next(given) if is_state(leaf) else leaf for leaf in leaves])
        return nnx.merge(graphdef, params, rest), carry, current

    def integrate(*point: Any) -> Any:
        neuron, carry, current = step_from(*point)
        return neuron.integrate(carry, current)

    def step(*point: Any) -> tuple[Any, Array]:
        neuron, carry, current = step_from(*point)
        return neuron(carry, current)

    derivatives: list[tuple[States, Array]] = []  # of the states and the output, w.r.t. each leaf of the point
    for leaf, point_with in by_leaf((params, states, current)):
        one = jnp.ones_like(leaf)  # each unit depends on its own entry alone
        if not neuron.has_split_step:
            d_carry, d_output = jax.jvp(lambda leaf, point=point_with: step(*point(leaf)), (leaf,), (one,))[1]
        else:
            _, d_membrane = jax.jvp(lambda leaf, point=point_with: integrate(*point(leaf)), (leaf,), (one,))
            _, (d_carry, d_output) = jax.jvp(
                lambda leaf, membrane, point=point_with: nnx.merge(graphdef, point(leaf)[0], rest).fire(membrane),
                (leaf, membrane),
                (one, d_membrane),
            )
        derivatives.append((states_of(d_carry), d_output))
    *of_others, (d, psi) = derivatives
    count = len(of_others) - len(states)
    pS, pO = zip(*of_others[:count], strict=True) if count else ((), ())
    of_states, o = zip(*of_others[count:], strict=True)
    return LocalJacobians(D=tuple(zip(*of_states, strict=True)), d=d, o=o, psi=psi, pS=pS, pO=pO)


def psi_of_steps(neuron: Neuron, steps: tuple[Any, Array, Any]) -> Float[Array, "K B *N"]:
    """psi_t = ds_t / dI_t of each step, at `LayerWindow.steps`."""
    return jax.vmap(lambda *step: linearize(neuron, *step).psi)(*steps)


Push = Callable[[Any, States, Array], tuple[States, Array]]


def neuron_derivative(neuron: Neuron, window: LayerWindow) -> tuple[Push, Callable[..., tuple[Any, States, Array]]]:
    """The derivative of a neuron's loop over the steps of a window, at their known states, currents and membranes.

    Returns:
        The linear map from tangents of the parameters, the states before the window and the currents to tangents of the states
        after it and the outputs; and its transpose, from a tuple of cotangents of these.
    """
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda leaf: leaf[0], window.states))
    states = states_of(leaves)

    def make(params: Any) -> Neuron:
        return nnx.merge(graphdef, params, rest)

    def carry_with(states: States) -> Any:
        given = iter(states)
        return jax.tree.unflatten(structure, [next(given) if is_state(leaf) else leaf for leaf in leaves])

    def run(params: Any, states: States, currents: Array) -> tuple[States, Array]:
        end, outputs = scan_cell(make(params), carry_with(states), currents)
        return states_of(end), outputs

    def push(d_params: Any, d_states: States, d_currents: Array) -> tuple[States, Array]:
        def output(membrane: Any, tangent: Any) -> Array:
            at, along = (params, membrane), (d_params, tangent)
            return jax.jvp(lambda params, membrane: make(params).fire(membrane)[1], at, along)[1]

        point = make, params, carry_with(states), window.currents, window.membranes
        d_end, d_membranes = push_through_steps(*point, d_params, carry_with(d_states), d_currents)
        return states_of(d_end), jax.vmap(output)(window.membranes, d_membranes)

    if not neuron.has_split_step:
        push = jax.linearize(run, params, states, window.currents)[1]
    pull = jax.linear_transpose(push, params, states, window.currents)
    return push, pull
