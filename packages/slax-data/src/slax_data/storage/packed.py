"""Bit-packed spikes, eight to a byte, so that a set of many recordings fits on a device."""

import ast
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, Shaped, UInt8

from slax_data.checks import check_labels
from slax_data.storage.whole_files import cached_arrays

FIELDS = ("packed", "labels", "lengths")
SOURCES = Path(__file__).parents[1]  # the entire package, on which cached spikes depend


@dataclasses.dataclass(frozen=True, eq=False)
class SpikeTrains:
    """The spikes and labels of the recordings in a split.

    Args:
        packed: the spikes of D recordings in T steps, 8 units to a byte, [D, T, ceil(N / 8)].
        labels: classes, [D].
        lengths: number of steps of each recording, [D], after which it has no spikes.
        n_units: N.

    Example:
        >>> import numpy as np
        >>> from slax_data import spike_trains
        >>> trains = spike_trains(np.ones((2, 30, 20), bool), np.array([0, 1]))
        >>> trains.packed.shape, trains.n_units
        ((2, 30, 3), 20)
        >>> trains.lengths
        Array([30, 30], dtype=int32)
    """

    packed: UInt8[Array, "D T P"]
    labels: Int32[Array, " D"]
    lengths: Int32[Array, " D"]
    n_units: int


def spike_trains(
    spikes: Bool[np.ndarray, "D T N"],
    labels: Shaped[np.ndarray, " D"],
    *,
    lengths: Shaped[np.ndarray, " D"] | None = None,
) -> SpikeTrains:
    """Pack spikes.

    Args:
        spikes: spikes of D recordings.
        labels: their classes.
        lengths: their lengths in steps, T by default. A recording has no spikes after its length.

    Raises:
        ValueError: different numbers of recordings, labels and lengths, arrays of another rank or type, lengths above T, spikes
            after the length of their recording, or an empty array of spikes.

    Example:
        >>> import numpy as np
        >>> from slax_data import spike_trains
        >>> spikes = np.random.default_rng(0).random((6, 100, 700)) < 0.02
        >>> trains = spike_trains(spikes, np.array([0, 1, 2, 0, 1, 2]))
        >>> spikes.nbytes, trains.packed.nbytes
        (420000, 52800)
    """
    if not hasattr(spikes, "dtype"):
        raise ValueError(
            f"spikes must be one array of booleans [D, T, N], got a {type(spikes).__name__}. Make one of recordings with "
            "np.stack; fill shorter ones with silence up to T steps first, and give their `lengths`."
        )
    if spikes.ndim != 3 or spikes.dtype != bool or not spikes.size:
        raise ValueError(f"spikes must be booleans [D, T, N], got {spikes.dtype} of shape {list(spikes.shape)}.")
    lengths = np.full(len(spikes), spikes.shape[1]) if lengths is None else np.asarray(lengths)
    return trains_of_bytes(np.packbits(spikes, axis=-1), labels, lengths, n_units=spikes.shape[2])


def trains_of_bytes(
    packed: UInt8[np.ndarray, "D T P"],
    labels: Shaped[np.ndarray, " D_labels"],
    lengths: Shaped[np.ndarray, " D_lengths"],
    *,
    n_units: int,
) -> SpikeTrains:
    """Make `SpikeTrains` from spikes that are already packed; see `SpikeTrains` for the arguments.

    Raises:
        ValueError: different numbers of recordings, labels and lengths, labels that are not classes, lengths out of range, or
            spikes after the length of their recording.
    """
    if not len(packed) == len(labels) == len(lengths):
        raise ValueError(f"Got {len(packed)} recordings with {len(labels)} labels and {len(lengths)} lengths.")
    classes, steps = np.asarray(labels), np.asarray(lengths)
    check_labels(classes, n_classes=max(1, int(classes.max()) + 1) if classes.dtype.kind in "iu" else 1)
    _check_lengths(steps, packed)
    return SpikeTrains(jnp.asarray(packed), jnp.asarray(classes, jnp.int32), jnp.asarray(steps, jnp.int32), n_units)


