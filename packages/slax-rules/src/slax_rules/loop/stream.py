"""Online learning from unbounded streams: a stream starts, and is extended piece by piece for as long as data arrive.

A stream is an ordinary value that holds everything that the next step needs: parameters, optimizer, the model's state and the
traces of the rule. Extending it piece by piece gives the same result as `train_online` on all pieces together, and memory and
time per step do not depend on how long a stream has been running.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.building_blocks import (
    accumulates,
    as_shape,
    cast_inputs,
    check_sequence,
    first_carry,
    input_dtype,
    scan_chunks,
)
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.checks import check_online_loss, check_optimizer, checked_window
from slax_rules.loop.compilations import third_compilation
from slax_rules.loop.objective import Targets, read_targets, step_losses
from slax_rules.loop.programs import Programs, StaticPart
from slax_rules.loop.split import Graph, split
from slax_rules.loop.windows import Batch, Learner, Losses, Online, online_window, zero_means
from slax_rules.losses import LossFn, PerStep
from slax_rules.masks import check_steps_and_samples
from slax_rules.penalties import Penalty, penalties_by_layer
from slax_rules.rule import batch_axis


@dataclasses.dataclass(frozen=True, eq=False)
class StreamProgram(StaticPart):
    """The computation on a piece of a stream, without its arrays.

    Args:
        graph: the graph of (model, rule, optimizer).
        loss_fn: the loss of a step.
        window: steps between updates.
        penalties: the penalties of hidden layers.
        input_shape: shape [B, features...] of the inputs of a step.
        dtype: dtype of the inputs.
    """

    graph: Graph
    loss_fn: LossFn
    window: int
    penalties: tuple[Penalty, ...]
    input_shape: tuple[int, ...]
    dtype: Any

    def learner(self, model: nnx.RNNCellBase, given: Any) -> Learner:
        """The model with its rule, the rule's plan, and the losses."""
        rule = as_rule(given)
        probes, penalties = penalties_by_layer(self.penalties, model)
        return Learner(model, rule, rule.plan(model, self.input_shape[1:]), Losses(self.loss_fn, penalties, probes))

    def at_rest(self, objects: nnx.State, batch: int) -> tuple[Any, nnx.State]:
        """The state of the rule before the first step of a number of samples, and the random streams after what was drawn."""
        copies = nnx.merge(self.graph.graphdef, objects, copy=True)
        learner = self.learner(*copies[:2])
        shape = (batch, *self.input_shape[1:])
        carry = first_carry(learner.model, shape)
        start = learner.rule.initialize(learner.plan, learner.model, carry, jax.ShapeDtypeStruct(shape, self.dtype))
        return start, nnx.state(copies, nnx.RngState)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stream:
    """A model that learns online, with its state between two pieces of data, as returned by `start_stream` and `extend_stream`.

    Args:
        program: the computation on a piece.
        online: parameters, optimizer, the state of the model and of the rule.
        numbers: the numbers of the optimizer that are data, such as its learning rate.

    Example:
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, start_stream
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        >>> stream = start_stream(model, optimizer, cross_entropy, (2, 8), rule=OTPE())
        >>> stream.model.modules[0].kernel.shape
        (8, 16)
    """

    program: StreamProgram = dataclasses.field(metadata={"static": True})
    online: Online
    numbers: tuple[Any, ...] = ()

    @property
    def model(self) -> nnx.RNNCellBase:
        """A copy of the model with its present parameters."""
        return nnx.merge(self.program.graph.graphdef, self.online.objects, copy=True)[0]

    def objects(self) -> tuple[Any, Any, nnx.Optimizer]:
        """Copies of the model, the rule and the optimizer."""
        return self.program.graph.with_numbers(self.numbers).merged(self.online.objects)

    @property
    def state(self) -> Any:
        """The state of the model and the traces of the rule, from which `look_ahead` starts."""
        return self.online.state


