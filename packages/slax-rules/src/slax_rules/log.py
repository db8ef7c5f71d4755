"""The history of a run while it is written, and the bar that shows it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from tqdm.auto import tqdm

from slax_rules.callbacks import Numbers


class Log:
    """Losses of all steps and records of evaluations and callbacks, in order.

    A device works on while the host goes on, so losses are read one call late, or when something needs them.
    """

    def __init__(self, losses: np.ndarray, records: list[dict[str, Any]], bar: tqdm):
        self.read: list[np.ndarray] = [losses]
        self.records = list(records)
        self.unread: list[tuple[Array, int]] = []
        self.shown: dict[str, float] = {}
        self.bar = bar

    def add(self, losses: Float[Array, " K"], count: int) -> None:
        """The losses of a call, of which the first `count` are steps; reads those of the calls before."""
        self.settle()
        self.unread.append((losses, count))

    def settle(self) -> None:
        """Waits for all calls and reads their losses.

        Raises:
            FloatingPointError: a loss that is not finite.
        """
        while self.unread:
            losses, count = self.unread.pop(0)
            new = np.asarray(losses)[:count]
            _check_finite(new, sum(map(len, self.read)))
            self.read.append(new)
            self.show({"loss": float(new[-1])})
            self.bar.update(count)

    def note(self, step: int, epoch: int, numbers: Numbers | None) -> None:
        """A record, if there is something to record."""
        if not numbers:
            return
        values = {name: None if value is None else float(value) for name, value in numbers.items()}
        self.records.append({"step": step, "epoch": epoch, **values})

    def show(self, numbers: Mapping[str, float]) -> None:
        """Numbers beside the bar, until others of the same name come."""
        self.shown.update(numbers)
        self.bar.set_postfix(self.shown, refresh=False)

    def losses(self) -> np.ndarray:
        """Of all steps so far."""
        self.settle()
        return np.concatenate(self.read)


def _check_finite(losses: np.ndarray, before: int) -> None:
    finite = np.isfinite(losses)
    if not finite.all():
        first = int(np.argmin(finite))
        raise FloatingPointError(
            f"The loss of step {before + first + 1} is {losses[first]}, expected a finite number. A label out of range makes "
            "it so, or inputs that are not finite, or parameters that have run away: lower the learning rate, or clip "
            "gradients with optax.chain(optax.clip_by_global_norm(1.0), ...). Checkpoints up to then are in order."
        )
