"""Losses of hidden layers' own outputs, beside the loss of the network's outputs.

The total loss is the mean over T and B of the network's loss and of the penalties, each a function of one step and sample; or a
penalty is one function of the mean output over T and B. Rules by layers multiply its derivative with what the output of this
step alone owes to the parameters, and send it down within the step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Penalty:
    """A loss of the outputs of a layer."""

    layer: int
    function: Callable  # [B, N] -> (losses [B], derivatives [B, N]); of a mean [N] -> (loss, derivatives [N])
    weight: float = 1.0
    of_mean: bool = False
    mask: Any = None  # [T, B], true where outputs count; all do without one

    def at(self, history, t) -> tuple[int, np.ndarray, np.ndarray]:
        """The layer, the losses [B] of step t, and their derivatives [B, N].

        With y the mean of n values y_k, dg/dy_k is g'(y) / n, and so is that of a mean of g'(y) y_k.
        """
        outputs = np.stack([steps[self.layer].output for steps in history])
        mask = np.ones(outputs.shape[:2], bool) if self.mask is None else self.mask
        factor = self.weight * mask[t] * mask.size / mask.sum()
        if self.of_mean:
            loss, slope = self.function(outputs[mask].mean(axis=0))
            return self.layer, np.full(len(factor), self.weight * loss), factor[:, None] * slope
        losses, slopes = self.function(outputs[t])
        return self.layer, factor * losses, factor[:, None] * slopes


def own_losses(layers, penalties) -> tuple[float, list[np.ndarray | None]]:
    """The sum of the penalties of a step, as a mean over B, and their derivatives per layer [B, N] or None."""
    total, own = 0.0, [None] * len(layers)
    for layer, losses, derivatives in penalties:
        total += float(np.mean(losses))
        own[layer] = (0.0 if own[layer] is None else own[layer]) + derivatives / len(losses)
    return total, own