class StreamStep(NamedTuple):
    """What `extend_stream` returns: the stream after a piece, its outputs and its losses.

    Args:
        stream: the stream after the piece.
        outputs: the outputs of the model [L, B, ...], with the parameters before each update, and with dropout as in training;
            `look_ahead` predicts without it.
        losses: the loss of each step and sample [L, B], 0 where it does not count. Not finite if the inputs, a loss or a
            gradient were not finite in its window; then use the stream before the piece.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import StreamStep
        >>> StreamStep(None, jnp.zeros((5, 2, 3)), jnp.zeros((5, 2))).losses.shape
        (5, 2)
    """

    stream: Any
    outputs: Any
    losses: Float[Array, "L B"]


def start_stream(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    loss_fn: LossFn,
    input_shape: tuple[int, ...],
    *,
    rule: Any,
    window: int = 1,
    penalties: Sequence[Penalty] = (),
) -> Stream:
    """Start to learn online from an unbounded stream, with the model at rest and without traces.

    The model, the rule and the optimizer are copied; write the parameters of a stream back with
    `nnx.update(model, nnx.state(stream.model))`.

    Args:
        model: a cell that the rule can handle.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`.
        loss_fn: the loss of one step, as for `gradients`.
        input_shape: shape [B, features...] of the inputs of a step.
        rule: `OTPE()` or any other rule, as for `train_online`.
        window: steps between updates, >= 1.
        penalties: losses on hidden layers; see `Penalty`. A penalty of a mean refers to the mean since the start of the stream.

    Raises:
        TypeError: a model that the rule cannot handle, anything other than an `nnx.Optimizer`, a `SequenceLoss`, or a norm that
            waits for the end of a sequence.
        ValueError: a window below 1.

    Warns:
        UserWarning: for the third compilation of one structure; see `fit`.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, cross_entropy, extend_stream, start_stream
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        >>> stream = start_stream(model, optimizer, cross_entropy, (2, 8), rule=OTPE(), window=5)
        >>> for piece in range(3):  # or forever
        ...     stream, outputs, losses = extend_stream(stream, jnp.ones((20, 2, 8)), jnp.zeros((20, 2), int))
        >>> outputs.shape, losses.shape
        ((20, 2, 3), (20, 2))
    """
    input_shape = as_shape("start_stream", input_shape, "that of a step, (B, features...): (1, 64)", axes=2)
    window = checked_window(window) or 1
    if accumulates(model):
        raise TypeError(
            "start_stream got a model with a norm whose statistics change at the end of a sequence, expected none: a stream "
            "has no end. Call model.eval(), or use Standardized."
        )
    check_optimizer("start_stream", optimizer)
    check_online_loss("start_stream", loss_fn)
    objects = (model, rule, optimizer)
    graph, state = split(objects)
    program = StreamProgram(
        graph.with_numbers(()), loss_fn, window, tuple(penalties), tuple(input_shape), jnp.dtype(input_dtype(model))
    )
    started = jax.tree.map(jnp.array, (_start(program, state), graph.numbers))
    parts = {"loss_fn": loss_fn, "penalties": program.penalties}
    if text := third_compilation("start_stream", graph, parts, (window, program.input_shape, program.dtype)):
        warnings.warn(text, UserWarning, stacklevel=2)
    return Stream(program, *started)


