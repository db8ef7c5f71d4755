"""The cost of a rule for a model of the user's own sizes, compared with BPTT: bytes that are counted, then measurements."""

import dataclasses
import functools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from slax_neurons import unroll
from slax_neurons.building_blocks import as_shape, first_carry, input_dtype
from slax_rules.bptt import BPTT
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.entry import AnyRule, Program, run_program
from slax_rules.loop.split import split
from slax_rules.losses import PerSequence


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of the gradient of a batch under a rule, and the same for BPTT.

    Args:
        window: the steps that are computed together, all T under BPTT.
        carried_bytes: counted: bytes per sample that the rule carries from window to window, the model's carry and the rule's
            traces; what samples share counts once, divided by the batch.
        window_bytes: counted: bytes per sample that a window keeps between its forward and its backward pass, the values that
            plain autodiff keeps of its steps.
        bptt_bytes: the same for BPTT, which keeps all steps, with the model's carry.
        temporary_bytes: measured: temporary memory of the compiled program per sample; None if nothing was measured.
        bptt_temporary_bytes: the same for BPTT.
        seconds: measured: the median time of a gradient of the batch; None if nothing was measured.
        bptt_seconds: the same for BPTT, timed in turn with the rule.

    Example:
        >>> from slax_rules import Cost
        >>> cost = Cost(window=10, carried_bytes=4000, window_bytes=2000, bptt_bytes=20_000)
        >>> cost.predicted_bytes
        6000
        >>> print(cost)
        windows of 10 steps: 6,000 bytes per sample, 4,000 of them carried (BPTT 20,000)
    """

    window: int
    carried_bytes: int
    window_bytes: int
    bptt_bytes: int
    temporary_bytes: int | None = None
    bptt_temporary_bytes: int | None = None
    seconds: float | None = None
    bptt_seconds: float | None = None

    @property
    def predicted_bytes(self) -> int:
        """The bytes per sample that are carried or kept at a time, a lower bound: intermediate results come on top."""
        return self.carried_bytes + self.window_bytes

    @property
    def measured_time(self) -> float | None:
        """The measured time of a gradient relative to BPTT; None if nothing was measured."""
        if self.seconds is None or self.bptt_seconds is None:
            return None
        return self.seconds / self.bptt_seconds

    def __str__(self) -> str:
        text = (
            f"windows of {self.window} steps: {self.predicted_bytes:,} bytes per sample, {self.carried_bytes:,} of them "
            f"carried (BPTT {self.bptt_bytes:,})"
        )
        if self.measured_time is None:
            return text
        return (
            f"{text}; measured: {self.temporary_bytes:,} bytes per sample (BPTT {self.bptt_temporary_bytes:,}), "
            f"time {self.measured_time:.2f} of BPTT"
        )


def cost(
    model: nnx.RNNCellBase,
    rule: AnyRule,
    input_shape: tuple[int, ...],
    *,
    window: int | None = None,
    measure: bool = True,
    repeats: int = 7,
) -> Cost:
    """Count and measure the cost of a rule for a model and a batch, compared with BPTT.

    Counting compiles nothing: it adds up the bytes of the arrays that the rule carries and that a window keeps. In a single
    window of all T steps nothing reads the traces at the end: pass the `window` that you train with. The measurement compiles
    the gradient under the rule and under BPTT, reads how much temporary memory each needs, and times both in turn on random
    spikes, on the device that JAX uses.

    Args:
        model: a model that the rule can handle. It is not changed.
        rule: the rule.
        input_shape: shape of the inputs, [T, B, features...].
        window: steps that are computed together; the rule's default if None.
        measure: whether to measure as well, which takes seconds to minutes.
        repeats: number of timed gradients of each.

    Returns:
        The cost, which prints as a line.

    Raises:
        TypeError, ValueError: a model that the rule cannot handle; a shape without time, batch and features; no repeats.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, OTTT, cost
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(100, 50, rngs=rngs), LIF(), nnx.Linear(50, 10, rngs=rngs), LI()])
        >>> for rule in (OTTT(), OSTL()):
        ...     print(cost(model, rule, (100, 32, 100), window=25, measure=False))
        windows of 25 steps: 16,088 bytes per sample, 848 of them carried (BPTT 60,480)
        windows of 25 steps: 37,720 bytes per sample, 22,480 of them carried (BPTT 60,480)
    """
    input_shape = as_shape("cost", input_shape, "that of inputs, (T, B, features...)", axes=3)
    if repeats < 1:
        raise ValueError(f"cost got repeats={repeats}, expected 1 or more; measure=False measures nothing.")
    model = nnx.clone(model)
    struct = jax.ShapeDtypeStruct(input_shape, input_dtype(model))
    steps = min(as_rule(rule).offline_window(window, model, struct), input_shape[0])
    counted = Cost(
        window=steps,
        carried_bytes=_carried_bytes(model, rule, struct),
        window_bytes=_kept_bytes(model, struct, steps),
        bptt_bytes=_carried_bytes(model, BPTT(), struct) + _kept_bytes(model, struct, input_shape[0]),
    )
    if not measure:
        return counted
    programs = [_compiled(model, one, struct, window) for one in (rule, BPTT())]
    seconds: list[list[float]] = [[], []]
    for _ in range(repeats + 1):  # the first call of each warms up
        for times, (program, arguments) in zip(seconds, programs, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times.append(time.perf_counter() - start)
    mine, theirs = (program.memory_analysis().temp_size_in_bytes // input_shape[1] for program, _ in programs)
    ours, bptts = (statistics.median(times[1:]) for times in seconds)
    return dataclasses.replace(
        counted, temporary_bytes=mine, bptt_temporary_bytes=theirs, seconds=ours, bptt_seconds=bptts
    )


def _compiled(model: nnx.RNNCellBase, rule: Any, inputs: jax.ShapeDtypeStruct, window: int | None) -> tuple[Any, Any]:
    """The compiled gradient of a batch of random spikes, w.r.t. a loss whose gradient costs next to nothing."""
    graph, state = split((model, rule, None))
    spikes = jax.random.bernoulli(jax.random.key(0), 0.1, inputs.shape).astype(inputs.dtype)
    arguments = (state, spikes, PerSequence(jnp.zeros(inputs.shape[1], int)), None, None)
    program = Program(graph, _sum_of_squares, "none", window, None)
    return run_program.lower(program, *arguments).compile(), (program.numbers, *arguments)


def _sum_of_squares(outputs: Any, labels: Any) -> Array:
    leaves = jax.tree.leaves(outputs)
    return functools.reduce(jnp.add, (jnp.sum(jnp.square(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in leaves))


def _carried_bytes(model: Any, rule: Any, inputs: jax.ShapeDtypeStruct) -> int:
    """Bytes per sample of the state that a rule carries from window to window."""
    one_step = jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)
    graphdef, state = nnx.split((model, rule))

    def initialize(state: nnx.State) -> Any:
        model, rule = nnx.merge(graphdef, state, copy=True)
        carry = first_carry(model, one_step.shape)
        whole = as_rule(rule)
        return whole.initialize(whole.plan(model, one_step.shape[1:]), model, carry, one_step)

    leaves = jax.tree.leaves(jax.eval_shape(initialize, state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) // inputs.shape[1]


def _kept_bytes(model: Any, inputs: jax.ShapeDtypeStruct, steps: int) -> int:
    """Bytes per sample that autodiff keeps at least of a number of steps, without what all samples share."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def pullback(params: nnx.State, rest: nnx.State, inputs: Array) -> Any:
        def outputs(params: nnx.State) -> Any:
            copy = nnx.merge(graphdef, params, rest, copy=True)
            return unroll(copy, first_carry(copy, inputs.shape[1:]), inputs, kernel="scan")[1]

        return jax.vjp(outputs, params)[1]

    def size(batch: int) -> int:
        struct = jax.ShapeDtypeStruct((steps, batch, *inputs.shape[2:]), inputs.dtype)
        leaves = jax.tree.leaves(jax.eval_shape(pullback, params, rest, struct))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    return size(2) - size(1)
