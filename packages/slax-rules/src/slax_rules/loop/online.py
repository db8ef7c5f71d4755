"""Online learning: an optimizer step after each window, while the state and the traces of the rule continue."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from slax_rules.layerwise.engine import as_rule
from slax_rules.loop.learner import Batch, Learner
from slax_rules.loop.objective import RunningMeans, all_reduce
from slax_rules.loop.update import moved, optimizer_step
from slax_rules.loop.windows import Pair, window_gradient


class Online(NamedTuple):
    """Everything that continues from one window to the next.

    Args:
        objects: the state of (model, rule, optimizer).
        state: the state of the rule, with the model's carry.
        means: the means since the start that penalties refer to, if there are any.
    """

    objects: nnx.State
    state: Any
    means: RunningMeans | None


def online_window(graphdef: nnx.GraphDef, learner: Learner, online: Online, window: Batch) -> tuple[Online, Array, Any]:
    """Take an optimizer step with the gradient of the mean loss of a window.

    Args:
        graphdef: graph of (model, rule, optimizer).
        learner: the losses, the plan and the devices; its model and rule are replaced.
        online: what the windows before have left.
        window: the window.

    Returns:
        What the next window needs; the loss, NaN if no step was taken since it or the gradient is not finite; and the outputs
        of the window, with the parameters before the step.
    """
    model, given, optimizer = nnx.merge(graphdef, online.objects, copy=True)

    def gradient_of(model: nnx.RNNCellBase, given: Any) -> Any:
        return window_gradient(learner.of(model, as_rule(given)), online.state, window, online.means)

    before = nnx.clone((model, given))
    found = gradient_of(model, given)

    def gradient_at(params: Any) -> Pair:
        there = gradient_of(*moved(before, params))
        return Pair(there.model, there.rule)

    whole, outputs = found.loss
    loss, means = (whole, None) if online.means is None else whole
    gradient, counts = Pair(found.model, found.rule), some_count(window, learner.axis)
    loss = optimizer_step(model, given, optimizer, loss, gradient, counts, gradient_at, before[0])
    return Online(nnx.state((model, given, optimizer)), found.state, means), loss, outputs


def some_count(batch: Batch, axis: str | None) -> Array | None:
    """Whether any loss of a batch counts, on all devices together; None if all do."""
    return None if batch.mask is None else all_reduce(jnp.sum(batch.mask, dtype=jnp.int32), axis) > 0
