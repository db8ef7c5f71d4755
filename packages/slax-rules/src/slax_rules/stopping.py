"""Early stopping: patience on a number of the held-out set."""

import dataclasses
from typing import Literal, NamedTuple


class Patience(NamedTuple):
    """How early stopping stands.

    Args:
        best: the best value so far.
        step: where it was.
        waited: evaluations since then.
    """

    best: float
    step: int
    waited: int


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stops `fit` after `patience` evaluations in a row without one that is better than the best by more than `min_delta`.

    Args:
        metric: a name of the evaluation: "loss", or one of `metrics`.
        patience: evaluations, >= 1.
        min_delta: what counts as better, >= 0.
        mode: "min" if less is better, "max" if more is.
        restore_best: give the model the parameters and statistics of the best evaluation at the end, whether or not it was
            stopped. The optimiser keeps its own.

    Raises:
        ValueError: a patience below 1, a negative min_delta, an unknown mode; in `update`, NaN.
    """

    metric: str = "loss"
    patience: int = 5
    min_delta: float = 0.0
    mode: Literal["min", "max"] = "min"
    restore_best: bool = False

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_delta < 0 or self.mode not in ("min", "max"):
            raise ValueError(
                f"EarlyStopping got patience={self.patience}, min_delta={self.min_delta}, mode={self.mode!r}, expected a "
                'patience of at least 1, min_delta of at least 0, and "min" or "max".'
            )

    def update(self, before: Patience | None, value: float, step: int) -> Patience:
        """How it stands after an evaluation at `step`."""
        if value != value:
            raise ValueError(
                f"Early stopping got NaN for {self.metric!r} at step {step}, expected a number that compares. Look at the "
                "outputs, or choose another metric."
            )
        if before is None or self._gain(before.best, value) > self.min_delta:
            return Patience(value, step, 0)
        return before._replace(waited=before.waited + 1)

    def is_over(self, now: Patience | None) -> bool:
        return now is not None and now.waited >= self.patience

    def _gain(self, best: float, value: float) -> float:
        return best - value if self.mode == "min" else value - best
