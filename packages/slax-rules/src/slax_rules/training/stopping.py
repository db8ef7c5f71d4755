"""Early stopping: patience with a number measured on the held-out set."""

import dataclasses
import math
from typing import Literal, NamedTuple

Mode = Literal["min", "max"]


class EarlyStoppingState(NamedTuple):
    """The state of early stopping.

    Args:
        best: the best value so far.
        step: the step of the best value.
        waited: number of evaluations since then.
    """

    best: float
    step: int
    waited: int


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """A criterion that stops `fit` after `patience` evaluations without a gain of more than `min_delta` over the best.

    Args:
        metric: a number of the evaluation: "loss", or one of `metrics`.
        patience: number of evaluations, >= 1.
        min_delta: gain above which a value counts as better, >= 0.
        mode: "min" if less is better, "max" if more is. It may be omitted for "loss" and "accuracy".
        restore_best: give the model the parameters and statistics of the best evaluation at the end, whether or not the run
            stopped early. The optimizer and the rule keep their last values.

    Raises:
        ValueError: a patience below 1, a negative min_delta, an unknown mode, no mode for a metric of another name; in
            `update`, NaN.

    Example:
        >>> from slax_rules import EarlyStopping
        >>> stopping = EarlyStopping("accuracy", patience=3, restore_best=True)
    """

    metric: str = "loss"
    patience: int = 5
    min_delta: float = 0.0
    mode: Mode | None = None
    restore_best: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", mode_of("EarlyStopping", self.metric, self.mode))
        if self.patience < 1 or self.min_delta < 0:
            raise ValueError(
                f"EarlyStopping got patience={self.patience}, min_delta={self.min_delta}, expected a patience of at least 1 "
                "and min_delta of at least 0."
            )

    def update(self, before: EarlyStoppingState | None, value: float, step: int) -> EarlyStoppingState:
        """Return the state after an evaluation at `step`."""
        check_comparable("EarlyStopping", self.metric, value, step)
        if before is None or gain(self.mode, before.best, value) > self.min_delta:
            return EarlyStoppingState(value, step, 0)
        return before._replace(waited=before.waited + 1)

    def should_stop(self, state: EarlyStoppingState | None) -> bool:
        """True if the patience is exhausted."""
        return state is not None and state.waited >= self.patience


def mode_of(name: str, metric: str, mode: str | None) -> Mode:
    """The mode, or the default for a metric of this name if none is given; `name` is the class with this option.

    Raises:
        ValueError: an unknown mode, or none for a metric without a default.
    """
    found = {"loss": "min", "accuracy": "max"}.get(metric) if mode is None else mode
    if found == "min":
        return "min"
    if found == "max":
        return "max"
    raise ValueError(
        f'{name} got mode={mode!r} for the metric {metric!r}, expected "min" if less is better or "max" if more is.'
    )


def check_comparable(name: str, metric: str, value: float, step: int) -> None:
    """Raise ValueError for NaN, which is neither better nor worse than a number; `name` is the class that compares."""
    if math.isnan(value):
        raise ValueError(
            f"{name} got NaN for {metric!r} at step {step}, expected a comparable number. Look at the outputs, or choose "
            "another metric."
        )


def gain(mode: Mode | None, best: float, value: float) -> float:
    """The amount by which a value is better than the best one."""
    return best - value if mode == "min" else value - best
