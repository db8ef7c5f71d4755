"""Spikes in memory: eight to a byte, as a set of many recordings is held on a device."""

import dataclasses
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


@dataclasses.dataclass(frozen=True, eq=False)
class SpikeTrains:
    """Spikes and labels of the recordings of a split.

    Args:
        packed: the spikes of D recordings in T steps, those of 8 units in a byte, [D, T, ceil(N / 8)].
        labels: classes, [D].
        lengths: steps of each recording, [D], after which it has no spikes.
        n_units: N.
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
    """Packs spikes.

    Args:
        spikes: of D recordings.
        labels: their classes.
        lengths: their steps, T by default.

    Raises:
        ValueError: not as many of each, an array with other axes or types, or none at all.
    """
    check_booleans(spikes, "DTN")
    lengths = np.full(len(spikes), spikes.shape[1]) if lengths is None else np.asarray(lengths)
    return trains_of_bytes(np.packbits(spikes, axis=-1), labels, lengths, n_units=spikes.shape[2])


def trains_of_bytes(
    packed: UInt8[np.ndarray, "D T P"],
    labels: Shaped[np.ndarray, " D_labels"],
    lengths: Shaped[np.ndarray, " D_lengths"],
    *,
    n_units: int,
) -> SpikeTrains:
    """Spikes that are packed already; the arguments are those of `SpikeTrains`.

    Raises:
        ValueError: not as many of each, or labels that are no classes.
    """
    if not len(packed) == len(labels) == len(lengths):
        raise ValueError(f"Got {len(packed)} recordings with {len(labels)} labels and {len(lengths)} lengths.")
    check_labels(np.asarray(labels), n_classes=int(np.max(labels)) + 1)
    return SpikeTrains(jnp.asarray(packed), jnp.asarray(labels, jnp.int32), jnp.asarray(lengths, jnp.int32), n_units)


def check_booleans(spikes: Shaped[np.ndarray, "..."], axes: str) -> None:
    """Raises unless spikes are booleans with so many axes, one for each letter, and none of them is empty."""
    if spikes.ndim != len(axes) or spikes.dtype != bool or not spikes.size:
        raise ValueError(
            f"spikes must be booleans [{', '.join(axes)}], got {spikes.dtype} of shape {list(spikes.shape)}."
        )


def sets_of_arrays(arrays: dict[str, np.ndarray]) -> dict[str, SpikeTrains]:
    """The splits that `arrays_of_sets` made into arrays.

    Raises:
        ValueError: arrays of something else.
    """
    try:
        names = [str(name) for name in arrays["splits"]]
        sets = {name: [arrays[f"{name}_{field}"] for field in FIELDS] for name in names}
        for name, (packed, labels, lengths) in sets.items():
            _check_packed(name, packed, labels, lengths, arrays["n_units"])
        return {
            name: SpikeTrains(jnp.asarray(packed), jnp.asarray(labels), jnp.asarray(lengths), int(arrays["n_units"]))
            for name, (packed, labels, lengths) in sets.items()
        }
    except KeyError as error:
        raise ValueError(
            f"Spikes have the arrays splits, n_units and {', '.join(FIELDS)} of each split, got {set(arrays)}."
        ) from error


def _check_packed(name: str, packed: np.ndarray, labels: np.ndarray, lengths: np.ndarray, n_units: np.ndarray) -> None:
    whole = packed.ndim == 3 and packed.dtype == np.uint8 and packed.size and n_units.shape == ()
    if not whole or -(-int(n_units) // 8) != packed.shape[2] or not (packed.shape[:1] == labels.shape == lengths.shape):
        raise ValueError(
            f"The split {name!r} must have bytes [D, T, ceil(N / 8)] of N units, labels [D] and lengths [D], got {packed.dtype}"
            f"{list(packed.shape)}, {list(labels.shape)} and {list(lengths.shape)} for n_units={n_units}."
        )


def arrays_of_sets(sets: dict[str, SpikeTrains]) -> dict[str, np.ndarray]:
    """Splits as the arrays of an .npz file."""
    n_units = next(iter(sets.values())).n_units
    arrays = {"splits": np.array(list(sets)), "n_units": np.array(n_units)}
    return arrays | {
        f"{name}_{field}": np.asarray(getattr(one, field)) for name, one in sets.items() for field in FIELDS
    }


def unpacked(packed: UInt8[Array, "*D P"], n_units: int) -> Float32[Array, "*D N"]:
    """Spikes of N units, 0 or 1, from bytes of 8 of them."""
    shifts = jnp.expand_dims(jnp.arange(7, -1, -1, dtype=jnp.uint8), range(packed.ndim))
    bits = packed[..., None] >> shifts & 1
    return bits.reshape(*packed.shape[:-1], -1)[..., :n_units].astype(jnp.float32)


def cached_sets(
    folder: Path, name: str, depends_on: list[Any], make: Callable[[], dict[str, SpikeTrains]]
) -> dict[str, SpikeTrains]:
    """The splits of a set, from a file of the folder if they were made before, whose name says all that they depend on.

    Args:
        folder: where the file is.
        name: of the set.
        depends_on: options, and what changes when the data do; printed, they make the checksum in the file's name, with all
            sources of this package.
        make: makes the splits.

    Raises:
        ValueError: the file is damaged.
    """
    sources = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    digest = hashlib.sha256(repr([depends_on, sources]).encode()).hexdigest()[:16]
    with jax.ensure_compile_time_eval():  # so that a task can be made inside of a program
        return sets_of_arrays(cached_arrays(folder / f"{name}-{digest}.npz", lambda: arrays_of_sets(make())))
