"""Actor-critic with TD(lambda): a model acts in environments, and learns from rewards with the gradients of any rule.

    delta_t = r_{t+1} + discount V(t+1) - V(t)          # V is 0 after the end of an episode
    z_t = discount trace_decay z_{t-1} + g_t            # g_t: the gradient of -log pi(a_t) - critic V(t) under the rule
    gradient: sum_t mean_b (delta_t z_t + e_t)          # e_t: the gradient of -entropy H(pi_t)

The trial of each sample has z, as for rewards that are known later. Within the K steps between two updates the parameters do
not change, so the sum over t is one gradient of losses with weights, and z is another one:

    sum_t delta_t z_t = sum_s A_s g_s + discount trace_decay A_0 z_before        A_s = delta_s + discount trace_decay A_{s+1}
"""

import dataclasses
import numbers
import operator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import random
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from slax_neurons import unroll
from slax_neurons.building_blocks import as_shape, cast_inputs
from slax_rules.api import check_optimizer, checked_window, warn_of_single_steps
from slax_rules.loop import Gradients, Objects, optimizer_step
from slax_rules.losses import PerStep
from slax_rules.rewards import Trial, check_same_start, start_trial
from slax_rules.rules.base import Rule, RuleState
from slax_rules.step import jitted
from slax_rules.windows import Batch, WindowLoss


