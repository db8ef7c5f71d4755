"""The progress of `fit`, and the form in which a checkpoint keeps it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from slax_rules.training.stopping import EarlyStoppingState
from slax_rules.training.weights import weights

PARTS = ("model", "rule", "optimizer")


class Progress(NamedTuple):
    """The progress of a run.

    Args:
        step: optimizer steps of `fit` so far.
        epoch: the current epoch.
        batches: number of batches of this epoch that are done.
        early_stopping: the state of early stopping, if it is used.
        best: the model's state at the best evaluation, if it is to be restored.
        best_saved: the value of the evaluation whose weights are saved as the best, if any.
    """

    step: int
    epoch: int
    batches: int
    early_stopping: EarlyStoppingState | None = None
    best: nnx.State | None = None
    best_saved: float | None = None


def parts(state: nnx.State) -> dict[str, Any]:
    """The parts of the state of (model, rule, optimizer) that are not empty, by name."""
    return {name: state[number] for number, name in enumerate(PARTS) if number in state}


def whole(state: nnx.State, trees: Mapping[str, Any]) -> nnx.State:
    """The state of (model, rule, optimizer) with parts from a checkpoint."""
    found = {number: trees[name] for number, name in enumerate(PARTS) if number in state}
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(found))


def as_saved(
    state: nnx.State, progress: Progress, losses: np.ndarray, records: list[dict[str, Any]]
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The step, the trees and the facts of a checkpoint.

    Args:
        state: state of (model, rule, optimizer).
        progress: progress of the run, after at least one step.
        losses, records: see `History`.
    """
    facts = {
        "progress": progress._asdict() | {"best": progress.best is not None},
        "records": records,
        "losses": losses.dtype.name,
    }
    return progress.step, parts(state) | {"losses": losses, "best": progress.best}, facts


def expected(state: nnx.State) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The trees that a checkpoint with some facts has to have, in the structure and on the devices of `state`."""

    def trees(facts: dict[str, Any]) -> dict[str, Any]:
        progress = Progress(**facts["progress"])
        best = weights(state[0]) if progress.best else None
        return parts(state) | {"losses": np.zeros(progress.step, facts["losses"]), "best": best}

    return trees


def as_restored(
    state: nnx.State, trees: dict[str, Any], facts: dict[str, Any]
) -> tuple[nnx.State, Progress, np.ndarray, list[dict[str, Any]]]:
    """What `as_saved` was given."""
    progress = Progress(**facts["progress"])
    stopping = progress.early_stopping and EarlyStoppingState(*progress.early_stopping)
    best = trees["best"] if progress.best else None
    progress = progress._replace(early_stopping=stopping, best=best)
    return whole(state, trees), progress, np.asarray(trees["losses"]), facts["records"]
