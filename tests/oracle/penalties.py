"""Losses of hidden layers' own outputs, beside the loss of the network's outputs.

The total loss is the mean over T and B of the network's loss and of the penalties, each a function of one step and sample; or a
penalty is one function of the mean output over T and B. Rules by layers multiply its derivative with what the output of this
step alone owes to the parameters, and send it down within the step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Penalty:
    """A loss of the outputs of a layer, per step and sample."""

    layer: int
    function: Callable  # [B, N] -> (losses [B], derivatives [B, N])

    def at(self, history, t) -> "Penalty":
        return self


@dataclass(frozen=True)
class PenaltyOfMean:
    """A function of the mean output over T and B."""

    layer: int
    function: Callable  # [N] -> (loss, derivatives [N])

    def at(self, history, t) -> Penalty:
        """As a loss of step t: with y the mean of n values y_k, dg/dy_k is g'(y) / n, and so is that of a mean of g'(y) y_k."""
        value, derivatives = self.function(np.mean([steps[self.layer].output for steps in history], axis=(0, 1)))

        def of_step(values):
            return np.full(len(values), value), np.broadcast_to(derivatives, values.shape)

        return Penalty(self.layer, of_step)


def firing_rate(target) -> Callable:
    """1/2 sum over neurons of (f - target)^2 of mean outputs f [N], in spikes per step."""
    return lambda f: (((f - target) ** 2).sum() / 2, f - target)


def own_losses(steps, penalties) -> tuple[float, list[np.ndarray | None]]:
    """The sum of the penalties of a step, as a mean over B, and their derivatives per layer [B, N] or None."""
    total, own = 0.0, [None] * len(steps)
    for penalty in penalties:
        values = steps[penalty.layer].output
        losses, derivatives = penalty.function(values)
        total += float(np.mean(losses))
        before = 0.0 if own[penalty.layer] is None else own[penalty.layer]
        own[penalty.layer] = before + derivatives / len(values)
    return total, own
