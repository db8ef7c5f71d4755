"""Recurrent work that is element-wise in the units, in one kernel: a program for each block of units goes through all steps.

A scan over T steps launches at least one kernel per step on a GPU, and writes the state to memory after each. Here the state
stays in registers; each input is read once, and each output is written once. The kernel is made of the same functions as the
scan, by Pallas, for NVIDIA GPUs. On a CPU it is interpreted, which is slow and for tests.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, PyTree

KERNELS = ("auto", "scan", "fused")

BLOCK = 128  # units of a program
WARPS = 4

# step(constants, carry, x_t, y_{t-1} or None, whether t is the first step) -> carry, outputs
Step = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]


def check_kernel(kernel: str) -> None:
    if kernel not in KERNELS:
        raise ValueError(f"unroll got kernel={kernel!r}, expected one of {', '.join(map(repr, KERNELS))}.")


def is_fused(kernel: str) -> bool:
    """Whether one kernel goes through all steps: "auto" is the scan until a measurement on a GPU says otherwise."""
    return kernel == "fused"


def is_interpreted() -> bool:
    """Whether kernels are run without being compiled, for lack of a GPU."""
    return jax.default_backend() == "cpu"


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
