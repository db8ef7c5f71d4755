"""Trials that wait for a reward: the oracle's three factors, a reward of one, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
import slax_rules as sr
from slax_neurons import LI, Dropout, connect
from stacks import gradients_of, inputs, pair, worst

T, B, C = 9, 3, 4
DRAWS = np.random.default_rng(5)
ACTIONS, REWARDS = DRAWS.integers(0, C, (T, B)), DRAWS.normal(size=(T, B))
MASK = DRAWS.random((T, B)) < 0.7
SIGNAL = oracle.softmax_cross_entropy(ACTIONS)


def network():
    return pair(
        [7, 6, C], [{"kind": "lif", "decay": 0.6, "reset": "zero"}, {"kind": "li", "decay": 0.7}], edges=[(0, 0, 1)]
    )


def traces(model, rule, x, window, discount, mask):
    """The sum over the ends of windows of what a reward there finds, in one program; actions are given."""

    def run(model, x):
        trial, found = sr.start_trial(model, x.shape[1:], rule=rule), []
        for first in range(0, T, window):
            part = slice(first, first + window)
            taken, counts = jnp.asarray(ACTIONS[part]), jnp.asarray(mask[part])
            options = {"rule": rule, "discount": discount, "mask": counts}
            trial, _, _ = sr.extend_trial(
                model, trial, sr.cross_entropy, x[part], lambda _, taken=taken: taken, **options
            )
            found.append(sr.reward_gradient(trial, jnp.asarray(REWARDS[min(first + window, T) - 1])))
        return jax.tree.map(lambda *leaves: sum(leaves), *found)

    return gradients_of(model, nnx.jit(run)(model, x))


def test_gradient_is_the_oracle_s_three_factors(x64):
    """Rewards at the ends of windows; where the model does not act nothing is added, and the trace decays."""
    (model, layers), window, discount = network(), 4, 0.8
    x, rewards = inputs(T, B, 7), np.zeros((T, B))
    ends = [min(first + window, T) - 1 for first in range(0, T, window)]
    rewards[ends] = REWARDS[ends]

    def signal(t, outputs):
        losses, slopes = SIGNAL(t, outputs)
        return MASK[t] * losses, MASK[t][:, None] * slopes

    expected = oracle.rewarded(oracle.OSTL(), layers, x, signal, rewards, gamma=discount).gradients
    expected = [{key: T * value for key, value in layer.items()} for layer in expected]
    assert worst(traces(model, sr.OSTL(), x, window, discount, MASK), expected) < 1e-11
    assert np.abs(expected[0]["kernel"]).max() > 1e-4


def test_reward_of_one_is_supervised_learning(x64):
    """With the labels as actions: the gradient of the loss, summed over steps. Under BPTT, which the oracle has not."""
    (model, _), rule = network(), sr.BPTT()
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


@pytest.mark.parametrize("mask", ["sequence", "step"])
def test_dropout_that_is_off_and_a_discount_of_zero_are_taken(mask):
    """Dropout with a mask for each step has a key that it does not use, which hides no key of a rule."""
    model = connect([nnx.Linear(7, C, rngs=nnx.Rngs(0)), LI(), Dropout(0.5, per=mask, rngs=nnx.Rngs(1))])
    model.eval()
    trial, x = sr.start_trial(model, (B, 7), rule=sr.OSTL()), inputs(T, B, 7, dtype=jnp.float32)
    options = {"rule": sr.OSTL(), "discount": 0.0}
    jax.eval_shape(lambda: sr.extend_trial(model, trial, sr.cross_entropy, x, lambda y: y.argmax(axis=-1), **options))
