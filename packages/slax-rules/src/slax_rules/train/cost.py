"""The memory that a rule takes for a model of the user's own sizes, compared with BPTT: bytes that are counted."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from slax_neurons import unroll
from slax_neurons.building_blocks import (
    as_shape,
    first_carry,
    html_table,
    input_dtype,
    reverse_pass_of_jax,
    shortest_memory,
)
from slax_rules.loop import initial_state
from slax_rules.rules.base import Rule, check_is_rule
from slax_rules.rules.bptt import BPTT


@dataclasses.dataclass(frozen=True)
class Cost:
    """The bytes that the gradient of a batch takes under a rule, and the same for BPTT.

    Args:
        window: the steps that are computed together, all T under BPTT.
        carried_bytes: bytes per sample that the rule carries from window to window, the model's carry and the rule's
            traces; what samples share counts once, divided by the batch.
        window_bytes: bytes per sample that a window keeps between its forward and its backward pass, the values that
            plain autodiff keeps of its steps.
        bptt_bytes: the same for BPTT, which keeps all steps, with the model's carry.

    Example:
        >>> from slax_rules.train.cost import Cost
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

    @property
    def predicted_bytes(self) -> int:
        """The bytes per sample that are carried or kept at a time, a lower bound without intermediate results."""
        return self.carried_bytes + self.window_bytes

    def _repr_html_(self) -> str:
        numbers = (self.window, self.predicted_bytes, self.carried_bytes, self.window_bytes, self.bptt_bytes)
        head = ("steps of a window", "bytes per sample", "carried", "kept by a window", "BPTT")
        return html_table([head, [f"{number:,}" for number in numbers]], left=0)

    def __str__(self) -> str:
        return (
            f"windows of {self.window} steps: {self.predicted_bytes:,} bytes per sample, {self.carried_bytes:,} of them "
            f"carried (BPTT {self.bptt_bytes:,})"
        )


def cost(model: nnx.RNNCellBase, rule: Rule, input_shape: tuple[int, ...], *, window: int | None = None) -> Cost:
    """Count the memory that a rule takes for a model and a batch, compared with BPTT.

    Nothing is compiled: the bytes of the arrays that the rule carries and that a window keeps are added up. In a single
    window of all T steps nothing reads the traces at the end: pass the `window` that you train with.

    Args:
        model: a model that the rule can handle. It is not changed.
        rule: the rule.
        input_shape: shape of the inputs, [T, B, features...].
        window: steps that are computed together; the rule's default if None.

    Returns:
        The cost, which prints as a line.

    Raises:
        TypeError, ValueError: a model that the rule cannot handle; a shape without time, batch and features.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, OTTT, cost
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(100, 50, rngs=rngs), LIF(), nnx.Linear(50, 10, rngs=rngs), LI()])
        >>> for rule in (OTTT(), OSTL()):
        ...     print(cost(model, rule, (100, 32, 100), window=25))
        windows of 25 steps: 16,088 bytes per sample, 848 of them carried (BPTT 60,480)
        windows of 25 steps: 37,720 bytes per sample, 22,480 of them carried (BPTT 60,480)
    """
    input_shape = as_shape("cost", input_shape, "that of inputs, (T, B, features...)", axes=3)
    model = nnx.clone(model)
    struct = jax.ShapeDtypeStruct(input_shape, input_dtype(model))
    check_is_rule(rule)
    rule.check(model, jax.ShapeDtypeStruct(struct.shape[1:], struct.dtype))
    steps = min(rule.offline_window(window, model, struct), input_shape[0])
    kept = _kept_bytes(model, struct, steps)
    if isinstance(rule, BPTT) and rule.remat:
        kept = _kept_bytes(model, struct, steps, remat=True) + _kept_bytes(model, struct, shortest_memory(steps))
    return Cost(
        window=steps,
        carried_bytes=_carried_bytes(model, rule, struct),
        window_bytes=kept,
        bptt_bytes=_carried_bytes(model, BPTT(), struct) + _kept_bytes(model, struct, input_shape[0]),
    )


def _carried_bytes(model: Any, rule: Any, inputs: jax.ShapeDtypeStruct) -> int:
    """Bytes per sample of the state that a rule carries from window to window."""
    one_step = jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)
    graphdef, state = nnx.split((model, rule))

    def start(state: nnx.State) -> Any:
        model, rule = nnx.merge(graphdef, state, copy=True)
        return initial_state(rule, model, one_step)

    return _size(jax.eval_shape(start, state)) // inputs.shape[1]


def _kept_bytes(model: Any, inputs: jax.ShapeDtypeStruct, steps: int, remat: bool = False) -> int:
    """Bytes per sample that autodiff keeps at least of a number of steps, without what all samples share.

    With `remat`, these are the carries between chunks, and not the steps of the chunk that is recomputed.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def pullback(params: nnx.State, rest: nnx.State, inputs: Array) -> Any:
        def outputs(params: nnx.State) -> Any:
            copy = nnx.merge(graphdef, params, rest, copy=True)
            with reverse_pass_of_jax(False):  # which keeps the least
                return unroll(copy, first_carry(copy, inputs.shape[1:]), inputs, remat=remat)[1]

        return jax.vjp(outputs, params)[1]

    def size(batch: int) -> int:
        struct = jax.ShapeDtypeStruct((steps, batch, *inputs.shape[2:]), inputs.dtype)
        return _size(jax.eval_shape(pullback, params, rest, struct))

    return size(2) - size(1)


def _size(tree: Any) -> int:
    """Bytes of the arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
