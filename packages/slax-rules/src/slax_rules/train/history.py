"""The numbers of a training run."""

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
            defined. An array, such as a confusion matrix, is a nested list.
        best_step: the step of the best evaluation, if early stopping was used.
        stopped_early: whether early stopping or a callback ended the run.
        resumed_from: the step of the checkpoint that the run resumed from, if it did.

    Example:
        >>> import numpy as np
        >>> from slax_rules.train.history import History
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
        last = f"; last loss {self.losses[-1]:.4g}" if len(self.losses) else ""
        records = f"; {len(self.records)} records of {', '.join(self._names())}" if self.records else ""
        return f"History({len(self.losses)} steps{last}{records})"

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
