"""The entries of a Jacobian that can be nonzero for any parameters, states and inputs.

They are found from the reverse pass of a function as JAX traces it, not from numbers: an entry that happens to be zero, as
behind a boxcar surrogate, counts as nonzero if a gradient could pass there. So no entry that can be nonzero is missed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal
from jaxtyping import Bool

# Linear maps that pass a NaN on to everything that depends on it, for any other operands, since 0 * NaN is NaN.
LINEAR = frozenset(
    [
        "add",
        "add_any",
        "broadcast_in_dim",
        "concatenate",
        "conv_general_dilated",
        "convert_element_type",
        "copy",
        "cumsum",
        "div",
        "dot_general",
        "expand_dims",
        "mul",
        "neg",
        "pad",
        "reduce_sum",
        "reduce_window_sum",
        "reshape",
        "rev",
        "slice",
        "split",
        "squeeze",
        "sub",
        "transpose",
    ]
)
CALLS = frozenset({"jit", "pjit", "closed_call"})


class _Unknown(Exception):
    """A primitive whose sparsity is not known here."""


def jacobian_sparsity(function: Callable[..., Any], point: Any, *others: Any) -> list[Bool[np.ndarray, "H ..."]]:
    """Find, for each array in `point`, the entries on which each entry of function(point, *others) may depend.

    A NaN as the cotangent of one entry marks everything that its reverse pass touches. If the reverse pass has primitives other
    than linear maps and selections (a loop, for example), everything counts as dependent.

    Args:
        function: maps `point` and `others` to a vector [H]; differentiable in `point`.
        point, others: trees of arrays or of `jax.ShapeDtypeStruct`; their values do not matter.

    Returns:
        An array [H, *leaf] for each leaf of `point`.
    """
    output = jax.eval_shape(function, point, *others)

    def pullback(cotangent: Any, point: Any, *others: Any) -> Any:
        return jax.vjp(lambda point: function(point, *others), point)[1](cotangent)[0]

    jaxpr = jax.make_jaxpr(pullback)(output, point, *others).jaxpr
    size = output.shape[0]
    with jax.ensure_compile_time_eval(), jax.debug_nans(False):
        marks = jnp.where(jnp.eye(size, dtype=bool), jnp.asarray(jnp.nan, output.dtype), jnp.zeros((), output.dtype))

        def touched(mark: Any) -> Any:
            known = [mark, *[None] * (len(jaxpr.invars) - 1)]
            results = _propagate(jaxpr, known)
            return [
                jnp.zeros(leaf.shape, bool) if result is None else jnp.isnan(result)
                for leaf, result in zip(jax.tree.leaves(point), results, strict=True)
            ]

        try:
            return [np.asarray(touches) for touches in jax.jit(jax.vmap(touched))(marks)]
        except _Unknown:
            return [np.ones((size, *leaf.shape), bool) for leaf in jax.tree.leaves(point)]


def _propagate(jaxpr: Jaxpr, known: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr as far as they depend on the inputs that are not None; all other operands count as ones."""
    values = {var: value for var, value in zip(jaxpr.invars, known, strict=True) if value is not None}

    def get(var: Any) -> Any:
        return None if isinstance(var, Literal) else values.get(var)

    def operand(var: Any) -> Any:
        value = get(var)
        return jnp.ones(var.aval.shape, var.aval.dtype) if value is None else value

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
