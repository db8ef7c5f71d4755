"""Learning from reward: the sum of trace-weighted signals of each sample is kept, and multiplied by a reward when it arrives.

    z_t = discount z_{t-1} + g_t        # g_t: the gradient of -log pi(a_t | y_t) under a rule, for each sample
    gradient: mean_b reward_b z_b      # an optimizer that descends it increases the reward

A trial is an ordinary value: it starts, is extended window by window while the model acts, and gives a gradient for any reward
at any time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Shaped

from slax_neurons import Dropout, unroll
from slax_neurons.building_blocks import as_shape, cast_inputs, check_sequence, input_dtype
from slax_rules.api import check_loss
from slax_rules.loop import initial_state
from slax_rules.losses import LossFn, PerStep
from slax_rules.masks import check_steps_and_samples
from slax_rules.rules.base import Rule, RuleState, check_is_rule
from slax_rules.windows import Batch, WindowLoss


class Trial(NamedTuple):
    """A sequence in progress, whose reward is not known yet.

    Args:
        state: the state of the rule for each sample, with the model's carry, leaves [B, ...].
        trace: z, the discounted sum of each sample's gradients so far, in the structure of the model's parameters, leaves
            [B, ...]. It takes as much memory as B copies of the parameters.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, start_trial
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> trial = start_trial(model, (2, 8), rule=OSTL())
        >>> trial.trace["modules"][0]["kernel"][...].shape
        (2, 8, 16)
    """

    state: RuleState
    trace: nnx.State


def start_trial(model: nnx.RNNCellBase, input_shape: tuple[int, ...], *, rule: Rule) -> Trial:
    """Start a trial of each sample, with the model at rest and without traces.

    Args:
        model: a model that the rule can handle.
        input_shape: shape [B, features...] of one step's inputs.
        rule: `OSTL()`, or any other rule without parameters of its own and without random numbers.

    Raises:
        TypeError: a rule with parameters, a rule or a model with a random key in its state, or one that the rule cannot handle.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import OSTL, start_trial
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> trial = start_trial(model, (3, 4), rule=OSTL())
        >>> float(trial.trace["modules"][0]["bias"][...].sum())
        0.0
    """
    input_shape = as_shape("start_trial", input_shape, "that of a step, (B, features...)", axes=2)
    check_is_rule(rule)
    if jax.tree.leaves(nnx.state(rule, nnx.Param)):
        raise TypeError(f"start_trial got {rule.title} with parameters of its own, expected a rule without.")
    params = nnx.state(model, nnx.Param)
    one_step = jax.ShapeDtypeStruct((1, *input_shape[1:]), input_dtype(model))
    rule.check(model, one_step)
    state = initial_state(rule, model, one_step)
    drops = [module for _, module in nnx.iter_modules(model) if isinstance(module, Dropout)]
    idle = sum(drop.deterministic and drop.per == "step" for drop in drops)  # each has a key that it does not use
    keys = sum(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    if keys > idle or not all(drop.deterministic for drop in drops):
        raise TypeError(f"start_trial got a random key in the state under {rule.title}. Use OSTL(), and model.eval().")

    def for_each_sample(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf[None], (input_shape[0], *leaf.shape))

    return Trial(
        jax.tree.map(for_each_sample, state), jax.tree.map(lambda p: for_each_sample(jnp.zeros_like(p)), params)
    )


def extend_trial(
    model: nnx.RNNCellBase,
    trial: Trial,
    loss_fn: LossFn,
    inputs: Shaped[Array, "K B ..."],
    act: Callable[[Any], Any],
    *,
    rule: Rule,
    discount: float = 1.0,
    mask: Array | None = None,
) -> tuple[Trial, Any, Any]:
    """Run K more steps of a trial, in which the model acts, and add the gradients of -log pi(a_t | y_t) to the trace.

        z_t = discount z_{t-1} + g_t

    Parameters are constant within the K steps; between calls they may change, as in online training. Unlike
    `gradients`, a call is not compiled: it traces the rule and runs its operations one by one. In a loop, call it within a
    function under `nnx.jit`, which is compiled once for each shape; the model, the trial and the rule may be its arguments.

    Actions have to be known before their losses, so there are two forward passes over the K steps: one for the actions, and one
    for the gradient.

    Args:
        model: the model, whose own variables stay unchanged: call `model.eval()` if it has a norm.
        trial: the trial so far.
        loss_fn: -log pi, which maps outputs [B, ...] and actions [B, ...] of one step to numbers [B]: `cross_entropy` for
            actions that are drawn from the softmax of the outputs, `squared_error` for numbers with Gaussian noise.
        inputs: inputs of K steps.
        act: maps the outputs [K, B, ...] of the steps to the actions, [K, B, ...], such as
            `lambda outputs: jax.random.categorical(key, outputs)`.
        rule: the rule that the trial was started with. Under BPTT, the gradient flows through the K steps of a call.
        discount: the decay of the trace per step, in [0, 1].
        mask: bool [K, B], true where the model acts; at each step by default. Elsewhere neither actions nor their losses
            matter, and may be NaN. It may be false everywhere: the model then waits for a reward.

    Returns:
        The trial after the steps, the outputs, and the actions.

    Raises:
        ValueError: inputs, mask or actions of a wrong shape, another number of samples than the trial's, the trial of another
            rule or model, or a discount outside [0, 1].
        TypeError: a model that the rule cannot handle, or a `SequenceLoss`.

    References:
        Williams: Simple statistical gradient-following algorithms for connectionist reinforcement learning, 1992,
        doi 10.1007/BF00992696. Bellec et al. 2020, doi 10.1038/s41467-020-17236-y, for reward-based e-prop.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, cross_entropy, extend_trial, reward_gradient, start_trial
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> trial = start_trial(model, inputs.shape[1:], rule=OSTL())
        >>> def act(outputs):
        ...     return jax.random.categorical(jax.random.key(1), outputs)
        >>> last = jnp.zeros((20, 2), bool).at[-1].set(True)  # one action, in the last step
        >>> trial, outputs, actions = extend_trial(model, trial, cross_entropy, inputs, act, rule=OSTL(), mask=last)
        >>> gradient = reward_gradient(trial, jnp.where(actions[-1] == labels, 1.0, 0.0))
        >>> gradient["modules"][0]["kernel"][...].shape
        (8, 16)
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"extend_trial got discount={discount}, expected a number in [0, 1].")
    check_sequence(inputs)
    check_loss("extend_trial", loss_fn, online=True)
    steps, batch = inputs.shape[:2]
    if mask is not None:
        check_steps_and_samples(mask, (steps, batch))
    inputs = cast_inputs(model, inputs)
    rest = jax.eval_shape(lambda: start_trial(model, inputs.shape[1:], rule=rule))
    check_same_start(f"extend_trial got inputs of {batch} samples and a trial", rule, rest, trial)
    graphdef, variables = nnx.split(model)

    def forward(carry: Any, inputs: Array) -> Any:
        _, outputs = unroll(nnx.merge(graphdef, variables, copy=True), carry, inputs[:, None])
        return jax.tree.map(lambda leaf: leaf[:, 0], outputs)

    outputs = jax.vmap(forward, in_axes=(0, 1), out_axes=1)(trial.state.carry, inputs)
    actions = act(outputs)
    weights = discount ** jnp.arange(steps - 1, -1, -1, dtype=float)[:, None]

    def extend(
        state: RuleState, trace: nnx.State, inputs: Array, actions: Any, mask: Array | None
    ) -> tuple[RuleState, nnx.State]:
        model = nnx.merge(graphdef, variables, copy=True)
        targets = jax.tree.map(lambda leaf: PerStep(leaf[:, None]), actions)
        one = Batch.read(inputs[:, None], targets, None if mask is None else mask[:, None])
        found = rule.window(model, state, one.inputs, WindowLoss(loss_fn, one, weights=weights))
        return found.state, jax.tree.map(lambda z, g: discount**steps * z + g, trace, found.model)

    state, trace = jax.vmap(extend, in_axes=(0, 0, 1, 1, 1))(trial.state, trial.trace, inputs, actions, mask)
    return Trial(state, trace), outputs, actions


