"""The loop over a stream: pieces from a source, predictions, updates, metrics, and checkpoints on the way."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slax_rules.arrays import as_array
from slax_rules.losses import LossFn
from slax_rules.step import jitted
from slax_rules.stream import Stream, extend_stream
from slax_rules.train.checkpoints import Checkpoints, describe_run, parts, whole
from slax_rules.train.evaluate import check_metrics, where_not_finite
from slax_rules.train.fit import make_bar
from slax_rules.train.remarks import ADVICE, fault_of_targets

Source = Iterable[Any] | Callable[[int], Iterable[Any]]
Metrics = tuple[tuple[str, LossFn], ...]
Sums = dict[str, tuple[Any, Any]]  # by name, the weighted sums of numbers and of weights


class Piece(NamedTuple):
    """Consecutive steps of a stream.

    Args:
        inputs: inputs [L, B, features...], L at least 1.
        targets: one per step, [L, B, ...].
        mask: bool [L, B], true where a target counts; all by default.
        reset: bool [B], true for samples to reset before the first step: the model at rest, no traces.

    Example:
        >>> import numpy as np
        >>> from slax_rules import Piece
        >>> piece = Piece(np.ones((5, 1, 8), np.float32), np.zeros((5, 1), int), reset=np.array([True]))
        >>> piece.inputs.shape, piece.mask
        ((5, 1, 8), None)
    """

    inputs: Any
    targets: Any
    mask: Any = None
    reset: Any = None


@dataclasses.dataclass(frozen=True)
class StreamInfo:
    """The result that `run_stream` yields after each piece.

    Args:
        step: steps of the stream so far.
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
    checkpoints: Checkpoints | None = None,
    progress: bool | None = None,
) -> Iterator[StreamInfo]:
    """Predict and learn from a source until it is exhausted, in constant memory and time per step.

    The model that the stream was started with stays as it was, as under `jax.jit`: `stream.copy_to(model)` gives it what was
    learned, with the last `StreamInfo.stream`.

    Nothing is read from the source before the loop over this function asks for the next piece, so a source that can wait, such
    as a generator or a socket, runs at the speed of the model. Predictions are the outputs that the model learns from, so in
    training mode a `Dropout` is active in the predictions and in the metrics; `look_ahead` predicts without it.

        mean_t = (sum_i gamma^{t - i} w_i m_i) / (sum_i gamma^{t - i} w_i)        gamma = 2^{-1 / half_life}

    Args:
        stream: a stream as `start_stream` makes it.
        source: an iterable of pieces: `Piece`, or tuples (inputs, targets) or (inputs, targets, mask). Or a function that maps
            the number of the first step to such an iterable, which a run needs in order to resume with the pieces that would
            have come next.
        metrics: functions of one step, which map outputs [B, ...] and targets [B, ...] to numbers [B], by name, such as
            `{"accuracy": correct}`.
        half_life: age in steps at which a step counts half in the means, > 0.
        checkpoints: where to save checkpoints, every so many steps and at the end, and from where to resume.
        progress: whether to draw a progress bar; by default only at a terminal.

    Returns:
        An iterator over a `StreamInfo` for each piece.

    Raises:
        TypeError, ValueError: a source that yields something else, arrays of the wrong shape, a checkpoint of another stream.
        FloatingPointError: inputs, a loss or a gradient that are not finite. The stream and the checkpoint then keep their
            values from after the previous piece.

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
        ...         yield Piece(now[None, None], now[None, None, :1])
        ...         step += 1
        >>> stream = start_stream(model, optimizer, squared_error, (1, 2), rule=OTPE())
        >>> losses = [info.numbers["loss"] for info in run_stream(stream, sensor, half_life=50.0)]
        >>> losses[-1] < losses[100]
        True
    """
    if not half_life > 0:
        raise ValueError(f"run_stream got half_life={half_life}, expected a positive number of steps.")
    table = check_metrics("run_stream", metrics)
    return _run(stream, source, tuple(table.items()), 0.5 ** (1 / half_life), checkpoints, progress)


