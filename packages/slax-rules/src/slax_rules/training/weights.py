"""Saving and loading the weights of a model."""

import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_rules.training.not_written import told_if_not_written
from slax_rules.training.paths import by_path, module_names, readable_path

FORMAT = "slax weights 1"
ABOUT = "about"  # the member of the file that describes its contents
NPY_HEADER = 4096  # bytes, an upper bound


def save_weights(path: str | Path, model: nnx.Module) -> None:
    """Save the parameters and all other variables of a model, such as the statistics of a BatchNorm, except random streams.

    The file is a NumPy archive (.npz) with an array for each variable, named by its path in the model, and a text with a
    checksum, the shapes, and the type of each module. It holds no code and no options of the model: `load_weights` needs the
    model. It is written under another name and renamed when it is complete.

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
        ...     load_weights(os.path.join(folder, "weights.npz"), other)
        >>> bool((model.modules[0].kernel[...] == other.modules[0].kernel[...]).all())
        True
    """
    path = Path(path)
    arrays = _arrays(model)
    stored = {name: _stored(leaf) for name, leaf in arrays.items()}
    about = {
        "format": FORMAT,
        "arrays": {name: described(leaf) for name, leaf in arrays.items()},
        "types": model_types(model),
        "digest": _digest(stored),
    }
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save_weights got {path}, but there is no folder {path.parent}. Make it first.")
    members: dict[str, Any] = {ABOUT: np.array(json.dumps(about)), **stored}
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    with told_if_not_written("The weights", path, sum(array.nbytes for array in members.values())):
        try:
            with open(part, "xb") as file:
                np.savez(file, **members)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def load_weights(path: str | Path, model: nnx.Module) -> None:
    """Load weights, trained under any rule, into a model from a file of `save_weights` or a checkpoint of `fit`.

    Args:
        path: a file of `save_weights`, the folder of a checkpoint, or a folder of checkpoints, whose newest one is used.
        model: a model with the same modules, of the same sizes and dtypes, as when the weights were saved. Saved decays and
            thresholds replace its own: those that are trained, or an array with one number for each unit. One that is a fixed
            number is not in the file, and stays as it is, as do other options and random streams.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights of another model, or a file that is damaged or holds no weights.

    Example:
        >>> import os, tempfile
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import load_weights, save_weights
        >>> small, large = (connect([nnx.Linear(8, size, rngs=nnx.Rngs(0)), LI()]) for size in (3, 5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(os.path.join(folder, "weights.npz"), small)
        ...     load_weights(os.path.join(folder, "weights.npz"), small)
        ...     load_weights(os.path.join(folder, "weights.npz"), large)
        Traceback (most recent call last):
            ...
        ValueError: The weights in ...weights.npz are of another model: 0 Linear/bias: float32[3] saved, ...
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"load_weights got {path}, which does not exist. Expected a file that save_weights wrote."
        )
    saved = _open_checkpoint(path) if path.is_dir() else _open_file(path)
    mine = _arrays(model)
    names = module_names(model)
    differing = differences(_named(saved.types, names), _named(model_types(model), names)) or differences(
        _named(saved.arrays, names), _named({name: described(leaf) for name, leaf in mine.items()}, names)
    )
    if differing:
        raise ValueError(
            f"The weights in {path} are of another model: {differing}. Make the model as it was when they were saved."
        )
    arrays = saved.read()
    tree = weights(nnx.state(model))
    leaves = [_restored(arrays[name], leaf) if name in mine else leaf for name, leaf in by_path(tree).items()]
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(tree), leaves))


class Saved(NamedTuple):
    """The contents of a file.

    Args:
        types: types of the model's modules, by path.
        arrays: dtype and shape of each array, by path.
        read: function that returns the arrays.
    """

    types: dict[str, str]
    arrays: dict[str, str]
    read: Callable[[], Mapping[str, np.ndarray]]


def weights(state: nnx.State) -> nnx.State:
    """The state of a model without its random streams."""
    return nnx.filter_state(state, nnx.Not(nnx.RngState))


def _arrays(model: nnx.Module) -> dict[str, Any]:
    """The weights of a model by path, without empty arrays."""
    return {path: leaf for path, leaf in by_path(weights(nnx.state(model))).items() if leaf.size}


def model_types(model: nnx.Module) -> dict[str, str]:
    """The type of each module by path."""
    return {"/".join(map(str, path)): type(module).__name__ for path, module in nnx.iter_modules(model)}


def described(leaf: Any) -> str:
    """The dtype and shape, such as "float32[5, 6]"."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def as_bytes(leaf: Any) -> bytes:
    """The numbers of an array as bytes."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf).tobytes()


def differences(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The differences between two tables, in words; empty if they are the same."""
    differing = [
        f"{name}: {saved.get(name, 'nothing')} saved, {mine.get(name, 'nothing')} here"
        for name in sorted({*saved, *mine})
        if name not in saved or name not in mine or saved[name] != mine[name]
    ]
    more = f"; and {len(differing) - 8} more" if len(differing) > 8 else ""
    return "; ".join(differing[:8]) + more


