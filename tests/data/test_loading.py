"""Laws of batches, of padding and buckets, and of batches ahead of use."""

import threading
import time
from functools import partial
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from slax_data import batches, bucketed_batches, buckets, padded, prefetched, take_batch, time_first

KEY = random.key(0)
NUMBERS = np.arange(23)
INPUTS = jnp.asarray(np.broadcast_to(NUMBERS[:, None, None], (23, 2, 3)), jnp.float32)  # a row carries its number
LABELS = jnp.asarray(NUMBERS % 5)


def numbers_of(inputs, labels):
    numbers = np.asarray(inputs)[:, 0, 0].astype(int)
    np.testing.assert_array_equal(labels, numbers % 5)  # a label stays with its sample
    return numbers.tolist()


def test_batches_have_no_sample_twice_and_all_alike():
    draw = jax.jit(jax.vmap(lambda key: take_batch(key, INPUTS, LABELS, batch_size=5)))
    keys = random.split(KEY, 2000)
    inputs, labels = map(np.asarray, draw(keys))
    drawn = np.array([numbers_of(*batch) for batch in zip(inputs, labels, strict=True)])
    assert all(len(set(row)) == 5 for row in drawn.tolist()) and len(np.unique(drawn, axis=0)) > 1990
    p = 5 / 23
    np.testing.assert_allclose(np.bincount(drawn.ravel()), 2000 * p, atol=4.5 * np.sqrt(2000 * p * (1 - p)))
    assert numbers_of(*take_batch(keys[3], INPUTS, LABELS, batch_size=5)) == drawn[3].tolist()


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"), [(7, False, [7, 7, 7, 2]), (7, True, [7, 7, 7]), (23, True, [23])]
)
def test_an_epoch_has_every_sample_once(batch_size, drop_last, sizes):
    options = {"batch_size": batch_size, "drop_last": drop_last}
    epoch = [numbers_of(*batch) for batch in batches(KEY, INPUTS, LABELS, **options)]
    order = list(chain(*epoch))
    assert [len(one) for one in epoch] == sizes and len(set(order)) == sum(sizes) and order != sorted(order)
    again, other = (
        list(chain(*(numbers_of(*b) for b in batches(random.key(k), INPUTS, LABELS, **options)))) for k in (0, 1)
    )
    assert order == again != other


def test_time_comes_first_and_nothing_else_moves():
    rows = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(time_first(jnp.asarray(rows)), rows.transpose(1, 0, 2))


LENGTHS = [4, 9, 0, 2, 7, 7, 1, 5, 4, 3, 8, 6, 2]
SEQUENCES = [np.stack([np.full(n, i + 1), np.arange(1, n + 1)], 1).astype(np.float32) for i, n in enumerate(LENGTHS)]
BOUNDARIES = [3, 6, 9]
CLASSES = np.arange(13) % 4
bucketed = partial(bucketed_batches, sequences=SEQUENCES, labels=CLASSES, batch_size=2, boundaries=BOUNDARIES)


@pytest.mark.parametrize("n_steps", [None, 12])
def test_sequences_are_where_the_mask_is_and_zeros_are_elsewhere(n_steps):
    inputs, mask = map(np.asarray, padded(SEQUENCES, n_steps=n_steps))
    assert inputs.shape == (n_steps or 9, 13, 2) and inputs.dtype == np.float32
    np.testing.assert_array_equal(mask, np.arange(n_steps or 9)[:, None] < LENGTHS)
    for i, sequence in enumerate(SEQUENCES):
        np.testing.assert_array_equal(inputs[:, i][mask[:, i]], sequence)
    assert not inputs[~mask].any()


def test_buckets_hold_each_sequence_that_fits_and_no_shorter_bucket():
    lengths = np.random.default_rng(0).integers(0, 10, 200)
    found = buckets(lengths, boundaries=BOUNDARIES)
    for low, high, members in zip([-1, 3, 6], BOUNDARIES, found, strict=True):
        np.testing.assert_array_equal(members, np.flatnonzero((lengths > low) & (lengths <= high)))


@pytest.mark.parametrize("drop_last", [False, True])
def test_bucketed_batches_are_an_epoch_padded_to_the_boundaries(drop_last):
    orders = []
    for seed in (0, 0, 1):
        numbers = []
        for inputs, labels, mask in (
            map(np.asarray, batch) for batch in bucketed(random.key(seed), drop_last=drop_last)
        ):
            lengths = mask.sum(axis=0)
            assert len(inputs) == min(b for b in BOUNDARIES if b >= lengths.max()) and (
                len(labels) == 2 or not drop_last
            )
            for b, (label, length) in enumerate(zip(labels, lengths, strict=True)):
                number = int(inputs[0, b, 0]) - 1 if length else 2
                np.testing.assert_array_equal(inputs[:length, b], SEQUENCES[number])
                assert label == CLASSES[number] and length == LENGTHS[number]
                numbers.append(number)
        orders.append(numbers)
    assert len(set(orders[0])) == len(orders[0]) == (12 if drop_last else 13)
    assert orders[0] == orders[1] != orders[2] and orders[0] != sorted(orders[0], key=LENGTHS.__getitem__)


