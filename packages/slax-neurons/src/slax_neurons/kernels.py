"""Recurrent work that is element-wise in the units, in one kernel: a program for each block of units runs all steps.

A scan over T steps launches at least one kernel per step on a GPU, and writes the state to memory after each. Here the state
stays in registers; each input is read once, and each output is written once. The kernel is made of the same functions as the
scan, by Pallas, for NVIDIA GPUs. On a CPU it is interpreted, which is slow and for tests.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, PyTree

from slax_neurons.surrogates import in_kernel

KERNELS = ("auto", "plain", "scan", "fused", "fused_or_scan")

BLOCK = 128  # units of a program
WARPS = 4

# step(constants, carry, x_t, y_{t-1} or None, whether t is the first step) -> carry, outputs
Step = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]


auto_is = jax.make_user_context("auto")
"""What "auto" is within `with auto_is("fused"):`, for tests and measurements; JAX keeps programs of each kernel apart."""


def requested(kernel: str) -> str:
    """The kernel, or in a block of `auto_is` the one that "auto" is there; "auto" is left to who runs it."""
    return auto_is.value if kernel == "auto" else kernel


def is_fused(kernel: str) -> bool:
    """Whether one kernel runs all steps; "auto" does not, until a measurement on a GPU says otherwise."""
    return requested(kernel) in ("fused", "fused_or_scan")


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
        local: the part of a step that does not depend on the carry; it may read anything. It maps the data of a step to arrays
            [*S]. Before a kernel, it is computed for all steps together.
        reverse: from the last step to the first.

    Returns:
        The carry after the last step, and the outputs of all steps, [T, *S].
    """
    if is_fused("auto"):
        given = jax.vmap(local)(steps)
        shapes = [leaf.shape for leaf in jax.tree.leaves(carry)] + [leaf.shape[1:] for leaf in jax.tree.leaves(given)]
        shape = jnp.broadcast_shapes(*shapes)
        constants_in_rows, carry_in_rows = jax.tree.map(
            lambda array: jnp.broadcast_to(array, shape).reshape(-1), (constants, carry)
        )

        def in_rows(array: Array) -> Array:  # a step of it may have fewer axes than S
            aligned = jnp.expand_dims(array, range(1, 2 + len(shape) - array.ndim))
            return jnp.broadcast_to(aligned, (len(array), *shape)).reshape(len(array), -1)

        given = jax.tree.map(in_rows, given)

        def run(constants: Any, carry: Any, given: Any) -> tuple[Any, Any]:
            return elementwise_scan(lambda c, k, x, *_: step(c, k, x), constants, carry, given, reverse=reverse)

        rows = (constants_in_rows, carry_in_rows, given)
        if compiles(run, rows, step.__qualname__, "auto"):
            end, outputs = run(*rows)

            def as_before(found: Array, before: Array) -> Array:
                whole = found.reshape(shape)
                kept = (slice(1) if size == 1 else slice(None) for size in before.shape)
                return whole[(..., *kept)]

            outputs = jax.tree.map(lambda array: array.reshape(len(array), *shape), outputs)
            return jax.tree.map(as_before, end, carry), outputs
    return jax.lax.scan(lambda carry, at: step(constants, carry, local(at)), carry, steps, reverse=reverse)


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

    return jax.lax.scan(together, tuple(carries), tuple(steps))


def compiles(run: Callable[..., Any], arguments: Any, name: str, kernel: str) -> bool:
    """Whether a function with kernels compiles for these shapes. If not, an error says why, or a warning where a scan may run.

    Raises:
        ValueError: it does not compile, and the kernel is "fused".
    """
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arguments)
    try:
        traced = jax.jit(run).trace(*shapes)
        if not is_interpreted():
            traced.lower().compile()
    except Exception as error:
        why = f"The kernel of {name} does not compile: {type(error).__name__}: {error}"
        if requested(kernel) == "fused":
            raise ValueError(
                f"{why}\nUse kernel='scan', or kernel='fused_or_scan' for a scan where it is so."
            ) from error
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
    """Run carry, outputs_t = step(constants, carry, inputs_t, lagged_{t-1}, t == 0) for all steps in one kernel.

    Args:
        step: acts on each unit by itself: it gets and returns arrays of a block of units.
        constants: arrays [M], the same in all steps.
        carry: arrays [M] before the first step.
        inputs: arrays [T, M].
        lagged: arrays [T, M] of which a step gets the values of the step before it in time; in the first step, the values of
            the first step itself.
        reverse: from the last step to the first.

    Returns:
        The carry after the last step, [M], and the outputs of all steps, [T, M].
    """
    steps, units = jax.tree.leaves(inputs)[0].shape
    given = (constants, carry, inputs, lagged)
    flat, structure = jax.tree.flatten(given)
    at_step = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), (inputs, lagged))
    end, outputs = jax.eval_shape(lambda c, k, x: step(c, k, x[0], x[1], jnp.array(True)), constants, carry, at_step)
    outputs = jax.tree.map(lambda array: jax.ShapeDtypeStruct((steps, *array.shape), array.dtype), outputs)
    flat_made, made_structure = jax.tree.flatten((end, outputs))

    def kernel(*refs: Any) -> None:
        inside = pl.program_id(0) * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32) < units
        constants, carry, inputs, lagged = jax.tree.unflatten(structure, refs[: len(flat)])
        end, outputs = jax.tree.unflatten(made_structure, refs[len(flat) :])

        def read(refs: Any, *at: Any) -> Any:
            return jax.tree.map(lambda ref: triton.load(ref.at[at], mask=inside, other=0), refs)

        def write(refs: Any, values: Any, *at: Any) -> None:
            jax.tree.map(lambda ref, value: triton.store(ref.at[at], value, mask=inside), refs, values)

        values = read(constants)

        def body(count: Any, carry: Any) -> Any:
            t = steps - 1 - count if reverse else count
            before = read(lagged, jnp.maximum(t - 1, 0))
            with in_kernel(True):
                carry, made = step(values, carry, read(inputs, t), before, t == 0)
            write(outputs, made, t)
            return carry

        write(end, jax.lax.fori_loop(0, steps, body, read(carry)))

    def block(array: Any) -> pl.BlockSpec:
        if array.ndim == 1:
            return pl.BlockSpec((BLOCK,), lambda program: (program,))
        return pl.BlockSpec((steps, BLOCK), lambda program: (0, program))

    made = pl.pallas_call(
        kernel,
        out_shape=flat_made,
        grid=(pl.cdiv(units, BLOCK),),
        in_specs=[block(array) for array in flat],
        out_specs=[block(array) for array in flat_made],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=is_interpreted(),
    )(*flat)
    return jax.tree.unflatten(made_structure, made)