def reward_gradient(trial: Trial, rewards: Array) -> nnx.State:
    """Multiply the trace of each sample by its reward, and return the mean: a step down this gradient increases the reward.

    Args:
        trial: the trial so far.
        rewards: the reward of each sample that arrives now, [B], less a baseline that reduces the noise, such as a running
            mean.

    Returns:
        The gradient in the structure of `nnx.state(model, nnx.Param)`, mean_b rewards_b z_b.

    Raises:
        ValueError: rewards of another shape than [B], one number for each sample of the trial.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import OSTL, cross_entropy, extend_trial, reward_gradient, start_trial
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> trial = start_trial(model, (3, 4), rule=OSTL())
        >>> def act(outputs):
        ...     return outputs.argmax(axis=-1)
        >>> trial, _, _ = extend_trial(model, trial, cross_entropy, jnp.ones((10, 3, 4)), act, rule=OSTL())
        >>> float(reward_gradient(trial, jnp.zeros(3))["modules"][0]["bias"][...].sum())
        0.0
    """
    batch = _batch(trial)
    if jnp.shape(rewards) != (batch,):
        raise ValueError(f"reward_gradient got rewards of shape {list(jnp.shape(rewards))}, expected [{batch}].")

    def weigh(trace: Array) -> Array:
        return jnp.tensordot(jnp.asarray(rewards, trace.dtype), trace, axes=1) / batch

    return jax.tree.map(weigh, trial.trace)


def _batch(trial: Trial) -> int:
    """The number of samples of a trial."""
    return jax.tree.leaves(trial)[0].shape[0]


def check_same_start(got: str, rule: Rule, rest: Trial, trial: Trial) -> None:
    """Raise ValueError for a trial that is not in the form of one at rest under this rule; `got` begins the message."""
    forms: list[Any] = [(jax.tree.structure(one), jax.tree.map(jnp.shape, one)) for one in (rest, trial)]
    if forms[0] != forms[1]:
        raise ValueError(f"{got} of another rule than {rule.title}, another model or batch. Start it anew.")
