"""The history of a run while it is recorded, and the progress bar that shows it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from slax_rules.training.callbacks import Metrics
from slax_rules.training.epoch import Call


class StepNotFinite(Exception):
    """A step of training whose numbers are not finite.

    Args:
        step: its number, counted from 1 over all epochs.
        call: the call that it was part of.
        index: its index in the call, from 0.
    """

    def __init__(self, step: int, call: Call, index: int):
        super().__init__(step)
        self.step = step
        self.call = call
        self.index = index


class Log:
    """The losses of all steps and the records of evaluations and callbacks, in order.

    The device computes while the host continues, so losses are read one call later, or when they are needed.
    """

    def __init__(self, losses: np.ndarray, records: list[dict[str, Any]], bar: Any):
        self.read: list[np.ndarray] = [losses]
        self.records = list(records)
        self.unread: list[Call] = []
        self.shown: dict[str, float] = {}
        self.bar = bar

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
                self.show({"loss": float(losses[good - 1])})
                self.bar.update(good)
            if good < call.steps:
                self.unread.clear()
                raise StepNotFinite(sum(map(len, self.read)) + 1, call, good)

    def add_record(self, step: int, epoch: int, metrics: Metrics | None) -> None:
        """Add a record, if there is anything to record."""
        if not metrics:
            return
        values = {name: None if value is None else float(value) for name, value in metrics.items()}
        self.records.append({"step": step, "epoch": epoch, **values})

    def show(self, numbers: Mapping[str, float]) -> None:
        """Show numbers next to the bar, until others of the same name replace them."""
        self.shown.update(numbers)
        self.bar.set_postfix(self.shown, refresh=False)

    def losses(self) -> np.ndarray:
        """Return the losses of all steps so far."""
        self.flush()
        return np.concatenate(self.read)


class NoBar:
    """A stand-in for the bar where it cannot be drawn."""

    def update(self, count: int) -> None:
        pass

    def set_postfix(self, numbers: Mapping[str, float], refresh: bool) -> None:
        pass

    def close(self) -> None:
        pass


def make_bar(total: int | None, initial: int, progress: bool | None) -> Any:
    """Make a bar for the steps of a run: by default only at a terminal, and only if tqdm is installed.

    Raises:
        ImportError: a bar is requested, and tqdm is not installed.
    """
    try:
        from tqdm.auto import tqdm  # not needed to import this package
    except ImportError as error:
        if progress:
            raise ImportError("fit got progress=True, which needs tqdm. Install it: pip install tqdm.") from error
        return NoBar()
    if jax.process_index():  # one bar is enough
        progress = False
    return tqdm(total=total, initial=initial, unit="step", disable=None if progress is None else not progress)
