"""The history that `fit` returns."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, repr=False)
class History:
    """The numbers of a training run, including steps before a resume. It prints in one line.

    Args:
        losses: the loss of each batch before its update, [steps].
        records: one record, in order, for each evaluation and each callback that returned numbers: "step", "epoch", and the
            numbers by name. An evaluation has "loss", on the held-out set, and the metrics. None marks a number that was not
            defined.
        best_step: the step of the best evaluation, if early stopping was used.
        stopped_early: whether early stopping ended the run.

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
        return f"History({'; '.join(parts)})"

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps and values of one number, where it is defined.

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
