"""Arrays in files, written whole or not at all; and the weights of a model."""

import errno
import json
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_rules.loop.devices import device_put_as
from slax_rules.training.paths import by_path, module_names, readable_path

FORMAT = "slax weights 1"
ABOUT = "about"  # the member of a file that describes its contents
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNREADABLE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError, RuntimeError)


def save_weights(path: str | Path, model: nnx.Module) -> None:
    """Save the parameters and all other variables of a model, such as the statistics of a BatchNorm, except random streams.

    The file is a NumPy archive (.npz) with an array for each variable, named by its path in the model, and a text with the
    shapes and the type of each module. It holds no code and no options of the model: `load_weights` needs the model. It is
    written under another name and renamed when it is complete.

    Args:
        path: path of the file, which may already exist; no suffix is added.
        model: any Flax module.

    Raises:
        FileNotFoundError: a folder that does not exist.
        OSError: the file could not be written, as on a full disk; a file that was there stays as it was.

    Example:
        >>> import os, tempfile
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import load_weights, save_weights
        >>> model, other = (connect([nnx.Linear(8, 3, rngs=nnx.Rngs(seed)), LI()]) for seed in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(os.path.join(folder, "weights.npz"), model)
        ...     found = load_weights(os.path.join(folder, "weights.npz"), other)
        >>> bool((model.modules[0].kernel[...] == other.modules[0].kernel[...]).all())
        True
    """
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save_weights got {path}, but there is no folder {path.parent}. Make it first.")
    write_archive(path, "The weights", {"types": model_types(model)}, filled(weights(nnx.state(model))))