def _check_lengths(lengths: Shaped[np.ndarray, "..."], packed: UInt8[np.ndarray, "D T P"]) -> None:
    """Raise an error unless lengths are integers [D] from 0 to T, after which the recordings have no spikes."""
    n_steps = packed.shape[1]
    expected = f"lengths must be integers [D] from 0 to the {n_steps} steps of the spikes"
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise ValueError(f"{expected}, got {lengths.dtype} of shape {list(lengths.shape)}.")
    if (outside := np.flatnonzero((lengths < 0) | (lengths > n_steps))).size:
        raise ValueError(
            f"{expected}, got {outside.size} others of {len(lengths)}, the first of them {lengths[outside[0]]}, of recording "
            f"{outside[0]}."
        )
    if not (lengths < n_steps).any():
        return
    fired = np.asarray(packed.any(axis=2))  # [D, T]
    late = np.flatnonzero((fired & (np.arange(n_steps) >= lengths[:, None])).any(axis=1))
    if late.size:
        first = late[0]
        last = np.flatnonzero(fired[first])[-1]
        raise ValueError(
            f"{late.size} of {len(lengths)} recordings have spikes at or after their length. The first of them is recording "
            f"{first}, whose length is {lengths[first]} and whose last spike is at step {last}, counted from 0. A length is a "
            "number of steps that holds all spikes: np.ceil(ends / dt - 1e-9).astype(int), with the end of each recording "
            "and the duration of a step."
        )


def sets_of_arrays(arrays: dict[str, np.ndarray]) -> dict[str, SpikeTrains]:
    """Restore splits from the arrays made by `arrays_of_sets`.

    Raises:
        ValueError: arrays that do not describe such splits.
    """
    try:
        n_units = int(arrays["n_units"])
        found = {name: [arrays[f"{name}_{field}"] for field in FIELDS] for name in map(str, arrays["splits"])}
    except (KeyError, TypeError) as error:
        shapes = {name: list(np.shape(array)) for name, array in arrays.items()}
        raise ValueError(
            f"Spikes have the arrays splits, n_units and {', '.join(FIELDS)} of each split, and n_units is one number, got "
            f"arrays of these shapes: {shapes}."
        ) from error
    for name, (packed, _, _) in found.items():
        if packed.dtype != np.uint8 or packed.ndim != 3 or packed.shape[2] != -(-n_units // 8):
            raise ValueError(
                f"The split {name!r} must have bytes [D, T, ceil(N / 8)] of N units, got {packed.dtype}{list(packed.shape)} "
                f"for n_units={n_units}."
            )
    return {name: trains_of_bytes(*fields, n_units=n_units) for name, fields in found.items()}


def arrays_of_sets(sets: dict[str, SpikeTrains]) -> dict[str, np.ndarray]:
    """The splits as arrays for an .npz file."""
    n_units = next(iter(sets.values())).n_units
    arrays = {"splits": np.array(list(sets)), "n_units": np.array(n_units)}
    return arrays | {
        f"{name}_{field}": np.asarray(getattr(one, field)) for name, one in sets.items() for field in FIELDS
    }


def unpacked(packed: UInt8[Array, "*D P"], n_units: int) -> Float32[Array, "*D N"]:
    """Unpack bytes of 8 units each into the spikes of N units, 0 or 1."""
    shifts = jnp.expand_dims(jnp.arange(7, -1, -1, dtype=jnp.uint8), range(packed.ndim))
    bits = packed[..., None] >> shifts & 1
    return bits.reshape(*packed.shape[:-1], -1)[..., :n_units].astype(jnp.float32)


def cached_sets(
    folder: Path, name: str, depends_on: list[Any], make: Callable[[], dict[str, SpikeTrains]]
) -> dict[str, SpikeTrains]:
    """The splits of a set, made once and then read from a file whose name identifies everything that they depend on.

    Args:
        folder: folder of the file.
        name: name of the set.
        depends_on: options, and a value that changes with the data. Their printed form and the sources of this package, without
            comments, determine the name of the file. A file of the same options and data, but other sources, is removed.
        make: function that makes the splits.

    Raises:
        ValueError: the file is damaged.
    """
    which, sources = (hashlib.sha256(repr(part).encode()).hexdigest()[:16] for part in (depends_on, _sources()))
    path = folder / f"{name}-{which}-{sources}.npz"
    outdated = () if path.exists() else tuple(folder.glob(f"{name}-{which}-*.npz"))
    with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
        sets = sets_of_arrays(cached_arrays(path, lambda: arrays_of_sets(make())))
    for file in outdated:
        file.unlink(missing_ok=True)
    return sets


@functools.cache
def _sources() -> list[str]:
    """What the programs of this package say, without comments."""
    return [ast.dump(ast.parse(file.read_bytes())) for file in sorted(SOURCES.rglob("*.py"))]
