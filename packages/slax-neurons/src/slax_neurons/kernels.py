"""Recurrent work that is element-wise in the units, in one kernel: a program for each block of units runs all steps.

A scan over T steps launches at least one kernel per step on a GPU, and writes the state to memory after each. Here the state
stays in registers; each input that a step reads is read once, and each output is written once. The kernel is made of the same
functions as the scan, by Pallas, for NVIDIA GPUs. On a CPU it is interpreted, which is slow and for tests.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, PyTree

from slax_neurons.surrogates import in_kernel

LOOPS = ("auto", "plain", "scan", "fused", "fused_or_scan")

BLOCK = 128  # units of a program
WARPS = 4

# Two of the three launches of an iteration of a loop belong to the loop and not to the step: with 8 steps in an iteration, a
# quarter of a launch per step (`python -m benchmarks.gpu_model`). Not measured.
STEPS_ON_GPU = 8

# step(constants, carry, x_t, y_t or None, y_{t-1} or None, whether t is the first step) -> carry, outputs
Step = Callable[[Any, Any, Any, Any, Any, Any], tuple[Any, Any]]


auto_is = jax.make_user_context("auto")
"""What "auto" is within `with auto_is("fused"):`, for tests and measurements; JAX keeps programs of each loop apart."""


steps_in_iteration = jax.make_user_context(None)
"""`with steps_in_iteration(8):` loops over time run 8 steps in an iteration, also those of rules; see `unroll`."""


def scan_steps(
    step: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    steps: Any,
    *,
    reverse: bool = False,
    per_iteration: int | None = None,
) -> tuple[Any, Any]:
    """`jax.lax.scan` over time, with several steps in an iteration on a GPU, where a launch takes longer than a step."""
    unroll = per_iteration or steps_in_iteration.value or (1 if is_interpreted() else STEPS_ON_GPU)
    return jax.lax.scan(step, carry, steps, reverse=reverse, unroll=unroll)


def requested(loop: str) -> str:
    """The loop, or in a block of `auto_is` the one that "auto" is there; "auto" is left to who runs it."""
    return auto_is.value if loop == "auto" else loop


def is_fused(loop: str) -> bool:
    """Whether one kernel runs all steps; "auto" does not, until a measurement on a GPU says otherwise."""
    return requested(loop) in ("fused", "fused_or_scan")


def is_interpreted() -> bool:
    """Whether kernels are run without being compiled, for lack of a GPU."""
    return jax.default_backend() == "cpu"


def scan_units(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    constants: PyTree[Array],
    carry: PyTree[Array],
    steps: PyTree[Array],
    *,
    local: Callable[[Any], Any] = lambda at: at,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Run carry, outputs_t = step(constants, carry, local(steps_t)) for all steps, by a scan or in one kernel, as "auto" says.

    Args:
        step: acts on each unit by itself.
        constants: arrays that broadcast to the shape *S of a step.
        carry: arrays [*S] before the first step, or of size 1 along axes along which they stay the same.
        steps: arrays [T, ...].
        local: the part of a step that does not depend on the carry. It maps the data of a step to arrays [*S]. It is computed
            within the kernel if it acts on each unit by itself and reads nothing else but numbers, and otherwise for all
            steps together before the kernel.
        reverse: from the last step to the first.

    Returns:
        The carry after the last step, and the outputs of all steps, [T, *S].
    """
    if is_fused("auto"):
        local_in_kernel, numbers, given = in_blocks(local, steps)
        shapes = [leaf.shape for leaf in jax.tree.leaves(carry)] + [leaf.shape[1:] for leaf in jax.tree.leaves(given)]
        shape = jnp.broadcast_shapes(*shapes)
        constants_in_rows, carry_in_rows = jax.tree.map(
            lambda array: jnp.broadcast_to(array, shape).reshape(-1), (constants, carry)
        )

        def in_rows(array: Array) -> Array:  # a step of it may have fewer axes than S
            aligned = jnp.expand_dims(array, range(1, 2 + len(shape) - array.ndim))
            return jnp.broadcast_to(aligned, (len(array), *shape)).reshape(len(array), -1)

        given = jax.tree.map(in_rows, given)

        def run(*rows: Any) -> tuple[Any, Any]:
            def whole_step(constants: Any, carry: Any, at: Any, *_: Any) -> tuple[Any, Any]:
                return step(constants[0], carry, local_in_kernel(constants[1], at))

            return elementwise_scan(whole_step, *rows, reverse=reverse)

        rows = ((constants_in_rows, numbers), carry_in_rows, given)
        if compiles(run, rows, step.__qualname__, "auto"):
            end, outputs = run(*rows)

            def as_before(found: Array, before: Array) -> Array:
                whole = found.reshape(shape)
                kept = (slice(1) if size == 1 else slice(None) for size in before.shape)
                return whole[(..., *kept)]

            outputs = jax.tree.map(lambda array: array.reshape(len(array), *shape), outputs)
            return jax.tree.map(as_before, end, carry), outputs
    return scan_steps(lambda carry, at: step(constants, carry, local(at)), carry, steps, reverse=reverse)