def extend_stream(
    stream: Stream,
    inputs: Any,
    targets: Any,
    mask: Any = None,
    *,
    reset: Any = None,
) -> StreamStep:
    """Run L more steps of a stream, with an update after each window; the last window may be shorter.

    It is compiled once for each L. One step at a time predicts and learns with the least delay; several steps per call
    save the overhead of calls.

    Args:
        stream: the stream so far.
        inputs: the inputs of the steps [L, B, features...].
        targets: one per step, [L, B, ...], or a tree of such arrays.
        mask: bool [L, B], true where a loss counts, as for `train_online`. It may be false everywhere: state and traces then
            continue, and nothing is learned.
        reset: bool [B], true for samples to reset before the first of these steps: they start with the model at rest, without
            traces, and with new masks of a Dropout that keeps one mask for a sequence.

    Raises:
        ValueError: inputs, targets, mask or reset of a wrong shape.
        TypeError: reset, for a model or a rule whose state or traces are shared across the batch, unless there is one
            sample.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import OSTL, extend_stream, squared_error, start_stream
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        >>> stream = start_stream(model, optimizer, squared_error, (3, 4), rule=OSTL())
        >>> losses = []
        >>> for _ in range(10):  # one step at a time
        ...     stream, _, loss = extend_stream(stream, jnp.ones((1, 3, 4)), jnp.ones((1, 3, 2)))
        ...     losses.append(float(loss.mean()))
        >>> losses[-1] < losses[0]
        True
    """
    inputs, targets, mask, reset = jax.tree.map(jnp.asarray, (inputs, targets, mask, reset))
    _check_piece("extend_stream", stream, inputs, reset)
    if mask is not None:
        check_steps_and_samples(mask, inputs.shape[:2])
    extended = _extend(stream.program, stream.online, stream.numbers, inputs, targets, mask, reset)
    online, outputs, losses = extended
    return StreamStep(dataclasses.replace(stream, online=online), outputs, losses)


def look_ahead(stream: Stream, state: Any, inputs: Any, *, reset: Any = None) -> tuple[Any, Any]:
    """Predict L steps in evaluation mode without learning, for labels that come late.

    Dropout is off, and a BatchNorm normalizes by its running statistics, as after `model.eval()`. If the model has such modules
    in training mode, the outputs therefore differ from what `extend_stream` returns, since that function learns from its
    outputs.

    Args:
        stream: the stream so far.
        state: the state before the steps: `stream.state`, or the state that the previous call returned, which is then ahead of
            what the stream has learned.
        inputs, reset: see `extend_stream`.

    Returns:
        The state after the steps, and the outputs [L, B, ...].

    Raises:
        ValueError: inputs or reset of a wrong shape.
        TypeError: reset, for state shared across the batch; see `extend_stream`.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import OSTL, look_ahead, squared_error, start_stream
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        >>> stream = start_stream(model, optimizer, squared_error, (3, 4), rule=OSTL())
        >>> ahead, outputs = look_ahead(stream, stream.state, jnp.ones((5, 3, 4)))
        >>> outputs.shape
        (5, 3, 2)
    """
    inputs, reset = jax.tree.map(jnp.asarray, (inputs, reset))
    _check_piece("look_ahead", stream, inputs, reset)
    return _look_ahead(stream.program, stream.online.objects, state, inputs, reset)


def _check_piece(name: str, stream: Stream, inputs: Array, reset: Array | None) -> None:
    """Raise ValueError for inputs or a reset of a wrong shape; `name` is the function that got them."""
    expected, batch = stream.program.input_shape, stream.program.input_shape[0]
    check_sequence(inputs)
    if inputs.shape[1:] != expected:
        raise ValueError(
            f"{name} got inputs of shape {list(inputs.shape)}, expected [L, {', '.join(map(str, expected))}] as in "
            "start_stream."
        )
    if reset is not None and (reset.shape != (batch,) or reset.dtype != jnp.bool_):
        raise ValueError(
            f"{name} got reset as {reset.dtype}{list(reset.shape)}, expected bool[{batch}]: true for each sample to "
            "reset."
        )


@partial(Programs, rechecks=False)
def _look_ahead(
    program: StreamProgram, objects: nnx.State, state: Any, inputs: Array, reset: Array | None
) -> tuple[Any, Any]:
    model, rule, _ = nnx.merge(program.graph.graphdef, objects, copy=True)
    model.eval()
    inputs = cast_inputs(model, inputs)
    state = state if reset is None else _reset(program, objects, state, reset)[0]
    heads, state = program.learner(model, rule).forward(state, inputs)
    return state, heads.outputs


