"""Sequences of unequal length, padded to a common length."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from slax_data.checks import check_finite, check_size


def padded(
    sequences: Sequence[Float[Array, "_ N"] | Float[np.ndarray, "_ N"]], *, n_steps: int | None = None
) -> tuple[Float[Array, "T B N"], Bool[Array, "T B"]]:
    """Pad sequences [T_i, N] with zeros to one batch: `inputs[t, i] = sequences[i][t]` where `mask[t, i]`.

    Args:
        sequences: finite arrays with the same number of units and the same type. A sequence of 0 steps becomes padding only.
        n_steps: T, by default the length of the longest sequence.

    Returns:
        The batch, and a mask that is true for t < T_i, as expected by `gradients`, `fit` and `accuracy` of slax_rules.

    Raises:
        ValueError: no sequences, no steps at all, sequences with different units or types, values that are not finite,
            or a sequence longer than `n_steps`.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_data import padded
        >>> inputs, mask = padded([jnp.ones((3, 2)), jnp.ones((1, 2))])
        >>> inputs.shape
        (3, 2, 2)
        >>> mask
        Array([[ True,  True],
               [ True, False],
               [ True, False]], dtype=bool)
    """
    _check_sequences(sequences)
    lengths = np.array([len(sequence) for sequence in sequences])
    steps = int(lengths.max()) if n_steps is None else n_steps
    check_size("number of steps to pad to", steps)
    if lengths.max() > steps:
        raise ValueError(f"n_steps got {steps}, expected at least {lengths.max()}. Or cut: sequence[:n_steps].")
    inputs = np.zeros((steps, len(sequences), sequences[0].shape[1]), sequences[0].dtype)
    for i, sequence in enumerate(sequences):
        inputs[: len(sequence), i] = sequence
    return jnp.asarray(inputs), jnp.asarray(np.arange(steps)[:, None] < lengths[None])


def _check_sequences(sequences: Sequence[Shaped[Array, "..."] | Shaped[np.ndarray, "..."]]) -> None:
    """Raise an error unless there are sequences, all finite arrays [T_i, N] with the same N and the same type."""
    if not len(sequences):
        raise ValueError("Got no sequences, expected arrays [T_i, N], at least one of them.")
    first = sequences[0]
    for i, sequence in enumerate(sequences):
        if sequence.ndim != 2 or sequence.shape[1] != first.shape[-1] or sequence.dtype != first.dtype:
            got = f"{sequence.dtype}{list(sequence.shape)} at {i} and {first.dtype}{list(first.shape)} at 0"
            raise ValueError(f"Got sequences {got}, expected arrays [T_i, N] of the same units and type.")
        check_finite(f"sequence {i}", sequence)
