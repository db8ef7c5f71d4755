"""Laws of padded batches and of buckets."""

from functools import partial
from itertools import chain

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import random

from slax_data import bucketed_batches, buckets, padded
from slax_rules import valid_steps

LENGTHS = [4, 9, 0, 2, 7, 7, 1, 5, 4, 3, 8, 6, 2]
BOUNDARIES = [3, 6, 9]


def sequences_of(lengths):
    """Sequences [T_i, 2] whose numbers say which sequence and step they are of."""
    return [
        np.stack([np.full(n, i + 1), np.arange(1, n + 1)], axis=1).astype(np.float32) for i, n in enumerate(lengths)
    ]


SEQUENCES = sequences_of(LENGTHS)
LABELS = np.arange(len(LENGTHS)) % 4
draw = partial(bucketed_batches, random.key(0), SEQUENCES, LABELS, batch_size=2, boundaries=BOUNDARIES)


@pytest.mark.parametrize("n_steps", [None, 9, 12])
def test_sequences_are_where_the_mask_is_and_zeros_are_elsewhere(n_steps):
    inputs, mask = padded(SEQUENCES, n_steps=n_steps)
    assert inputs.shape == (n_steps or 9, len(LENGTHS), 2) and inputs.dtype == jnp.float32
    for i, sequence in enumerate(SEQUENCES):
        np.testing.assert_array_equal(inputs[:, i][mask[:, i]], sequence)
    assert not inputs[~mask].any()


def test_mask_is_that_of_the_rules():
    inputs, mask = padded(SEQUENCES, n_steps=11)
    np.testing.assert_array_equal(mask, valid_steps(jnp.asarray(LENGTHS), 11))
    assert mask.dtype == jnp.bool_ and mask.shape == inputs.shape[:2]


@pytest.mark.parametrize(
    ("sequences", "n_steps", "message"),
    [
        ([], None, "at least one of them, got none"),
        (
            [np.zeros((3, 2), np.float32), np.zeros((3, 4), np.float32)],
            None,
            r"float32\[3, 4\] at 1 and float32\[3, 2\] at 0",
        ),
        ([np.zeros((3, 2), np.float32), np.zeros((3, 2))], None, r"float64\[3, 2\] at 1 and float32\[3, 2\] at 0"),
        ([np.zeros(3, np.float32)], None, r"arrays \[T_i, N\] of the same units and type, got float32\[3\] at 0"),
        ([np.full((3, 2), np.nan, np.float32)], None, "sequence 0 must be finite numbers, got 6 NaN"),
        ([np.zeros((0, 2), np.float32)], None, "number of steps to pad to got 0, expected an integer of at least 1"),
        (SEQUENCES, 8, "n_steps got 8, expected at least the 9 steps of the longest sequence"),
    ],
)
def test_what_cannot_be_padded_is_an_error(no_shape_checks, sequences, n_steps, message):
    with pytest.raises(ValueError, match=message):
        padded(sequences, n_steps=n_steps)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_every_sequence_is_in_the_first_bucket_that_holds_it(lengths):
    found = buckets(lengths, boundaries=BOUNDARIES)
    assert sorted(np.concatenate(found)) == list(range(len(lengths)))
    for k, members in enumerate(found):
        for i in members:
            assert lengths[i] <= BOUNDARIES[k] and (k == 0 or lengths[i] > BOUNDARIES[k - 1])


@pytest.mark.parametrize(
    ("lengths", "boundaries", "message"),
    [
        ([3, 10], BOUNDARIES, "longest sequence has 10 steps, and the last of the boundaries is 9"),
        ([], BOUNDARIES, "lengths must be whole numbers of steps, at least one"),
        ([3, -1], BOUNDARIES, "lengths must be whole numbers of steps, at least one of them, none below 0"),
        ([3.5], BOUNDARIES, "lengths must be whole numbers"),
        ([3], [], "boundaries must be increasing numbers of steps"),
        ([3], [4, 4], r"boundaries must be increasing numbers of steps, from 1, got \[4, 4\]"),
        ([3], [0, 4], "boundaries must be increasing numbers of steps, from 1"),
    ],
)
def test_lengths_that_fit_no_bucket_are_an_error(no_shape_checks, lengths, boundaries, message):
    with pytest.raises(ValueError, match=message):
        buckets(lengths, boundaries=boundaries)


def numbers_in(batch):
    """The numbers of the sequences of a batch, which is checked to hold them whole, with their labels."""
    inputs, labels, mask = batch
    lengths = np.asarray(mask).sum(axis=0)
    numbers = []
    for b, label in enumerate(np.asarray(labels)):
        (number,) = [i for i, n in enumerate(LENGTHS) if n == lengths[b] and (n == 0 or inputs[0, b, 0] == i + 1)]
        np.testing.assert_array_equal(inputs[: lengths[b], b], SEQUENCES[number])
        assert label == LABELS[number]
        numbers.append(number)
    return numbers


def test_an_epoch_has_every_sequence_once_padded_to_its_bucket():
    epoch = list(draw())
    numbers = [numbers_in(batch) for batch in epoch]
    assert sorted(chain(*numbers)) == list(range(len(LENGTHS)))
    for (inputs, _, mask), members in zip(epoch, numbers, strict=True):
        assert len(inputs) == len(mask) == min(b for b in BOUNDARIES if b >= max(LENGTHS[i] for i in members))


def test_shapes_are_at_most_two_per_bucket_and_one_without_the_last_batches():
    assert len({batch[0].shape for batch in draw()}) <= 6
    whole = list(draw(drop_last=True))
    assert {batch[0].shape for batch in whole} == {(3, 2, 2), (6, 2, 2), (9, 2, 2)}
    seen = list(chain(*map(numbers_in, whole)))
    assert len(seen) == len(set(seen)) == 12  # 5, 4 and 4 sequences in batches of 2


def test_order_within_and_among_batches_follows_the_key():
    def order(seed):
        drawn = bucketed_batches(random.key(seed), SEQUENCES, LABELS, batch_size=2, boundaries=BOUNDARIES)
        return [tuple(numbers_in(batch)) for batch in drawn]

    orders = [order(seed) for seed in range(5)]
    assert order(0) == orders[0]
    assert len({tuple(map(len, batches)) for batches in orders}) > 1  # the small last batch of a bucket is anywhere
    assert len({frozenset(batches) for batches in orders}) == 5  # who is in a batch with whom


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size got 0"),
        ({"labels": LABELS[:-1]}, r"Got 13 sequences and labels of shape \[12\]"),
        ({"labels": LABELS - 1, "n_classes": 4}, "got values from -1 to 2"),
        ({"boundaries": [3, 6]}, "longest sequence has 9 steps"),
        ({"batch_size": 6, "drop_last": True}, "No bucket has the 6 sequences of a batch"),
        ({"sequences": [], "labels": LABELS[:0]}, "at least one of them, got none"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_at_once(no_shape_checks, options, message):
    known = dict(sequences=SEQUENCES, labels=LABELS, batch_size=2, boundaries=BOUNDARIES)
    with pytest.raises(ValueError, match=message):
        bucketed_batches(random.key(0), **(known | options))
