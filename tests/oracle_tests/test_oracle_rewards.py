"""Rewards: the third factor."""

import numpy as np
import pytest

from oracle import (
    Direct,
    Penalty,
    bptt,
    rewarded,
    run,
    softmax_cross_entropy,
)
from oracle.exact import RTRL
from oracle.local import OSTL, OTPE, OTTT, SLTT, ApproximateOTPE, EProp, OSTLWithH
from oracle.snap import SnAp
from small_networks import (
    EXACT,
    SIGNAL,
    B,
    T,
    alif,
    deviation,
    difference_quotients,
    li,
    lif,
    network,
    smoothed,
    spikes,
)

MATRIX = np.random.default_rng(0).normal(size=(6, 4))
RULES = {
    "rtrl": RTRL(),
    "snap": SnAp(1),
    "ostl": OSTL(),
    "ostl-with-h": OSTLWithH(),
    "ottt": OTTT(),
    "sltt": SLTT(),
    "otpe": OTPE(),
    "approximate-otpe": ApproximateOTPE(),
    "e-prop-direct": EProp(route=Direct([MATRIX])),
}
REWARDS = np.random.default_rng(3).normal(size=(T, B))


def squares(values):
    return (values**2).sum(axis=1), 2 * values


def graph():
    return network(lif(), alif(), edges=[(0, 0, 1), (1, 0, 2)])


@pytest.mark.parametrize("rule", RULES)
def test_reward_of_one_for_each_step_by_itself_is_the_rule(rule):
    layers, inputs, penalties = graph(), spikes(), [Penalty(0, squares), Penalty(1, squares, "membranes")]
    expected = run(RULES[rule], layers, inputs, SIGNAL, penalties=penalties)
    found = rewarded(RULES[rule], layers, inputs, SIGNAL, np.ones((T, B)), gamma=0.0, penalties=penalties)
    assert deviation(found, expected) < EXACT
    assert found.loss == pytest.approx(expected.loss)
    assert found.penalty == pytest.approx(expected.penalty)
    np.testing.assert_array_equal(found.outputs, expected.outputs)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("rule", RULES)
def test_rewards_weigh_the_losses_of_the_steps_before(rule, gamma):
    """Rules are linear in the signal: that of step k counts as often as rewards that come later say."""
    layers, inputs = graph(), spikes()
    weights = np.stack([sum(gamma ** (t - k) * REWARDS[t] for t in range(k, T)) for k in range(T)])

    def weighted(t, outputs):
        losses, derivatives = SIGNAL(t, outputs)
        return weights[t] * losses, weights[t][:, None] * derivatives

    found = rewarded(RULES[rule], layers, inputs, SIGNAL, REWARDS, gamma=gamma)
    assert deviation(found, run(RULES[rule], layers, inputs, weighted)) < EXACT


@pytest.mark.parametrize("rule", [RTRL(), OSTL()])
def test_reward_at_the_end_is_reinforce_in_one_layer(rule):
    """The policy picks an action with softmax of the outputs at each step. REINFORCE: the gradient of the return times the
    log of the probability of what was done, here by differences of that itself."""
    layers = smoothed(network(lif()))
    inputs = spikes(steps=6)
    actions = np.random.default_rng(5).integers(0, 4, (6, B))
    rewards = np.zeros((6, B))
    rewards[-1] = [1.0, -0.5, 2.0]
    signal = softmax_cross_entropy(actions)

    def score(layers):
        outputs = bptt(layers, inputs, signal).outputs
        probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
        taken = np.take_along_axis(probabilities, actions[..., None], axis=-1)[..., 0]
        return (rewards[-1] * np.log(taken).sum(axis=0)).sum()

    found = rewarded(rule, layers, inputs, signal, rewards)
    for index, name, place, quotient in difference_quotients(score, layers):
        assert abs(-found.gradients[index][name][place] * 6 * B - quotient) < 1e-8, (name, place)


def test_rewards_may_come_in_a_later_chunk_if_what_they_weigh_does_too():
    layers, inputs = network(lif(), li()), spikes()
    rewards = np.where(np.arange(T)[:, None] == 4, REWARDS, 0)
    whole = rewarded(OTTT(), layers, inputs, SIGNAL, rewards)
    first = rewarded(OTTT(), layers, inputs[:5], SIGNAL, rewards[:5])
    scaled = [{name: g * 5 / T for name, g in layer.items()} for layer in first.gradients]
    assert deviation(first._replace(gradients=scaled), whole) < EXACT
