"""Actor-critic with TD(lambda): weighted losses of whole episodes, a tabular loop, a chain in closed form."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import connect
from stacks import close, pair

B, N = 3, 5
SEEN = (np.random.default_rng(3).uniform(size=(3, 5, N)) < 0.6).astype(float)  # by episode and time
LENGTHS = np.array([1, 3, 5])
WINDOWS = {1: 9, 2: 6}  # how many windows of a size three episodes take


class Place(NamedTuple):
    number: jax.Array
    time: jax.Array


@dataclasses.dataclass(frozen=True)
class Episodic:
    """Episodes of 1, 3 and 5 steps over and over, from one that the key draws. A return tells the length and the actions."""

    seen: str = "spikes"
    n_actions: int = 2

    def reset(self, key):
        place = Place(jax.random.randint(key, (), 0, 3), jnp.zeros((), int))
        return place, self.observe(place)

    def observe(self, place):
        table = SEEN if self.seen == "spikes" else np.broadcast_to(np.eye(5), (3, 5, 5))
        return jnp.asarray(table, float)[place.number, place.time]

    def step(self, key, place, action):
        ended = place.time == jnp.asarray(LENGTHS - 1)[place.number]
        reward = jnp.asarray(100 + 2**place.time * action, float)
        number, time = jnp.where(ended, (place.number + 1) % 3, place.number), jnp.where(ended, 0, place.time + 1)
        return Place(number, time), self.observe(Place(number, time)), reward, ended


def trained(model, rule, environment, updates, transformation, samples=B, **options):
    """What training found, and the state of the optimizer."""
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    episodes = sr.start_episodes(model, environment, samples, rule=rule, key=jax.random.key(1))
    found = sr.train_on_rewards(model, optimizer, environment, episodes, rule=rule, updates=updates, **options)
    return found, nnx.as_pure(optimizer.opt_state)


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def add(gradients, total, _):
    return zeros(gradients), jax.tree.map(jnp.add, total, gradients)


SUM = optax.GradientTransformation(zeros, add)  # leaves parameters unchanged


def weighted_loss(outputs, targets):
    action, advantage = targets
    pi = jax.nn.softmax(outputs[:, :2])
    chosen = jnp.sum(pi * jax.nn.one_hot(action, 2), axis=1)
    return 0.3 * jnp.sum(pi * jnp.log(pi), axis=1) - advantage * (jnp.log(chosen) + 0.7 * outputs[:, 2])


@pytest.mark.parametrize(
    ("rule", "window", "discount", "trace_decay"),
    [
        (sr.RTRL(), 1, 1.0, 1.0),
        (sr.OSTL(route=sr.Direct(rngs=nnx.Rngs(0))), 2, 0.9, 0.6),
    ],
    ids=["rtrl", "ostl_direct"],
)
def test_episodes_are_losses_weighted_with_advantages(x64, rule, window, discount, trace_decay):
    """At fixed parameters. At discount = trace_decay = 1 this is REINFORCE with a baseline. Nothing leaks between episodes."""
    neurons = [{"kind": "lif", "decay": 0.6, "reset": "zero"}, {"kind": "li", "decay": 0.7}]
    model, updates = pair([N, 6, 3], neurons, edges=[(0, 0, 1)]).model, WINDOWS[window]
    model.modules[2].kernel[...] *= 0.2  # so that both actions are taken
    options = {"discount": discount, "trace_decay": trace_decay, "critic": 0.7, "entropy": 0.3, "window": window}
    found, gradient = trained(model, rule, Episodic(), updates, SUM, **options)

    returns = np.asarray(found.returns).T
    returns = returns[~np.isnan(returns)].astype(int)  # of three episodes, of each sample in turn
    lengths, times = returns // 100, np.arange(5)[:, None]
    assert sorted(lengths) == [1, 1, 1, 3, 3, 3, 5, 5, 5] and found.steps.sum() == lengths.sum()
    actions, mask = (returns % 100)[None] >> times & 1, times < lengths
    assert 0 < actions.sum() < lengths.sum()
    x = jnp.asarray(SEEN[lengths // 2]).swapaxes(0, 1)
    values = np.where(mask, sr.predict(model, x)[..., 2], 0)
    rewards, advantages = np.where(mask, 100 + 2.0**times * actions, 0), np.zeros((6, 9))
    for t in range(4, -1, -1):
        delta = rewards[t] + discount * (values[t + 1] if t < 4 else 0) - values[t]
        advantages[t] = np.where(mask[t], delta + discount * trace_decay * advantages[t + 1], 0)
    if discount == trace_decay == 1:
        close(advantages[:5], np.where(mask, rewards[::-1].cumsum(axis=0)[::-1] - values, 0))
    targets = jnp.asarray(actions), jnp.asarray(advantages[:5])
    _, expected = sr.gradients(model, weighted_loss, x, targets, mask=jnp.asarray(mask), rule=rule)
    close(gradient, jax.tree.map(lambda leaf: leaf * float(mask.sum()) / B, nnx.as_pure(expected)), 1e-10)


@pytest.mark.parametrize("trace_decay", [0.0, 0.8, 1.0])
def test_values_are_those_of_tabular_td_lambda(x64, trace_decay):
    """Updated after each step of all samples."""
    model = connect([nnx.Linear(5, 2, use_bias=False, rngs=nnx.Rngs(0), param_dtype=float)])
    model.modules[0].kernel[...] = jnp.zeros((5, 2))
    options = {"discount": 0.9, "trace_decay": trace_decay, "critic": 1.0}
    found, _ = trained(model, sr.BPTT(), Episodic("times", 1), 14, optax.sgd(0.1), window=1, **options)
    ends = ~np.isnan(found.returns)  # the first one tells in which episode a sample began
    numbers = [list(LENGTHS).index(1 + of.argmax()) for of in ends.T]
    w, z, times = np.zeros(5), np.zeros((B, 5)), [0] * B
    for _ in range(14):
        change = np.zeros(5)
        for b in range(B):
            ended, here = times[b] + 1 == LENGTHS[numbers[b]], times[b]
            z[b] = 0.9 * trace_decay * z[b] + np.eye(5)[here]
            change += 0.1 * (100 + (0 if ended else 0.9 * w[here + 1]) - w[here]) * z[b] / B
            if ended:
                z[b], numbers[b] = 0, (numbers[b] + 1) % 3
            times[b] = 0 if ended else here + 1
        w += change
    close(model.modules[0].kernel[:, 1], w)


@dataclasses.dataclass(frozen=True)
class TwoStates:
    """From the first state to the second to the end. Action 1 has the reward 1 in the first and -2 in the second."""

    n_actions = 2

    def reset(self, key):
        return jnp.zeros((), int), jnp.array([1.0, 0.0])

    def step(self, key, state, action):
        reward = jnp.where(action == 1, jnp.where(state == 0, 1.0, -2.0), 0.0)
        return 1 - state, jax.nn.one_hot(1 - state, 2), reward, state == 1


def test_expected_update_is_the_policy_gradient():
    """In closed form, with p = 1/2 and values of 0: dJ/dtheta = p (1 - p) r(1), and E[G] = 1/2 - 1 or -1 for the values."""
    model = connect([nnx.Linear(2, 3, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))])
    options = {"discount": 1.0, "trace_decay": 1.0, "critic": 1.0, "entropy": 0.5, "window": 2}
    _, gradient = trained(model, sr.BPTT(), TwoStates(), 1, SUM, samples=2**14, **options)
    expected = -np.array([[-0.25, 0.25, -0.5], [0.5, -0.5, -1.0]])
    np.testing.assert_allclose(gradient["modules"][0]["kernel"], expected, atol=0.03)
