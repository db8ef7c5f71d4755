"""The pieces that a stream is made of."""

import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

from slax_rules.training.batches import as_array


class Piece(NamedTuple):
    """Some steps of a stream, one after the other.

    Args:
        inputs: inputs [L, B, features...], L at least 1; None for a piece of targets that come late, whose steps are over.
        targets: one per step, [L, B, ...]; None if they are unknown, or come later.
        mask: bool [L, B], true where a target counts; all by default.
        reset: bool [B], true for samples that start anew before the first step: the model at rest, no traces.
        start: the number of the first step, counted from 0; by default the one after the piece before. A larger number is a
            gap: the steps between are lost.

    Example:
        >>> import numpy as np
        >>> from slax_rules import Piece
        >>> piece = Piece(np.ones((5, 1, 8), np.float32), np.zeros((5, 1), int), start=20)
        >>> piece.inputs.shape, piece.reset
        ((5, 1, 8), None)
        >>> late = Piece(targets=np.zeros((5, 1), int), start=15)  # of steps 15 to 19
    """

    inputs: Any = None
    targets: Any = None
    mask: Any = None
    reset: Any = None
    start: int | None = None


def as_piece(item: Any) -> Piece:
    """Read what a source gives: a piece, or a tuple of its first fields, such as (inputs, targets).

    Raises:
        TypeError: anything else, or a start that is no integer.
        ValueError: inputs of the wrong number of axes, or neither inputs nor targets with a start.
    """
    if not isinstance(item, tuple | list) or not 1 <= len(item) <= len(Piece._fields):
        raise TypeError(
            f"The source of a stream gave {type(item).__name__}, expected a Piece, or a tuple (inputs, targets) or "
            "(inputs, targets, mask)."
        )
    piece = Piece(*item)
    if piece.inputs is None and (piece.targets is None or piece.start is None):
        raise ValueError(
            "The source of a stream gave a piece without inputs, expected inputs, or the targets and the start of earlier "
            "steps: Piece(targets=targets, start=15)."
        )
    inputs = None if piece.inputs is None else as_array(piece.inputs, "inputs")
    if inputs is not None and (inputs.ndim < 3 or not inputs.shape[0]):
        raise ValueError(
            f"The source of a stream gave inputs of shape {list(inputs.shape)}, expected [L, B, features...] with L at least "
            "1. One step of one sample is inputs[None, None]."
        )
    targets = None if piece.targets is None else as_array(piece.targets, "targets")
    mask = None if piece.mask is None else as_array(piece.mask, "a mask")
    reset = None if piece.reset is None else as_array(piece.reset, "reset")
    return Piece(inputs, targets, mask, reset, _as_step(piece.start))


def _as_step(start: Any) -> int | None:
    """The number of a step as Python's own integer; `prefetched` of slax_data makes it an array on a device."""
    if start is None:
        return None
    try:
        return operator.index(start)
    except TypeError:
        raise TypeError(
            f"The source of a stream gave start={start!r}, expected an integer, the number of the first step of the piece."
        ) from None


def powers_of_two(number: int) -> Iterator[int]:
    """The powers of two that add up to a number, the smallest first."""
    while number:
        yield number & -number
        number &= number - 1
