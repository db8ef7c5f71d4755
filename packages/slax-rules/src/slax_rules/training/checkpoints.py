"""Checkpoints, saved with orbax: everything that a run needs to continue as if it had never stopped."""

import dataclasses
import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from slax_rules.training.not_written import told_if_not_written
from slax_rules.training.paths import by_path
from slax_rules.training.progress import Progress
from slax_rules.training.stopping import Mode, check_comparable, gain, mode_of
from slax_rules.training.weights import as_bytes, described, differences, is_key, model_types, save_weights, weights

BEST = "best"


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The folder and frequency of `fit`'s checkpoints; `fit` resumes from the newest checkpoint there, if there is one.

    A checkpoint is a folder named after its step. It is written under another name and renamed when it is complete. Once its
    folders are made, this happens in the background while training continues, so a run that is killed loses at most the steps
    since the last one.

    Args:
        directory: a folder for this run alone.
        every: steps between checkpoints, >= 1. There is also one at the end.
        keep: number of newest checkpoints to keep, >= 1.
        best: a number of the evaluation, "loss" or one of `metrics`. The weights of the best evaluation are then saved in
            the file `best` next to the checkpoints, for `load_weights(directory / "best", model)`.
        mode: "min" if less is better, "max" if more is. It may be omitted for "loss" and "accuracy".

    Raises:
        ValueError: every or keep below 1, an unknown mode, no mode for a metric of another name; in `fit`, NaN for the metric
            `best`.

    Example:
        >>> from slax_rules import Checkpoints
        >>> checkpoints = Checkpoints("runs/first", every=500, best="accuracy")
    """

    directory: str | Path
    every: int = 1000
    keep: int = 3
    best: str | None = None
    mode: Mode | None = None

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise ValueError(f"Checkpoints got every={self.every}, keep={self.keep}, expected at least 1 for both.")
        if self.best is not None:
            object.__setattr__(self, "mode", mode_of("Checkpoints", self.best, self.mode))

    @contextmanager
    def open(self, settings: Mapping[str, Any]) -> Iterator["Store"]:
        """Open the checkpoints on disk for a run with these settings; pending writes are complete on exit.

        Raises:
            OSError: a checkpoint could not be written, as on a full disk; a note on the error, if another one ends the block.
        """
        import orbax.checkpoint as ocp  # takes seconds to import, and is not needed if nothing is saved

        directory = Path(self.directory).absolute()
        with told_if_not_written("Checkpoints", directory, 0):  # orbax would wait for it without end
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
        for left_over in directory.glob(
            f".{BEST}.*.part"
        ):  # left by a run that was killed while it wrote the best weights
            left_over.unlink(missing_ok=True)
        # Where folders are made in the background, threads that wait for one that cannot be made keep the program from ending.
        background = ocp.AsyncOptions(create_directories_asynchronously=False)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep, cleanup_tmp_directories=True, async_options=background
        )
        store = Store(ocp.CheckpointManager(directory, options=options), settings)
        with _without_logged_errors():
            try:
                yield store
            except BaseException as error:
                try:
                    store.close()
                except OSError as unwritten:  # the same again, if it is what ended the block
                    if str(unwritten) != str(error):
                        error.add_note(str(unwritten))
                raise
            store.close()

    def save_best(self, model: nnx.Module, evaluation: Mapping[str, float], progress: Progress) -> Progress:
        """Save the model's weights if this evaluation is the best so far.

        Raises:
            ValueError: NaN for the metric.
        """
        if self.best is None:
            return progress
        value = evaluation[self.best]
        check_comparable("Checkpoints", self.best, value, progress.step)
        if progress.best_saved is not None and not gain(self.mode, progress.best_saved, value) > 0:
            return progress
        if jax.process_index() == 0:
            Path(self.directory).mkdir(parents=True, exist_ok=True)
            save_weights(Path(self.directory) / BEST, model)
        return progress._replace(best_saved=value)


@dataclasses.dataclass
class Store:
    """The checkpoints of one run.

    Args:
        manager: orbax's checkpoint manager.
        settings: settings that a resumed run must share with the stopped run, as JSON.
        size: bytes of the numbers in the checkpoint that was begun last.
    """

    manager: Any
    settings: Mapping[str, Any]
    size: int = 0

    def save(self, step: int, trees: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Save a run, unless this step is already saved.

        Args:
            step: steps so far, at least one.
            trees: trees of arrays by name, of which "model" is the state of the model.
            facts: what the run has to know in addition, as JSON.

        Raises:
            OSError: this checkpoint, or the one before, could not be written.
        """
        import orbax.checkpoint as ocp

        if self.manager.latest_step() == step:
            return
        arrays = _arrays(trees)
        run = {
            "settings": self.settings,
            "arrays": {name: described(leaf) for name, leaf in arrays.items()},
            "weights": [
                name for name, leaf in by_path(weights(trees["model"])).items() if leaf.size and not is_key(leaf)
            ],
            "digests": {name: _digest(as_bytes(leaf)) for name, leaf in arrays.items()},
            "facts": facts,
            "step": step,
        }
        text = json.dumps(run)
        args = {"arrays": ocp.args.StandardSave(arrays), "run": ocp.args.JsonSave([_digest(text.encode()), text])}
        size = sum(leaf.nbytes for leaf in arrays.values())
        self.size = max(self.size, size)  # of this one and the one before, which may still be written
        with self._told():
            self.manager.save(step, args=ocp.args.Composite(**args))
            self.size = size

    def close(self) -> None:
        """Wait until the checkpoints are written.

        Raises:
            OSError: one could not be written.
        """
        with self._told():
            self.manager.close()

    def _told(self) -> AbstractContextManager[None]:
        return told_if_not_written("A checkpoint", Path(self.manager.directory), self.size)

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
        import orbax.checkpoint as ocp

        step = self.manager.latest_step()
        if step is None:
            return None
        content = self._read(step, "run", ocp.args.JsonRestore())
        run = _parsed(content, self._damaged(step, "it is not what was saved"))
        if run["step"] != step:
            raise ValueError(self._damaged(step, f"it was saved as that of step {run['step']}"))
        self._check_same(step, run["settings"], json.loads(json.dumps(self.settings)), "settings")
        trees = expected(run["facts"])
        target = _arrays(trees)
        here = {name: described(leaf) for name, leaf in target.items()}
        self._check_same(step, run["arrays"], here, "arrays")
        arrays = self._read(step, "arrays", ocp.args.StandardRestore(target))
        if {name: _digest(as_bytes(leaf)) for name, leaf in arrays.items()} != run["digests"]:
            raise ValueError(self._damaged(step, "it is not what was saved"))
        return {name: _filled(tree, arrays, name) for name, tree in trees.items()}, run["facts"]

    def _read(self, step: int, item: str, how: Any) -> Any:
        import orbax.checkpoint as ocp

        try:
            return self.manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except Exception as error:  # orbax raises a bare Exception for a file that is too short
            raise ValueError(self._damaged(step, f"orbax cannot read its {item}")) from error

    def _damaged(self, step: int, why: str) -> str:
        before = [other for other in self.manager.all_steps() if other < step]
        then = f"to continue from step {max(before)}" if before else "to start over, since there is none before it"
        return (
            f"The checkpoint of step {step} in {self.manager.directory} is damaged: {why}. Expected what was written there. "
            f"Delete the folder {self.manager.directory / str(step)} {then}."
        )

    def _check_same(self, step: int, saved: Mapping[str, Any], mine: Mapping[str, Any], what: str) -> None:
        differing = differences(saved, mine)
        if differing:
            raise ValueError(
                f"The checkpoint of step {step} in {self.manager.directory} is of another run, with other {what}: "
                f"{differing}. Make model, rule, optimizer and batches as they were, or give this run a directory of its own. "
                "Its weights alone are read by load_weights."
            )


