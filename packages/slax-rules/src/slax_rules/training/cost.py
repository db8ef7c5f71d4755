"""The cost of a rule for a model of the user's own sizes, beside BPTT: bytes and products, then measurements."""

import dataclasses
import functools
import math
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array

from slax_neurons import unroll
from slax_neurons.building_blocks import first_carry, input_dtype
from slax_rules.bptt import BPTT
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.entry import AnyRule, Program, run_program
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
        products: counted: multiply-adds in matrix products and convolutions per step and sample.
        bptt_products: the same for BPTT.
        temporary_bytes: measured: temporary memory of the compiled program per sample; None if nothing was measured.
        bptt_temporary_bytes: the same for BPTT.
        seconds: measured: the median time of a gradient of the batch; None if nothing was measured.
        bptt_seconds: the same for BPTT, timed in turn with the rule.

    Example:
        >>> from slax_rules import Cost
        >>> cost = Cost(
        ...     window=10, carried_bytes=4000, window_bytes=2000, bptt_bytes=20_000, products=300, bptt_products=200
        ... )
        >>> cost.predicted_bytes, cost.relative_products
        (6000, 1.5)
        >>> print(cost)
        windows of 10 steps: 6,000 bytes per sample, 4,000 of them carried (BPTT 20,000); 1.50 times BPTT's products
    """

    window: int
    carried_bytes: int
    window_bytes: int
    bptt_bytes: int
    products: int
    bptt_products: int
    temporary_bytes: int | None = None
    bptt_temporary_bytes: int | None = None
    seconds: float | None = None
    bptt_seconds: float | None = None

    @property
    def predicted_bytes(self) -> int:
        """The bytes per sample that are carried or kept at a time, a lower bound: intermediate results come on top."""
        return self.carried_bytes + self.window_bytes

    @property
    def relative_products(self) -> float:
        """The multiply-adds in products relative to BPTT, 1 if there are none. Element-wise work is not in it."""
        return self.products / self.bptt_products if self.bptt_products else 1.0

    @property
    def measured_time(self) -> float | None:
        """The measured time of a gradient relative to BPTT; None if nothing was measured."""
        if self.seconds is None or self.bptt_seconds is None:
            return None
        return self.seconds / self.bptt_seconds

    def __str__(self) -> str:
        text = (
            f"windows of {self.window} steps: {self.predicted_bytes:,} bytes per sample, {self.carried_bytes:,} of them "
            f"carried (BPTT {self.bptt_bytes:,}); {self.relative_products:.2f} times BPTT's products"
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
    """Count and measure the cost of a rule for a model and a batch, beside BPTT.

    Counting compiles nothing: bytes are those of the arrays that the rule carries and that a window keeps, and products are
    counted in its program. In a single window of all T steps nothing reads the traces at the end, and they cost nothing: give
    the `window` that you train with. The measurement compiles the gradient under the rule and under BPTT, reads how much
    temporary memory each needs, and times both in turn on random spikes, on the device that JAX uses.

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
        windows of 25 steps: 16,088 bytes per sample, 848 of them carried (BPTT 60,480); 1.00 times BPTT's products
        windows of 25 steps: 37,720 bytes per sample, 22,480 of them carried (BPTT 60,480); 1.48 times BPTT's products
    """
    if len(input_shape) < 3:
        raise ValueError(f"cost got the shape {list(input_shape)}, expected that of inputs, [T, B, features...].")
    if repeats < 1:
        raise ValueError(f"cost got repeats={repeats}, expected 1 or more; measure=False measures nothing.")
    model = nnx.clone(model)
    struct = jax.ShapeDtypeStruct(input_shape, input_dtype(model))
    mine, theirs = (_Gradient(model, one, struct, window) for one in (rule, BPTT()))
    steps = min(as_rule(rule).offline_window(window, model, struct), input_shape[0])
    counted = Cost(
        window=steps,
        carried_bytes=_carried_bytes(model, rule, struct),
        window_bytes=_kept_bytes(model, struct, steps),
        bptt_bytes=_carried_bytes(model, BPTT(), struct) + _kept_bytes(model, struct, input_shape[0]),
        products=mine.products,
        bptt_products=theirs.products,
    )
    if not measure:
        return counted
    seconds: dict[str, list[float]] = {"mine": [], "theirs": []}
    for _ in range(repeats + 1):
        for name, gradient in (("mine", mine), ("theirs", theirs)):
            seconds[name].append(gradient.time())
    batch = input_shape[1]
    return dataclasses.replace(
        counted,
        temporary_bytes=mine.temporary_bytes // batch,
        bptt_temporary_bytes=theirs.temporary_bytes // batch,
        seconds=statistics.median(seconds["mine"][1:]),
        bptt_seconds=statistics.median(seconds["theirs"][1:]),
    )


class _Gradient:
    """The gradient of a batch of random spikes, w.r.t. a loss whose gradient costs next to nothing."""

    def __init__(self, model: nnx.RNNCellBase, rule: Any, inputs: jax.ShapeDtypeStruct, window: int | None):
        graphdef, state = nnx.split((model, rule, None))
        self.program = Program(graphdef, _sum_of_squares, "none", window, None)
        self._targets = _outputs(model, inputs)
        self.arguments = (state, inputs, jax.tree.map(PerSequence, self._targets), None, None)

    @property
    def products(self) -> int:
        """Multiply-adds in products per step and sample."""
        program = jax.make_jaxpr(functools.partial(run_program, self.program))(*self.arguments).jaxpr
        read, _ = dce_jaxpr(program, [True] * len(program.outvars))  # without products that nothing reads
        steps, batch = self.arguments[1].shape[:2]
        return _products(read) // (steps * batch)

    def time(self) -> float:
        """Run once, and return the seconds."""
        arguments = self._drawn
        start = time.perf_counter()
        jax.block_until_ready(self._compiled(*arguments))
        return time.perf_counter() - start

    @property
    def temporary_bytes(self) -> int:
        return self._compiled.memory_analysis().temp_size_in_bytes

    @functools.cached_property
    def _compiled(self) -> Any:
        return run_program.lower(self.program, *self.arguments).compile()

    @functools.cached_property
    def _drawn(self) -> tuple[Any, ...]:
        """The arguments with random spikes in place of shapes: only a measurement takes their memory."""
        state, inputs, _, *rest = self.arguments
        spikes = jax.random.bernoulli(jax.random.key(0), 0.1, inputs.shape).astype(inputs.dtype)
        targets = jax.tree.map(lambda one: PerSequence(jnp.zeros(one.shape, one.dtype)), self._targets)
        return state, spikes, targets, *rest


def _sum_of_squares(outputs: Any, targets: Any) -> Array:
    leaves = jax.tree.leaves(outputs)
    return functools.reduce(jnp.add, (jnp.sum(jnp.square(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in leaves))


def _outputs(model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> Any:
    """The shapes of the outputs of one step, [B, ...]."""
    graphdef, state = nnx.split(model)

    def run(state: nnx.State) -> Any:
        copy = nnx.merge(graphdef, state, copy=True)
        one_step = jnp.zeros((1, *inputs.shape[1:]), inputs.dtype)
        return jax.tree.map(lambda leaf: leaf[0], unroll(copy, first_carry(copy, inputs.shape[1:]), one_step)[1])

    return jax.eval_shape(run, state)


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


def _products(jaxpr: Any) -> int:
    """Multiply-adds in the matrix products and convolutions of a program, with loops unrolled.

    The zeros that the gradient of a convolution with strides inserts between its numbers are not multiplied.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel, out = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec[0]
            inserted = math.prod(params["lhs_dilation"])
            total += equation.outvars[0].aval.size * math.prod(kernel) // (kernel[out] * inserted)
        else:
            repeats = params["length"] if name == "scan" else 1
            total += repeats * sum(_products(inner) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> list[Any]:
    """The programs inside an equation; of the branches of a condition, all."""
    found = []
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found