@runtime_checkable
class Environment(Protocol):
    """What `train_on_rewards` asks of an environment: pure functions of one episode, of a value that can be hashed.

    A frozen dataclass of numbers can be hashed. After the last step of an episode, the state and the observation are the first
    ones of another episode.

    Example:
        A coin that stays as it is, and a reward for naming its side:
        >>> import dataclasses
        >>> import jax
        >>> import jax.numpy as jnp
        >>> @dataclasses.dataclass(frozen=True)
        ... class Coin:
        ...     n_actions = 2
        ...     def reset(self, key):
        ...         side = jax.random.bernoulli(key).astype(int)
        ...         return side, jax.nn.one_hot(side, 2)
        ...     def step(self, key, side, action):
        ...         reward = jnp.where(action == side, 1.0, 0.0)
        ...         return *self.reset(key), reward, jnp.ones((), bool)
        >>> coin = Coin()
        >>> side, observation = coin.reset(jax.random.key(0))
        >>> float(coin.step(jax.random.key(1), side, side)[2])
        1.0
    """

    @property
    def n_actions(self) -> int:
        """The number of actions, which are 0, 1, ..., n_actions - 1."""

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Array]:
        """Start an episode: its state and the first observation."""

    def step(self, key: PRNGKeyArray, state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        """Act: the state after it, the observation, the reward, and whether the episode ended, so that these are of another."""


class Episodes(NamedTuple):
    """Episodes in progress, one for each sample: all that the next step needs besides the model and the optimizer.

    Args:
        key: the random key of actions and environments.
        trial: the state of the rule and z of each sample.
        world: the state of the environment, leaves [B, ...].
        observation: what the next action is based on, [B, ...].
        ended: true where this observation is the first one of an episode, and the trial still that of the episode before.
        total: the rewards of the episode so far.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from slax_data import MemoryChain
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import OSTL, start_episodes
        >>> model = connect([nnx.Linear(3, 3, rngs=nnx.Rngs(0)), LI()])
        >>> start_episodes(model, MemoryChain(4), 8, rule=OSTL(), key=jax.random.key(0)).observation.shape
        (8, 3)
    """

    key: PRNGKeyArray
    trial: Trial
    world: Any
    observation: Float[Array, "B ..."]
    ended: Bool[Array, " B"]
    total: Float[Array, " B"]


class Rewarded(NamedTuple):
    """What `train_on_rewards` returns, with U updates and B samples.

    Args:
        episodes: the episodes after the last update, with which training goes on.
        returns: the sum of the rewards of the episode that ended before an update, NaN where none did, [U, B].
        steps: the environment steps of all samples before each update, [U].
        errors: the mean of delta squared of each update, [U]; NaN if it or the gradient was not finite, so that no step was
            taken.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules.actor_critic import Rewarded
        >>> found = Rewarded(None, jnp.array([[1.0, jnp.nan], [0.5, 0.0]]), jnp.array([4, 4]), jnp.zeros(2))
        >>> float(jnp.nanmean(found.returns))
        0.5
    """

    episodes: Episodes
    returns: Float[Array, "U B"]
    steps: Int[Array, " U"]
    errors: Float[Array, " U"]


def start_episodes(
    model: nnx.RNNCellBase, environment: Environment, samples: int, *, rule: Rule, key: PRNGKeyArray
) -> Episodes:
    """Start an episode of each sample, with the model at rest and without traces.

    Args:
        model: a model that the rule can handle, with `environment.n_actions` + 1 outputs: the logits of the actions, and the
            value V of the situation.
        environment: what the model acts in, such as `slax_data.MemoryChain(8)`; see `Environment`.
        samples: the number of episodes at a time.
        rule: `OSTL()`, or any other rule without parameters of its own and without random numbers; see `start_trial`.
        key: the random key of the actions and the environment.

    Raises:
        TypeError: a rule or a model that `start_trial` refuses; a number in place of a key.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from slax_data import MemoryChain
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import OSTL, start_episodes
        >>> model = connect([nnx.Linear(3, 3, rngs=nnx.Rngs(0)), LI()])
        >>> episodes = start_episodes(model, MemoryChain(4), 8, rule=OSTL(), key=jax.random.key(0))
        >>> bool(episodes.ended.any())
        False
    """
    if isinstance(key, numbers.Integral):
        raise TypeError(f"start_episodes got key={key}, expected a random key. Make one: jax.random.key({key}).")
    (samples,) = as_shape("start_episodes", (samples,), "the number of samples", axes=1)
    graph, objects = nnx.split((model, rule))
    return jitted(_start, graph, environment, samples)(objects, key)


def _start(graph: nnx.GraphDef, environment: Any, samples: int, objects: nnx.State, key: PRNGKeyArray) -> Episodes:
    model, rule = nnx.merge(graph, objects)
    key, first = random.split(key)
    world, observation = jax.vmap(environment.reset)(random.split(first, samples))
    trial = start_trial(model, observation.shape, rule=rule)
    return Episodes(key, trial, world, observation, jnp.zeros(samples, bool), jnp.zeros(samples))


def train_on_rewards(
    model: nnx.RNNCellBase,
    optimizer: nnx.Optimizer,
    environment: Environment,
    episodes: Episodes,
    *,
    rule: Rule,
    updates: int,
    window: int | None = None,
    discount: float = 0.99,
    trace_decay: float = 0.9,
    critic: float = 0.5,
    entropy: float = 0.01,
) -> Rewarded:
    """Act and learn from rewards by actor-critic with TD(lambda), in one compiled program; changes model and optimizer.

        delta_t = r_{t+1} + discount V(t+1) - V(t),    z_t = discount trace_decay z_{t-1} + g_t
        gradient: sum_t mean_b (delta_t z_t + e_t)

    where g_t is the gradient of -log pi(a_t) - critic V(t) under the rule, for each sample, and e_t that of -entropy H(pi_t).
    All steps between two updates have the parameters before the update, V(t+1) included. Where an episode ends, the state of
    the model, the traces of the rule and z start anew, and an episode that ends within a window waits for the window's end:
    no step is counted, and nothing is learned from the wait.

    Memory: for each sample, z has the size of the parameters, and the gradients of a window have twice this size.

    Args:
        model: the model that the episodes were started with, with the logits of the actions and the value as its outputs. Call
            `model.eval()` if it has a norm.
        optimizer: `nnx.Optimizer(model, transformation, wrt=nnx.Param)`.
        environment: what the episodes were started in.
        episodes: the episodes so far, from `start_episodes` or an earlier call.
        rule: the rule that they were started with, with any route except `Target`. Under BPTT, the gradient flows through the
            steps of one window.
        updates: the number of updates, for each of which a program is compiled once.
        window: steps between two updates, 1 by default.
        discount: the weight gamma of a reward one step later, in [0, 1].
        trace_decay: lambda, in [0, 1]: 0 learns from the next value alone, and 1 from all rewards of the episode.
        critic: the weight of the value's part.
        entropy: the weight of the entropy H(pi) of the actions, which keeps the model exploring.

    Returns:
        The episodes after the last update, and the returns of those that ended.

    Raises:
        ValueError: outputs that are not logits and a value, episodes of another model or rule, a discount or a trace decay
            outside [0, 1], or a window below 1.
        TypeError: anything other than an `nnx.Optimizer`, or an environment that cannot be hashed.

    Warns:
        UserWarning: BPTT or TBPTT without `window`, since their gradient then does not flow through time.

    References:
        Sutton and Barto: Reinforcement learning, 2nd edition, 2018, section 13.5, without the factor discount^t. Lemmel and
        Grosu: Real-time recurrent reinforcement learning, 2025, arXiv 2311.04830, with RTRL and RFLO; their code has this
        factor, a trace decay for each of actor, critic and network, and V(t) from the parameters before the last update.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_data import MemoryChain
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, start_episodes, train_on_rewards
        >>> rngs, rule, environment = nnx.Rngs(0), OSTL(), MemoryChain(1)
        >>> hidden, read_out = nnx.Linear(3, 32, rngs=rngs), nnx.Linear(32, 2 + 1, rngs=rngs)
        >>> model = connect([hidden, LIF(threshold=0.5), read_out, LI()])
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        >>> episodes = start_episodes(model, environment, 32, rule=rule, key=jax.random.key(0))
        >>> found = train_on_rewards(model, optimizer, environment, episodes, rule=rule, updates=300)
        >>> bool(jnp.nanmean(found.returns[-20:]) > 0.8)  # at most 1, and 0 by chance
        True
    """
    check_optimizer("train_on_rewards", optimizer)
    for name, value in (("discount", discount), ("trace_decay", trace_decay)):
        if not 0 <= value <= 1:
            raise ValueError(f"train_on_rewards got {name}={value}, expected a number in [0, 1].")
    warn_of_single_steps("train_on_rewards", rule, window)
    graph, objects = nnx.split((model, rule, optimizer))
    weights = Weights(discount, discount * trace_decay, critic, entropy)
    program = _Program(graph, environment, checked_window(window) or 1, operator.index(updates), weights)
    objects, found = jitted(_Program.run, program)(objects, episodes)
    nnx.update((model, rule, optimizer), objects)
    return found


class Weights(NamedTuple):
    """The numbers of the actor-critic; `decay` is that of z in a step."""

    discount: float
    decay: float
    critic: float
    entropy: float


class _Taken(NamedTuple):
    """What happened in a step: arrays [B, ...], or [K, B, ...] of a window."""

    observation: Array
    action: Array
    value: Array
    reward: Array
    counts: Array


@dataclasses.dataclass(frozen=True)
class _Program:
    """The computation without its arrays."""

    graph: nnx.GraphDef
    environment: Any
    window: int
    updates: int
    weights: Weights

    def run(self, objects: nnx.State, episodes: Episodes) -> tuple[nnx.State, Rewarded]:
        """Take all updates: the state of (model, rule, optimizer) after them, and what was found."""
        (objects, episodes), found = jax.lax.scan(self.update, (objects, episodes), None, self.updates)
        return objects, Rewarded(episodes, *found)

    def update(self, carry: tuple[nnx.State, Episodes], _: None) -> tuple[Any, tuple[Array, Array, Array]]:
        """Act in a window and take an optimizer step."""
        objects, episodes = carry
        model, rule, optimizer = nnx.merge(self.graph, objects, copy=True)
        trial = _begin_anew(rule, model, episodes)
        keys = random.split(episodes.key, self.window * (len(episodes.ended) + 1) + 1)
        # Of each step: for the actions, and for each environment.
        following, keys = keys[0], keys[1:].reshape(self.window, -1)
        taken, (world, observation, goes_on, last_value) = self._act(model, trial, episodes, keys)

        ahead = jnp.append(taken.value[1:], last_value[None], axis=0)
        ahead = jnp.where(jnp.append(taken.counts[1:], goes_on[None], axis=0), ahead, 0)
        deltas = jnp.where(taken.counts, taken.reward + self.weights.discount * ahead - taken.value, 0)
        advantages = jax.lax.scan(self._add_step, jnp.zeros_like(last_value), deltas, reverse=True)[1]
        state, found, mine = self._gradients(model, rule, trial, taken, advantages)
        decay = self.weights.decay
        z = jax.tree.map(lambda old, new: decay**self.window * old + new, trial.trace, mine)

        def mean(of_window: Array, before: Array) -> Array:
            past = jnp.tensordot(decay * advantages[0].astype(before.dtype), before, axes=1)
            return (of_window.sum(axis=0) + past) / before.shape[0]

        gradient = Gradients(jax.tree.map(mean, found, trial.trace), nnx.state(rule, nnx.Param))
        before, error = nnx.clone(model), jnp.mean(deltas**2, where=taken.counts)
        error = optimizer_step(Objects(model, rule, optimizer), before, error, gradient, None)
        total = jnp.where(episodes.ended, 0, episodes.total) + taken.reward.sum(axis=0)
        episodes = Episodes(following, Trial(state, z), world, observation, ~goes_on, total)
        new = nnx.state((model, rule, optimizer))
        return (new, episodes), (jnp.where(goes_on, jnp.nan, total), taken.counts.sum(dtype=jnp.int32), error)

    def _add_step(self, after: Array, delta: Array) -> tuple[Array, Array]:
        return (delta + self.weights.decay * after,) * 2

    def _act(self, model: nnx.RNNCellBase, trial: Trial, episodes: Episodes, keys: Array) -> tuple[_Taken, Any]:
        """Act for a window: what happened, and the world, the observation, whether episodes go on and the value after it."""
        graphdef, variables = nnx.split(model)
        actions = self.environment.n_actions

        @jax.vmap
        def respond(carry: Any, observation: Array) -> tuple[Any, Array]:
            inputs = cast_inputs(model, observation[None, None])
            carry, outputs = unroll(nnx.merge(graphdef, variables, copy=True), carry, inputs)
            if not isinstance(outputs, jax.Array) or outputs.shape != (1, 1, actions + 1):
                got = jax.tree.map(lambda leaf: list(leaf.shape[2:]), outputs)
                raise ValueError(f"train_on_rewards got outputs {got}, expected [{actions + 1}]: logits and a value.")
            return carry, outputs[0, 0].astype(float)

        def step(now: Any, keys: Array) -> tuple[Any, _Taken]:
            carry, world, observation, goes_on = now
            carry, outputs = respond(carry, observation)
            action = random.categorical(keys[0], outputs[:, :-1])
            found = jax.vmap(self.environment.step)(keys[1:], world, action)
            if len(found) != 4 or found[2].ndim != 1 or (found[3].ndim, found[3].dtype) != (1, bool):
                got = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape[1:])}", found)
                expected = "(state, observation, reward, ended) with a number and a bool[] at the end"
                raise TypeError(f"train_on_rewards got {got} from the step of an environment, expected {expected}.")
            *new, reward, ended = found
            taken = _Taken(observation, action, outputs[:, -1], jnp.where(goes_on, reward, 0).astype(float), goes_on)
            return (carry, *_where(goes_on, tuple(new), (world, observation)), goes_on & ~ended), taken

        start = (trial.state.carry, episodes.world, episodes.observation, jnp.ones_like(episodes.ended))
        (carry, world, observation, goes_on), taken = jax.lax.scan(step, start, keys)
        return taken, (world, observation, goes_on, respond(carry, observation)[1][:, -1])

    def _gradients(
        self, model: nnx.RNNCellBase, rule: Rule, trial: Trial, taken: _Taken, advantages: Array
    ) -> tuple[RuleState, nnx.State, nnx.State]:
        """The states after the window; by sample, sum_s A_s g_s + e_s, and what the steps add to z."""
        graphdef, variables = nnx.split(model)
        to_z = self.weights.decay ** jnp.arange(self.window - 1, -1, -1, dtype=float)
        ones = jnp.ones((self.window, 1))

        def of_sample(state: RuleState, taken: _Taken, advantages: Array) -> tuple[RuleState, nnx.State]:
            inputs = cast_inputs(model, taken.observation[:, None])

            def weighted(weights: Array, entropy: Array) -> tuple[RuleState, nnx.State]:
                copy = nnx.merge(graphdef, variables, copy=True)
                targets = taken.action, weights, jnp.full(self.window, entropy)
                targets = jax.tree.map(lambda leaf: PerStep(leaf[:, None]), targets)
                batch = Batch.read(inputs, targets, taken.counts[:, None])
                found = rule.window(copy, state, inputs, WindowLoss(self._loss, batch, weights=ones))
                return found.state, found.model

            twice = jnp.stack([advantages, to_z]), jnp.array([self.weights.entropy, 0.0])
            states, found = jax.vmap(weighted)(*twice)
            return jax.tree.map(lambda leaf: leaf[0], states), found

        state, found = jax.vmap(of_sample, in_axes=(0, 1, 1))(trial.state, taken, advantages)
        return state, *(jax.tree.map(lambda leaf, which=which: leaf[:, which], found) for which in (0, 1))

    def _loss(self, outputs: Array, targets: tuple[Array, Array, Array]) -> Array:
        action, weight, entropy = targets
        outputs = outputs.astype(weight.dtype)
        log_pi = jax.nn.log_softmax(outputs[:, :-1])
        chosen = jnp.take_along_axis(log_pi, action[:, None], axis=1)[:, 0]
        negative_entropy = jnp.sum(jnp.exp(log_pi) * log_pi, axis=1)
        return entropy * negative_entropy - weight * (chosen + self.weights.critic * outputs[:, -1])


def _begin_anew(rule: Rule, model: nnx.RNNCellBase, episodes: Episodes) -> Trial:
    """The trials, at rest where an episode ended."""
    rest = start_trial(model, episodes.observation.shape, rule=rule)
    check_same_start("train_on_rewards got episodes", rule, rest, episodes.trial)
    return _where(episodes.ended, rest, episodes.trial)


def _where(which: Array, new: Any, old: Any) -> Any:
    """A tree with the new leaves [B, ...] of some samples."""
    return jax.tree.map(lambda n, o: jnp.where(which.reshape(-1, *[1] * (n.ndim - 1)), n, o), new, old)
