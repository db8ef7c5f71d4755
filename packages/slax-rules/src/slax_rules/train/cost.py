"""The memory that a rule takes for a model of the user's own sizes: bytes that are measured, and bytes that are counted."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import unroll
from slax_neurons.building_blocks import (
    as_shape,
    first_carry,
    input_dtype,
    reverse_pass_of_jax,
    shortest_memory,
)
from slax_rules.api import checked_window, gradients
from slax_rules.loop import shapes_at_start
from slax_rules.rules.base import Rule, check_is_rule
from slax_rules.rules.bptt import BPTT

# Machine code that takes half the time to compile and is never run; the memory is the same.
QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 0}


@dataclasses.dataclass(frozen=True, repr=False)
class Cost:
    """The bytes per sample that the gradient of a batch takes under a rule, not counting its inputs.

    Args:
        window: the steps that are computed together, all T under BPTT.
        carried_bytes: what the rule carries from window to window, the model's carry and the rule's traces; what samples share
            counts once, divided by the batch.
        kept_bytes: what a window keeps between its forward and its backward pass: the values that plain autodiff keeps of its
            steps, its outputs, the gradient of the loss by them, and a copy of its inputs if it is shorter than the sequence.
        input_bytes: the inputs of all T steps, which the call holds under every rule. They are in no other number.
        measured_bytes: the peak of the temporaries of the compiled program, as XLA reports it, divided by the batch. It
            includes what samples share, such as the summed gradient, so it is larger for a smaller batch. None if it was not
            measured, or on a device whose XLA does not report it.

    Example:
        >>> from slax_rules.train.cost import Cost
        >>> cost = Cost(window=10, carried_bytes=4000, kept_bytes=2000, input_bytes=25_600, measured_bytes=9000)
        >>> cost.counted_bytes
        6000
        >>> print(cost)
        windows of 10 steps: 9,000 bytes per sample measured, 6,000 counted (4,000 carried); plus inputs: 25,600
    """

    window: int
    carried_bytes: int
    kept_bytes: int
    input_bytes: int
    measured_bytes: int | None = None

    @property
    def counted_bytes(self) -> int:
        """The bytes that are carried or kept at a time, without intermediate results."""
        return self.carried_bytes + self.kept_bytes

    def __repr__(self) -> str:
        measured = "" if self.measured_bytes is None else f"{self.measured_bytes:,} bytes per sample measured, "
        unit = "" if measured else "bytes per sample "
        counted = f"{self.counted_bytes:,} {unit}counted ({self.carried_bytes:,} carried)"
        return f"windows of {self.window} steps: {measured}{counted}; plus inputs: {self.input_bytes:,}"


def cost(
    model: nnx.RNNCellBase, rule: Rule, input_shape: tuple[int, ...], *, window: int | None = None, measure: bool = True
) -> Cost:
    """Measure and count the memory that the gradient of a batch takes under a rule, not counting its inputs.

    *Measured* is the peak of the temporaries of the compiled program of `gradients`, with the mean square of the outputs as its
    loss; it takes seconds to compile and is not run. *Counted* are the bytes of the arrays that the rule carries and that a
    window keeps, which takes milliseconds. The count has no intermediate results: measured memory was 0.83 to 3.8 times as
    large for the 7 rules, 3 networks, T = 100 to 10,000 and batch of 32 of benchmarks/memory.py (docs/performance.md), and may
    be outside this range for others, such as a smaller batch. Two counts that are closer do not say which rule needs less.

    The parameters, the optimizer and the inputs of all T steps come on top, whatever the rule. A stream that reads its inputs
    in pieces holds the inputs of one piece; see `extend_stream`.

    In a single window of all T steps nothing reads the traces at the end: pass the `window` that you train with.

    Args:
        model: a model that the rule can handle. It is not changed.
        rule: the rule. `BPTT()` and `BPTT(remat=True)` have the same gradient.
        input_shape: shape of the inputs, [T, B, features...].
        window: steps that are computed together; the rule's default if None.
        measure: whether to compile the program and measure its memory, too.

    Returns:
        The bytes per sample, which print as a line.

    Raises:
        TypeError, ValueError: a model that the rule cannot handle; a shape without time, batch and features; a window that is
            no integer of at least 1.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, OTTT, cost
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(100, 50, rngs=rngs), LIF(), nnx.Linear(50, 10, rngs=rngs), LI()])
        >>> for rule in (OTTT(), OSTL()):
        ...     print(cost(model, rule, (100, 32, 100), window=25, measure=False))
        windows of 25 steps: 18,088 bytes per sample counted (848 carried); plus inputs: 40,000
        windows of 25 steps: 39,720 bytes per sample counted (22,480 carried); plus inputs: 40,000
        >>> found = cost(model, OTTT(), (100, 32, 100), window=25)
        >>> found.measured_bytes > found.counted_bytes
        True
    """
    input_shape = as_shape("cost", input_shape, "that of inputs, (T, B, features...)", axes=3)
    model, window = nnx.clone(model), checked_window(window)
    struct = jax.ShapeDtypeStruct(input_shape, input_dtype(model))
    check_is_rule(rule)
    rule.check(model, jax.ShapeDtypeStruct(struct.shape[1:], struct.dtype))
    steps = min(rule.offline_window(window, model, struct), input_shape[0])
    return Cost(
        window=steps,
        carried_bytes=_carried_bytes(model, rule, struct),
        kept_bytes=_kept_bytes(model, rule, struct, steps),
        input_bytes=_size(struct) // input_shape[1],
        measured_bytes=_temporary_bytes(model, rule, struct, window) if measure else None,
    )


def _temporary_bytes(model: Any, rule: Any, inputs: jax.ShapeDtypeStruct, window: int | None) -> int | None:
    """Bytes per sample of the temporaries of the program of a gradient; None on a device that does not report them."""
    graphdef, state = nnx.split((model, rule))
    targets = jax.ShapeDtypeStruct(inputs.shape[1:2], jnp.int32)

    @jax.jit
    def gradient(state: nnx.State, inputs: Array, targets: Array) -> Any:
        model, rule = nnx.merge(graphdef, state, copy=True)
        return gradients(model, _mean_square, inputs, targets, rule=rule, window=window)

    memory = gradient.lower(state, inputs, targets).compile(QUICKLY).memory_analysis()
    return None if memory is None else int(memory.temp_size_in_bytes) // inputs.shape[1]


def _mean_square(outputs: Any, _: Array) -> Float[Array, " B"]:
    """A loss for outputs of any kind, which needs no targets."""
    squares = [jnp.mean(leaf**2, axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(outputs)]
    return jnp.sum(jnp.stack(squares), axis=0)


def _carried_bytes(model: Any, rule: Any, inputs: jax.ShapeDtypeStruct) -> int:
    """Bytes per sample of the state that a rule carries from window to window."""
    one_step = jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)
    return _size(shapes_at_start(rule, model, one_step)) // inputs.shape[1]


def _kept_bytes(model: Any, rule: Any, inputs: jax.ShapeDtypeStruct, steps: int) -> int:
    """Bytes per sample that a window of so many steps keeps: the values for its backward pass, the outputs and their gradient.

    Recomputation keeps the values of a chunk and the carries between chunks. A window or a chunk that is shorter than the
    sequence has a copy of its inputs.
    """
    recomputes = isinstance(rule, BPTT) and rule.remat
    piece = shortest_memory(steps) if recomputes else steps
    values, outputs = _values_and_outputs(model, inputs, piece)
    length, batch = inputs.shape[:2]
    copied = 0 if piece == length else piece * _size(inputs) // (length * batch)
    carries = math.ceil(steps / piece) * _carried_bytes(model, BPTT(), inputs) if recomputes else 0
    return values + copied + carries + 2 * outputs * steps // piece


def _values_and_outputs(model: Any, inputs: jax.ShapeDtypeStruct, steps: int) -> tuple[int, int]:
    """Bytes per sample that autodiff keeps at least of a number of steps, and the bytes of the outputs.

    Inputs and parameters that it keeps are arguments of the program, and are not counted; nor is what all samples share.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def run(params: nnx.State, rest: nnx.State, inputs: Array) -> Any:
        def outputs(params: nnx.State) -> Any:
            copy = nnx.merge(graphdef, params, rest, copy=True)
            with reverse_pass_of_jax(False):  # which keeps the least
                return unroll(copy, first_carry(copy, inputs.shape[1:]), inputs, chunk=steps)[1]

        return jax.vjp(outputs, params)

    def sizes(batch: int) -> tuple[int, int]:
        struct = jax.ShapeDtypeStruct((steps, batch, *inputs.shape[2:]), inputs.dtype)
        jaxpr, (outputs, _) = jax.make_jaxpr(run, return_shape=True)(params, rest, struct)
        given = {*map(id, jaxpr.jaxpr.invars), *map(id, jaxpr.jaxpr.outvars[: len(jax.tree.leaves(outputs))])}
        kept = {id(leaf): leaf.aval for leaf in jaxpr.jaxpr.outvars if id(leaf) not in given}
        return _size([*kept.values()]), _size(outputs)

    (small, of_one), (large, of_two) = sizes(1), sizes(2)
    return large - small, of_two - of_one


def _size(tree: Any) -> int:
    """Bytes of the arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