def in_blocks(local: Callable[[Any], Any], steps: Any) -> tuple[Callable[[Any, Any], Any], list[Array], Any]:
    """A function of the numbers that `local` reads and the data of a step for a block of units; these numbers; and the data.

    If `local` reads more than numbers, or mixes units, it is computed here.
    """
    leaves, structure = jax.tree.flatten(steps)
    at_step, in_block = (
        jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape or x.shape[1:], x.dtype) for x in leaves])
        for shape in ((), (BLOCK,))
    )
    is_read = jax.make_jaxpr(local)(at_step).consts
    if not any(map(jnp.ndim, is_read)) and all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves):
        with in_kernel(True):
            program, made = jax.make_jaxpr(local, return_shape=True)(in_block)
        if not mixes_units(program.jaxpr):

            def local_in_block(numbers: list[Array], at: Any) -> Any:
                found = jaxpr_as_fun(ClosedJaxpr(program.jaxpr, numbers))(*jax.tree.leaves(at))
                return jax.tree.unflatten(jax.tree.structure(made), found)

            return local_in_block, list(map(jnp.asarray, program.consts)), steps
    return (lambda _, at: at), [], jax.vmap(local)(steps)


def mixes_units(program: Any) -> bool:
    """Whether a program for arrays [BLOCK] and numbers makes one unit of others, or counts units: a block has only some units.

    What keeps the shape is element-wise, but for the operations that are named here.
    """
    for equation in program.eqns:
        given, made = ({atom.aval.shape for atom in atoms} for atoms in (equation.invars, equation.outvars))
        name, of_units = equation.primitive.name, {(BLOCK,)}
        if name in ("iota", "rev", "sort") or name.startswith("cum"):
            return True
        if not given | made <= {(), (1,)} | of_units or (of_units <= given and made != of_units):
            return True
        if any(map(mixes_units, jaxprs_in_params(equation.params))):
            return True
    return False


