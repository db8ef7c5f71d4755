"""The reach of parameters, and their influence on the states stored without the entries that they cannot reach.

For each array of parameters, states are colored so that none of its parameters reaches two states of the same color. The
influence of the array on all states of a sample, [H, *parameter], is then stored as [C, *parameter] without loss, and computed
by C reverse passes instead of H. For the weights of a layer without recurrence, one color suffices for its own states; where
every state depends on every other, C = H.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal
from jaxtyping import Array, Bool, Float, Int


class ColumnColoring(NamedTuple):
    """The states that the parameters of one array reach, by color: a coloring of the columns of a sparse Jacobian.

    Args:
        seeds: true where state h has color c; a state that no parameter reaches has no color.
        rows: index of the state of color c that a parameter reaches, 0 if none; axes along which the indices do not
            differ have size 1.
        varying: true where the parameters reach different states of color c.
        reached: true where a parameter reaches a state of color c.
    """

    seeds: Bool[np.ndarray, "C H"]
    rows: Int[np.ndarray, "C *p"]
    varying: Bool[np.ndarray, " C"]
    reached: Bool[np.ndarray, "C *P"]

    @property
    def one_row(self) -> Int[np.ndarray, " C"]:
        """One state of each color: the only one where the color is not varying."""
        return self.rows.max(axis=tuple(range(1, self.rows.ndim)), initial=0)

    @property
    def kept_rows(self) -> Int[np.ndarray, "C *kept"]:
        """The rows without axes of size 1."""
        return self.rows.reshape(len(self.rows), *(size for size in self.rows.shape[1:] if size > 1))

    @property
    def kept(self) -> list[int]:
        """The axes of `kept_rows`, numbered for `einsum` as in `carry_over` and `contract`."""
        return [3 + axis for axis, size in enumerate(self.rows.shape[1:]) if size > 1]

    @property
    def exactly(self) -> "ColumnColoring":
        """The same with indices for each place along the axes along which `reached` differs."""
        shape = list(self.rows.shape)
        for axis in range(1, len(shape)):
            if (self.reached != self.reached.take([0], axis)).any():
                shape[axis] = self.reached.shape[axis]
        return self._replace(rows=np.broadcast_to(self.rows, shape))

    @property
    def outside(self) -> Bool[np.ndarray, "H *kept"]:
        """True at the states that a parameter does not reach, of a coloring that is `exactly` indexed."""
        first = tuple(slice(None) if size > 1 else 0 for size in self.rows.shape[1:])
        states = np.arange(self.seeds.shape[1]).reshape(-1, *[1] * self.kept_rows.ndim)
        return ~((self.kept_rows == states) & self.reached[(slice(None), *first)]).any(axis=1)


def seed_matrices(reaches: tuple[ColumnColoring, ...]) -> tuple[list[np.ndarray], list[int]]:
    """The distinct seeds, and for each array the index of its seeds."""
    seeds: list[np.ndarray] = []
    which = []
    for reach in reaches:
        index = next((i for i, other in enumerate(seeds) if np.array_equal(other, reach.seeds)), len(seeds))
        seeds += [reach.seeds] if index == len(seeds) else []
        which.append(index)
    return seeds, which


def zero_influence(reaches: tuple[ColumnColoring, ...], batch: int, params: Any) -> tuple[Array, ...]:
    """Make zeros [B, C, *parameter] for each array of parameters.

    They are computed from the parameters, so that no compiler treats them as a constant: on a CPU, jaxlib 0.10.2 to 0.12.0
    fuse a product with a constant and the sum after it into a kernel that reads uninitialized memory.
    """
    arrays = zip(reaches, jax.tree.leaves(params), strict=True)
    return tuple(jnp.broadcast_to(jnp.nan_to_num(0 * array), (batch, *reach.reached.shape)) for reach, array in arrays)


def carry_over(
    transition: Float[Array, "B R H"], influence: Float[Array, "B C *P"], reach: ColumnColoring
) -> Float[Array, "B R *P"]:
    """The sum over states h of transition[b, r, h] J[b, h, p]."""
    parameter = list(range(3, 1 + influence.ndim))
    total = jnp.zeros((*transition.shape[:2], *influence.shape[2:]), influence.dtype)
    if not reach.varying.all():
        columns = jnp.where(reach.varying, jnp.zeros((), transition.dtype), transition[:, :, reach.one_row])
        total = jnp.einsum(columns, [0, 1, 2], influence, [0, 2, *parameter], [0, 1, *parameter])
    if reach.varying.any():
        columns = transition[:, :, reach.kept_rows[reach.varying]]
        some = influence[:, reach.varying]
        total = total + jnp.einsum(columns, [0, 1, 2, *reach.kept], some, [0, 2, *parameter], [0, 1, *parameter])
    return total


def contract(
    adjoint: Float[Array, "B H"], influence: Float[Array, "B C *P"], reach: ColumnColoring
) -> Float[Array, "*P"]:
    """The sum over samples and states of adjoint[b, h] J[b, h, p]."""
    parameter = list(range(3, 1 + influence.ndim))
    rows = adjoint[:, reach.kept_rows]
    return jnp.einsum(rows, [0, 2, *reach.kept], influence, [0, 2, *parameter], parameter)


def color_reached(
    by_state: Float[np.ndarray, "H H"], direct: Bool[np.ndarray, "H *P"], steps: int | None
) -> ColumnColoring:
    """Color the states that the parameters of an array can reach within some steps.

    Args:
        by_state: 1 where a state [0] after a step may depend on a state [1] before the step, else 0.
        direct: true where a state may depend on a parameter directly, [H, *parameter].
        steps: number of steps, >= 1, or None for any number.
    """
    size, *shape = direct.shape
    # Parameters with the same direct reach have the same reach, so only one of each kind is followed.
    columns, kinds = _distinct(direct.reshape(size, -1))
    reached, taken = columns, 1
    while steps is None or taken < steps:
        further = columns | (by_state @ reached > 0)
        if (further == reached).all():
            break
        reached, taken = further, taken + 1
    seeds = _colors(reached)
    # A parameter reaches at most one state of a color, so the sum has at most one term.
    states = (seeds * np.arange(1, size + 1)) @ reached - 1
    return _by_color(seeds, states[:, kinds].reshape(len(seeds), *shape))


def _distinct(columns: Bool[np.ndarray, "H P"]) -> tuple[Bool[np.ndarray, "H U"], Int[np.ndarray, " P"]]:
    """The different columns of a matrix, and for each column the index of its equal among them.

    `np.unique` sorts the columns, which takes far longer.
    """
    numbers: dict[bytes, int] = {}
    packed = np.packbits(columns, axis=0).T.copy()
    kinds = np.array([numbers.setdefault(column.tobytes(), len(numbers)) for column in packed], np.intp)
    return columns[:, np.unique(kinds, return_index=True)[1]], kinds


def _colors(reached: Bool[np.ndarray, "H U"]) -> Bool[np.ndarray, "C H"]:
    """Give each reached state the first color none of whose states shares a parameter with it."""
    numbers = reached.astype(np.float32)
    shares_parameter = numbers @ numbers.T > 0
    colors: list[np.ndarray] = []
    for state in np.flatnonzero(reached.any(axis=1)):
        color = next((members for members in colors if not (members & shares_parameter[state]).any()), None)
        if color is None:
            colors.append(np.zeros(len(reached), bool))
            color = colors[-1]
        color[state] = True
    return np.array(colors, bool).reshape(-1, len(reached))


def _by_color(seeds: Bool[np.ndarray, "C H"], states: Int[np.ndarray, "C *P"]) -> ColumnColoring:
    """Make a coloring from the state of each color that each parameter reaches, -1 for none."""
    rows = states
    for axis in range(1, states.ndim):
        largest = rows.max(axis=axis, keepdims=True, initial=-1)
        if ((rows < 0) | (rows == largest)).all():
            rows = largest
    parameter = tuple(range(1, states.ndim))
    differs = (rows >= 0) & (rows != rows.max(axis=parameter, keepdims=True, initial=-1))
    return ColumnColoring(seeds, np.maximum(rows, 0), differs.any(axis=parameter), states >= 0)


# Linear maps that pass a NaN on to everything that depends on it, for any other operands, since 0 * NaN is NaN.
NAMES = (
    "add add_any broadcast_in_dim concatenate conv_general_dilated convert_element_type copy cumsum div dot_general "
    "expand_dims mul neg pad reduce_sum reduce_window_sum reshape rev slice split squeeze sub transpose"
)
LINEAR = frozenset(NAMES.split())
CALLS = frozenset({"jit", "pjit", "closed_call"})


class _Unknown(Exception):
    """A primitive whose sparsity is not known here."""


def jacobian_sparsity(
    function: Callable[..., Any], point: Any, *others: Any
) -> tuple[list[Bool[np.ndarray, "H ..."]], str | None]:
    """Find, for each array in `point`, the entries on which each entry of function(point, *others) may depend.

    A NaN as the cotangent of one entry marks everything that its reverse pass touches. If the reverse pass has primitives other
    than linear maps and selections (a loop or a max pooling, for example), everything counts as dependent.

    Args:
        function: maps `point` and `others` to a vector [H]; differentiable in `point`.
        point, others: trees of arrays or of `jax.ShapeDtypeStruct`; their values do not matter.

    Returns:
        An array [H, *leaf] for each leaf of `point`, and the name of a primitive that is not known; None if all are.
    """
    output = jax.eval_shape(function, point, *others)

    def pullback(cotangent: Any, point: Any, *others: Any) -> Any:
        return jax.vjp(lambda point: function(point, *others), point)[1](cotangent)[0]

    jaxpr = jax.make_jaxpr(pullback)(output, point, *others).jaxpr
    size = output.shape[0]
    marks = np.where(np.eye(size, dtype=bool), np.nan, 0).astype(output.dtype)
    with jax.ensure_compile_time_eval(), jax.debug_nans(False):

        def touched(mark: Any) -> Any:
            known = [mark, *[None] * (len(jaxpr.invars) - 1)]
            results = _propagate(jaxpr, known)
            return [
                np.zeros(leaf.shape, bool) if result is None else jnp.isnan(result)
                for leaf, result in zip(jax.tree.leaves(point), results, strict=True)
            ]

        try:
            return [np.asarray(touches) for touches in jax.jit(jax.vmap(touched))(marks)], None
        except _Unknown as unknown:
            return [np.ones((size, *leaf.shape), bool) for leaf in jax.tree.leaves(point)], str(unknown)


def _propagate(jaxpr: Jaxpr, known: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr as far as they depend on the inputs that are not None; all other operands count as ones."""
    values = {var: value for var, value in zip(jaxpr.invars, known, strict=True) if value is not None}

    def get(var: Any) -> Any:
        return None if isinstance(var, Literal) else values.get(var)

    def operand(var: Any) -> Any:
        value = get(var)
        return np.ones(var.aval.shape, var.aval.dtype) if value is None else value

    for equation in jaxpr.eqns:
        operands = [get(var) for var in equation.invars]
        if all(value is None for value in operands):
            continue
        name = equation.primitive.name
        if name in CALLS:
            results = _propagate(equation.params["jaxpr"].jaxpr, operands)
        elif name == "select_n":  # for either choice
            results = [sum(value for value in operands[1:] if value is not None)]
        elif name in LINEAR:
            results = equation.primitive.bind(*map(operand, equation.invars), **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        else:
            raise _Unknown(name)
        values.update((var, value) for var, value in zip(equation.outvars, results, strict=True) if value is not None)
    return [get(var) for var in jaxpr.outvars]
