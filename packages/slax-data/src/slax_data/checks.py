"""Early errors that state what was received, what was expected, and how to correct it.

Shapes, dtypes and options are known whenever a function is called. The values of an array are unknown while `jax.jit`
traces it, so they are checked only outside `jit`.
"""

from collections.abc import Iterable, Mapping

import jax
import numpy as np
from jaxtyping import Array, Shaped


def check_labels(labels: Shaped[Array, "..."] | Shaped[np.ndarray, "..."], *, n_classes: int) -> None:
    """Raise an error unless `labels` [B] are integers in 0..n_classes-1; the range of traced labels is not checked.

    Args:
        labels: class of each sample.
        n_classes: number of classes, at least 1.

    Raises:
        ValueError: wrong rank, not integers, or a label outside the range.

    Example:
        >>> import numpy as np
        >>> from slax_data import check_labels
        >>> check_labels(np.array([0, 2, 1]), n_classes=3)
        >>> check_labels(np.array([1, 2, 3]), n_classes=3)
        Traceback (most recent call last):
            ...
        ValueError: Got labels 1 to 3, expected 0..2 for n_classes=3. ...
    """
    check_size("n_classes", n_classes)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        cure = "One-hot labels: labels.argmax(axis=-1); names: names, labels = np.unique(names, return_inverse=True)."
        raise ValueError(f"Got labels of {labels.dtype} and shape {list(labels.shape)}, expected integers [B]. {cure}")
    if is_traced(labels) or labels.size == 0:
        return
    values = np.asarray(labels)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= n_classes:
        cure = "Number classes from 0; for steps after the end of a recording, give 0: np.where(inside, y, 0)."
        raise ValueError(f"Got labels {low} to {high}, expected 0..{n_classes - 1} for n_classes={n_classes}. {cure}")


def check_classes(labels: Mapping[str, Shaped[Array, "..."] | Shaped[np.ndarray, "..."]], *, n_classes: int) -> None:
    """Raise an error unless the labels of all splits are in 0..n_classes-1, and some split has each class.

    The values of traced labels are not checked.
    """
    for some in labels.values():
        check_labels(some, n_classes=n_classes)
    if any(map(is_traced, labels.values())):
        return
    found = np.unique(np.concatenate([np.asarray(some) for some in labels.values()]))
    if len(found) < n_classes:
        missing = sorted({*range(n_classes)} - {*found.tolist()})
        raise ValueError(f"Got no sample of the classes {missing} in {', '.join(labels)}, expected all {n_classes}.")


def check_intensities(intensities: Shaped[Array, "..."]) -> None:
    """Raise an error unless `intensities` [B, ...] are floats in [0, 1]; the range of traced values is not checked."""
    if intensities.ndim < 2 or not np.issubdtype(intensities.dtype, np.floating):
        got = f"intensities of {intensities.dtype} and shape {list(intensities.shape)}"
        raise ValueError(f"Got {got}, expected floats [B, ...] of at least two axes. A single sample is x[None].")
    if is_traced(intensities) or intensities.size == 0:
        return
    values = np.asarray(intensities)
    if not np.all((values >= 0) & (values <= 1)):  # NaN is neither
        got = f"intensities from {values.min():.6g} to {values.max():.6g}"
        raise ValueError(f"Got {got}, expected [0, 1]. Scale by the bounds of the whole set: (x - low) / (high - low).")


def check_finite(name: str, values: Shaped[Array, "..."] | Shaped[np.ndarray, "..."]) -> None:
    """Raise an error if floating-point numbers are NaN or infinite; traced values are not checked."""
    if is_traced(values) or not jax.dtypes.issubdtype(values.dtype, np.floating):
        return
    if n_wrong := np.count_nonzero(~np.isfinite(np.asarray(values))):
        raise ValueError(f"Got {n_wrong} NaN or infinities in {values.size} values of {name}. Remove them first.")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raise an error unless `value` is one of the known values."""
    known = sorted(known)
    if value not in known:
        raise ValueError(f"{name} got {value!r}, expected one of: {', '.join(map(repr, known))}.")


def check_size(name: str, value: int, *, least: int = 1) -> None:
    """Raise an error unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} got {value!r}, expected an integer of at least {least}.")


def is_traced(array: Shaped[Array, "..."] | Shaped[np.ndarray, "..."]) -> bool:
    """True if the values of the array are unknown because `jax.jit` or another transformation traces it."""
    return isinstance(array, jax.core.Tracer)