@Programs
def _start(program: StreamProgram, objects: nnx.State) -> Online:
    model, given, _ = nnx.merge(program.graph.graphdef, objects, copy=True)
    learner = program.learner(model, given)
    state, drawn = program.at_rest(objects, program.input_shape[0])
    one = jnp.zeros((1, *program.input_shape), program.dtype)
    nothing = Batch(one, Targets([], (), jax.tree.structure(None)), None)
    return Online(nnx.merge_state(objects, drawn), state, zero_means(learner, state, nothing))


@partial(Programs, rechecks=False)
def _extend(
    program: StreamProgram,
    online: Online,
    numbers: tuple[Any, ...],
    inputs: Array,
    targets: Any,
    mask: Array | None,
    reset: Array | None,
) -> tuple[Online, Any, Array]:
    steps, batch = inputs.shape[:2]
    leaves = read_targets(targets if isinstance(targets, PerStep) else PerStep(targets), steps, batch)
    model, given, optimizer = program.graph.with_numbers(numbers).merged(online.objects)
    inputs = cast_inputs(model, inputs)
    graphdef, learner = nnx.graphdef((model, given, optimizer)), program.learner(model, given)
    if reset is not None:
        state, objects = _reset(program, online.objects, online.state, reset)
        online = online._replace(state=state, objects=objects)

    def step(online: Online, piece: Any) -> tuple[Online, tuple[Any, Array]]:
        window = Batch(piece[0], leaves.with_steps(piece[1]), piece[2])
        online, loss, outputs = online_window(graphdef, learner, online, window)
        losses = step_losses(program.loss_fn, outputs, window.targets)
        losses = losses if window.mask is None else jnp.where(window.mask, losses, 0)
        healthy = jnp.isfinite(loss) & jnp.isfinite(window.inputs).all()  # a spike may hide an input that is not finite
        return online, (outputs, jnp.where(healthy, losses, jnp.nan))

    online, (outputs, losses) = scan_chunks(step, online, (inputs, leaves.steps, mask), program.window)
    return online, outputs, losses


def _reset(program: StreamProgram, objects: nnx.State, state: Any, reset: Array) -> tuple[Any, nnx.State]:
    """The state of a rule in which some samples are at rest, and the state of (model, rule, optimizer) after its draws.

    What the batch shares and no rule computes, such as a random key or a count of steps, is kept unless there is one
    sample. An axis of samples may have several rows of each, one after the other, as for positions of a Conv.
    """
    batch, is_new = program.input_shape[0], reset.any()
    rest, drawn = program.at_rest(objects, batch)
    streams = nnx.filter_state(objects, nnx.RngState)
    drawn = jax.tree.map(lambda new, old: jnp.where(is_new, new, old), drawn, streams)
    objects = nnx.merge_state(objects, drawn)
    if batch == 1:
        return jax.tree.map(lambda new, old: jnp.where(reset[0], new, old), rest, state), objects
    rule = nnx.merge(program.graph.graphdef, objects, copy=True)[1]
    one, two = (jax.eval_shape(lambda size=size: program.at_rest(objects, size)[0]) for size in (batch, 2 * batch))

    def at_rest(new: Array, old: Array, small: Any, large: Any) -> Array:
        axis = batch_axis(small, large)
        if axis is None and not jnp.issubdtype(old.dtype, jnp.inexact):
            return old
        if axis is None:
            raise TypeError(
                f"Got reset for {as_rule(rule).title} and a model whose state or traces have a number shared across "
                "the batch, expected no reset, or a stream of one sample."
            )
        where = jnp.repeat(reset, old.shape[axis] // batch).reshape(-1, *[1] * (old.ndim - axis - 1))
        return jnp.where(where, new, old)

    return jax.tree.map(at_rest, rest, state, one, two), objects
