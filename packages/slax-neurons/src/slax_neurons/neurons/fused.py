"""The states of a neuron over time from one kernel, forward and in the reverse pass.

The derivative of the states is linear in the tangents. It is a primitive of its own, so that JAX can transpose it, which is the
reverse pass, batch it, and differentiate it again. Tangents and derivatives of derivatives are made by scans.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from slax_neurons.kernels import compiles, elementwise_scan, requested
from slax_neurons.neurons.states import integrate_and_fire


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def fused_integrate_and_fire(graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array) -> tuple[Any, Any]:
    """The last carry and the membranes before each firing, m_t, like `integrate_and_fire`.

    The derivative stores nothing but m_t, I_t, the parameters and the first carry.
    """
    integrate, fire = functions(graphdef)

    def step(state: Any, carry: Any, current: Array, *_: Any) -> tuple[Any, Any]:
        membrane = integrate(state, carry, current)
        return fire(state, membrane), membrane

    end, membranes = elementwise_scan(step, *in_rows(state, carry, inputs))
    return shaped(end, inputs.shape[1:]), shaped(membranes, inputs.shape)


@fused_integrate_and_fire.defjvp
def _jvp(graphdef: nnx.GraphDef, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    end, membranes = fused_integrate_and_fire(graphdef, *primals)
    *_, inputs = primals
    given = *in_rows(*primals), rows_of(membranes)
    d_end, d_membranes = derivative(graphdef, given, in_rows(*tangents), transposed=False)
    return (end, membranes), (shaped(d_end, inputs.shape[1:]), shaped(d_membranes, inputs.shape))


def has_kernel(name: str, graphdef: nnx.GraphDef, state: nnx.State, carry: Any, inputs: Array, kernel: str) -> bool:
    """Whether the kernels of a neuron compile for these shapes, see `compiles`; found once."""
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), (state, carry, inputs))
    leaves, structure = jax.tree.flatten(shapes)
    return _has_kernel(name, graphdef, structure, tuple(leaves), requested(kernel))


@cache
def _has_kernel(
    name: str, graphdef: nnx.GraphDef, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...], kernel: str
) -> bool:
    def through_all(*primals: Any) -> Any:
        made, pull = jax.vjp(partial(fused_integrate_and_fire, graphdef), *primals)
        return pull(made)

    return compiles(through_all, jax.tree.unflatten(structure, leaves), name, kernel)


derivative_p = Primitive("slax_neuron_derivative")
derivative_p.multiple_results = True


def derivative(graphdef: nnx.GraphDef, given: tuple, linear: tuple, *, transposed: bool) -> tuple:
    """The tangents of the last carry and the membranes; transposed, the cotangents of parameters, first carry and currents.

    Args:
        graphdef: of the neuron.
        given: the parameters [M], the first carry [M], the currents [T, M] and the membranes [T, M].
        linear: the tangents of the first three; transposed, the cotangents of the last carry and of the membranes.
        transposed: which of the two.
    """
    leaves, structure = jax.tree.flatten(given)
    linear_leaves, linear_structure = jax.tree.flatten(linear)
    parameters = {"graphdef": graphdef, "structure": structure, "linear_structure": linear_structure}
    made = derivative_p.bind(*leaves, *linear_leaves, transposed=transposed, **parameters)
    return jax.tree.unflatten(_structure_of_result(structure, transposed), made)


def _structure_of_result(structure: Any, transposed: bool) -> Any:
    state, carry, inputs, membranes = structure.children()
    return jax.tree_util.treedef_tuple((state, carry, inputs) if transposed else (carry, membranes))


def _parts(leaves: Any, structure: Any, linear_structure: Any) -> tuple[Any, Any]:
    count = structure.num_leaves
    return jax.tree.unflatten(structure, leaves[:count]), jax.tree.unflatten(linear_structure, leaves[count:])


def _run(*leaves: Any, transposed: bool, **parameters: Any) -> list[Array]:
    function = _transposed if transposed else _tangent
    given, linear = _parts(leaves, parameters["structure"], parameters["linear_structure"])
    return jax.tree.leaves(function(parameters["graphdef"], given, linear))


def _by_scan(*leaves: Any, graphdef: Any, structure: Any, linear_structure: Any, transposed: bool) -> list[Array]:
    """The same, differentiable; a function of parameters, first carry and currents alone, which the membranes follow from."""
    (*point, _), linear = _parts(leaves, structure, linear_structure)
    states = partial(integrate_and_fire, graphdef)
    made = jax.vjp(states, *point)[1](linear) if transposed else jax.jvp(states, tuple(point), linear)[1]
    return jax.tree.leaves(made)


def _derivative_jvp(primals: Any, tangents: Any, **parameters: Any) -> tuple[Any, Any]:
    count = parameters["structure"].num_leaves
    made = derivative_p.bind(*primals, **parameters)
    moved = [ad.instantiate_zeros(tangent) for tangent in tangents]
    if all(type(tangent) is ad.Zero for tangent in tangents[:count]):
        return made, derivative_p.bind(*primals[:count], *moved[count:], **parameters)
    return made, jax.jvp(partial(_by_scan, **parameters), tuple(primals), tuple(moved))[1]


def _derivative_transpose(cotangents: Any, *leaves: Any, **parameters: Any) -> list[Any]:
    structure, transposed = parameters["structure"], parameters["transposed"]
    count = structure.num_leaves
    given, linear = leaves[:count], leaves[count:]
    cotangents = jax.tree.unflatten(
        _structure_of_result(structure, transposed), [ad.instantiate_zeros(cotangent) for cotangent in cotangents]
    )
    given = jax.tree.unflatten(structure, given)
    made = jax.tree.leaves(derivative(parameters["graphdef"], given, cotangents, transposed=not transposed))
    wanted = [leaf if ad.is_undefined_primal(at) else None for leaf, at in zip(made, linear, strict=True)]
    return [None] * count + wanted


def _derivative_batch(leaves: Any, axes: Any, **parameters: Any) -> tuple[Any, Any]:
    """A batch is more units."""
    (size,) = {leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None}

    def merged(leaf: Array, axis: int | None) -> Array:
        if axis is None:
            leaf = jnp.broadcast_to(leaf[..., None, :], (*leaf.shape[:-1], size, leaf.shape[-1]))
        else:
            leaf = jnp.moveaxis(leaf, axis, -2)
        return leaf.reshape(*leaf.shape[:-2], -1)

    made = derivative_p.bind(*map(merged, leaves, axes), **parameters)
    apart = [leaf.reshape(*leaf.shape[:-1], size, -1) for leaf in made]
    return apart, [leaf.ndim - 2 for leaf in apart]


def _derivative_shapes(*leaves: Any, **parameters: Any) -> list[Any]:
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    made = jax.eval_shape(partial(_run, **parameters), *shapes)
    return [jax.core.ShapedArray(leaf.shape, leaf.dtype) for leaf in made]


derivative_p.def_impl(lambda *leaves, **parameters: jax.jit(partial(_run, **parameters))(*leaves))
derivative_p.def_abstract_eval(_derivative_shapes)
mlir.register_lowering(derivative_p, mlir.lower_fun(_run, multiple_results=True))
ad.primitive_jvps[derivative_p] = _derivative_jvp
ad.primitive_transposes[derivative_p] = _derivative_transpose
batching.primitive_batchers[derivative_p] = _derivative_batch


def _tangent(graphdef: nnx.GraphDef, given: tuple, tangents: tuple) -> tuple[Any, Any]:
    """The tangents of the last carry [M] and of the membranes [T, M], along the membranes that the kernel made."""
    state, carry, inputs, membranes = given
    d_state, d_carry, d_inputs = tangents
    integrate, fire = functions(graphdef)

    def step(carry: Any, at: Any) -> tuple[Any, Any]:
        before, d_before = carry
        current, membrane, d_current = at
        _, d_membrane = jax.jvp(integrate, (state, before, current), (d_state, d_before, d_current))
        return jax.jvp(fire, (state, membrane), (d_state, d_membrane)), d_membrane

    (_, d_end), d_membranes = jax.lax.scan(step, (carry, d_carry), (inputs, membranes, d_inputs))
    return d_end, d_membranes


def _transposed(graphdef: nnx.GraphDef, given: tuple, cotangents: tuple) -> tuple[Any, Any, Any]:
    """The cotangents of the parameters [M], of the first carry [M] and of the currents [T, M]."""
    state, carry, inputs, membranes = given
    from_end, from_membranes = cotangents
    integrate, fire = functions(graphdef)

    def step(constants: Any, carry: Any, at: Any, last: Any, is_first: Any) -> tuple[Any, Any]:
        state, start = constants
        from_after, total = carry
        current, membrane, from_membrane = at
        of_state, through_fire = jax.vjp(fire, state, membrane)[1](from_after)
        from_membrane = jax.tree.map(jnp.add, from_membrane, through_fire)
        before = jax.tree.map(partial(jnp.where, is_first), start, fire(state, last))
        also_of_state, from_before, from_current = jax.vjp(integrate, state, before, current)[1](from_membrane)
        total = jax.tree.map(lambda *parts: sum(parts), total, of_state, also_of_state)
        return (from_before, total), from_current

    start = (from_end, jax.tree.map(jnp.zeros_like, state))
    steps = (inputs, membranes, from_membranes)
    ends, from_inputs = elementwise_scan(step, (state, carry), start, steps, lagged=membranes, reverse=True)
    from_carry, from_state = ends
    return from_state, from_carry, from_inputs


def functions(graphdef: nnx.GraphDef) -> tuple[Any, Any]:
    """`integrate`, and the carry after `fire`, as functions of the neuron's parameters as well."""

    def integrate(state: nnx.State, carry: Any, current: Array) -> Any:
        return nnx.merge(graphdef, state).integrate(carry, current)

    def fire(state: nnx.State, membrane: Any) -> Any:
        return nnx.merge(graphdef, state).fire(membrane)[0]

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
