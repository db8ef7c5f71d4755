"""Recordings stored in little memory, spikes as bits, so that a set of many recordings fits on a device."""

import ast
import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, Shaped, UInt8

from slax_data.checks import check_finite, check_labels
from slax_data.storage.whole_files import atomic_write, load_arrays

FIELDS = ("packed", "labels", "lengths")
SMALL = (np.uint8, np.int8, np.uint16, np.int16)  # the types of integers in fewer bytes than int32
SOURCES = Path(__file__).parents[1]  # the entire package, on which cached spikes depend


@dataclasses.dataclass(frozen=True, eq=False)
class SpikeTrains:
    """The recordings of a split and their targets, in as little memory as their values allow; `spike_trains` makes them.

    Args:
        packed: D recordings of T steps. Spikes are bits, 8 units to a byte, [D, T, ceil(N / 8)]; other values are [D, T, ...],
            integers of as few bytes as hold them, or float32.
        labels: targets, [D, ...]: integers for classes, or real numbers.
        lengths: number of steps of each recording, [D], after which all values are 0.
        n_units: N, the number of values in a step.
        shape: the shape of a step, (N,) by default.
        are_bits: whether `packed` has bits.

    Example:
        >>> import numpy as np
        >>> from slax_data import spike_trains
        >>> trains = spike_trains(np.ones((2, 30, 20), bool), np.array([0, 1]))
        >>> trains.packed.shape, trains.n_units
        ((2, 30, 3), 20)
        >>> trains.lengths
        Array([30, 30], dtype=int32)
    """

    packed: Shaped[Array, "D T ..."]
    labels: Shaped[Array, "D ..."]
    lengths: Int32[Array, " D"]
    n_units: int
    shape: tuple[int, ...] | None = None
    are_bits: bool = True

    def values(self, packed: Shaped[Array, "B T ..."]) -> Float32[Array, "B T ..."]:
        """Some of the recordings, given as they are packed, as floating-point numbers."""
        found = unpacked(packed, self.n_units) if self.are_bits else packed.astype(jnp.float32)
        return found.reshape(*packed.shape[:2], *(self.shape or (self.n_units,)))


def spike_trains(
    spikes: Shaped[np.ndarray, "D T ..."],
    labels: Shaped[np.ndarray, "D ..."],
    lengths: Shaped[np.ndarray, " D"] | None = None,
) -> SpikeTrains:
    """Pack recordings: spikes, counts, real numbers or frames.

    Args:
        spikes: D recordings of T steps, with at least one more axis for the units of a step, such as [D, T, N], or frames
            [D, T, H, W, C]. Booleans, and integers that are 0 or 1, take a bit each, other integers the fewest bytes that hold
            all of them, and floating-point numbers 4 bytes.
        labels: targets, [D, ...]: classes [D], real numbers, or a target for each step, [D, T, ...].
        lengths: their lengths in steps, T by default. A recording has only zeros after its length.

    Raises:
        ValueError: different numbers of recordings, targets and lengths, arrays of another rank or type, values that are not
            finite, integers that int32 does not hold, lengths above T, spikes after the length of their recording, or an empty
            array of spikes.

    Example:
        >>> import numpy as np
        >>> from slax_data import spike_trains
        >>> rng = np.random.default_rng(0)
        >>> spikes = rng.random((6, 100, 700)) < 0.02
        >>> trains = spike_trains(spikes, np.array([0, 1, 2, 0, 1, 2]))
        >>> spikes.nbytes, trains.packed.nbytes
        (420000, 52800)
        >>> counts = rng.poisson(0.5, (6, 20, 8, 8, 2))  # of a camera of 8 x 8 pixels
        >>> spike_trains(counts, np.arange(6) % 3).packed.dtype
        dtype('uint8')
    """
    if not hasattr(spikes, "dtype"):
        cure = "Give the list to indexed_task."
        raise ValueError(f"Got recordings as a {type(spikes).__name__}, expected one array [D, T, ...]. {cure}")
    values = np.asarray(spikes)
    if values.ndim < 3 or not values.size or values.dtype.kind not in "biuf":
        got = f"recordings of {values.dtype} and shape {list(values.shape)}"
        raise ValueError(f"Got {got}, expected numbers [D, T, ...]. If each step has one value: x[..., None].")
    shape = values.shape[2:]
    are_bits = values.dtype.kind == "b" or (values.dtype.kind != "f" and bool(((values == 0) | (values == 1)).all()))
    if are_bits:
        packed = np.packbits(values.reshape(*values.shape[:2], -1).astype(bool, copy=False), axis=-1)
    else:
        packed = _narrow(values)
    lengths = np.full(len(values), values.shape[1]) if lengths is None else np.asarray(lengths)
    return packed_trains(packed, labels, lengths, n_units=math.prod(shape), shape=shape, are_bits=are_bits)


