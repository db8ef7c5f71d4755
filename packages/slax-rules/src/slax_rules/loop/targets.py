"""The targets of a sequence, one per step, which are cut into windows as the inputs are, or one per sequence."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from slax_rules.losses import PerSequence, PerStep


class Targets(NamedTuple):
    """A tree of targets, split into leaves.

    Args:
        leaves: the arrays.
        per_step: for each leaf, true if it has one target per step, [T, B, ...], and false for one per sequence, [B, ...].
        structure: structure of the tree.
    """

    leaves: list[Array]
    per_step: tuple[bool, ...]
    structure: Any

    @property
    def steps(self) -> list[Array]:
        """The leaves with one target per step, to be cut into windows."""
        return [leaf for leaf, cut in zip(self.leaves, self.per_step, strict=True) if cut]

    def with_steps(self, steps: list[Array]) -> "Targets":
        """Return the targets of a window, given its leaves per step."""
        pieces = iter(steps)
        leaves = [next(pieces) if cut else leaf for leaf, cut in zip(self.leaves, self.per_step, strict=True)]
        return self._replace(leaves=leaves)

    @property
    def tree(self) -> Any:
        """The targets in the form that loss functions take."""
        return jax.tree.unflatten(self.structure, self.leaves)

    @property
    def step_axes(self) -> Any:
        """The time axis of each leaf, None for one target per sequence, as `jax.vmap` takes it."""
        return jax.tree.unflatten(self.structure, [0 if cut else None for cut in self.per_step])


def read_targets(targets: Any, steps: int, batch: int) -> Targets:
    """Read the targets of a sequence of `steps` steps and `batch` samples.

    Raises:
        ValueError: a leaf that has neither one target per step nor one per sequence, or that could have either.
    """
    parts, _ = jax.tree.flatten(targets, is_leaf=_is_marked)
    leaves: list[Array] = []
    per_step: list[bool] = []
    for part in parts:
        mark = type(part) if _is_marked(part) else None
        for leaf in jax.tree.leaves(part):
            leaves.append(leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf))
            per_step.append(_is_per_step(leaves[-1].shape, steps, batch, mark))
    unmarked = jax.tree.map(lambda part: part.targets if _is_marked(part) else part, targets, is_leaf=_is_marked)
    return Targets(leaves, tuple(per_step), jax.tree.structure(unmarked))


def _is_marked(part: Any) -> bool:
    return isinstance(part, PerStep | PerSequence)


def _is_per_step(shape: tuple[int, ...], steps: int, batch: int, marked: type | None) -> bool:
    is_per_step, is_per_sequence = shape[:2] == (steps, batch), shape[:1] == (batch,)
    if marked is not None:
        if is_per_step if marked is PerStep else is_per_sequence:
            return marked is PerStep
        is_per_step = is_per_sequence = False
    if is_per_step and is_per_sequence:
        raise ValueError(
            f"Got targets of shape {list(shape)} for {steps} steps and {batch} samples, which may be one per step, "
            f"[{steps}, {batch}, ...], or one per sequence, [{batch}, ...], expected only one of them. Say which: "
            "PerStep(targets) or PerSequence(targets)."
        )
    if not (is_per_step or is_per_sequence):
        raise ValueError(
            f"Got targets of shape {list(shape)} for inputs of {steps} steps and {batch} samples, expected [{batch}, ...], one "
            f"per sequence, or [{steps}, {batch}, ...], one per step. Inputs are time first: [T, B, features...]."
        )
    return is_per_step