ONES = np.ones((3, 2), np.float32)
NAN = INPUTS.at[3, 0, 1].set(jnp.nan)
REFUSED = [
    (lambda: take_batch(KEY, INPUTS, LABELS, batch_size=24), "batch_size got 24, expected at most the 23 samples"),
    (lambda: batches(KEY, INPUTS, LABELS, batch_size=0), "batch_size got 0, expected an integer"),
    (lambda: batches(KEY, INPUTS, LABELS[:-1], batch_size=2), r"one row per sample, got shapes \[23, 2, 3\] and \[22\]"),
    (lambda: batches(KEY, INPUTS, jnp.eye(23), batch_size=2), "integer labels, not one-hot"),
    (lambda: batches(KEY, NAN, LABELS, batch_size=2), "inputs must be finite numbers, got 1 NaN or infinities in 138"),
    (lambda: jax.jit(lambda key: next(batches(key, NAN, LABELS, batch_size=2)))(KEY), "got 1 NaN or infinities in 138"),
    (lambda: batches(KEY, INPUTS, LABELS - 1, batch_size=2, n_classes=5), "got values from -1 to 3"),
    (lambda: time_first(jnp.zeros(3)), r"samples and time \[B, T, ...\], got the shape \[3\]"),
    (lambda: padded([]), "at least one of them, got none"),
    (lambda: padded([ONES, np.ones((3, 4), np.float32)]), r"float32\[3, 4\] at 1 and float32\[3, 2\] at 0"),
    (lambda: padded([ONES, np.ones((3, 2))]), r"float64\[3, 2\] at 1 and float32\[3, 2\] at 0"),
    (lambda: padded([ONES * np.nan]), "sequence 0 must be finite numbers, got 6 NaN"),
    (lambda: padded([ONES[:0]]), "number of steps to pad to got 0, expected an integer of at least 1"),
    (lambda: padded(SEQUENCES, n_steps=8), "n_steps got 8, expected at least the 9 steps of the longest sequence"),
    (lambda: buckets([3, 10], boundaries=BOUNDARIES), "longest sequence has 10 steps, and the last of the boundaries is 9"),
    (lambda: buckets([3, -1], boundaries=BOUNDARIES), "lengths must be whole numbers of steps"),
    (lambda: buckets([3], boundaries=[4, 4]), r"boundaries must be increasing numbers of steps, from 1, got \[4, 4\]"),
    (lambda: bucketed(KEY, labels=CLASSES[:-1]), r"Got 13 sequences and labels of shape \[12\]"),
    (lambda: bucketed(KEY, n_classes=3), r"labels must lie in 0\.\.2"),
    (lambda: bucketed(KEY, batch_size=9, drop_last=True), "No bucket has the 9 sequences of a batch"),
    (lambda: prefetched([], 0), "size got 0, expected an integer of at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_what_gives_no_batches_is_refused_at_the_call(call, told, no_shape_checks):
    with pytest.raises(ValueError, match=told):
        call()


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetched")]


def soon(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def some(n, made):
    for i in range(n):
        made.append(threading.current_thread().name)
        yield np.full((2, 4), i, np.float32), np.arange(4)
    raise RuntimeError("the disk is gone")


def test_prefetched_batches_are_the_same_made_ahead_in_a_thread_that_ends():
    made = []
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    placed = NamedSharding(mesh, P(None, "batch")), NamedSharding(mesh, P("batch"))
    ahead = prefetched(some(9, made), 3, sharding=placed)
    assert made == []
    first = next(ahead)
    assert soon(lambda: len(made) == 4)  # one in use, three ahead
    time.sleep(0.05)
    assert len(made) == 4
    assert {name.startswith("prefetched") for name in made} == {True} and len(threads()) == 1
    found = [first, *(next(ahead) for _ in range(8))]
    assert [float(inputs[0, 0]) for inputs, _ in found] == list(range(9))
    assert all((inputs.sharding, labels.sharding) == placed for inputs, labels in found)
    with pytest.raises(RuntimeError, match="the disk is gone"):  # in the place of the batch that failed
        next(ahead)
    assert list(ahead) == [] and list(prefetched([])) == [] and soon(lambda: not threads())


@pytest.mark.parametrize("stop", ["close", "drop", "error"])
def test_the_thread_ends_when_the_consumer_stops(stop):
    ahead = prefetched(some(1000, made := []))
    next(ahead)
    if stop == "close":
        ahead.close()
    elif stop == "error":
        with pytest.raises(KeyError):
            ahead.throw(KeyError("of the consumer"))
    del ahead
    assert soon(lambda: not threads()) and len(made) <= 5
