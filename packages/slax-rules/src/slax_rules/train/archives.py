"""Arrays in files that are written whole or not at all.

A file is a NumPy archive with an array for each path, such as "model/modules/0/kernel", and a text in JSON that describes them.
"""

import json
import math
import os
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_rules.devices import device_put_as
from slax_rules.train.agreement import by_path

FORMAT = "slax weights 1"
ABOUT = "about"  # the member of a file that describes its contents


def filled(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by path, without empty ones; of random keys, their numbers."""
    leaves = {path: leaf for path, leaf in by_path(tree).items() if leaf.size}
    return {path: jax.random.key_data(leaf) if _is_key(leaf) else leaf for path, leaf in leaves.items()}


def with_arrays(tree: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    """A tree with the arrays of a file, in the dtypes and on the devices of its own."""

    def restored(leaf: Any, array: Any) -> Any:
        if _is_key(leaf):
            array = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        elif array.dtype != leaf.dtype:
            array = array.astype(leaf.dtype)
        return device_put_as(array, leaf.sharding) if isinstance(leaf, jax.Array) else array

    found = by_path(tree).items()
    leaves = [restored(leaf, arrays[prefix + path]) if prefix + path in arrays else leaf for path, leaf in found]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def prepare_folder(what: str, folder: Path) -> None:
    """Make a folder to write files into; `what` names them in the message.

    Raises:
        OSError: a folder that cannot be written to, which is better known now than at the first file.
    """
    with explain_write_errors(what, folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, the oldest first."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def write_archive(path: Path, what: str, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and a description into a file, replacing an existing one; `what` names it in the message.

    Raises:
        OSError: it could not be written.
    """
    path = path.resolve()  # what a link points to is replaced, not the link
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    text = json.dumps({"format": FORMAT, "arrays": described(arrays), **about})
    members: dict[str, Any] = {ABOUT: np.array(text)} | {name: _stored(leaf) for name, leaf in arrays.items()}
    with explain_write_errors(what, path):
        try:
            with open(part, "xb") as file:
                np.savez(file, **members)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def explain_write_errors(what: str, path: Path) -> Iterator[None]:
    """Say in an error of the system what could not be written and where, and what to do."""
    try:
        yield
    except OSError as error:
        text = f"{what} could not be written to {path}: {error.strerror or error}. Make room there or make it writable, or take"
        raise OSError(error.errno, f"{text} another folder, and start again.") from None


@contextmanager
def readable(what: str, advice: str) -> Iterator[None]:
    """Raise ValueError for a file that NumPy or zipfile cannot read, since it is damaged or no archive."""
    try:
        yield
    except Exception as error:  # there is hardly one that a damaged file cannot make them raise
        raise ValueError(f"{what}: {error}. {advice}") from error


def read_about(path: Path) -> dict[str, Any]:
    """The description in a file, whose tables "arrays" and "types" map names to texts."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(f"{ABOUT}.npy").compress_type != zipfile.ZIP_STORED:
            raise ValueError("its description is compressed")  # and could inflate to any size
        about = json.loads(str(_member(archive, ABOUT)))
    if about["format"] != FORMAT:
        raise ValueError(f"it is in the format {about['format']!r}, not {FORMAT!r}")
    for table in ("arrays", "types"):
        if not all(isinstance(text, str) for text in about[table].values()):
            raise ValueError(f"its table of {table} has other entries than texts")
    return about


def read_arrays(path: Path, descriptions: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays of a file that have these descriptions, such as "float32[5, 6]"; zipfile compares the checksum of each.

    Raises:
        ValueError: an array that is not as it is described. It is not read.
    """
    with zipfile.ZipFile(path) as archive:
        return {name: _member(archive, name, text) for name, text in descriptions.items()}


def _member(archive: zipfile.ZipFile, name: str, description: str | None = None) -> np.ndarray:
    """An array of an archive, which has to fill its member and to be as it is described."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)  # the version of all plain dtypes
        if math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
            raise ValueError(f"{name} is {dtype}{list(shape)} in {info.file_size} bytes")
    kind, _, sizes = (description or "").partition("[")
    if description is not None:
        is_extended = jnp.dtype(kind).kind == "V"  # such as bfloat16, stored as bits
        stored = f"uint{8 * jnp.dtype(kind).itemsize}" if is_extended else kind
        if f"{dtype}{list(shape)}" != f"{stored}[{sizes}":
            raise ValueError(f"{name} is {dtype}{list(shape)}, expected {stored}[{sizes}")
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
    return array if description is None else array.view(jnp.dtype(kind))


def model_types(model: nnx.Module) -> dict[str, str]:
    """The type of each module by path."""
    return {"/".join(map(str, path)): type(module).__name__ for path, module in nnx.iter_modules(model)}


def described(arrays: Mapping[str, Any]) -> dict[str, str]:
    """The dtype and shape of each array by name."""
    return {name: describe(leaf) for name, leaf in arrays.items()}


def describe(array: Any) -> str:
    """The dtype and shape of an array, such as "float32[5, 6]"."""
    return f"{array.dtype}{list(array.shape)}"


def differences(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The differences between two tables, in words; empty if they are the same."""
    pairs = {name: (saved.get(name, "nothing"), mine.get(name, "nothing")) for name in sorted({*saved, *mine})}
    differing = [f"{name}: {one} saved, {two} here" for name, (one, two) in pairs.items() if one != two]
    return "; ".join(differing[:8]) + (f"; and {len(differing) - 8} more" if differing[8:] else "")


def _is_key(leaf: Any) -> bool:
    """True for an array of random keys."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _stored(leaf: Any) -> np.ndarray:
    """An array in a dtype that NumPy's files support: bfloat16 and similar types are stored as bits."""
    array = np.asarray(leaf)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
