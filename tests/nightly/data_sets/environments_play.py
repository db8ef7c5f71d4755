# /// script
# requires-python = ">=3.11"
# dependencies = ["gymnax==1.0.1", "six", "popgym==1.0.7", "slax-data"]
#
# [tool.uv.sources]
# slax-data = { path = "../../../packages/slax-data", editable = true }
# ///
"""MemoryChain is gymnax's, and RepeatPrevious is POPGym's: episodes with the same bit or cards and the same random actions."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from popgym.envs.repeat_previous import RepeatPrevious as OfPOPGym

from slax_data import MemoryChain, RepeatPrevious
from slax_data.environments import MemoryChainState, RepeatPreviousState

rng, key = np.random.default_rng(0), jax.random.key(0)


def memory_chains() -> None:
    theirs, params = gymnax.make("MemoryChain-bsuite")
    for length in (1, 2, 7):
        ours, params = MemoryChain(length), params.replace(memory_length=length)
        for episode in range(8):
            seen, state = theirs.reset(jax.random.key(episode), params)
            mine = MemoryChainState(state.context[0], jnp.zeros((), jnp.int32))
            np.testing.assert_array_equal(seen, ours._observe(mine))
            for time in range(length + 1):
                action = int(rng.integers(2))
                seen, state, reward, ended, _ = theirs.step_env(key, state, action, params)
                mine, my_seen, my_reward, my_ended = ours.step(key, mine, action)
                assert bool(my_ended) == bool(ended) == (time == length) and float(my_reward) == float(reward)
                if not ended:
                    np.testing.assert_allclose(my_seen, seen, rtol=1e-6)


def repeated_cards() -> None:
    for k, decks in ((1, 1), (4, 1), (32, 2)):
        theirs, ours = OfPOPGym(num_decks=decks, k=k), RepeatPrevious(k, decks)
        seen, _ = theirs.reset(seed=k)
        suits = theirs.deck.suits_idx[theirs.deck.idx[::-1]]
        mine, ended, total = RepeatPreviousState(jnp.asarray(suits, jnp.int32), jnp.ones((), jnp.int32)), False, 0.0
        assert seen == suits[0]
        while not ended:
            action = int(rng.integers(4))
            seen, reward, ended, _, _ = theirs.step(action)
            mine, my_seen, my_reward, my_ended = ours.step(key, mine, action)
            assert bool(my_ended) == bool(ended)
            np.testing.assert_allclose(float(my_reward), reward, rtol=1e-6)
            if not ended:
                assert int(my_seen.argmax()) == seen
            total += reward
        assert -1 <= total <= 1


memory_chains()
repeated_cards()
