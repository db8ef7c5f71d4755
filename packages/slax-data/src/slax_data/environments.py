"""Environments that ask for memory and answer actions with rewards, in JAX: `MemoryChain` and `RepeatPrevious`.

    reset(key) -> state, observation
    step(key, state, action) -> state, observation, reward, ended

Both are pure functions of one episode: `jax.vmap` makes a batch. After the last step of an episode, the state and the
observation are the first ones of another episode.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import random
from jaxtyping import Array, PRNGKeyArray

from slax_data.checks import check_size

Steps = tuple["MemoryChainState | RepeatPreviousState", Array, Array, Array]


class MemoryChainState(NamedTuple):
    """The bit to be remembered, and the number of actions so far."""

    bit: Array
    time: Array


@dataclasses.dataclass(frozen=True)
class MemoryChain:
    """Remember one bit over a delay: `length` + 1 actions, of which the last alone has a reward, 1 if right and -1 if wrong.

    It is the memory length task of bsuite (Osband et al. 2020) with one bit, number by number as in gymnax 1.0.1. An
    observation at time t has three numbers: 1 - t / `length`; 0, the query, for which one bit leaves no choice; and the bit as
    -1 or 1 at t = 0, 0 later. A step returns the observation of the time before it, as in bsuite and gymnax, so observations
    are of the times 0, 0, 1, ..., `length` - 1: the bit is seen before the first two actions, the second time `length` - 1
    steps before the action that counts.

    Args:
        length: the time at which the bit is asked for, >= 1.

    Raises:
        ValueError: a length below 1.

    References:
        Osband et al.: Behaviour suite for reinforcement learning, 2020, arXiv 1908.03568. Lange: gymnax, 2022,
        github.com/RobertTLange/gymnax.

    Example:
        >>> import jax
        >>> from slax_data import MemoryChain
        >>> environment, key = MemoryChain(3), jax.random.key(0)
        >>> state, observation = environment.reset(key)
        >>> for action in (0, 0, 1, state.bit):
        ...     state, observation, reward, ended = environment.step(key, state, action)
        >>> float(reward), bool(ended)
        (1.0, True)
    """

    length: int = 5
    n_inputs: ClassVar[int] = 3
    n_actions: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_size("length", self.length)

    def reset(self, key: PRNGKeyArray) -> tuple[MemoryChainState, Array]:
        """Start an episode: its state and the first observation."""
        state = MemoryChainState(random.bernoulli(key).astype(jnp.int32), jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(self, key: PRNGKeyArray, state: MemoryChainState, action: Array | int) -> Steps:
        """Act: the state after it, the observation, the reward, and whether the episode ended, so that these are of another."""
        ended = state.time == self.length
        reward = jnp.where(ended, jnp.where(action == state.bit, 1.0, -1.0), 0.0)
        going_on = state._replace(time=state.time + 1), self._observe(state)
        return *_choose(ended, self.reset(key), going_on), reward, ended

    def _observe(self, state: MemoryChainState) -> Array:
        bit = jnp.where(state.time == 0, jnp.where(state.bit == 1, 1.0, -1.0), 0.0)
        return jnp.stack([1 - state.time / self.length, jnp.zeros(()), bit]).astype(jnp.float32)


class RepeatPreviousState(NamedTuple):
    """The suits of all cards in the order in which they come, and the number of those seen so far."""

    suits: Array
    seen: Array


@dataclasses.dataclass(frozen=True)
class RepeatPrevious:
    """Name the suit of the card that came k - 1 cards before the one in sight, for each card of a shuffled deck.

    It is the game of POPGym 1.0.7 (Morad et al. 2023), number by number, but for the suits, which are one-hot here. The cards
    of some decks of 52 are shuffled together and come one by one; the last one ends the episode. From the k-th card on, each
    action has a reward, 1 / (52 decks - k) if right, and otherwise minus that, so that a return is in [-1, 1]. Guessing gives
    -0.5 on average.

    Args:
        k: which card is asked for: 1 is the one in sight, 2 the one before it, as POPGym's code counts.
        decks: the number of decks, >= 1. POPGym's easy, medium and hard games are (4, 1), (32, 2) and (64, 3).

    Raises:
        ValueError: no deck, or k outside 1, ..., 52 decks - 1.

    References:
        Morad et al.: POPGym: Benchmarking partially observable reinforcement learning, 2023, arXiv 2303.01859.

    Example:
        >>> import jax
        >>> from slax_data import RepeatPrevious
        >>> environment, key = RepeatPrevious(k=1), jax.random.key(0)
        >>> state, observation = environment.reset(key)
        >>> state, observation, reward, ended = environment.step(key, state, observation.argmax())
        >>> round(51 * float(reward)), bool(ended)
        (1, False)
    """

    k: int = 4
    decks: int = 1
    n_inputs: ClassVar[int] = 4
    n_actions: ClassVar[int] = 4

    def __post_init__(self) -> None:
        check_size("decks", self.decks)
        if not 1 <= self.k < 52 * self.decks:
            raise ValueError(f"RepeatPrevious got k={self.k}, expected a card in 1, ..., {52 * self.decks - 1}.")

    def reset(self, key: PRNGKeyArray) -> tuple[RepeatPreviousState, Array]:
        """Start an episode: its state and the first observation."""
        suits = random.permutation(key, jnp.arange(52 * self.decks, dtype=jnp.int32) % 4)
        return RepeatPreviousState(suits, jnp.ones((), jnp.int32)), jax.nn.one_hot(suits[0], 4)

    def step(self, key: PRNGKeyArray, state: RepeatPreviousState, action: Array | int) -> Steps:
        """Act: the state after it, the observation, the reward, and whether the episode ended, so that these are of another."""
        is_right = action == state.suits[state.seen - self.k]
        reward = jnp.where(state.seen >= self.k, jnp.where(is_right, 1.0, -1.0) / (52 * self.decks - self.k), 0.0)
        ended = state.seen == 52 * self.decks - 1
        going_on = state._replace(seen=state.seen + 1), jax.nn.one_hot(state.suits[state.seen], 4)
        return *_choose(ended, self.reset(key), going_on), reward, ended


def _choose(ended: Array, first: tuple, going_on: tuple) -> tuple:
    return jax.tree.map(lambda new, old: jnp.where(ended, new, old), first, going_on)
