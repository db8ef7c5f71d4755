"""The states and outputs of a neuron over time from one kernel, forward and in the reverse pass.

Both are runs of a primitive, so that JAX can differentiate them in any order and within loops, transpose the derivative, which
is the reverse pass, and batch them. Tangents and derivatives of derivatives are made by scans.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array

from slax_neurons.kernels import compiles, elementwise_scan, requested, scan_steps


def fused_integrate_and_fire(
    graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array
) -> tuple[Any, Any, Array]:
    """The last carry and the membranes before each firing, m_t, like `integrate_and_fire`, and the outputs.

    The derivative stores m_t, the parameters and the first carry, and I_t where the derivative of `integrate` reads it. The
    outputs are an array of their own, also for an LI, whose output is m_t; a layer with weights behind it stores them.
    """
    end, membranes, outputs = run(_states, graphdef, *in_rows(state, carry, inputs))
    return shaped(end, inputs.shape[1:]), shaped(membranes, inputs.shape), shaped(outputs, inputs.shape)


def has_kernel(name: str, graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array, loop: str) -> bool:
    """Whether the kernels of a neuron compile for these shapes, see `compiles`; found once."""
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), (state, carry, inputs))
    leaves, structure = jax.tree.flatten(shapes)
    return _has_kernel(name, graphdef, structure, tuple(leaves), requested(loop))


@cache
def _has_kernel(
    name: str, graphdef: nnx.GraphDef, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...], loop: str
) -> bool:
    def through_all(*primals: Any) -> Any:
        made, pull = jax.vjp(partial(fused_integrate_and_fire, graphdef), *primals)
        return made, pull(made)

    return compiles(through_all, jax.tree.unflatten(structure, leaves), name, loop)


run_p = Primitive("slax_neuron")
run_p.multiple_results = True


def run(function: Callable[..., tuple], graphdef: nnx.GraphDef, *arguments: Any) -> tuple:
    """The result of one of the functions `_states`, `_tangent` and `_transposed`, as a primitive.

    Args:
        function: which one. The last two are linear in the last of their arguments.
        graphdef: of the neuron.
        arguments: of the function: trees of arrays [M] or [T, M].
    """
    leaves, structure = jax.tree.flatten(arguments)
    made = run_p.bind(*leaves, function=function, graphdef=graphdef, structure=structure)
    return jax.tree.unflatten(_structure_of_result(function, structure), made)


def _structure_of_result(function: Any, structure: Any) -> Any:
    state, carry, inputs, *_ = structure.children()
    return jax.tree_util.treedef_tuple((state, carry, inputs) if function is _transposed else (carry, carry, inputs))


def _run(*leaves: Any, function: Any, graphdef: Any, structure: Any) -> list[Array]:
    return jax.tree.leaves(function(graphdef, *jax.tree.unflatten(structure, leaves)))


def _by_scan(*leaves: Any, function: Any, graphdef: Any, structure: Any) -> list[Array]:
    """A derivative, differentiable in all its arguments: the membranes that the kernel made are one of them."""
    state, carry, inputs, membranes, linear = jax.tree.unflatten(structure, leaves)
    along = partial(_tangent, graphdef, state, carry, inputs, membranes)
    if function is _tangent:
        return jax.tree.leaves(along(linear))
    made, pull = jax.vjp(along, jax.tree.map(jnp.zeros_like, (state, carry, inputs)))
    return jax.tree.leaves(pull(tuple(map(_or_zeros, linear, made))))


def _or_zeros(cotangent: Any, like: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, like) if cotangent is None else cotangent


def _run_jvp(primals: Any, tangents: Any, **parameters: Any) -> tuple[Any, Any]:
    function, graphdef, structure = (parameters[name] for name in ("function", "graphdef", "structure"))
    made = run_p.bind(*primals, **parameters)
    moved = [ad.instantiate_zeros(tangent) for tangent in tangents]
    if function is _states:
        _, membranes, _ = jax.tree.unflatten(_structure_of_result(function, structure), made)
        *point, currents = jax.tree.unflatten(structure, primals)
        if not _reads_current(graphdef, *point, currents):  # a membrane, which is kept anyway, stands for it
            kept = (*jax.tree.leaves(membranes), currents)
            currents = next(leaf for leaf in kept if (leaf.shape, leaf.dtype) == (currents.shape, currents.dtype))
        along = jax.tree.unflatten(structure, moved)
        return made, jax.tree.leaves(run(_tangent, graphdef, *point, currents, membranes, along))
    count = len(primals) - structure.children()[-1].num_leaves
    if all(type(tangent) is ad.Zero for tangent in tangents[:count]):
        return made, run_p.bind(*primals[:count], *moved[count:], **parameters)
    return made, jax.jvp(partial(_by_scan, **parameters), tuple(primals), tuple(moved))[1]


def _reads_current(graphdef: nnx.GraphDef, *point: Any) -> bool:
    """Whether the derivative of `integrate` at parameters, carry and current depends on the current."""
    *others, current = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[-1:], array.dtype), point)

    def tangent(current: Array, others: Any, along: Any) -> Any:
        return jax.jvp(functions(graphdef)[0], (*others, current), along)[1]

    program = jax.make_jaxpr(tangent)(current, others, (*others, current)).jaxpr
    return dce_jaxpr(program, [True] * len(program.outvars))[1][0]


def _run_transpose(cotangents: Any, *leaves: Any, function: Any, graphdef: Any, structure: Any) -> list[Any]:
    """The transpose of a derivative. Nothing is read for membranes or outputs whose cotangents are zero: it gets None."""
    *given, linear = jax.tree.unflatten(structure, leaves)
    of_result = _structure_of_result(function, structure)
    are_zero = jax.tree.unflatten(of_result, [type(cotangent) is ad.Zero for cotangent in cotangents])
    signals = jax.tree.unflatten(of_result, map(ad.instantiate_zeros, cotangents))
    if function is _tangent:
        from_steps = zip(signals[1:], are_zero[1:], strict=True)
        signals = (signals[0], *(None if jax.tree.all(zero) else signal for signal, zero in from_steps))
    made = run(_tangent if function is _transposed else _transposed, graphdef, *given, signals)
    found = jax.tree.leaves([part for part, at in zip(made, linear, strict=True) if at is not None])
    count = len(leaves) - len(found)
    is_wanted = map(ad.is_undefined_primal, leaves[count:])
    return [None] * count + [leaf if wanted else None for leaf, wanted in zip(found, is_wanted, strict=True)]


def _run_batch(leaves: Any, axes: Any, **parameters: Any) -> tuple[Any, Any]:
    """A batch is more units."""
    (size,) = {leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None}

    def merged(leaf: Array, axis: int | None) -> Array:
        if axis is None:
            leaf = jnp.broadcast_to(leaf[..., None, :], (*leaf.shape[:-1], size, leaf.shape[-1]))
        else:
            leaf = jnp.moveaxis(leaf, axis, -2)
        return leaf.reshape(*leaf.shape[:-2], -1)

    made = run_p.bind(*map(merged, leaves, axes), **parameters)
    apart = [leaf.reshape(*leaf.shape[:-1], size, -1) for leaf in made]
    return apart, [leaf.ndim - 2 for leaf in apart]


def _run_shapes(*leaves: Any, **parameters: Any) -> list[Any]:
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    made = jax.eval_shape(partial(_run, **parameters), *shapes)
    return [jax.core.ShapedArray(leaf.shape, leaf.dtype) for leaf in made]


run_p.def_impl(lambda *leaves, **parameters: jax.jit(partial(_run, **parameters))(*leaves))
run_p.def_abstract_eval(_run_shapes)
mlir.register_lowering(run_p, mlir.lower_fun(_run, multiple_results=True))
ad.primitive_jvps[run_p] = _run_jvp
ad.primitive_transposes[run_p] = _run_transpose
batching.primitive_batchers[run_p] = _run_batch


def _states(graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array) -> tuple[Any, Any, Array]:
    """The last carry [M], the membranes [T, M] and the outputs [T, M]."""
    integrate, fire = functions(graphdef)

    def step(state: Any, carry: Any, current: Array, *_: Any) -> tuple[Any, Any]:
        membrane = integrate(state, carry, current)
        after, output = fire(state, membrane)
        return after, (membrane, output)

    end, (membranes, outputs) = elementwise_scan(step, state, carry, inputs)
    return end, membranes, outputs


def _tangent(
    graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array, membranes: Any, tangents: tuple
) -> tuple[Any, Any, Array]:
    """The tangents of the last carry, the membranes and the outputs, along the membranes that the kernel made."""
    d_state, d_carry, d_inputs = tangents
    integrate, fire = functions(graphdef)

    def step(carry: Any, at: Any) -> tuple[Any, Any]:
        before, d_before = carry
        current, membrane, d_current = at
        _, d_membrane = jax.jvp(integrate, (state, before, current), (d_state, d_before, d_current))
        (after, _), (d_after, d_output) = jax.jvp(fire, (state, membrane), (d_state, d_membrane))
        return (after, d_after), (d_membrane, d_output)

    (_, d_end), (d_membranes, d_outputs) = scan_steps(step, (carry, d_carry), (inputs, membranes, d_inputs))
    return d_end, d_membranes, d_outputs


def _transposed(
    graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array, membranes: Any, cotangents: tuple
) -> tuple[Any, Any, Array]:
    """The cotangents of the parameters [M], of the first carry [M] and of the currents [T, M].

    Args:
        cotangents: of the last carry, of the membranes and of the outputs; None for zeros.
    """
    from_end, *from_steps = cotangents
    integrate, fire = functions(graphdef)

    def step(constants: Any, carry: Any, at: Any, membrane: Any, last: Any, is_first: Any) -> tuple[Any, Any]:
        state, start = constants
        from_after, total = carry
        current, (from_membrane, from_output) = at
        (_, output), through_fire = jax.vjp(fire, state, membrane)
        of_state, fired = through_fire((from_after, _or_zeros(from_output, output)))
        from_membrane = fired if from_membrane is None else jax.tree.map(jnp.add, from_membrane, fired)
        before = jax.tree.map(partial(jnp.where, is_first), start, fire(state, last)[0])
        also_of_state, from_before, from_current = jax.vjp(integrate, state, before, current)[1](from_membrane)
        total = jax.tree.map(lambda *parts: sum(parts), total, of_state, also_of_state)
        return (from_before, total), from_current

    start = (from_end, jax.tree.map(jnp.zeros_like, state))
    steps = (inputs, from_steps)
    (from_carry, from_state), from_inputs = elementwise_scan(
        step, (state, carry), start, steps, lagged=membranes, reverse=True
    )
    return from_state, from_carry, from_inputs


def functions(graphdef: nnx.GraphDef) -> tuple[Any, Any]:
    """`integrate` and `fire`, as functions of the neuron's parameters as well."""

    def integrate(state: nnx.State, carry: Any, current: Array) -> Any:
        return nnx.merge(graphdef, state).integrate(carry, current)

    def fire(state: nnx.State, membrane: Any) -> Any:
        return nnx.merge(graphdef, state).fire(membrane)

    return integrate, fire


def in_rows(state: nnx.State, carry: Any, inputs: Array) -> tuple[Any, Any, Any]:
    """All units of a batch in one axis: parameters and carry [*B N] as [M], a parameter for each unit, and inputs as [T, M]."""
    shape = inputs.shape[1:]
    state = jax.tree.map(lambda array: jnp.broadcast_to(array, shape).reshape(-1), state)
    return state, jax.tree.map(jnp.ravel, carry), rows_of(inputs)


def rows_of(tree: Any) -> Any:
    """Arrays [T, *B N] as [T, M]."""
    return jax.tree.map(lambda array: array.reshape(array.shape[0], -1), tree)


def shaped(tree: Any, shape: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda array: array.reshape(shape), tree)
