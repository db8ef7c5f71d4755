"""Checkpoints and weights: arrays in files that are written whole or not at all.

A file is a NumPy archive with an array for each path, such as "model/modules/0/kernel", and a text in JSON that describes them.
A checkpoint is everything that a run needs to continue as if it had never stopped.
"""

import dataclasses
import hashlib
import json
import math
import os
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import NeuronCell
from slax_rules.devices import device_put_as, local_shard
from slax_rules.train.agreement import by_path, module_names, readable_path
from slax_rules.train.batches import as_batch

FORMAT = "slax weights 1"
ABOUT = "about"  # the member of a file that describes its contents
PARTS = ("model", "rule", "optimizer")


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The folder and frequency of `fit`'s checkpoints; `fit` resumes from the newest checkpoint there, if there is one.

    It refuses the checkpoint of another run: of a model with other arrays, modules or options of neurons, of another rule,
    update or window, or of other data, since it draws the last batch that was trained on again and compares it. A loader, which
    may have another order each time, is not compared, and neither are functions: the loss, the optimizer's transformation and
    penalties.

    A checkpoint is a file named after its step, in the format of `save_weights`. It is written under another name and renamed
    when it is complete, so a run that is killed loses at most the steps since the last one.

    Args:
        directory: a folder for this run alone; `~` is your home.
        every: steps between checkpoints, >= 1. There is also one at the end.
        keep: number of newest checkpoints to keep, >= 1.
        allow_changes: whether to continue on purpose with another rule, update, window, option of a neuron, or data.

    Raises:
        ValueError: every or keep below 1.

    Example:
        >>> from slax_rules import Checkpoints
        >>> checkpoints = Checkpoints("runs/first", every=500)
    """

    directory: str | Path
    every: int = 1000
    keep: int = 3
    allow_changes: bool = False

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise ValueError(f"Checkpoints got every={self.every}, keep={self.keep}, expected at least 1 for both.")

    @property
    def folder(self) -> Path:
        """The directory as an absolute path."""
        return Path(self.directory).expanduser().absolute()

    def prepare(self) -> None:
        """Make the folder, and remove what a run that was killed left in it.

        Raises:
            OSError: a folder that cannot be written to, which is better known now than at the first checkpoint.
        """
        with explain_write_errors("Checkpoints", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
            for left_over in self.folder.glob(".*.part") if jax.process_index() == 0 else ():
                left_over.unlink()

    def save(self, step: int, identity: Mapping[str, Any], trees: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Save a run after so many steps, unless it is saved already, or another process does it.

        Args:
            step: steps so far.
            identity: what `describe_run` returns.
            trees: trees of arrays by name, of which "model" is the state of the model.
            facts: what the run has to know in addition, as JSON.

        Raises:
            OSError: the checkpoint could not be written.
        """
        if not step or jax.process_index() or step in steps_in(self.folder):
            return
        about = {"step": step, "facts": facts, "weights": list(filled({"model": weights(trees["model"])})), **identity}
        write_archive(self.folder / str(step), "A checkpoint", about, filled(local_shard(dict(trees))))
        for old in steps_in(self.folder)[: -self.keep]:
            (self.folder / str(old)).unlink()

    def restore(
        self, name: str, identity: Mapping[str, Any], expected: Callable[[Any], dict[str, Any]], progress: bool | None
    ) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Restore the newest checkpoint, and say so on stderr unless there is no progress to show; None if there is none.

        Args:
            name: the function that resumes.
            identity: what `describe_run` returns.
            expected: maps the facts to trees with the structure, shapes, dtypes and devices of those that were saved.
            progress: see `fit`.

        Returns:
            The step, the trees and the facts.

        Raises:
            ValueError: a checkpoint of another model, rule, optimizer or run, or one that cannot be read.
        """
        from tqdm.auto import tqdm  # not needed to import this package

        if not (steps := steps_in(self.folder)):
            return None
        step, path = steps[-1], self.folder / str(steps[-1])
        then = f"to continue from step {steps[-2]}" if steps[1:] else "to start over, since there is none before it"
        damaged = f"The checkpoint of step {step} in {self.folder} is damaged", f"Delete the file {path} {then}."
        with readable(*damaged):
            about = read_about(path)
            if about["step"] != step:
                raise ValueError(f"it was saved as that of step {about['step']}")
            settings, trees = {**about["types"], **about["settings"]}, expected(about["facts"])
        self.check_same(settings, {**identity["types"], **identity["settings"]})
        self.check_same(about["arrays"], mine := described(filled(trees)), "arrays")
        with readable(*damaged):
            trees = with_arrays(trees, read_arrays(path, mine))
        if progress is not False and not jax.process_index():
            tqdm.write(f"{name} resumed from step {step} of {self.folder}", file=sys.stderr)
        return step, trees, about["facts"]

    def check_same(self, saved: Mapping[str, Any], mine: Mapping[str, Any], what: str = "settings") -> None:
        """Raise ValueError for settings or arrays that differ between the stopped run and this one."""
        differing = differences(saved, mine)
        if differing and (what == "arrays" or not self.allow_changes):
            raise ValueError(
                f"The newest checkpoint in {self.folder} belongs to a run with different {what}: {differing}. Make model, "
                "rule, optimizer and batches as they were, use another folder, or delete this one. Checkpoints(..., "
                "allow_changes=True) continues on purpose with other settings; load_weights reads the weights alone."
            )


def describe_run(model: nnx.Module, rule: Any, **settings: Any) -> dict[str, dict[str, Any]]:
    """What the arrays of a run do not show: the types of modules, and settings: those given, the rule, numbers of neurons."""
    for start, cell in nnx.iter_modules(model):
        for path, part in nnx.iter_modules(cell) if isinstance(cell, NeuronCell) else ():
            options = {name: value for name, value in vars(part).items() if isinstance(value, bool | int | float | str)}
            settings |= {"/".join(map(str, (*start, *path, name))): repr(options[name]) for name in options}
    return {"types": model_types(model), "settings": settings | {"rule": describe_rule(rule)}}


def describe_rule(rule: Any) -> str:
    """The class of a rule and its options, without addresses of memory."""
    if isinstance(rule, list | tuple):
        return f"[{', '.join(map(describe_rule, rule))}]"
    if not dataclasses.is_dataclass(rule):
        return type(rule).__name__ if isinstance(rule, nnx.Module) else getattr(rule, "__qualname__", repr(rule))
    options = (f"{field.name}={describe_rule(getattr(rule, field.name))}" for field in dataclasses.fields(rule))
    return f"{type(rule).__name__}({', '.join(options)})"


def describe_batch(batch: Any) -> str | None:
    """The dtypes and shapes of a batch, and a digest of its numbers; None in one of several processes, which has a share."""
    if jax.process_count() > 1:
        return None
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(as_batch(batch))]
    leaves = [leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves]  # as on a device
    digest = hashlib.blake2b(digest_size=6)
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"{', '.join(map(describe, leaves))}, digest {digest.hexdigest()}"


def parts(state: nnx.State) -> dict[str, Any]:
    """The parts of the state of (model, rule, optimizer) that are not empty, by name."""
    return {name: state[number] for number, name in enumerate(PARTS) if number in state}


def whole(state: nnx.State, trees: Mapping[str, Any]) -> nnx.State:
    """The state of (model, rule, optimizer) with parts from a checkpoint."""
    found = {number: trees[name] for number, name in enumerate(PARTS) if number in state}
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(found))


# ---------------------------------------------------------------------------------------------------------------------- weights


def save_weights(path: str | Path, model: nnx.Module) -> None:
    """Save the parameters and all other variables of a model, such as the statistics of a BatchNorm, except random streams.

    The file is a NumPy archive (.npz) with an array for each variable, named by its path in the model, and a text with the
    shapes and the type of each module. It holds no code and no options of the model: `load_weights` needs the model. It is
    written under another name and renamed when it is complete.

    Args:
        path: path of the file, which may already exist; no suffix is added. The target of a symbolic link is written.
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


