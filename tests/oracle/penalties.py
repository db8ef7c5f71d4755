"""Losses of hidden layers' own activity, beside the loss of the network's outputs.

A penalty is a loss of the outputs s [B, N] of a layer. The total loss is the mean over T and B of the network's loss and of the
penalties, each as a function of one step and sample; or a penalty is one function of the mean activity over T and B.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Penalty:
    """A loss per step and sample.

    Rules by layers multiply its derivative by s with what the signal from above is multiplied with, if it `joins` that. In
    OTPE, its approximation and e-prop this is a sum over time below the last layer; apart from the signal, the derivative
    is multiplied with what the output of this step alone owes to the parameters.
    """

    layer: int
    function: Callable  # [B, N] -> (losses [B], derivatives [B, N])
    joins: bool = True

    def at(self, history, t) -> "Penalty":
        return self


@dataclass(frozen=True)
class PenaltyOfMean:
    """A function of the mean over T and B; with `window`, of that in each window, in the mean over windows by their length."""

    layer: int
    function: Callable  # [N] -> (loss, derivatives [N])
    joins: bool = True
    window: int | None = None

    def at(self, history, t) -> Penalty:
        """As a loss of step t: with y the mean of n values y_k, dg/dy_k is g'(y) / n, and so is that of a mean of g'(y) y_k."""
        window = self.window or len(history)
        first = t - t % window
        mean = np.mean([steps[self.layer].output for steps in history[first : first + window]], axis=(0, 1))
        value, derivatives = self.function(mean)

        def of_step(values):
            return np.full(len(values), value), np.broadcast_to(derivatives, values.shape)

        return Penalty(self.layer, of_step, self.joins)


def firing_rate(target) -> Callable:
    """1/2 sum over neurons of (f - target)^2 of mean outputs f [N], in spikes per step."""
    return lambda f: (((f - target) ** 2).sum() / 2, f - target)


class Own(NamedTuple):
    """The derivatives of the penalties of a layer in a step by its outputs [B, N], each as a mean over B."""

    joined: Any
    apart: Any  # of those that do not join the signal


def own_losses(steps, penalties) -> tuple[float, list[Own | None]]:
    """The sum of the penalties of a step, as a mean over B, and their derivatives per layer, None for one without any."""
    total, own = 0.0, [None] * len(steps)
    for penalty in penalties:
        values = steps[penalty.layer].output
        losses, derivatives = penalty.function(values)
        total += float(np.mean(losses))
        if own[penalty.layer] is None:
            own[penalty.layer] = Own(*(np.zeros_like(values) for _ in Own._fields))
        kind = own[penalty.layer].joined if penalty.joins else own[penalty.layer].apart
        kind += derivatives / len(values)
    return total, own