def packed_trains(
    packed: Shaped[np.ndarray, "D T ..."],
    labels: Shaped[np.ndarray, "D_labels ..."],
    lengths: Shaped[np.ndarray, " D_lengths"],
    **form: Any,
) -> SpikeTrains:
    """Make `SpikeTrains` from values that are already packed; see `SpikeTrains` for the arguments.

    Raises:
        ValueError: different numbers of recordings, targets and lengths, targets that are neither classes nor finite numbers,
            lengths out of range, or values other than 0 after the length of their recording.
    """
    targets, steps = np.asarray(labels), np.asarray(lengths)
    sizes = [len(part) if part.ndim else 0 for part in (packed, targets, steps)]
    if len(set(sizes)) > 1:
        raise ValueError(f"Got {sizes[0]} recordings, {sizes[1]} targets and {sizes[2]} lengths, expected as many.")
    if targets.dtype.kind == "f":
        check_finite("targets", targets)
    else:
        highest = int(targets.max()) if targets.dtype.kind in "iu" else 0
        check_labels(targets.reshape(-1), n_classes=max(1, highest + 1))
    _check_lengths(steps, packed)
    kind = jnp.float32 if targets.dtype.kind == "f" else jnp.int32
    with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
        return SpikeTrains(jnp.asarray(packed), jnp.asarray(targets, kind), jnp.asarray(steps, jnp.int32), **form)


def _narrow(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Real numbers as float32, and integers in the fewest bytes that hold all of them."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            values = values.astype(np.float32, copy=False)
        check_finite("recordings", values)
        return values
    low, high, limits = values.min(), values.max(), np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        cure = "Subtract an offset, or give real numbers: values.astype(np.float32)."
        raise ValueError(f"Got integers from {low} to {high}, expected integers that int32 can hold. {cure}")
    fitting = (kind for kind in SMALL if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return values.astype(next(fitting, np.int32), copy=False)


def _check_lengths(lengths: Shaped[np.ndarray, "..."], packed: Shaped[np.ndarray, "D T ..."]) -> None:
    """Raise an error unless lengths are integers [D] from 0 to T, after which the recordings have only zeros."""
    n_steps = packed.shape[1]
    expected = f"expected integers [D] from 0 to the {n_steps} steps of the recordings"
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise ValueError(f"Got lengths of {lengths.dtype} and shape {list(lengths.shape)}, {expected}.")
    if (outside := np.flatnonzero((lengths < 0) | (lengths > n_steps))).size:
        raise ValueError(f"Got the length {lengths[outside[0]]} of recording {outside[0]}, {expected}.")
    if not (lengths < n_steps).any():
        return
    fired = np.asarray((packed != 0).any(axis=tuple(range(2, packed.ndim))))  # [D, T]
    late = np.flatnonzero((fired & (np.arange(n_steps) >= lengths[:, None])).any(axis=1))
    if late.size:
        first = late[0]
        got = f"recording {first}, whose length is {lengths[first]} and whose last value is at step "
        cure = "Give lengths in steps, np.ceil(ends / dt - 1e-9).astype(int), and zeros after them."
        raise ValueError(f"Got {got}{np.flatnonzero(fired[first])[-1]}, expected none at or after the length. {cure}")


def sets_of_arrays(arrays: dict[str, np.ndarray]) -> dict[str, SpikeTrains]:
    """Restore splits from the arrays made by `arrays_of_sets`."""
    found = {name: [arrays[f"{name}_{field}"] for field in FIELDS] for name in map(str, arrays["splits"])}
    return {name: packed_trains(*fields, n_units=int(arrays["n_units"])) for name, fields in found.items()}


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
        ValueError: the file is damaged. It is not remade automatically: it was complete once, so something has happened to it.
    """
    which, sources = (hashlib.sha256(repr(part).encode()).hexdigest()[:16] for part in (depends_on, _sources()))
    path = folder / f"{name}-{which}-{sources}.npz"
    if not path.exists():
        arrays = arrays_of_sets(make())
        with atomic_write(path) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        for outdated in {*folder.glob(f"{name}-{which}-*.npz")} - {path}:
            outdated.unlink(missing_ok=True)
    return sets_of_arrays(load_arrays(path, "Delete it: the next call writes a new one."))


@functools.cache
def _sources() -> list[str]:
    """What the programs of this package say, without comments."""
    return [ast.dump(ast.parse(file.read_bytes())) for file in sorted(SOURCES.rglob("*.py"))]
