"""Steps of a stream as lines of text, for a connection to anything that can write a line."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from slax_data.checks import check_size
from slax_data.live.piece import StreamPiece

LONGEST_LINE = 1 << 20  # bytes; a longer line is not a step
FIELDS = ("units", "targets", "mask", "reset", "start")


@runtime_checkable
class Lines(Protocol):
    """A binary file."""

    def readline(self, size: int, /) -> bytes: ...


def step_line(
    units: Sequence[Sequence[int]] | None = None,
    *,
    targets: Sequence[Any] | None = None,
    mask: Sequence[bool] | None = None,
    reset: Sequence[bool] | None = None,
    start: int | None = None,
) -> bytes:
    """Write a step of a stream as a line, as `read_lines` reads it.

    Args:
        units: for each sample, the units that spike; None for targets of an earlier step.
        targets: a target for each sample: a label, which is an integer, or a list of numbers. The numbers of a list are read
            as float32, however they are written; a single number to be predicted is a list of one, [1.0] or [1].
        mask: for each sample, whether its target counts.
        reset: for each sample, whether it starts anew before this step.
        start: the number of the step.

    Example:
        >>> from slax_data import step_line
        >>> step_line([[3, 7]], targets=[2])
        b'{"units": [[3, 7]], "targets": [2]}\\n'
    """
    given = {"units": units, "targets": targets, "mask": mask, "reset": reset, "start": start}
    return json.dumps({name: value for name, value in given.items() if value is not None}).encode() + b"\n"


def read_lines(lines: Lines, *, batch: int = 1, n_units: int, length: int = 1) -> Iterator[StreamPiece]:
    """Read the steps of a stream from a connection, one line each, as pieces for `slax_rules.run_stream`.

    Nothing is read before it is needed, so that over TCP a sender that is faster than the model has to wait. Lines are JSON
    objects: `{"units": [[3, 7]], "targets": [2]}`, with the arguments of `step_line`.

    Args:
        lines: a binary file, such as `socket.makefile("rb")` or `sys.stdin.buffer`.
        batch: samples B of each step.
        n_units: N.
        length: steps L of a piece, at least 1. A line with a reset, a number of its own, or targets of an earlier step begins a
            new piece, and the last one may be shorter.

    Returns:
        An iterator over pieces with inputs [L, B, N].

    Raises:
        ValueError: a line that is no such object, is longer than 1 MiB, has a unit out of range, or the wrong number of
            samples. The message names the line.

    Example:
        >>> import io
        >>> from slax_data import read_lines, step_line
        >>> lines = io.BytesIO(b"".join(step_line([[step]], targets=[0]) for step in range(4)))
        >>> [piece.inputs.shape for piece in read_lines(lines, n_units=8, length=3)]
        [(3, 1, 8), (1, 1, 8)]
    """
    check_size("batch", batch)
    check_size("n_units", n_units)
    check_size("length", length)
    return _pieces(lines, batch, n_units, length)


def _pieces(lines: Lines, batch: int, n_units: int, length: int) -> Iterator[StreamPiece]:
    waiting: list[StreamPiece] = []
    number = 0
    while line := lines.readline(LONGEST_LINE + 1):
        number += 1
        step = _step(line, number, batch, n_units)
        alone = step.inputs is None
        new = alone or step.reset is not None or step.start is not None or _kind(step) != _kind(*waiting[:1])
        if waiting and new:
            yield _joined(waiting)
            waiting = []
        if alone:
            yield step
            continue
        waiting.append(step)
        if len(waiting) == length:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _kind(*step: StreamPiece) -> tuple[bool, ...]:
    """Whether a step has targets and a mask, which all steps of a piece share."""
    return tuple(field is None for one in step for field in (one.targets, one.mask))


def _joined(steps: list[StreamPiece]) -> StreamPiece:
    first = steps[0]
    return StreamPiece(
        np.concatenate([step.inputs for step in steps if step.inputs is not None]),
        None if first.targets is None else np.concatenate([step.targets for step in steps]),
        None if first.mask is None else np.concatenate([step.mask for step in steps if step.mask is not None]),
        first.reset,
        first.start,
    )


def _step(line: bytes, number: int, batch: int, n_units: int) -> StreamPiece:
    """Read a line."""

    def wrong(why: str) -> ValueError:
        start = line[:60].decode(errors="replace").rstrip("\n")
        example = '{"units": [[3, 7]], "targets": [2]}'
        return ValueError(
            f"Line {number} of a stream {why}: {start!r}. Expected an object such as {example}, with a list for each sample."
        )

    if len(line) > LONGEST_LINE:
        raise wrong(f"is longer than {LONGEST_LINE} bytes")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise wrong("is not JSON") from None
    if not isinstance(found, dict) or not found or not found.keys() <= set(FIELDS):
        raise wrong(f"is not an object with fields among {', '.join(FIELDS)}")
    units, targets, mask, reset, start = (found.get(name) for name in FIELDS)
    if start is not None and (not isinstance(start, int) or isinstance(start, bool) or start < 0):
        raise wrong("has a start that is not a number of a step")
    if units is None and (targets is None or start is None):
        raise wrong("has no units, and is no targets with the start of an earlier step either")
    for name, value in (("units", units), ("targets", targets), ("mask", mask), ("reset", reset)):
        if value is not None and (not isinstance(value, list) or len(value) != batch):
            raise wrong(f"has {name} that are not a list of {batch}, one for each sample")
    for name, value in (("mask", mask), ("reset", reset)):
        if value is not None and not all(isinstance(one, bool) for one in value):
            raise wrong(f"has a {name} that is not true or false for each sample")
    inputs = None
    if units is not None:
        inputs = np.zeros((1, batch, n_units), np.float32)
        for sample, which in enumerate(units):
            if not isinstance(which, list) or not all(type(unit) is int and 0 <= unit < n_units for unit in which):
                raise wrong(f"has units that are not integers in 0..{n_units - 1}")
            inputs[0, sample, which] = 1
    return StreamPiece(
        inputs,
        None if targets is None else _targets(targets, wrong),
        None if mask is None else np.array([mask]),
        None if reset is None else np.array(reset),
        start,
    )


def _targets(targets: list[Any], wrong: Any) -> np.ndarray:
    """Labels [1, B] as int32, numbers [1, B, ...] as float32."""
    try:
        array = np.array([targets])
    except ValueError:
        raise wrong("has targets of different shapes") from None
    if array.dtype.kind not in "if" or not np.isfinite(array).all():
        raise wrong("has targets that are not finite numbers")
    are_labels = array.ndim == 2 and array.dtype.kind == "i"
    return array.astype(np.int32 if are_labels else np.float32)
