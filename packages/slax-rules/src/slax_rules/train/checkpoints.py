"""Checkpoints: everything that a run needs to continue as if it had never stopped, in files as `save_weights` writes them."""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from slax_rules.loop.devices import local_shard
from slax_rules.training.run_identity import CHANGEABLE, differing_parts
from slax_rules.training.weights import (
    described,
    differences,
    explain_write_errors,
    filled,
    read_about,
    read_arrays,
    readable,
    steps_in,
    weights,
    with_arrays,
    write_archive,
)

PARTS = ("model", "rule", "optimizer")


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The folder and frequency of `fit`'s checkpoints; `fit` resumes from the newest checkpoint there, if there is one.

    It refuses the checkpoint of a run with other data, or another loss, rule, window or optimizer, including its learning rate.

    A checkpoint is a file named after its step, in the format of `save_weights`. It is written under another name and renamed
    when it is complete, in the background while training continues, so a run that is killed loses at most the steps since the
    last one.

    Args:
        directory: a folder for this run alone; `~` is your home.
        every: steps between checkpoints, >= 1. There is also one at the end.
        keep: number of newest checkpoints to keep, >= 1.
        changed: what may differ from the run that is resumed: "data", "held_out", "loss_fn", "optimizer", "options" of neurons,
            such as a fixed threshold, "penalties", "rule", "update" and "window". `changed=["optimizer"]` continues with
            another learning rate.

    Raises:
        ValueError: every or keep below 1, an unknown name in `changed`.

    Example:
        >>> from slax_rules import Checkpoints
        >>> checkpoints = Checkpoints("runs/first", every=500)
    """

    directory: str | Path
    every: int = 1000
    keep: int = 3
    changed: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.changed, str) or not set(self.changed) <= set(CHANGEABLE):
            raise ValueError(
                f"Checkpoints got changed={self.changed!r}, expected a list of some of: {', '.join(CHANGEABLE)}."
            )
        if self.every < 1 or self.keep < 1:
            raise ValueError(f"Checkpoints got every={self.every}, keep={self.keep}, expected at least 1 for both.")

    @contextmanager
    def open(self, settings: Mapping[str, Any]) -> Iterator["Store"]:
        """Open the checkpoints on disk for a run with these settings; pending writes are complete on exit.

        Raises:
            OSError: a checkpoint could not be written, as on a full disk; a note on the error, if another one ends the block.
        """
        directory = Path(self.directory).expanduser().absolute()
        with explain_write_errors("Checkpoints", directory):
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()  # better now than at the first checkpoint
            for left_over in directory.glob(".*.part") if jax.process_index() == 0 else ():
                left_over.unlink()  # of a run that was killed while it wrote
        with ThreadPoolExecutor(1) as writer:
            store = Store(directory, self.keep, json.loads(json.dumps(settings)), writer, tuple(self.changed))
            try:
                yield store
            except BaseException as error:
                try:
                    store.wait()
                except OSError as unwritten:
                    error.add_note(str(unwritten))
                raise
            store.wait()


@dataclasses.dataclass
class Store:
    """The checkpoints of one run.

    Args:
        directory: the folder of the checkpoints.
        keep: number of newest ones to keep.
        settings: settings that a resumed run must share with the stopped run, as JSON.
        writer: the thread that writes.
        changed: what may differ from the stopped run.
        pending: the checkpoint that was begun last.
    """

    directory: Path
    keep: int
    settings: Mapping[str, Any]
    writer: ThreadPoolExecutor
    changed: tuple[str, ...] = ()
    pending: Future[None] | None = None

    def save(self, step: int, trees: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Save a run, unless this step is already saved.

        Args:
            step: steps so far, at least one.
            trees: trees of arrays by name, of which "model" is the state of the model.
            facts: what the run has to know in addition, as JSON.

        Raises:
            OSError: the checkpoint before could not be written.
        """
        self.wait()
        if jax.process_index() or step in steps_in(self.directory):
            return
        about = {
            "step": step,
            "settings": self.settings,
            "facts": facts,
            "types": {
                name.partition("/")[2]: kind for name, kind in self.settings.items() if name.split("/")[0] == "model"
            },
            "weights": list(filled({"model": weights(trees["model"])})),
        }
        self.pending = self.writer.submit(self._write, step, about, filled(local_shard(dict(trees))))

    def _write(self, step: int, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        write_archive(self.directory / str(step), "A checkpoint", about, arrays)
        for old in steps_in(self.directory)[: -self.keep]:
            (self.directory / str(old)).unlink()

    def wait(self) -> None:
        """Wait until the checkpoints are written.

        Raises:
            OSError: one could not be written.
        """
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    def restore(
        self, expected: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Restore the newest checkpoint; return None if there is none.

        Args:
            expected: maps the facts to trees with the structure, shapes, dtypes and devices of those that were saved.

        Returns:
            The trees and the facts.

        Raises:
            ValueError: a checkpoint of another model, rule, optimizer or run, or one that cannot be read.
        """
        steps = steps_in(self.directory)
        if not steps:
            return None
        step, path = steps[-1], self.directory / str(steps[-1])
        then = f"to continue from step {steps[-2]}" if steps[1:] else "to start over, since there is none before it"
        damaged = f"The checkpoint of step {step} in {self.directory} is damaged", f"Delete the file {path} {then}."
        with readable(*damaged):
            about = read_about(path)
            if about["step"] != step:
                raise ValueError(f"it was saved as that of step {about['step']}")
        self.check_same(step, about["settings"], self.settings)
        trees = dict(expected(about["facts"]))
        mine = {name: described(leaf) for name, leaf in filled(trees).items()}
        self.check_same(step, about["arrays"], mine, "arrays")
        with readable(*damaged):
            arrays = read_arrays(path, mine)
        return with_arrays(trees, arrays), about["facts"]

    def check_same(self, step: int, saved: Mapping[str, Any], mine: Mapping[str, Any], what: str = "settings") -> None:
        """Raise ValueError for settings or arrays that differ between the stopped run and this one."""

        # A run may be evaluated from some step on.
        free = {*self.changed, *({"held_out"} - (saved.keys() & mine.keys()))}

        def fixed(table: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in table.items() if name.partition(":")[0] not in free}

        differing = differences(fixed(saved), fixed(mine)).replace("data: code:", "data: the function of the Sampler:")
        if differing:
            parts = differing_parts(saved, mine) if what == "settings" else []
            on_purpose = f", continue on purpose with Checkpoints(..., changed={parts})" if parts else ""
            raise ValueError(
                f"The checkpoint of step {step} in {self.directory} belongs to a run with different {what}: "
                f"{differing}. Make model, rule, optimizer and batches as they were, use another folder{on_purpose}, "
                "or delete this one. Its weights alone are read by load_weights."
            )

    def tell(self, name: str, step: int, progress: bool | None) -> None:
        """Say from where a run resumes, on stderr, unless it has no progress to show; `name` is the function called."""
        from tqdm.auto import tqdm  # not needed to import this package

        if progress is not False and not jax.process_index():
            tqdm.write(f"{name} resumed from step {step} of {self.directory}", file=sys.stderr)


def parts(state: nnx.State) -> dict[str, Any]:
    """The parts of the state of (model, rule, optimizer) that are not empty, by name."""
    return {name: state[number] for number, name in enumerate(PARTS) if number in state}


def whole(state: nnx.State, trees: Mapping[str, Any]) -> nnx.State:
    """The state of (model, rule, optimizer) with parts from a checkpoint."""
    found = {number: trees[name] for number, name in enumerate(PARTS) if number in state}
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(found))
