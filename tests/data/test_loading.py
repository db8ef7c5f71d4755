"""Laws of batches, of padding, and of batches ahead of use."""

import queue
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import padded, prefetched, take_batch

KEY = random.key(0)


def test_batches_have_no_sample_twice_and_all_alike():
    numbers = jnp.arange(23)
    draw = jax.jit(jax.vmap(lambda key: take_batch(key, numbers[:, None], numbers % 5, batch_size=5)))
    inputs, labels = map(np.asarray, draw(random.split(KEY, 2000)))
    drawn = inputs[..., 0]
    np.testing.assert_array_equal(labels, drawn % 5)  # a label stays with its sample
    assert all(len(set(row)) == 5 for row in drawn.tolist()) and len(np.unique(drawn, axis=0)) > 1990
    p = 5 / 23
    np.testing.assert_allclose(np.bincount(drawn.ravel()), 2000 * p, atol=4.5 * np.sqrt(2000 * p * (1 - p)))


@pytest.mark.parametrize("n_steps", [None, 12])
def test_sequences_are_where_the_mask_is_and_zeros_are_elsewhere(n_steps):
    lengths = [4, 9, 0, 2, 7]
    sequences = [np.stack([np.full(n, i + 1), np.arange(1, n + 1)], 1).astype("f4") for i, n in enumerate(lengths)]
    inputs, mask = map(np.asarray, padded(sequences, n_steps=n_steps))
    assert inputs.shape == (n_steps or 9, 5, 2) and inputs.dtype == np.float32
    np.testing.assert_array_equal(mask, np.arange(n_steps or 9)[:, None] < lengths)
    for i, sequence in enumerate(sequences):
        np.testing.assert_array_equal(inputs[:, i][mask[:, i]], sequence)
    assert not inputs[~mask].any()


def some(n, made):
    for i in range(n):
        made.put(threading.current_thread().name)
        yield np.full((2, 4), i, np.float32), np.arange(4)
    raise RuntimeError("the disk is gone")


def test_prefetched_batches_are_the_same_made_ahead_in_a_thread_that_ends():
    made = queue.SimpleQueue()
    ahead = prefetched(some(9, made), 3, sharding=jax.devices()[0])
    assert made.empty()
    found = [next(ahead)]
    names = {made.get(timeout=10) for _ in range(4)}  # one in use, three ahead
    time.sleep(0.05)
    assert made.empty() and names == {"prefetched_0"}
    found += [next(ahead) for _ in range(8)]
    assert [float(inputs[0, 0]) for inputs, _ in found] == list(range(9))
    assert all(isinstance(array, jax.Array) and array.committed for batch in found for array in batch)
    with pytest.raises(RuntimeError, match="the disk is gone"):  # in the place of the batch that failed
        next(ahead)
    assert list(ahead) == [] and list(prefetched([])) == []
    assert not names & {thread.name for thread in threading.enumerate()}
