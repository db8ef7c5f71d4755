"""The pieces of a stream, as plain tuples."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class StreamPiece(NamedTuple):
    """Some steps of a stream; a `slax_rules.Piece` by its fields, of which this package knows nothing.

    Args:
        inputs: spikes [L, B, features...]; None for targets of earlier steps.
        targets: one per step, [L, B, ...], or None.
        mask: bool [L, B], true where a target counts, or None for all.
        reset: bool [B], true for samples that start anew before the first step, or None.
        start: the number of the first step, or None for the next one.

    Example:
        >>> import numpy as np
        >>> from slax_data import StreamPiece
        >>> inputs, targets, *_ = StreamPiece(np.zeros((5, 1, 8), np.float32), np.zeros((5, 1), int))
        >>> inputs.shape
        (5, 1, 8)
    """

    inputs: Float[np.ndarray, "L B ..."] | None
    targets: Any = None
    mask: Bool[np.ndarray, "L B"] | None = None
    reset: Bool[np.ndarray, " B"] | None = None
    start: int | None = None
