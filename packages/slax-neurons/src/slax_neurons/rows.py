"""Whether a module without a carry maps each row by itself: it is tried on a few random rows."""

import functools
import itertools
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import jaxpr_as_fun

from slax_neurons.modules import BY_ROW, Function, changes_when_called

ACTIVATIONS = "jax._src.nn.functions"  # the module of relu and others


def check_rows(module: nnx.Module, where: str, inputs: Any) -> None:
    """Raise ValueError if a function or a module makes a row of its output of other rows of its input [rows, features...].

    It is run rather than read: a jaxpr tells rows from features only until the first reshape or gather. What is known of a
    function is kept for as long as the function lives. Modules of this library, and those of Flax in `BY_ROW`, are not tried,
    nor are modules that change their own variables, such as BatchNorm in training, which may mix rows.
    """
    if any(map(jax.export.is_symbolic_dim, inputs.shape)):
        return
    key = inputs.shape[1:], inputs.dtype
    try:
        if isinstance(module, Function):
            known = _MIXES_ROWS.setdefault(module.function, {})
            if key not in known:
                known[key] = _mixes_rows(module.function, *key)
            mixes = known[key]
        elif _may_mix_rows(module):
            graphdef, state = nnx.split(module)
            leaves, structure = jax.tree.flatten(state)
            mixes = _module_mixes_rows(graphdef, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), *key)
        else:
            return
    except TypeError:  # without a hash or weak references: it is not tried each time
        return
    if mixes:
        what = "a function" if isinstance(module, Function) else type(module).__name__
        raise ValueError(
            f"Got {what} as {where} that makes a row of other rows, expected one that maps each row by itself: the rows "
            "are all steps and samples together, so a mean over them reads the future. Leave axis 0 alone, as in "
            "z.mean(axis=-1); for statistics over rows, use nnx.BatchNorm or slax_neurons.RunningNorm."
        )


_MIXES_ROWS: weakref.WeakKeyDictionary[Any, dict[Any, bool]] = weakref.WeakKeyDictionary()


def _may_mix_rows(module: Any) -> bool:
    """Whether a module has to be tried: it is not a cell, is not known to map each row by itself, and changes no variables."""
    if type(module) is nnx.Sequential:
        return any(map(_may_mix_rows, module.layers))
    if not isinstance(module, nnx.Module):
        return getattr(module, "__module__", "") != ACTIVATIONS
    is_known = type(module) in BY_ROW or type(module).__module__.startswith("slax_neurons.")
    return not (is_known or isinstance(module, nnx.RNNCellBase) or changes_when_called(module))


@functools.lru_cache(maxsize=64)
def _module_mixes_rows(
    graphdef: nnx.GraphDef, structure: Any, shapes: tuple[tuple[Any, Any], ...], features: tuple[int, ...], dtype: Any
) -> bool:
    """Whether a module mixes rows, for some values of its variables."""
    random = np.random.default_rng(1)
    leaves = [
        jnp.asarray(
            random.standard_normal(shape, np.float32) if jnp.issubdtype(kind, jnp.inexact) else np.zeros(shape), kind
        )
        for shape, kind in shapes
    ]
    return _mixes_rows(
        lambda leaves, x: nnx.merge(graphdef, jax.tree.unflatten(structure, leaves))(x), features, dtype, leaves
    )


def _mixes_rows(function: Any, features: tuple[int, ...], dtype: Any, *given: Any) -> bool:
    """Whether rows of four change when others become large, of either sign: the others of each pair are tried both ways.

    `given` are arguments before the rows. Noise is the same in all runs of one program, and does not count. What cannot be run
    on these numbers is not known, and passes, as do rows that are not finite.
    """
    rows = np.random.default_rng(0).normal(size=(4, *features))
    try:
        with jax.numpy_dtype_promotion("standard"), jax.debug_nans(False), jax.debug_infs(False):
            program = jax.make_jaxpr(function)(*given, jax.ShapeDtypeStruct(rows.shape, dtype))
            has_rows = all(made.shape[:1] == (4,) for made in program.out_avals)
            if program.effects or not has_rows or any(isinstance(const, jax.core.Tracer) for const in program.consts):
                return False
            with jax.ensure_compile_time_eval():
                run = functools.partial(jax.jit(jaxpr_as_fun(program)), *jax.tree.leaves(given))
                made = [np.asarray(y).astype(complex) for y in run(jnp.asarray(rows, dtype))]
                for others, sign in itertools.product(([0, 1], [2, 3], [0, 2], [1, 3]), (10, -10)):
                    changed = rows.copy()
                    changed[others] = sign * np.abs(rows[others])
                    for before, after in zip(made, run(jnp.asarray(changed, dtype)), strict=True):
                        a, b = (np.delete(y, others, axis=0) for y in (before, np.asarray(after).astype(complex)))
                        if (
                            np.isfinite(a).all()
                            and np.isfinite(b).all()
                            and not np.allclose(a, b, rtol=1e-3, atol=1e-3)
                        ):
                            return True
    except Exception:  # of a function that takes other rows or numbers than these
        return False
    return False
