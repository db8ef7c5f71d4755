"""A rule window by window, by hand: what the loop of the packages does is compared with it."""

import functools
from typing import Any

import jax
from flax import nnx

from slax_neurons import Connect
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.objective import read_targets
from slax_rules.loop.windows import Batch, Learner, Losses


def start(model: Connect, rule: Any, inputs: jax.Array) -> Any:
    """The state of a rule before the first window of inputs [T, B, ...]."""
    whole, shape = as_rule(rule), inputs.shape[1:]
    plan = whole.plan(model, shape[1:])
    return whole.initialize(plan, model, model.initialize_carry(shape), jax.ShapeDtypeStruct(shape, inputs.dtype))


def window(
    model: Connect, rule: Any, loss_fn: Any, state: Any, inputs: jax.Array, targets: Any, mask: Any = None
) -> tuple[jax.Array, nnx.State, Any]:
    """The mean loss of a window, its gradient, and the state after it. Rules are those whose plans are hashable."""
    graphdef, params = nnx.split(model)
    return _window(graphdef, as_rule(rule), loss_fn, params, state, inputs, targets, mask)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _window(
    graphdef: Any, rule: Any, loss_fn: Any, params: Any, state: Any, inputs: Any, targets: Any, mask: Any
) -> Any:
    model = nnx.merge(graphdef, params)
    batch = Batch(inputs, read_targets(targets, *inputs.shape[:2]), mask)
    plan = rule.plan(model, inputs.shape[2:])
    learner = Learner(model, rule, plan, Losses(loss_fn))
    found = learner.window(state, inputs, learner.objective(batch))
    return found.loss.value, found.model, found.state