@contextmanager
def _without_logged_errors() -> Iterator[None]:
    """Keep orbax's threads from logging errors, in hundreds of lines: the next save or the end of the run raises them."""
    logger = logging.getLogger("absl")

    def is_other(record: logging.LogRecord) -> bool:
        return record.exc_info is None or "orbax" not in record.pathname

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def checkpoint_weights(directory: Path) -> tuple[dict[str, str], dict[str, str], Callable[[], dict[str, np.ndarray]]]:
    """Open the weights in the folder of a checkpoint, or in the newest checkpoint in the folder of a run.

    Returns:
        The types of the model's modules and the dtypes and shapes of its arrays, by path, and a function that reads the arrays.

    Raises:
        ValueError: no checkpoint, or one that is damaged.
    """
    import orbax.checkpoint as ocp

    directory = directory.absolute()  # as orbax requires
    steps = [path for path in directory.iterdir() if path.name.isdigit()]
    if not directory.name.isdigit() and steps:
        directory = max(steps, key=lambda path: int(path.name))
    damaged = f"The checkpoint {directory} is damaged: it is not what was saved. Take another one."
    if not (directory / "run").exists():
        raise ValueError(
            f"The folder {directory} is not a checkpoint, expected a file that save_weights wrote, or a folder that fit wrote "
            "with checkpoints=Checkpoints(...)."
        )
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        run = _parsed(_read_or(damaged, lambda: reader.restore(directory / "run")), damaged)
    saved = {name: run["arrays"][f"model/{name}"] for name in run["weights"]}
    types = {name.partition("/")[2]: kind for name, kind in run["settings"].items() if re.match("model(/|$)", name)}

    def read() -> dict[str, np.ndarray]:
        with ocp.PyTreeCheckpointer() as reader:
            target = {f"model/{name}": np.zeros(*_shape_and_dtype(what)) for name, what in saved.items()}
            arrays = _read_or(damaged, lambda: reader.restore(directory / "arrays", args=_partial(ocp, target)))
        for name, leaf in arrays.items():
            if _digest(as_bytes(leaf)) != run["digests"][name]:
                raise ValueError(damaged)
        return {name.partition("/")[2]: np.asarray(leaf) for name, leaf in arrays.items()}

    return types, saved, read


