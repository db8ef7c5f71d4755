"""Checkpoints: everything that a run needs to continue as if it had never stopped, in files of archives.py."""

import dataclasses
import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from slax_neurons import NeuronCell
from slax_rules.devices import local_shard
from slax_rules.train.archives import (
    describe,
    described,
    differences,
    filled,
    model_types,
    prepare_folder,
    read_about,
    read_arrays,
    readable,
    steps_in,
    with_arrays,
    write_archive,
)
from slax_rules.train.batches import as_batch
from slax_rules.train.weights import weights

PARTS = ("model", "rule", "optimizer")


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The folder and frequency of `fit`'s checkpoints; `fit` resumes from the newest checkpoint there, if there is one.

    It refuses the checkpoint of another run: of a model with other arrays, modules or options of neurons, such as a surrogate,
    of another rule, update or window, or of other data, since it draws the last batch that was trained on again and compares
    it. Functions among the options are compared by module and name alone. A loader, which may have another order each time, is
    not compared, and neither are the loss, the optimizer's transformation and penalties.

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
            OSError: a folder that cannot be written to.
        """
        prepare_folder("Checkpoints", self.folder)
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
            settings = {**about["types"], **about["settings"]}
        self.check_same(settings, {**identity["types"], **identity["settings"]})
        with readable(*damaged):
            trees = expected(about["facts"])
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
    """What the arrays of a run do not show: the types of modules, and settings: those given, the rule, options of neurons."""
    for start, cell in nnx.iter_modules(model):
        for path, part in nnx.iter_modules(cell) if isinstance(cell, NeuronCell) else ():
            options = {name: value for name, value in vars(part).items() if _is_option(value)}
            settings |= {"/".join(map(str, (*start, *path, name))): describe_choice(options[name]) for name in options}
    return {"types": model_types(model), "settings": settings | {"rule": describe_choice(rule)}}


def _is_option(value: Any) -> bool:
    """Whether an attribute of a neuron is an option: a number, a string, a function or a dataclass, such as a surrogate."""
    is_known = isinstance(value, bool | int | float | str) or callable(value) or dataclasses.is_dataclass(value)
    return is_known and not isinstance(value, nnx.Pytree | nnx.Variable)


def describe_choice(choice: Any) -> str:
    """A rule, a loss or an option as text without addresses of memory: a dataclass by its class and fields, a function by its
    module and name."""
    if isinstance(choice, list | tuple):
        return f"[{', '.join(map(describe_choice, choice))}]"
    if dataclasses.is_dataclass(choice) and not isinstance(choice, type):
        options = (
            f"{field.name}={describe_choice(getattr(choice, field.name))}" for field in dataclasses.fields(choice)
        )
        return f"{type(choice).__name__}({', '.join(options)})"
    if isinstance(choice, nnx.Module):
        return type(choice).__name__
    if hasattr(choice, "__qualname__"):
        return f"{choice.__module__}.{choice.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(choice.item() if isinstance(choice, np.generic) else choice))


def describe_batch(batch: Any) -> str | None:
    """The dtypes and shapes of a batch, and a digest of its numbers; None in one of several processes, which has a share."""
    if jax.process_count() > 1:
        return None
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(as_batch(batch))]
    leaves = [leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves]  # as on a device
    return f"{', '.join(map(describe, leaves))}, digest {digest_of(leaves)}"


def digest_of(arrays: Iterable[Any]) -> str:
    """A short text that differs between arrays of different numbers."""
    digest = hashlib.blake2b(digest_size=6)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def parts(state: nnx.State) -> dict[str, Any]:
    """The parts of the state of (model, rule, optimizer) that are not empty, by name."""
    return {name: state[number] for number, name in enumerate(PARTS) if number in state}


def whole(state: nnx.State, trees: Mapping[str, Any]) -> nnx.State:
    """The state of (model, rule, optimizer) with parts from a checkpoint."""
    found = {number: trees[name] for number, name in enumerate(PARTS) if number in state}
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(found))