def _open_file(path: Path) -> Saved:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            about = _about(archive, sizes)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, NotImplementedError) as error:
        raise ValueError(
            f"The file {path} is damaged, or holds no weights: {error}. Expected a file that save_weights wrote."
        ) from error

    def read() -> Mapping[str, np.ndarray]:
        # By now the shapes are known to match the model, and no member may be larger than its array.
        damaged = f"The file {path} is damaged: it is not what was saved. Take a copy of it, or save the weights again."
        for name, what in about["arrays"].items():
            if sizes.get(f"{name}.npy", 0) > _n_bytes(what) + NPY_HEADER:
                raise ValueError(damaged)
        try:
            with np.load(path, allow_pickle=False) as archive:
                stored = {name: archive[name] for name in about["arrays"]}
        except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, NotImplementedError) as error:
            raise ValueError(damaged) from error
        if _digest(stored) != about["digest"]:
            raise ValueError(damaged)
        return stored

    return Saved(about["types"], about["arrays"], read)


def _about(archive: zipfile.ZipFile, sizes: Mapping[str, int]) -> dict[str, Any]:
    if sizes[f"{ABOUT}.npy"] > 2**26:
        raise ValueError("its description is too long")
    with archive.open(f"{ABOUT}.npy") as file:
        about = json.loads(str(np.lib.format.read_array(file, allow_pickle=False)))
    if about.get("format") != FORMAT:
        raise ValueError(f"it is in the format {about.get('format')!r}, not {FORMAT!r}")
    return about


def _open_checkpoint(path: Path) -> Saved:
    from slax_rules.training.checkpoints import checkpoint_weights

    types, arrays, read = checkpoint_weights(path)
    return Saved(types, arrays, read)


def _named(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {readable_path(path, names) or "model": value for path, value in table.items()}


def _stored(leaf: Any) -> np.ndarray:
    """An array in a dtype that NumPy's files support: bfloat16 and similar types are stored as bits."""
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _restored(stored: np.ndarray, leaf: Any) -> jax.Array:
    """A stored array in the dtype of a leaf of the model, on its devices."""
    if is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    array = stored if stored.dtype == leaf.dtype else stored.view(leaf.dtype)
    return jax.device_put(array, leaf.sharding) if isinstance(leaf, jax.Array) else jnp.asarray(array)


def _n_bytes(what: str) -> int:
    """The size in bytes of an array described as "float32[5, 6]"; for a key, an upper bound."""
    dtype, _, shape = what.partition("[")
    size = int(np.prod([int(length) for length in shape.rstrip("]").split(",") if length]))
    return size * (64 if "key<" in dtype else jnp.dtype(dtype).itemsize)


def _digest(stored: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(stored):
        digest.update(f"{name} {stored[name].dtype}{list(stored[name].shape)}".encode())
        digest.update(stored[name].tobytes())
    return digest.hexdigest()


def is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