def _partial(ocp: Any, target: dict[str, np.ndarray]) -> Any:
    """The arguments with which orbax reads only these arrays, as NumPy arrays."""
    how = {name: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype) for name, leaf in target.items()}
    return ocp.args.PyTreeRestore(target, restore_args=how, partial_restore=True)


def _read_or(message: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # orbax raises a bare Exception for a file that is too short
        raise ValueError(message) from error


def _parsed(content: Any, damaged: str) -> dict[str, Any]:
    """Parse the description of a run, whose text is saved with its checksum."""
    digest, text = content
    if _digest(text.encode()) != digest:
        raise ValueError(damaged)
    return json.loads(text)


def _shape_and_dtype(what: str) -> tuple[tuple[int, ...], np.dtype]:
    dtype, _, shape = what.partition("[")
    return tuple(int(size) for size in shape.rstrip("]").split(",") if size), jax.numpy.dtype(dtype)


def _arrays(trees: Mapping[str, Any]) -> dict[str, Any]:
    """All arrays of a checkpoint by name. Arrays without entries are left out, since orbax cannot save them."""
    return {name: leaf for name, leaf in by_path(dict(trees)).items() if leaf.size}


def _filled(tree: Any, arrays: Mapping[str, Any], label: str) -> Any:
    """Replace the leaves of a tree that are in a checkpoint."""
    leaves = [arrays.get(f"{label}/{path}" if path else label, leaf) for path, leaf in by_path(tree).items()]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _digest(content: bytes) -> str:
    """A checksum: most of the files that orbax writes have none."""
    return hashlib.sha256(content).hexdigest()


def describe_rule(rule: Any) -> str:
    """The class of a rule and its options, which arrays do not show."""
    if isinstance(rule, list | tuple):
        return f"[{', '.join(map(describe_rule, rule))}]"
    if dataclasses.is_dataclass(rule):
        options = (f"{field.name}={describe_rule(getattr(rule, field.name))}" for field in dataclasses.fields(rule))
        return f"{type(rule).__name__}({', '.join(options)})"
    if isinstance(rule, nnx.Module):
        return type(rule).__name__
    return getattr(rule, "__qualname__", None) or repr(rule)


def describe_model(model: nnx.Module) -> dict[str, str]:
    """The type of each module by path, which arrays do not show."""
    return {"/".join(filter(None, ("model", path))): name for path, name in model_types(model).items()}
