"""Online learning from unbounded streams: a stream starts, and is extended piece by piece for as long as data arrive.

A stream is an ordinary value that holds everything that the next step needs: parameters, optimizer, the model's state and the
traces of the rule. Extending it piece by piece gives the same result as `train_online` on all pieces together, and memory and
time per step do not depend on how long a stream has been running.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import unroll
from slax_neurons.building_blocks import accumulates, as_shape, cast_inputs, check_sequence, input_dtype, scan_chunks
from slax_rules.api import check_loss, check_optimizer, checked_window, warn_of_single_steps
from slax_rules.loop import initial_state, window_update
from slax_rules.losses import LossFn, PerStep
from slax_rules.masks import check_steps_and_samples
from slax_rules.penalties import Penalty, checked_penalties, penalties_by_layer
from slax_rules.rules.base import Rule, RuleState, batch_axis, check_is_rule, kind
from slax_rules.step import jitted
from slax_rules.windows import Batch, WindowLoss, step_losses


@dataclasses.dataclass(frozen=True)
class StreamProgram:
    """The computations on a stream, without their arrays.

    Args:
        graph: the graph of (model, rule, optimizer).
        loss_fn: the loss of a step.
        window: steps between updates.
        penalties: the penalties of hidden layers.
        input_shape: shape [B, features...] of the inputs of a step.
        dtype: dtype of the inputs.
        kinds: the types of options; see `kind`.
    """

    graph: nnx.GraphDef
    loss_fn: LossFn
    window: int
    penalties: tuple[Penalty, ...]
    input_shape: tuple[int, ...]
    dtype: Any
    kinds: Any = None

    def __post_init__(self) -> None:
        """Streams under the user's own `jax.jit` are compared by their fields: with these, as programs are."""
        fields = tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "kinds")
        object.__setattr__(self, "kinds", kind(fields))

    def at_rest(self, objects: nnx.State, batch: int) -> tuple[RuleState, nnx.State]:
        """The state before the first step of a number of samples, and the random streams after what was drawn."""
        model, rule, optimizer = nnx.merge(self.graph, objects, copy=True)
        one_step = jax.ShapeDtypeStruct((batch, *self.input_shape[1:]), self.dtype)
        rule.check(model, one_step)
        state = initial_state(rule, model, one_step)
        return state, nnx.state((model, rule, optimizer), nnx.RngState)

    def reset(self, objects: nnx.State, state: RuleState, reset: Array) -> tuple[RuleState, nnx.State]:
        """The state in which some samples are at rest, and the state of (model, rule, optimizer) after its draws.

        What the batch shares and no rule computes, such as a random key or a count of steps, is kept unless there is one
        sample. An axis of samples may have several rows of each, one after the other, as for positions of a Conv.
        """
        batch, is_new = self.input_shape[0], reset.any()
        rest, drawn = self.at_rest(objects, batch)
        streams = nnx.filter_state(objects, nnx.RngState)
        drawn = jax.tree.map(lambda new, old: jnp.where(is_new, new, old), drawn, streams)
        objects = nnx.merge_state(objects, drawn)
        if batch == 1:
            return jax.tree.map(lambda new, old: jnp.where(reset[0], new, old), rest, state), objects
        one, two = (jax.eval_shape(lambda size=size: self.at_rest(objects, size)[0]) for size in (batch, 2 * batch))

        def at_rest(new: Array, old: Array, small: Any, large: Any) -> Array:
            axis = batch_axis(small, large)
            if axis is None and not jnp.issubdtype(old.dtype, jnp.inexact):
                return old
            if axis is None:
                raise TypeError("Got reset for a state with a number that samples share, expected a stream of one.")
            where = jnp.repeat(reset, old.shape[axis] // batch).reshape(-1, *[1] * (old.ndim - axis - 1))
            return jnp.where(where, new, old)

        return jax.tree.map(at_rest, rest, state, one, two), objects

    def start(self, objects: nnx.State) -> tuple[nnx.State, RuleState]:
        """The state of (model, rule, optimizer) after the draws of the start, and the state before the first step."""
        state, drawn = self.at_rest(objects, self.input_shape[0])
        return nnx.merge_state(objects, drawn), state

    def extend(
        self, objects: nnx.State, state: RuleState, inputs: Array, targets: Any, mask: Any, reset: Any
    ) -> tuple[nnx.State, RuleState, Any, Array]:
        """Take L more steps, with an update after each window: the states, the outputs and the losses [L, B]."""
        model = nnx.merge(self.graph, objects, copy=True)[0]
        inputs = cast_inputs(model, inputs)
        batch = Batch.read(inputs, targets if isinstance(targets, PerStep) else PerStep(targets), mask)
        layers, penalties = penalties_by_layer(self.penalties, model)
        loss = WindowLoss(self.loss_fn, batch, None, layers, penalties)
        if reset is not None:
            state, objects = self.reset(objects, state, reset)

        def visit(carry: tuple[nnx.State, RuleState], steps: Any) -> tuple[Any, tuple[Any, Array]]:
            piece = batch.with_steps(steps)
            new = window_update(self.graph, *carry, loss.on(piece))
            losses = step_losses(self.loss_fn, new.outputs, piece)
            losses = losses if piece.mask is None else jnp.where(piece.mask, losses, 0)
            # A spike may hide an input that is not finite.
            healthy = jnp.isfinite(new.loss) & jnp.isfinite(piece.inputs).all()
            return (new.objects, new.state), (new.outputs, jnp.where(healthy, losses, jnp.nan))

        (objects, state), (outputs, losses) = scan_chunks(visit, (objects, state), batch.steps, self.window)
        return objects, state, outputs, losses

    def look_ahead(self, objects: nnx.State, state: RuleState, inputs: Array, reset: Any) -> tuple[RuleState, Any]:
        """Take L steps in evaluation mode, without learning: the state and the outputs."""
        model = nnx.merge(self.graph, objects, copy=True)[0]
        model.eval()
        inputs = cast_inputs(model, inputs)
        state = state if reset is None else self.reset(objects, state, reset)[0]
        carry, outputs = unroll(model, state.carry, inputs)
        return state._replace(carry=carry), outputs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stream:
    """A model that learns online, with its state between two pieces of data, as returned by `start_stream` and `extend_stream`.

    Args:
        program: the computation on a piece.
        objects: the state of model, rule and optimizer.
        state: the state of the model and the traces of the rule, from which `look_ahead` starts.

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
    objects: nnx.State
    state: RuleState

    @property
    def model(self) -> nnx.RNNCellBase:
        """A copy of the model with its present parameters."""
        return self.merged()[0]

    def copy_to(self, model: nnx.RNNCellBase) -> None:
        """Give a model the present numbers of the stream's: a stream leaves the model that it was started with as it was.

        Raises:
            ValueError: a model with arrays of other names or shapes.
        """
        state = nnx.state(self.model)
        mine, its = (dict(nnx.to_flat_state(one)) for one in (state, nnx.state(model)))
        if {path: jnp.shape(one) for path, one in mine.items()} != {path: jnp.shape(one) for path, one in its.items()}:
            raise ValueError("copy_to got another model than the stream's, expected arrays of equal names and shapes.")
        nnx.update(model, state)

    def merged(self) -> tuple[nnx.RNNCellBase, Rule, nnx.Optimizer]:
        """Copies of the model, the rule and the optimizer."""
        return nnx.merge(self.program.graph, self.objects, copy=True)


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
        >>> from slax_rules.stream import StreamStep
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
    rule: Rule,
    window: int | None = None,
    penalties: Iterable[Penalty] = (),
) -> Stream:
    """Start to learn online from an unbounded stream, with the model at rest and without traces.

    The model, the rule and the optimizer are copied; `stream.copy_to(model)` writes the parameters of a stream back.

    Args:
        model: a cell that the rule can handle.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`.
        loss_fn: the loss of one step, as for `gradients`.
        input_shape: shape [B, features...] of the inputs of a step.
        rule: `OTPE()` or any other rule, as for `train_online`.
        window: steps between updates, >= 1; by default 1.
        penalties: losses on hidden layers; see `Penalty`. A penalty of a mean refers to the mean over the window.

    Raises:
        TypeError: a model that the rule cannot handle, anything other than an `nnx.Optimizer`, a `SequenceLoss`, or a norm that
            waits for the end of a sequence.
        ValueError: a window below 1.

    Warns:
        UserWarning: BPTT or TBPTT without `window`, since their gradient then does not flow through time.

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
    size = checked_window(window) or 1
    if accumulates(model):
        raise TypeError("start_stream got a model with a norm that waits for the end of a sequence. Use Standardized.")
    check_optimizer("start_stream", optimizer)
    check_loss("start_stream", loss_fn, online=True)
    check_is_rule(rule)
    warn_of_single_steps("start_stream", rule, window)
    penalties = checked_penalties(penalties, model)
    graph, state = nnx.split((model, rule, optimizer))
    dtype = jnp.dtype(input_dtype(model))
    program = StreamProgram(graph, loss_fn, size, penalties, tuple(input_shape), dtype)
    return Stream(program, *jax.tree.map(jnp.array, jitted(StreamProgram.start, program)(state)))


def extend_stream(stream: Stream, inputs: Any, targets: Any, mask: Any = None, *, reset: Any = None) -> StreamStep:
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
    run = jitted(StreamProgram.extend, stream.program)
    objects, state, outputs, losses = run(stream.objects, stream.state, inputs, targets, mask, reset)
    return StreamStep(dataclasses.replace(stream, objects=objects, state=state), outputs, losses)


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
    return jitted(StreamProgram.look_ahead, stream.program)(stream.objects, state, inputs, reset)


def _check_piece(name: str, stream: Stream, inputs: Array, reset: Array | None) -> None:
    """Raise ValueError for inputs or a reset of a wrong shape; `name` is the function that got them."""
    expected, batch = stream.program.input_shape, stream.program.input_shape[0]
    check_sequence(inputs)
    if inputs.shape[1:] != expected:
        raise ValueError(f"{name} got inputs of shape {list(inputs.shape)}, expected [L, {str(expected)[1:-1]}].")
    if reset is not None and (reset.shape != (batch,) or reset.dtype != jnp.bool_):
        raise ValueError(f"{name} got reset as {reset.dtype}{list(reset.shape)}, expected bool[{batch}].")
