"""Rewards: trials by the oracle's three factors, and actor-critic with TD(lambda) by weighted losses and a tabular loop."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
import slax_rules as sr
from slax_neurons import connect
from stacks import close, gradients_of, inputs, pair, worst

T, B, N, C = 9, 3, 5, 4
DRAWS = np.random.default_rng(5)
ACTIONS, REWARDS = DRAWS.integers(0, C, (T, B)), DRAWS.normal(size=(T, B))
MASK = DRAWS.random((T, B)) < 0.7
SIGNAL = oracle.softmax_cross_entropy(ACTIONS)
NEURONS = [{"kind": "lif", "decay": 0.6, "reset": "zero"}, {"kind": "li", "decay": 0.7}]


def test_gradient_is_the_oracle_s_three_factors(x64):
    """Rewards at the ends of windows; where the model does not act nothing is added, and the trace decays."""
    (model, layers), window, discount = pair([7, 6, C], NEURONS, edges=[(0, 0, 1)]), 4, 0.8
    x, rewards = inputs(T, B, 7), np.zeros((T, B))
    ends = [min(first + window, T) - 1 for first in range(0, T, window)]
    rewards[ends] = REWARDS[ends]

    @nnx.jit
    def found(model):
        trial, parts = sr.start_trial(model, (B, 7), rule=sr.OSTL()), []
        for first, end in zip(range(0, T, window), ends, strict=True):
            part = slice(first, first + window)
            options = {"rule": sr.OSTL(), "discount": discount, "mask": jnp.asarray(MASK[part])}
            act = lambda _, taken=ACTIONS[part]: jnp.asarray(taken)  # noqa: E731
            trial, _, _ = sr.extend_trial(model, trial, sr.cross_entropy, x[part], act, **options)
            parts.append(sr.reward_gradient(trial, jnp.asarray(REWARDS[end])))
        return jax.tree.map(lambda *leaves: sum(leaves), *parts)

    def signal(t, outputs):
        losses, slopes = SIGNAL(t, outputs)
        return MASK[t] * losses, MASK[t][:, None] * slopes

    expected = oracle.rewarded(oracle.OSTL(), layers, x, signal, rewards, gamma=discount).gradients
    expected = [{key: T * value for key, value in layer.items()} for layer in expected]
    assert worst(gradients_of(model, found(model)), expected) < 1e-11
    assert np.abs(expected[0]["kernel"]).max() > 1e-4


def test_reward_of_one_is_supervised_learning(x64):
    """With the labels as actions: the gradient of the loss, summed over steps. Under BPTT, which the oracle has not."""
    model, rule = pair([7, 6, C], NEURONS, edges=[(0, 0, 1)]).model, sr.BPTT()
    x, labels = inputs(T, B, 7), jnp.array([0, 3, 2])

    def found(model, mask):
        trial = sr.start_trial(model, (B, 7), rule=rule)
        act = lambda outputs: jnp.broadcast_to(labels, outputs.shape[:2])  # noqa: E731
        trial, _, _ = sr.extend_trial(model, trial, sr.cross_entropy, x, act, rule=rule, mask=mask)
        return sr.reward_gradient(trial, jnp.ones(B))

    ours = gradients_of(model, nnx.jit(found)(model, jnp.ones((T, B), bool)))
    expected = gradients_of(model, sr.gradients(model, sr.cross_entropy, x, labels, rule=rule)[1])
    assert worst(ours, [{key: T * value for key, value in layer.items()} for layer in expected]) < 1e-11
    assert not any(leaf.any() for leaf in jax.tree.leaves(nnx.jit(found)(model, jnp.zeros((T, B), bool))))


# ------------------------------------------------------------------------------------------------------------ actor-critic


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


class Careless(Episodic):
    """Gives a reward of one entry, which would be of all samples."""

    def step(self, *given):
        place, seen, reward, ended = super().step(*given)
        return place, seen, reward[None], ended


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
    model, updates = pair([N, 6, 3], NEURONS, edges=[(0, 0, 1)]).model, WINDOWS[window]
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


def test_actions_are_drawn_from_the_softmax_of_the_outputs(x64):
    """In the first step, after which a third of the episodes ends with a return of 100 and the action."""
    model = connect([nnx.Linear(5, 3, rngs=nnx.Rngs(0), param_dtype=float)])
    model.modules[0].kernel[...], model.modules[0].bias[...] = jnp.zeros((5, 3)), jnp.log(jnp.array([1.0, 3.0, 9.0]))
    options = {"discount": 1.0, "trace_decay": 1.0, "window": 1}
    returns = trained(model, sr.BPTT(), Episodic("times"), 1, SUM, samples=3000, **options)[0].returns
    assert np.nanmean(returns - 100) == pytest.approx(0.75, abs=0.05)


def test_a_reward_has_no_axis_and_a_model_needs_an_output_for_the_value():
    model = connect([nnx.Linear(5, 2, rngs=nnx.Rngs(0))])
    for environment, told in (
        (Careless("times", 1), r"'float..\[1\]', 'bool\[\]'\) from the step of an environment"),
        (Episodic("times", 2), r"outputs \[2\], expected \[3\]: logits and a value"),
    ):
        with pytest.raises((TypeError, ValueError), match=told):
            trained(model, sr.BPTT(), environment, 1, optax.sgd(0.1), window=1)
