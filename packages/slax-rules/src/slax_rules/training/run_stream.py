"""The loop over a stream: pieces from a source, predictions, updates, metrics, and checkpoints in the middle of it."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slax_rules.loop.stream import Stream, extend_stream, look_ahead
from slax_rules.loop.windows import Online
from slax_rules.losses import LossFn
from slax_rules.training.checkpoints import Checkpoints, Store, describe_model, describe_rule
from slax_rules.training.log import make_bar
from slax_rules.training.pieces import Piece, as_piece, powers_of_two
from slax_rules.training.progress import parts, whole

Source = Iterable[Any] | Callable[[int], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class StreamInfo:
    """What `run_stream` gives after each piece.

    Args:
        step: steps of the stream so far, lost ones included.
        outputs: the outputs of the model for the piece, [L, B, ...], before it learned from it.
        stream: the stream after what it has learned so far.
        sums: for the loss and each metric, the sums over steps that `numbers` is made of.

    Example:
        >>> import numpy as np
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import OTPE, correct, cross_entropy, run_stream, start_stream
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        >>> stream = start_stream(model, optimizer, cross_entropy, (1, 4), rule=OTPE())
        >>> source = ((np.ones((5, 1, 4), np.float32), np.zeros((5, 1), int)) for _ in range(3))
        >>> for info in run_stream(stream, source, metrics={"accuracy": correct}):
        ...     pass
        >>> info.step, sorted(info.numbers)
        (15, ['accuracy', 'loss'])
    """

    step: int
    outputs: Any
    stream: Stream
    sums: Mapping[str, tuple[Array, Array]]

    @property
    def numbers(self) -> dict[str, float | None]:
        """The loss and the metrics as means in which a step older by `half_life` counts half; None before any step counts."""
        found = jax.device_get(self.sums)
        return {name: float(total / weight) if weight else None for name, (total, weight) in found.items()}


def run_stream(
    stream: Stream,
    source: Source,
    *,
    metrics: Mapping[str, LossFn] | None = None,
    half_life: float = 1000.0,
    max_delay: int = 0,
    max_gap: int = 0,
    checkpoints: Checkpoints | None = None,
    progress: bool | None = None,
) -> Iterator[StreamInfo]:
    """Predict and learn from a source for as long as it gives pieces; memory and time per step stay the same for ever.

    Nothing is read from the source before the loop over this function asks for the next piece, so that a source which can wait,
    such as a generator or a socket, is as fast as the model. One that cannot wait drops steps, and says so by `Piece.start`.

        mean_t = sum_i gamma^(t - i) w_i m_i / sum_i gamma^(t - i) w_i        gamma = 2^(-1 / half_life)

    Args:
        stream: a stream as `start_stream` makes it.
        source: an iterable of pieces: `Piece`, or tuples (inputs, targets) or (inputs, targets, mask). Or a function that maps
            the number of the first step to such an iterable, which a resumed run needs to get the pieces that it would have
            had.
        metrics: functions of one step, which map outputs [B, ...] and targets [B, ...] to numbers [B], by name, such as
            `{"accuracy": correct}`.
        half_life: age in steps at which a step counts half in the means, > 0.
        max_delay: steps for which targets may be late. Learning then stays behind predictions by up to this number of steps,
            whose inputs are kept; targets that come later are ignored.
        max_gap: length of the longest gap that is filled with inputs of 0; after a longer one all samples start anew.
        checkpoints: where to save checkpoints, every so many steps and at the end, and from where to resume.
        progress: whether to draw a progress bar; by default only at a terminal.

    Returns:
        An iterator over a `StreamInfo` for each piece.

    Raises:
        TypeError, ValueError: a source that gives something else, arrays of the wrong shape, a step that came before, no
            targets within `max_delay` steps of the start, a checkpoint of another stream.
        FloatingPointError: inputs, a loss or a gradient that are not finite. Everything is as after the piece before, in the
            checkpoint, too.

    Example:
        Predictions of a network that learns what comes next, one step at a time:
        >>> import numpy as np
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTPE, Piece, run_stream, squared_error, start_stream
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(2, 16, rngs=rngs), LIF(), nnx.Linear(16, 1, rngs=rngs), LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        >>> def sensor(step):
        ...     while step < 600:
        ...         now = np.array([np.sin(step / 20), np.cos(step / 20)], np.float32)
        ...         yield Piece(now[None, None], now[None, None, :1], start=step)
        ...         step += 1
        >>> stream = start_stream(model, optimizer, squared_error, (1, 2), rule=OTPE())
        >>> losses = [info.numbers["loss"] for info in run_stream(stream, sensor, half_life=50.0)]
        >>> losses[-1] < losses[100]
        True
    """
    if not half_life > 0 or max_delay < 0 or max_gap < 0:
        raise ValueError(
            f"run_stream got half_life={half_life}, max_delay={max_delay}, max_gap={max_gap}, expected a positive half_life, "
            "and 0 or more for the others."
        )
    table = dict(metrics or {})
    if "loss" in table or not all(map(callable, table.values())):
        raise TypeError(
            "run_stream got metrics that are not functions of one step by name, or one named 'loss', expected "
            "metrics={'accuracy': correct}."
        )
    names = ("loss", *table)
    sums = {name: (jnp.zeros(()), jnp.zeros(())) for name in names}
    run = _Run(stream, tuple(table.items()), 0.5 ** (1 / half_life), max_delay, max_gap, sums)
    return _run(run, source, checkpoints, progress)


class Held(NamedTuple):
    """A piece that waits for its targets.

    Args:
        start: the number of its first step.
        inputs: its inputs [L, B, ...].
        targets: the targets that are known, [L, B, ...], and zeros.
        known: bool [L, B], true where the target is known and counts.
        settled: bool [L, B], true where it is known whether there is a target.
        reset: samples that start anew before it, or None.
    """

    start: int
    inputs: np.ndarray
    targets: np.ndarray | None
    known: np.ndarray
    settled: np.ndarray
    reset: np.ndarray | None


@dataclasses.dataclass
class _Run:
    """A run of `run_stream`: its options, which stay fixed, and its progress."""

    stream: Stream
    metrics: tuple[tuple[str, LossFn], ...]
    gamma: float
    max_delay: int
    max_gap: int
    sums: dict[str, tuple[Array, Array]]
    step: int = 0
    ahead: Any = None  # the state of the model that predicts, where it is ahead of the one that learns
    held: deque[Held] = dataclasses.field(default_factory=deque)
    like: tuple[tuple[int, ...], str] | None = None  # shape and dtype of the targets of a step of one sample

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Leave everything as it was before a block that ends with an exception, for the checkpoint that follows."""
        before = dataclasses.replace(self, held=deque(self.held))
        try:
            yield
        except BaseException:
            vars(self).update(vars(before))
            raise

    def visit(self, piece: Piece) -> StreamInfo:
        """Predict, and learn from what can be learned from."""
        start = self.step if piece.start is None else piece.start
        if start < self.step:
            raise ValueError(
                f"The source of a stream gave a piece that starts at step {start}, expected {self.step} or later: a step comes "
                "once. Drop what came again."
            )
        reset = piece.reset
        if start - self.step > self.max_gap:
            reset = np.ones(piece.inputs.shape[1], bool)
            self.step = start
        for length in powers_of_two(start - self.step):
            self.advance(Piece(np.zeros((length, *piece.inputs.shape[1:]), piece.inputs.dtype)), no_targets=True)
        return StreamInfo(*self.advance(piece._replace(reset=reset)), self.stream, dict(self.sums))

    def advance(self, piece: Piece, *, no_targets: bool = False) -> tuple[int, Any]:
        """Run the steps of a piece; return the number of steps so far and the outputs."""
        held = self.hold(piece, no_targets)
        self.step += len(piece.inputs)
        if not self.max_delay:
            return self.step, self.learn(held)
        self.ahead, outputs = look_ahead(self.stream, self.ahead, piece.inputs, reset=piece.reset)
        self.held.append(held)
        self.learn_what_is_due()
        return self.step, outputs

    def hold(self, piece: Piece, no_targets: bool) -> Held:
        """A piece with what is known of its targets."""
        shape = piece.inputs.shape[:2]
        if not np.isfinite(piece.inputs).all():
            raise FloatingPointError(
                f"The source of a stream gave inputs that are not finite in steps {self.step} to {self.step + shape[0] - 1}, "
                "expected numbers. The stream of the piece before is unchanged. Leave such steps out, as a gap, or repair them."
            )
        if piece.targets is None:
            unknown = np.zeros(shape, bool)
            return Held(self.step, piece.inputs, None, unknown, np.full(shape, no_targets), piece.reset)
        self.check_targets(piece.targets, shape)
        known = np.ones(shape, bool) if piece.mask is None else np.asarray(piece.mask)
        return Held(self.step, piece.inputs, piece.targets, known, np.ones(shape, bool), piece.reset)

    def check_targets(self, targets: Any, shape: tuple[int, ...]) -> None:
        if targets.shape[:2] != shape or self.like not in (None, (targets.shape[2:], str(targets.dtype))):
            expected = (
                "" if self.like is None else f" of {self.like[1]}[{', '.join(map(str, ('L', 'B', *self.like[0])))}]"
            )
            raise ValueError(
                f"The source of a stream gave targets of {targets.dtype}{list(targets.shape)} for {shape[0]} steps of "
                f"{shape[1]} samples, expected one per step and sample{expected}."
            )
        self.like = targets.shape[2:], str(targets.dtype)

    def fill_in(self, late: Piece) -> None:
        """Add targets that came late to the pieces that wait for them, and learn from what is complete."""
        steps, batch = len(late.targets), self.stream.program.input_shape[0]
        self.check_targets(late.targets, (steps, batch))
        assert late.start is not None  # see as_piece
        mask = np.ones((steps, batch), bool) if late.mask is None else np.asarray(late.mask)
        for index, held in enumerate(self.held):
            first, last = max(late.start, held.start), min(late.start + steps, held.start + len(held.inputs))
            if first >= last:
                continue
            here, there = (slice(first - start, last - start) for start in (held.start, late.start))
            targets = np.array(self.zeros(held) if held.targets is None else held.targets)
            known, settled = held.known.copy(), held.settled.copy()
            targets[here], known[here], settled[here] = late.targets[there], mask[there], True
            self.held[index] = held._replace(targets=targets, known=known, settled=settled)
        self.learn_what_is_due()

    def learn_what_is_due(self) -> None:
        """Learn from the oldest pieces, as long as their targets are known or too late."""
        while self.held:
            end = self.held[0].start + len(self.held[0].inputs)
            if not self.held[0].settled.all() and self.step - end < self.max_delay:
                return
            self.learn(self.held.popleft())

    def learn(self, held: Held) -> Any:
        """Run the steps of a piece with its targets, and return the outputs."""
        targets = self.zeros(held) if held.targets is None else held.targets
        mask = None if held.known.all() else held.known
        options = (self.metrics, self.gamma)
        stream, outputs, sums, finite = _advance(
            *options, self.stream, self.sums, held.inputs, targets, mask, held.reset
        )
        if not finite:
            last = held.start + len(held.inputs) - 1
            raise FloatingPointError(
                f"run_stream stopped at steps {held.start} to {last}: the inputs, a loss or a gradient are not finite. The "
                "stream of the piece before is unchanged. Look at what the source gave; if it is finite, lower the learning "
                "rate, or clip gradients: optax.chain(optax.clip_by_global_norm(1.0), ...)."
            )
        self.stream, self.sums = stream, sums
        return outputs

    def zeros(self, held: Held) -> np.ndarray:
        """Targets of a piece that has none, which do not count."""
        if self.like is None:
            raise ValueError(
                "The source of a stream gave no targets before they were needed, expected some within max_delay="
                f"{self.max_delay} steps of the start, from which their shape and dtype are known. If the first steps have "
                "none, give them any with a mask that is false."
            )
        shape, dtype = self.like
        return np.zeros((*held.inputs.shape[:2], *shape), dtype)

    def trees(self) -> dict[str, Any]:
        """Everything that a checkpoint keeps, except for facts."""
        objects, state, means = self.stream.online
        held = [tuple(one[1:]) for one in self.held]
        return parts(objects) | {
            "state": state,
            "means": means,
            "numbers": self.sums,
            "ahead": self.ahead,
            "held": held,
        }

    def facts(self) -> dict[str, Any]:
        held = [
            {
                "start": one.start,
                "steps": len(one.inputs),
                "inputs": str(one.inputs.dtype),
                "targets": one.targets is not None,
                "reset": one.reset is not None,
            }
            for one in self.held
        ]
        return {"step": self.step, "like": self.like, "held": held}

    def expected(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The trees of a checkpoint with these facts."""
        self.step = facts["step"]
        self.like = None if facts["like"] is None else (tuple(facts["like"][0]), facts["like"][1])
        batch, *features = self.stream.program.input_shape
        for one in facts["held"]:
            shape = (one["steps"], batch)
            nothing = np.zeros(shape, bool)
            held = Held(one["start"], np.zeros((*shape, *features), one["inputs"]), None, nothing, nothing, None)
            targets = self.zeros(held) if one["targets"] else None
            self.held.append(held._replace(targets=targets, reset=np.zeros(batch, bool) if one["reset"] else None))
        return self.trees()

    def restore(self, trees: dict[str, Any]) -> None:
        online = self.stream.online
        online = Online(whole(online.objects, trees), trees["state"], trees["means"])
        self.stream = dataclasses.replace(self.stream, online=online)
        self.sums, self.ahead = trees["numbers"], trees["ahead"]
        for index, (one, arrays) in enumerate(zip(self.held, trees["held"], strict=True)):
            leaves: list[Any] = [None if leaf is None else np.asarray(leaf) for leaf in arrays]
            self.held[index] = Held(one.start, *leaves)


def _run(run: _Run, source: Source, checkpoints: Checkpoints | None, progress: bool | None) -> Iterator[StreamInfo]:
    """The iterator of `run_stream`."""
    with ExitStack() as stack:
        store: Store | None = None
        saved = 0
        if run.max_delay:
            run.ahead = run.stream.state
        if checkpoints is not None:
            store = stack.enter_context(checkpoints.open(_settings(run)))
            found = store.restore(run.expected)
            if found is not None:
                run.restore(found[0])
                saved = run.step

        def save() -> None:
            if store is not None and run.step:
                store.save(run.step, run.trees(), run.facts())

        bar = make_bar(None, run.step, progress)
        stack.callback(bar.close)
        stack.callback(save)
        for item in source(run.step) if callable(source) else source:
            piece, before = as_piece(item), run.step
            with run.all_or_nothing():
                if piece.inputs is None:
                    run.fill_in(piece)
                    continue
                info = run.visit(piece)
            bar.update(run.step - before)
            if checkpoints is not None and run.step // checkpoints.every > saved // checkpoints.every:
                save()
                saved = run.step
            yield info


def _settings(run: _Run) -> dict[str, Any]:
    """The settings that must be the same after a resume, in addition to the arrays."""
    program = run.stream.program
    model, rule = run.stream.model, run.stream.rule
    return {
        "kind": "stream",
        "rule": describe_rule(rule),
        "loss_fn": getattr(program.loss_fn, "__qualname__", type(program.loss_fn).__name__),
        "window": program.window,
        "penalties": [one.describe() for one in program.penalties],
        "metrics": [name for name, _ in run.metrics],
        "gamma": run.gamma,
        "max_delay": run.max_delay,
        **describe_model(model),
    }


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    metrics: tuple[tuple[str, LossFn], ...],
    gamma: float,
    stream: Stream,
    sums: dict[str, tuple[Array, Array]],
    inputs: Array,
    targets: Array,
    mask: Array | None,
    reset: Array | None,
) -> tuple[Stream, Any, dict[str, tuple[Array, Array]], Array]:
    """Extend a stream; return it with the outputs, the sums of the means, and whether all numbers are finite."""
    stream, outputs, losses = extend_stream(stream, inputs, targets, mask=mask, reset=reset)
    steps = losses.shape[0]
    counted = jnp.ones(losses.shape, bool) if mask is None else mask
    weights = jnp.where(counted, gamma ** jnp.arange(steps - 1, -1, -1, dtype=losses.dtype)[:, None], 0)
    old = jnp.asarray(gamma**steps, losses.dtype)

    def added(sums: tuple[Array, Array], values: Float[Array, "L B"]) -> tuple[Array, Array]:
        total, weight = sums
        now = jnp.sum(jnp.where(counted, values, 0) * weights)
        return (old * total + now).astype(total.dtype), (old * weight + jnp.sum(weights)).astype(weight.dtype)

    found = {"loss": losses} | {name: jax.vmap(metric)(outputs, targets) for name, metric in metrics}
    new = {name: added(sums[name], values.astype(losses.dtype)) for name, values in found.items()}
    return stream, outputs, new, jnp.isfinite(losses).all()