def scan_each(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    constants: PyTree[Array],
    carries: Sequence[Any],
    steps: Sequence[Any],
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The same as `scan_units` for several carries of different shapes: one scan for all of them, or a kernel for each."""
    if is_fused("auto"):
        runs = [scan_units(step, constants, carry, given) for carry, given in zip(carries, steps, strict=True)]
        ends, outputs = zip(*runs, strict=True)
        return ends, outputs

    def together(carries: Any, given: Any) -> Any:
        made = [step(constants, carry, at) for carry, at in zip(carries, given, strict=True)]
        return tuple(zip(*made, strict=True))

    return scan_steps(together, tuple(carries), tuple(steps))


def compiles(run: Callable[..., Any], arguments: Any, name: str, loop: str) -> bool:
    """Whether a function with kernels compiles for these shapes. If not, an error says why, or a warning where a scan may run.

    Raises:
        ValueError: it does not compile, and the loop is "fused".
    """
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arguments)
    try:
        traced = jax.jit(run).trace(*shapes)
        if not is_interpreted():
            traced.lower().compile()
    except Exception as error:
        why = f"The kernel of {name} does not compile: {type(error).__name__}: {error}"
        if requested(loop) == "fused":
            raise ValueError(f"{why}\nUse loop='scan', or loop='fused_or_scan' for a scan where it is so.") from error
        warnings.warn(f"{why}\nIt runs as a scan.", RuntimeWarning, stacklevel=2)
        return False
    return True


def elementwise_scan(
    step: Step,
    constants: PyTree[Array],
    carry: PyTree[Array],
    inputs: PyTree[Array],
    *,
    lagged: PyTree[Array] = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Run carry, outputs_t = step(constants, carry, inputs_t, lagged_t, lagged_{t-1}, t == 0) for all steps in one kernel.

    What the step does not read is no part of the kernel.

    Args:
        step: acts on each unit by itself: it gets and returns arrays of a block of units.
        constants: arrays [M] or numbers [], the same in all steps.
        carry: arrays [M] before the first step.
        inputs: arrays [T, M].
        lagged: arrays [T, M], read once, from the last step to the first; in the first step, lagged_{t-1} is lagged_t.
        reverse: from the last step to the first.

    Returns:
        The carry after the last step, [M], and the outputs of all steps, [T, M].

    Raises:
        ValueError: lagged arrays from the first step to the last.
    """
    if lagged is not None and not reverse:
        raise ValueError(
            "Got lagged arrays from the first step to the last, expected reverse=True. Hand the last one on."
        )
    steps, units = jax.tree.leaves(inputs)[0].shape
    flat, structure = jax.tree.flatten((constants, carry, inputs, lagged))
    in_block = [jax.ShapeDtypeStruct((BLOCK,) if array.ndim else (), array.dtype) for array in flat]

    def once(constants: Any, carry: Any, inputs: Any, lagged: Any) -> tuple[Any, Any]:
        return step(constants, carry, inputs, lagged, lagged, jnp.array(True))

    program, made = jax.make_jaxpr(once, return_shape=True)(*jax.tree.unflatten(structure, in_block))
    _, is_read = dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))
    of_carry, of_steps = (
        jax.tree.map(lambda one, lead=lead: jax.ShapeDtypeStruct((*lead, units), one.dtype), part)
        for part, lead in zip(made, ((), (steps,)), strict=True)
    )
    flat_made, made_structure = jax.tree.flatten((of_carry, of_steps))
    operands = [
        array if array.ndim else array.reshape(1, 1, 1) for array, read in zip(flat, is_read, strict=True) if read
    ]

    def kernel(*refs: Any) -> None:
        inside = pl.program_id(0) * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32) < units
        given = iter(refs)
        leaves = [next(given) if read else shape for read, shape in zip(is_read, in_block, strict=True)]
        constants, carry, inputs, lagged = jax.tree.unflatten(structure, leaves)
        end, outputs = jax.tree.unflatten(made_structure, list(given))

        def load(ref: Any, *at: Any) -> Array:
            if isinstance(ref, jax.ShapeDtypeStruct):  # not read
                return jnp.zeros(ref.shape, ref.dtype)
            return ref[0, 0, 0] if ref.ndim == 3 else triton.load(ref.at[at], mask=inside, other=0)

        def read(refs: Any, *at: Any) -> Any:
            return jax.tree.map(lambda ref: load(ref, *at), refs)

        def write(refs: Any, values: Any, *at: Any) -> None:
            jax.tree.map(lambda ref, value: triton.store(ref.at[at], value, mask=inside), refs, values)

        values = read(constants)

        def body(count: Any, carry: Any) -> Any:
            carry, now = carry
            t = steps - 1 - count if reverse else count
            before = read(lagged, jnp.maximum(t - 1, 0))
            with in_kernel(True):
                carry, made = step(values, carry, read(inputs, t), now, before, t == 0)
            write(outputs, made, t)
            return carry, before

        write(end, jax.lax.fori_loop(0, steps, body, (read(carry), read(lagged, jnp.int32(steps - 1))))[0])

    def block(array: Any) -> pl.BlockSpec:
        if array.ndim == 3:  # a number
            return pl.BlockSpec((1, 1, 1), lambda program: (0, 0, 0))
        if array.ndim == 1:
            return pl.BlockSpec((BLOCK,), lambda program: (program,))
        return pl.BlockSpec((steps, BLOCK), lambda program: (0, program))

    made = pl.pallas_call(
        kernel,
        out_shape=flat_made,
        grid=(pl.cdiv(units, BLOCK),),
        in_specs=[block(array) for array in operands],
        out_specs=[block(array) for array in flat_made],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=is_interpreted(),
    )(*operands)
    return jax.tree.unflatten(made_structure, made)