def load_weights(path: str | Path, model: nnx.Module, *, strict: bool = True) -> dict[str, list[str]]:
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
        Names of arrays, such as "0 Linear/kernel": those "loaded"; those "missing" in the file and "unexpected" in the model;
        and those "different", of another shape, or a dtype that is not cast, with what is saved and what is here. What was not
        loaded stays as it was.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights of another model, or a file that is damaged, holds no weights, or has an array with NaN; without
            `strict`, a file without any array that fits.

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
        >>> found["loaded"]
        ['0 Linear/bias', '0 Linear/kernel']
        >>> found["different"][0]
        '2 Linear/bias: float32[3] saved, float32[5] here'
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if not (saved := steps_in(path)):
            raise ValueError(
                f"The folder {path} holds no checkpoint, expected one that fit wrote: Checkpoints({path})."
            )
        path = path / str(saved[-1])
    if not path.exists():
        raise FileNotFoundError(f"load_weights got {path}, which does not exist, expected a file of save_weights.")
    tree, names = weights(nnx.state(model)), module_names(model)
    here = described(filled(tree))

    def named(table: Mapping[str, str]) -> dict[str, str]:
        return {readable_path(name, names) or "model": text for name, text in table.items()}

    def fits(name: str) -> bool:
        """Whether an array is of one shape here and there, and of one dtype or floating-point."""
        (mine, my_shape), (its, its_shape) = (table[name].split("[") for table in (here, there))
        return my_shape == its_shape and (mine == its or ("float" in mine and "float" in its))

    damaged = f"The file {path} is damaged, or holds no weights", "Expected a file that save_weights wrote."
    with readable(*damaged):
        about = read_about(path)
        prefix = "model/" if "step" in about else ""  # a checkpoint has other arrays, too
        held = about["weights"] if prefix else about["arrays"]
        there = {name.removeprefix(prefix): about["arrays"][name] for name in held}
    differing = differences(named(about["types"]), named(model_types(model))) or differences(named(there), named(here))
    fitting = [name for name in here if name in there and fits(name)]
    if differing and (strict or not fitting):
        advice = "Make the model as it was when they were saved, or load what fits: load_weights(..., strict=False)."
        advice = advice if strict else "No array fits."
        raise ValueError(f"The weights in {path} do not match this model: {differing}. {advice}")
    with readable(*damaged):
        arrays = read_arrays(path, {prefix + name: there[name] for name in fitting})
        for name, array in arrays.items():
            if jnp.issubdtype(array.dtype, jnp.inexact) and np.isnan(array).any():
                raise ValueError(f"there are NaN in {readable_path(name.removeprefix(prefix), names)}")
    nnx.update(model, with_arrays(tree, arrays, prefix))
    loaded, theirs, ours = [readable_path(name, names) for name in fitting], named(there), named(here)
    different = [name for name in ours if name in theirs and name not in loaded]
    return {
        "loaded": loaded,
        "missing": [name for name in ours if name not in theirs],
        "unexpected": [name for name in theirs if name not in ours],
        "different": [f"{name}: {theirs[name]} saved, {ours[name]} here" for name in different],
    }


def weights(state: nnx.State) -> nnx.State:
    """The state of a model without its random streams."""
    return nnx.filter_state(state, nnx.Not(nnx.RngState))


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
    """Raise ValueError in place of what NumPy and zipfile raise for a file that is damaged, or something else."""
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