class LoadedWeights(NamedTuple):
    """The arrays that `load_weights` loaded and the others, by name, such as "0 Linear/kernel".

    Args:
        loaded: arrays of the file that were loaded into the model.
        missing: arrays of the model that are not in the file. They stay as they were, and so do the arrays in `different`.
        unexpected: arrays of the file that are not in the model.
        different: arrays of both in another shape, or in a dtype that is not cast, with what is saved and what is here.

    Example:
        >>> from slax_rules import LoadedWeights
        >>> LoadedWeights(["0 Linear/kernel"], [], [], ["0 Linear/bias: float32[3] saved, float32[5] here"]).loaded
        ['0 Linear/kernel']
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    different: list[str]


def load_weights(path: str | Path, model: nnx.Module, *, strict: bool = True) -> LoadedWeights:
    """Load weights, trained under any rule, into a model from a file of `save_weights` or a checkpoint of `fit`.

    Args:
        path: a file of `save_weights`, a checkpoint, or a folder of checkpoints, whose newest one is used.
        model: a model with the same modules, of the same sizes and dtypes, as when the weights were saved. Decays and
            thresholds that are trained, or that are arrays with one number for each unit, are replaced by the saved ones. A
            decay or threshold that is a fixed number is not in the file and stays as it is, as do other options and random
            streams.
        strict: whether file and model have to agree in every array. Otherwise the arrays of the same path and shape are
            loaded, whatever the types of modules, and floating-point numbers are cast to the model's dtype; the rest stays.

    Returns:
        The names of the arrays that were loaded and of the others.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights of another model, or a file that is damaged or holds no weights; without `strict`, a file without
            any array that fits.

    Example:
        >>> import os, tempfile
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import load_weights, save_weights
        >>> hidden = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
        >>> small, large = (connect([hidden, LI(), nnx.Linear(4, size, rngs=nnx.Rngs(0))]) for size in (3, 5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(os.path.join(folder, "weights.npz"), small)
        ...     found = load_weights(os.path.join(folder, "weights.npz"), large, strict=False)
        >>> found.loaded
        ['0 Linear/bias', '0 Linear/kernel']
        >>> found.different[0]
        '2 Linear/bias: float32[3] saved, float32[5] here'
    """
    path = Path(path).expanduser()
    if path.is_dir():
        saved = steps_in(path)
        if not saved:
            raise ValueError(
                f"The folder {path} holds no checkpoint, expected one that fit wrote: Checkpoints({path})."
            )
        path = path / str(saved[-1])
    if not path.exists():
        raise FileNotFoundError(
            f"load_weights got {path}, which does not exist. Expected a file that save_weights wrote."
        )
    tree = weights(nnx.state(model))
    with readable(f"The file {path} is damaged, or holds no weights", "Expected a file that save_weights wrote."):
        about = read_about(path)
        prefix = "model/" if "step" in about else ""  # a checkpoint has other arrays, too
        held = about.get("weights", about["arrays"])
        saved_arrays = {name.removeprefix(prefix): about["arrays"][name] for name in held}
    mine, names = filled(tree), module_names(model)
    here = {name: described(leaf) for name, leaf in mine.items()}
    theirs, ours = named(saved_arrays, names), named(here, names)
    differing = differences(named(about["types"], names), named(model_types(model), names)) or differences(theirs, ours)
    fits = [name for name in here if name in saved_arrays and _can_be_cast(saved_arrays[name], here[name])]
    if differing and (strict or not fits):
        advice = "Make the model as it was when they were saved, or load what fits: load_weights(..., strict=False)."
        raise ValueError(
            f"The weights in {path} do not match this model: {differing}. {advice if strict else 'No array fits.'}"
        )
    with readable(f"The file {path} is damaged", "Take a copy of it, or save the weights again."):
        arrays = read_arrays(path, [prefix + name for name in fits])
    for name in fits:
        if saved_arrays[name] != here[name]:
            stored = arrays[prefix + name].view(jnp.dtype(saved_arrays[name].partition("[")[0]))
            arrays[prefix + name] = stored.astype(mine[name].dtype)
    nnx.update(model, with_arrays(tree, arrays, prefix))
    loaded = [readable_path(name, names) for name in fits]
    return LoadedWeights(
        loaded=loaded,
        missing=[name for name in ours if name not in theirs],
        unexpected=[name for name in theirs if name not in ours],
        different=[
            f"{name}: {theirs[name]} saved, {ours[name]} here" for name in ours if name in theirs and name not in loaded
        ],
    )


def weights(state: nnx.State) -> nnx.State:
    """The state of a model without its random streams."""
    return nnx.filter_state(state, nnx.Not(nnx.RngState))


def filled(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by path, without empty ones."""
    return {path: leaf for path, leaf in by_path(tree).items() if leaf.size}


def with_arrays(tree: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    """A tree with the stored arrays of a file, in the dtypes and on the devices of its own."""
    found = by_path(tree).items()
    leaves = [_restored(arrays[prefix + path], leaf) if prefix + path in arrays else leaf for path, leaf in found]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, the oldest first."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def write_archive(path: Path, what: str, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and a description into a file, replacing an existing one; `what` names it in the message.

    Raises:
        OSError: it could not be written.
    """
    stored = {name: _stored(leaf) for name, leaf in arrays.items()}
    text = json.dumps({"format": FORMAT, "arrays": {name: described(leaf) for name, leaf in arrays.items()}, **about})
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    members: dict[str, Any] = {ABOUT: np.array(text), **stored}
    with explain_write_errors(what, path, sum(array.nbytes for array in members.values())):
        try:
            with open(part, "xb") as file:
                np.savez(file, **members)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def explain_write_errors(what: str, path: Path, size: int = 0) -> Iterator[None]:
    """Add to an error of the system what could not be written and where, the space that it needs, and what to do."""
    try:
        yield
    except OSError as error:
        text = f"{what} could not be written to {path}: {error.strerror or error}."
        if error.errno in NO_ROOM:
            free = shutil.disk_usage(next(place for place in path.absolute().parents if place.exists())).free
            text += f" It takes up to {size / 1e6:.2f} MB, and {free / 1e6:.2f} MB are free there. Make room, or"
        else:
            text += " Make it writable, or"
        raise OSError(error.errno, f"{text} take another folder, and start again.") from None


@contextmanager
def readable(what: str, advice: str) -> Iterator[None]:
    """Raise ValueError in place of what NumPy and zipfile raise for a file that is damaged, or something else."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"{what}: {error}. {advice}") from error


def read_about(path: Path) -> dict[str, Any]:
    """The description in a file."""
    about = json.loads(str(read_arrays(path, [ABOUT])[ABOUT]))
    if about["format"] != FORMAT:
        raise ValueError(f"it is in the format {about['format']!r}, not {FORMAT!r}")
    return about


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Some arrays of a file; zipfile compares the checksum of each."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as member:
                found[name] = np.lib.format.read_array(member, allow_pickle=False)
    return found


def model_types(model: nnx.Module) -> dict[str, str]:
    """The type of each module by path."""
    return {"/".join(map(str, path)): type(module).__name__ for path, module in nnx.iter_modules(model)}


def described(leaf: Any) -> str:
    """The dtype and shape, such as "float32[5, 6]"."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def differences(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The differences between two tables, in words; empty if they are the same."""
    differing = [
        f"{name}: {saved.get(name, 'nothing')} saved, {mine.get(name, 'nothing')} here"
        for name in sorted({*saved, *mine})
        if name not in saved or name not in mine or saved[name] != mine[name]
    ]
    more = f"; and {len(differing) - 8} more" if len(differing) > 8 else ""
    return "; ".join(differing[:8]) + more


def named(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A table by path, with the names of the modules."""
    return {readable_path(path, names) or "model": value for path, value in table.items()}


def _can_be_cast(saved: str, mine: str) -> bool:
    """True if arrays, as they are described, are of one shape and dtype, or of one shape and both floating-point."""
    of_one_shape = saved.partition("[")[2] == mine.partition("[")[2]
    return saved == mine or (of_one_shape and "float" in saved and "float" in mine)


def is_key(leaf: Any) -> bool:
    """True for an array of random keys."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _stored(leaf: Any) -> np.ndarray:
    """An array in a dtype that NumPy's files support: bfloat16 and similar types are stored as bits."""
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _restored(stored: np.ndarray, leaf: Any) -> Any:
    """A stored array in the dtype of a leaf, on its devices; a NumPy array for a NumPy array."""
    if is_key(leaf):
        stored = jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    elif stored.dtype != leaf.dtype:
        stored = stored.view(leaf.dtype)
    return device_put_as(stored, leaf.sharding) if isinstance(leaf, jax.Array) else stored
