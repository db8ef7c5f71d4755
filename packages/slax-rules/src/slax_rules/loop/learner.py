"""A model that learns, the batch that it learns from, and the losses."""

import dataclasses
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array

from slax_rules.loop.objective import WindowObjective
from slax_rules.loop.targets import Targets
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.penalties import LayerPenalty
from slax_rules.probes import Probe
from slax_rules.rule import Heads, LearningRule, Objective, WindowGradient


class Batch(NamedTuple):
    """A batch of sequences, or the part of it in a window.

    Args:
        inputs: inputs [T, B, ...].
        targets: see `Targets`.
        mask: mask [T, B], or None.
        signals: the gradient of the losses w.r.t. the heads of the rule if it is known beforehand, else None.
    """

    inputs: Array
    targets: Targets
    mask: Array | None
    signals: Heads | None = None


class Losses(NamedTuple):
    """The losses of a sequence: that of the model's outputs, and the penalties of hidden layers with the probes they read."""

    loss_fn: LossFn | SequenceLoss
    penalties: tuple[LayerPenalty, ...] = ()
    probes: tuple[Probe, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """A model with the rule and the losses that it learns by.

    Args:
        model: a cell.
        rule: a rule for the entire model.
        plan: the rule's plan for the model.
        losses: the losses of a sequence.
        axis: the name of the mesh axis over the batch, or None for one device.
    """

    model: nnx.RNNCellBase
    rule: LearningRule
    plan: Any
    losses: Losses
    axis: str | None = None

    def of(self, model: nnx.RNNCellBase, rule: LearningRule | None = None) -> "Learner":
        """The same for a copy of the model, and of the rule if there is one."""
        return dataclasses.replace(self, model=model, rule=self.rule if rule is None else rule)

    def objective(self, batch: Batch, means: list[Array | None] | None = None) -> WindowObjective:
        """The objective of a batch, or of a window of it."""
        loss_fn, penalties, probes = self.losses
        return WindowObjective(loss_fn, batch.targets, batch.mask, self.axis, penalties, probes, means)

    def forward(self, state: Any, inputs: Array) -> tuple[Heads, Any]:
        """The heads of a window, and the state with the model's carry after it."""
        return self.rule.forward(self.plan, self.model, state, inputs, self.losses.probes)

    def window(self, state: Any, inputs: Array, objective: Objective) -> WindowGradient:
        """The gradient of a window by the rule; on several devices, of the share of this one."""
        return self.rule.window(self.plan, self.model, state, inputs, objective)
