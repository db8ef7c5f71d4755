"""Environments, step by step as their definitions have them; tests/nightly plays them beside gymnax's and POPGym's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slax_data import MemoryChain, RepeatPrevious


def played(environment, actions):
    """Two or more episodes: the states and observations before the actions, the rewards, and whether the episode ended."""

    def step(now, action_and_key):
        action, key = action_and_key
        state, _ = now
        state, observation, reward, ended = environment.step(key, state, action)
        return (state, observation), (*now, reward, ended)

    keys = jax.random.split(jax.random.key(0), len(actions))
    _, found = jax.lax.scan(step, environment.reset(jax.random.key(1)), (jnp.asarray(actions), keys))
    return jax.tree.map(np.asarray, found)


def test_memory_chain_shows_a_bit_and_asks_for_it_later():
    """bsuite's observations are late by a step: times 0, 0, 1, 2, and the fourth action counts."""
    state, seen, rewards, ended = played(MemoryChain(3), [0] * 80)
    assert ended.nonzero()[0].tolist() == list(range(3, 80, 4))
    bits = state.bit.reshape(20, 4)
    assert (bits == bits[:, :1]).all() and 0 < bits[:, 0].sum() < 20
    signs = 2.0 * bits[:, 0] - 1
    for step, (left, bit) in enumerate([(1, signs), (1, signs), (2 / 3, 0), (1 / 3, 0)]):
        np.testing.assert_allclose(seen.reshape(20, 4, 3)[:, step, 0], left, rtol=1e-6)
        assert (seen.reshape(20, 4, 3)[:, step, 2] == bit).all()
    assert not seen[:, 1].any() and (rewards.reshape(20, 4) == np.outer(-signs, [0, 0, 0, 1])).all()


@pytest.mark.parametrize(("k", "decks"), [(1, 1), (5, 2)])
def test_repeat_previous_asks_for_an_earlier_card(k, decks):
    cards = 52 * decks
    _, seen, rewards, ended = played(RepeatPrevious(k, decks), [2] * 2 * (cards - 1))
    assert ended.nonzero()[0].tolist() == [cards - 2, 2 * cards - 3]
    suits = seen.argmax(axis=1).reshape(2, cards - 1)
    counts = np.bincount(suits[0], minlength=4)  # all but the last card
    assert sorted(13 * decks - counts) == [0, 0, 0, 1] and (suits[0] != suits[1]).any()
    asked = np.where(suits[:, : cards - k] == 2, 1, -1) / (cards - k)
    np.testing.assert_allclose(rewards.reshape(2, cards - 1), np.pad(asked, ((0, 0), (k - 1, 0))), rtol=1e-6)
