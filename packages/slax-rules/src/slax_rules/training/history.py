"""The history that `fit` returns, its progress, and how both are kept while it trains."""

import dataclasses
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from slax_rules.training.callbacks import EarlyStoppingState, Metrics
from slax_rules.training.epoch import Call

# A loss above this multiple of the first one, or of 1 if that is less, is warned of. The relative precision of float32 is 1e-7.
GROWTH = 1e7


@dataclasses.dataclass(frozen=True, repr=False)
class History:
    """The numbers of a training run, including steps before a resume. It prints in one line.

    Args:
        losses: the loss of each batch before its update, [steps].
        records: one record, in order, for each evaluation and each callback that returned numbers: "step", "epoch", and the
            numbers by name. An evaluation has "loss", on the held-out set, and the metrics. None marks a number that was not
            defined. An array, such as a confusion matrix, is a nested list.
        best_step: the step of the best evaluation, if early stopping was used.
        stopped_early: whether early stopping or a callback ended the run.
        resumed_from: the step of the checkpoint that the run resumed from, if it did.

    Example:
        >>> import numpy as np
        >>> from slax_rules import History
        >>> records = [{"step": 10, "epoch": 0, "accuracy": 0.5}, {"step": 20, "epoch": 1, "accuracy": 0.75}]
        >>> history = History(np.linspace(1.1, 0.7, 20), records)
        >>> history
        History(20 steps; last loss 0.7; 2 records of accuracy)
        >>> history.series("accuracy")
        (array([10, 20]), array([0.5 , 0.75]))
    """

    losses: np.ndarray
    records: list[dict[str, Any]]
    best_step: int | None = None
    stopped_early: bool = False
    resumed_from: int | None = None

    def __repr__(self) -> str:
        parts = [f"{len(self.losses)} steps"]
        if len(self.losses):
            parts.append(f"last loss {self.losses[-1]:.4g}")
        if self.records:
            names = self._names()
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            parts.append(f"{len(self.records)} records of {shown}")
        if self.best_step is not None:
            parts.append(f"best step {self.best_step}")
        if self.stopped_early:
            parts.append("stopped early")
        if self.resumed_from is not None:
            parts.append(f"resumed from step {self.resumed_from}")
        return f"History({'; '.join(parts)})"

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps and values of one number, where it is defined; [records, ...] for arrays.

        Raises:
            KeyError: no record has it.
        """
        found = [(record["step"], record[name]) for record in self.records if name in record]
        if not found:
            names = ", ".join(self._names()) or "none, there are no records"
            raise KeyError(f"The history got no {name!r}, expected one of: {names}.")
        defined = [(step, value) for step, value in found if value is not None]
        return np.array([step for step, _ in defined], int), np.array([value for _, value in defined], float)

    def _names(self) -> list[str]:
        return sorted({name for record in self.records for name in record} - {"step", "epoch"})


class Progress(NamedTuple):
    """The progress of a run.

    Args:
        step: optimizer steps of `fit` so far.
        epoch: the current epoch.
        batches: number of batches of this epoch that are done.
        early_stopping: the state of early stopping, if it is used.
        best: the model's state at the best evaluation, if it is to be restored.
    """

    step: int
    epoch: int
    batches: int
    early_stopping: EarlyStoppingState | None = None
    best: nnx.State | None = None


class StepNotFinite(Exception):
    """A step of training whose numbers are not finite.

    Args:
        step: its number, counted from 1 over all epochs.
        call: the call that it was part of.
        index: its index in the call, from 0.
    """

    def __init__(self, step: int, call: Call, index: int):
        super().__init__(step)
        self.step, self.call, self.index = step, call, index


class Log:
    """The losses of all steps and the records of evaluations and callbacks, in order.

    The device computes while the host continues, so losses are read one call later, or when they are needed.
    """

    def __init__(self, losses: np.ndarray, records: list[dict[str, Any]], bar: Any, has_lines: bool = False):
        self.read: list[np.ndarray] = [losses]
        self.records = list(records)
        self.unread: list[Call] = []
        self.shown: dict[str, float] = {}
        self.bar = bar
        self.has_lines = has_lines
        self.began = time.perf_counter()
        self.largest = 0.0
        self.is_told = False

    def add(self, call: Call) -> None:
        """Add a call, and read the losses of earlier calls."""
        self.flush()
        self.unread.append(call)

    def flush(self) -> None:
        """Wait for all calls and read their losses.

        Raises:
            StepNotFinite: a loss that is not finite. The losses before it are read.
        """
        while self.unread:
            call = self.unread.pop(0)
            losses = np.asarray(call.losses)[: call.steps]
            finite = np.isfinite(losses)
            good = call.steps if finite.all() else int(np.argmin(finite))
            if good:
                self.read.append(losses[:good])
                self.largest = max(self.largest, float(losses[:good].max()))
                self.show({"loss": float(losses[good - 1])})
                self.bar.update(good)
            if good < call.steps:
                self.unread.clear()
                raise StepNotFinite(sum(map(len, self.read)) + 1, call, good)

    def add_record(self, step: int, epoch: int, metrics: Metrics | None) -> None:
        """Add a record, if there is anything to record.

        Raises:
            TypeError: anything but numbers by name, or None.
        """
        if metrics is not None and not isinstance(metrics, Mapping):
            raise TypeError(
                f"A callback returned {metrics!r}, expected numbers by name, such as {{'norm': 1.0}}, or None. To end the run, "
                "raise StopTraining."
            )
        if not metrics:
            return
        values = {name: _as_number(name, value) for name, value in metrics.items()}
        self.records.append({"step": step, "epoch": epoch, **values})

    def show(self, numbers: Mapping[str, float]) -> None:
        """Show numbers next to the bar, until others of the same name replace them."""
        self.shown.update(numbers)
        self.bar.set_postfix(self.shown, refresh=False)

    def end_epoch(self, progress: Progress, epochs: int) -> None:
        """Print a line about an epoch, if there is no bar."""
        now, began = time.perf_counter(), self.began
        self.began = now
        if self.has_lines:
            numbers = "".join(f", {name} {number:.4g}" for name, number in self.shown.items())
            epoch = f"epoch {progress.epoch + 1} of {epochs}, step {progress.step}"
            print(f"fit: {epoch}{numbers}, {now - began:.1f} s", file=sys.stderr, flush=True)

    def losses(self) -> np.ndarray:
        """Return the losses of all steps so far."""
        self.flush()
        return np.concatenate(self.read)

    def growth(self) -> str | None:
        """A warning about a loss that is very much larger than the first one, given once."""
        first = next((float(part[0]) for part in self.read if len(part)), 0.0)
        if self.is_told or self.largest <= GROWTH * max(1.0, abs(first)):
            return None
        self.is_told = True
        return (
            f"fit got a loss of {self.largest:.4g}, expected one near that of the first step, {first:.4g}. Training "
            "diverges, or the targets of a batch are very large. Lower the learning rate, or clip gradients: "
            "optax.chain(optax.clip_by_global_norm(1.0), ...)."
        )


def _as_number(name: str, value: Any) -> Any:
    """A number as a float, an array as nested lists of floats, and None as it is.

    Raises:
        TypeError: anything else.
    """
    try:
        return value if value is None else float(value) if np.ndim(value) == 0 else np.asarray(value, float).tolist()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"A callback or a metric returned {value!r} as {name!r}, expected a number, an array of numbers, or None."
        ) from error


def make_bar(total: int | None, initial: int, progress: bool | None) -> Any:
    """Make a bar for the steps of a run: by default only at a terminal, and in one process only."""
    from tqdm.auto import tqdm  # not needed to import this package

    hidden = True if jax.process_index() else None if progress is None else not progress
    return tqdm(total=total, initial=initial, unit="step", disable=hidden)