def _run(
    stream: Stream,
    source: Source,
    metrics: Metrics,
    gamma: float,
    checkpoints: Checkpoints | None,
    progress: bool | None,
) -> Iterator[StreamInfo]:
    """The iterator of `run_stream`."""
    zero = np.zeros((), jax.dtypes.canonicalize_dtype(float))
    sums: Sums = {name: (zero, zero) for name in ("loss", *dict(metrics))}
    step, (model, rule, _) = 0, stream.merged()
    options = {"window": stream.program.window, "gamma": gamma, "metrics": ", ".join(dict(metrics))}
    identity = describe_run(model, rule, **options)
    advance = jitted(_advance, metrics, gamma)

    def trees() -> dict[str, Any]:
        return parts(stream.objects) | {"state": stream.state, "sums": sums}

    with ExitStack() as stack:
        if checkpoints is not None:
            checkpoints.prepare()
            if (found := checkpoints.restore("run_stream", identity, lambda facts: trees(), progress)) is not None:
                step, arrays, _ = found
                if step and isinstance(source, list | tuple):
                    cure = "a function that maps a step to the pieces from there on"
                    raise TypeError(f"run_stream resumes at step {step} of a {type(source).__name__}, expected {cure}.")
                stream = dataclasses.replace(stream, objects=whole(stream.objects, arrays), state=arrays["state"])
                sums = arrays["sums"]
            stack.callback(lambda: checkpoints.save(step, identity, trees(), {}))
        bar = make_bar(None, step, progress)
        stack.callback(bar.close)
        for item in source(step) if callable(source) else source:
            piece, before = _piece(item), step
            after, outputs, its_sums, is_finite = advance(stream, sums, piece)
            if not is_finite:
                raise FloatingPointError(_cause(piece, step, outputs))
            stream, sums, step = after, its_sums, step + len(piece.inputs)
            bar.update(step - before)
            if checkpoints is not None and step // checkpoints.every > before // checkpoints.every:
                checkpoints.save(step, identity, trees(), {})
            yield StreamInfo(step, outputs, stream, dict(sums))


def _cause(piece: Piece, step: int, outputs: Any) -> str:
    """What is not finite in a piece that begins after so many steps."""
    what, advice = "a loss or a gradient is not finite", fault_of_targets(piece.targets, piece.mask, outputs) or ADVICE
    if where := where_not_finite(piece.inputs, "time step", "sample", *["feature"] * (piece.inputs.ndim - 2)):
        what, advice = f"the inputs are {where} of the piece", "Look at what the source gave."
    return (
        f"run_stream stopped at steps {step} to {step + len(piece.inputs) - 1}: {what}. The stream of the piece before is "
        f"unchanged. {advice[0].upper()}{advice[1:]}"
    )


def _piece(item: Any) -> Piece:
    """Read what a source gives: a piece, or a tuple of its first fields."""
    if not isinstance(item, tuple | list) or not 2 <= len(item) <= len(Piece._fields):
        raise TypeError(f"A source gave {type(item).__name__}, expected a Piece, or (inputs, targets) and a mask.")
    piece = Piece(*(None if value is None else as_array(value, "a field of a piece") for value in item))
    given, (inputs, targets, *_) = [value if value is None else list(value.shape) for value in piece], piece
    if inputs is None or targets is None or targets.shape[:2] != inputs.shape[:2]:
        raise ValueError(f"A source gave targets {given[1]} for inputs {given[0]}, expected one per step and sample.")
    return piece


def _advance(
    metrics: Metrics, gamma: float, stream: Stream, sums: Sums, piece: Piece
) -> tuple[Stream, Any, Sums, Array]:
    """Extend a stream; return it with the outputs, the sums of the means, and whether all numbers are finite."""
    inputs, targets, mask, reset = piece
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
    for name, values in found.items():
        if values.shape != losses.shape:
            raise ValueError(f"The metric {name!r} gave {list(values.shape[1:])} a step, expected [{losses.shape[1]}].")
    new = {name: added(sums[name], values.astype(losses.dtype)) for name, values in found.items()}
    return stream, outputs, new, jnp.isfinite(losses).all()
