"""Checkpoints of `fit` by orbax: all that a run needs to go on as if it had never stopped."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from slax_rules.online import OnlineCell
from slax_rules.paths import by_path
from slax_rules.stopping import Patience


class Progress(NamedTuple):
    """Where a run is.

    Args:
        step: optimiser steps of `fit` so far.
        epoch: the one that it is in.
        done: batches of this epoch that are behind.
        patience: of early stopping, if any.
        best: the model's state at the best evaluation, if it is to be restored.
    """

    step: int
    epoch: int
    done: int
    patience: Patience | None = None
    best: nnx.State | None = None


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where and how often `fit` saves; it goes on from the newest checkpoint there, if there is one.

    A checkpoint is a folder named after its step. It is written under another name and renamed when it is whole, in the
    background while training goes on, so a run that is killed loses at most the steps since the last one.

    Args:
        directory: a folder of this run alone.
        every: steps between checkpoints, >= 1. There is also one at the end.
        keep: how many to keep, >= 1, the newest.

    Raises:
        ValueError: every or keep below 1.
    """

    directory: str | Path
    every: int = 1000
    keep: int = 3

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise ValueError(f"Checkpoints got every={self.every}, keep={self.keep}, expected at least 1 for both.")

    @contextmanager
    def open(self, settings: Mapping[str, Any]) -> Iterator["Store"]:
        """The checkpoints on disk, for a run with these settings; what is being written is whole at the end."""
        options = ocp.CheckpointManagerOptions(max_to_keep=self.keep, cleanup_tmp_directories=True)
        with ocp.CheckpointManager(Path(self.directory).absolute(), options=options) as manager:
            yield Store(manager, settings)


class Store(NamedTuple):
    """The checkpoints of one run.

    Args:
        manager: orbax's.
        settings: what a run that goes on has to have in common with the one that was stopped, as JSON.
    """

    manager: ocp.CheckpointManager
    settings: Mapping[str, Any]

    def save(self, state: nnx.State, progress: Progress, losses: np.ndarray, records: list[dict[str, Any]]) -> None:
        """Saves a run, with its history, unless this step is saved already.

        Args:
            state: of (model, optimizer).
            progress: where the run is, after at least one step.
            losses, records: see `History`.
        """
        if self.manager.latest_step() == progress.step:
            return
        arrays = _arrays(state, losses, progress.best)
        run = {
            "settings": self.settings,
            "arrays": _describe(arrays),
            "digest": _digest(_bytes(arrays)),
            "progress": progress._asdict() | {"best": progress.best is not None},
            "records": records,
        }
        text = json.dumps(run)
        args = {"arrays": ocp.args.StandardSave(arrays), "run": ocp.args.JsonSave([_digest([text.encode()]), text])}
        self.manager.save(progress.step, args=ocp.args.Composite(**args))

    def restore(self, state: nnx.State) -> tuple[nnx.State, Progress, np.ndarray, list[dict[str, Any]]] | None:
        """The newest checkpoint, in the structure and on the devices of `state`, or None if there is none.

        Raises:
            ValueError: a checkpoint of another model, optimiser or run, or one that cannot be read.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        digest, text = self._read(step, "run", ocp.args.JsonRestore())
        self._check_digest(step, digest, [text.encode()])
        run = json.loads(text)
        self._check_same(step, run["settings"], json.loads(json.dumps(self.settings)), "settings")
        progress = Progress(**run["progress"])
        losses = np.zeros(progress.step, run["arrays"]["losses"].partition("[")[0])
        target = _arrays(state, losses, weights(state) if progress.best else None)
        self._check_same(step, run["arrays"], _describe(target), "arrays")
        arrays = self._read(step, "arrays", ocp.args.StandardRestore(target))
        self._check_digest(step, run["digest"], _bytes(arrays))
        both = [*_leaves(state[0], arrays, "model"), *_leaves(state[1], arrays, "optimizer")]
        best = None
        if progress.best:
            best = jax.tree.unflatten(jax.tree.structure(weights(state)), _leaves(weights(state), arrays, "best"))
        patience = None if progress.patience is None else Patience(*progress.patience)
        return (
            jax.tree.unflatten(jax.tree.structure(state), both),
            progress._replace(patience=patience, best=best),
            np.asarray(arrays["losses"]),
            run["records"],
        )

    def _read(self, step: int, item: str, how: Any) -> Any:
        try:
            return self.manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except Exception as error:  # orbax raises a bare Exception for a file that is too short
            raise ValueError(self._damaged(step, f"orbax cannot read its {item}")) from error

    def _check_digest(self, step: int, digest: str, content: Iterable[bytes]) -> None:
        if _digest(content) != digest:
            raise ValueError(self._damaged(step, "it is not what was saved"))

    def _damaged(self, step: int, why: str) -> str:
        before = [other for other in self.manager.all_steps() if other < step]
        then = f"to go on from step {max(before)}" if before else "to start anew, since there is none before it"
        return (
            f"The checkpoint of step {step} in {self.manager.directory} is damaged: {why}. Expected what was written there. "
            f"Delete the folder {self.manager.directory / str(step)} {then}."
        )

    def _check_same(self, step: int, saved: Mapping[str, Any], mine: Mapping[str, Any], what: str) -> None:
        differing = [
            f"{name}: {saved.get(name, 'nothing')} saved, {mine.get(name, 'nothing')} here"
            for name in sorted({*saved, *mine})
            if name not in saved or name not in mine or saved[name] != mine[name]
        ]
        if differing:
            more = f"; and {len(differing) - 8} more" if len(differing) > 8 else ""
            raise ValueError(
                f"The checkpoint of step {step} in {self.manager.directory} is of another run, with other {what}: "
                f"{'; '.join(differing[:8])}{more}. Make model, optimizer and batches as they were, or give this run "
                "a directory of its own."
            )


def _arrays(state: nnx.State, losses: np.ndarray, best: nnx.State | None) -> dict[str, Any]:
    """All arrays of a checkpoint by name. Those without entries are left out, since orbax cannot save them."""
    trees = {"model": state[0], "optimizer": state[1], "losses": losses, "best": best}
    return {name: leaf for name, leaf in by_path(trees).items() if leaf.size}


def _leaves(tree: nnx.State, arrays: Mapping[str, Any], label: str) -> list[Any]:
    """The leaves of a tree, those of them that are in a checkpoint."""
    return [arrays.get(f"{label}/{path}", leaf) for path, leaf in by_path(tree).items()]


def _describe(arrays: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in arrays.items()}


def _bytes(arrays: Mapping[str, Any]) -> Iterator[bytes]:
    for name in sorted(arrays):
        leaf = arrays[name]
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        yield np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def _digest(content: Iterable[bytes]) -> str:
    """A checksum: most of the files that orbax writes have none."""
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return digest.hexdigest()


def weights(state: nnx.State) -> nnx.State:
    """The model's part of the state of (model, optimizer), without its random streams."""
    return nnx.filter_state(state[0], nnx.Not(nnx.RngState))


def describe_model(model: nnx.Module) -> dict[str, str]:
    """The type of each module by path, and of a rule, if there is one: what arrays do not tell."""
    return {
        "/".join(map(str, ("model", *path))): type(module).__name__
        + (f" under {module.rule_name}" if isinstance(module, OnlineCell) else "")
        for path, module in nnx.iter_modules(model)
    }
