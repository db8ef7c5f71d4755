"""Laws of batches."""

from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import batches, epochs, take_batch, time_first

N_SAMPLES = 23


@pytest.fixture
def data():
    """Inputs [D, 2, 3] whose rows carry the number of their sample, and labels that follow from it."""
    numbers = jnp.arange(N_SAMPLES)
    inputs = jnp.broadcast_to(numbers.astype(jnp.float32)[:, None, None], (N_SAMPLES, 2, 3))
    return inputs, numbers % 5


def numbers_of(inputs, labels):
    numbers = np.asarray(inputs)[:, 0, 0].astype(int)
    np.testing.assert_array_equal(labels, numbers % 5)  # a label stays with its sample
    np.testing.assert_array_equal(inputs, np.broadcast_to(numbers[:, None, None], inputs.shape))
    return numbers.tolist()


@pytest.mark.parametrize("batch_size", [7, N_SAMPLES])
def test_no_sample_comes_twice_in_a_batch(data, batch_size):
    for seed in range(5):
        numbers = numbers_of(*take_batch(random.key(seed), *data, batch_size=batch_size))
        assert len(numbers) == len(set(numbers)) == batch_size


def test_every_sample_is_equally_likely(data):
    draw = jax.jit(jax.vmap(lambda key: take_batch(key, *data, batch_size=5)[0][:, 0, 0]))
    counts = np.bincount(np.asarray(draw(random.split(random.key(0), 2000))).astype(int).ravel(), minlength=N_SAMPLES)
    p = 5 / N_SAMPLES
    np.testing.assert_allclose(counts, 2000 * p, atol=4.5 * np.sqrt(2000 * p * (1 - p)))


def test_same_key_gives_the_same_batch_and_jit_changes_nothing(data):
    draw = partial(take_batch, inputs=data[0], labels=data[1], batch_size=8)
    inputs, labels = draw(random.key(3))
    for other_inputs, other_labels in (
        draw(random.key(3)),
        draw(random.PRNGKey(3)),
        jax.jit(draw)(random.key(3)),
    ):
        np.testing.assert_array_equal(inputs, other_inputs)
        np.testing.assert_array_equal(labels, other_labels)
    assert not np.array_equal(labels, draw(random.key(4))[1])


@pytest.mark.parametrize(("batch_size", "sizes"), [(7, [7, 7, 7, 2]), (23, [23])])
def test_an_epoch_has_every_sample_once(data, batch_size, sizes):
    epoch = [numbers_of(*batch) for batch in batches(random.key(0), *data, batch_size=batch_size)]
    assert [len(numbers) for numbers in epoch] == sizes
    order = [number for numbers in epoch for number in numbers]
    assert sorted(order) == list(range(N_SAMPLES))
    assert order != sorted(order)


def test_an_epoch_can_leave_out_the_incomplete_batch(data):
    epoch = partial(batches, random.key(0), *data, drop_last=True)
    assert [len(labels) for _, labels in epoch(batch_size=7)] == [7, 7, 7]
    assert [len(labels) for _, labels in epoch(batch_size=N_SAMPLES)] == [N_SAMPLES]


def test_epochs_follow_their_key(data):
    order = lambda seed: [numbers_of(*batch) for batch in batches(random.key(seed), *data, batch_size=7)]  # noqa: E731
    assert order(0) == order(0)
    assert order(0) != order(1)


@pytest.mark.parametrize("draw", [take_batch, batches])
@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(24, "batch_size got 24, expected at most the 23 samples"), (0, "batch_size got 0, expected an integer")],
)
def test_an_impossible_batch_size_is_an_error_at_once(data, draw, batch_size, message):
    with pytest.raises(ValueError, match=message):
        draw(random.key(0), *data, batch_size=batch_size)


@pytest.mark.parametrize("draw", [take_batch, batches])
@pytest.mark.parametrize("labels", [jnp.zeros(22, jnp.int32), jnp.zeros((23, 5), jnp.int32)])
def test_labels_that_do_not_match_the_inputs_are_an_error(no_shape_checks, data, draw, labels):
    with pytest.raises(ValueError, match=r"one row per sample, got shapes \[23, 2, 3\] and \[2.*not one-hot"):
        draw(random.key(0), data[0], labels, batch_size=5)


def test_labels_out_of_range_are_an_error_at_once(data):
    with pytest.raises(ValueError, match="got values from 0 to 4"):
        batches(random.key(0), *data, batch_size=5, n_classes=4)
    assert len(list(batches(random.key(0), *data, batch_size=5, n_classes=5))) == 5


def test_epochs_are_those_of_their_number_in_whatever_order_of_their_own(data):
    key = random.key(0)
    drawn = [[numbers_of(*batch) for batch in epoch] for epoch in epochs(key, *data, batch_size=7, stop=3)]
    assert len(drawn) == 3
    for number, epoch in enumerate(drawn):
        again = batches(random.fold_in(key, number), *data, batch_size=7)
        assert epoch == [numbers_of(*batch) for batch in again]
        assert sorted(number for numbers in epoch for number in numbers) == list(range(N_SAMPLES))
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_a_run_that_starts_at_an_epoch_has_the_epochs_of_one_that_did_not_stop(data):
    def run(**range_of_epochs):
        endless = epochs(random.key(0), *data, batch_size=7, drop_last=True, **range_of_epochs)
        return [[numbers_of(*batch) for batch in epoch] for epoch in islice(endless, 4)]

    assert run()[2:] == run(start=2)[:2] == run(start=2, stop=4)
    assert run(start=2, stop=2) == []


def test_epochs_check_their_set_and_numbers_at_once(data):
    for options, message in (
        ({"start": -1}, "start got -1, expected an integer of at least 0"),
        ({"start": 3, "stop": 2}, "stop got 2, expected an integer of at least 3"),
        ({"batch_size": 24}, "batch_size got 24, expected at most the 23 samples"),
        ({"n_classes": 4}, "got values from 0 to 4"),
    ):
        with pytest.raises(ValueError, match=message):
            epochs(random.key(0), *data, **{"batch_size": 5, **options})


@pytest.mark.parametrize("draw", [batches, epochs])
def test_a_set_with_nan_or_negative_labels_is_an_error_at_once(data, draw):
    inputs, labels = data
    with pytest.raises(ValueError, match="inputs must be finite numbers, got 2 NaN or infinities in 138"):
        draw(random.key(0), inputs.at[3, 0, 1:].set(jnp.array([jnp.nan, jnp.inf])), labels, batch_size=5)
    with pytest.raises(ValueError, match="got values from -1 to 4"):
        draw(random.key(0), inputs, labels.at[2].set(-1), batch_size=5, n_classes=5)


@pytest.mark.parametrize("draw", [batches, epochs])
def test_a_set_is_looked_at_where_it_lies(data, draw, monkeypatch):
    def copied(*_):
        raise AssertionError("The set was copied.")

    monkeypatch.setattr("slax_data.checks.np.isfinite", copied)
    draw(random.key(0), *data, batch_size=5)
    with pytest.raises(AssertionError, match="copied"):  # to count what is wrong
        draw(random.key(0), data[0].at[3, 0, 1].set(jnp.nan), data[1], batch_size=5)


def test_a_set_is_looked_at_inside_of_a_program(data):
    first = jax.jit(lambda key: next(batches(key, *data, batch_size=5)))(random.key(0))
    for left, right in zip(first, next(batches(random.key(0), *data, batch_size=5)), strict=True):
        np.testing.assert_array_equal(left, right)
    bad = data[0].at[3, 0, 1].set(jnp.nan)
    with pytest.raises(ValueError, match="got 1 NaN or infinities in 138"):
        jax.jit(lambda key: next(batches(key, bad, data[1], batch_size=5)))(random.key(0))


def test_a_class_without_samples_is_no_error(data):
    epoch = batches(random.key(0), data[0], jnp.where(data[1] == 2, 3, data[1]), batch_size=5, n_classes=9)
    assert set(np.concatenate([labels for _, labels in epoch])) == {0, 1, 3, 4}


def test_time_comes_first_and_nothing_else_moves():
    rows = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    moved = time_first(jnp.asarray(rows))
    assert moved.shape == (3, 2, 4)
    for b, t, n in np.ndindex(rows.shape):
        assert moved[t, b, n] == rows[b, t, n]


def test_a_batch_without_time_is_an_error(no_shape_checks):
    with pytest.raises(ValueError, match=r"samples and time \[B, T, ...\], got the shape \[3\]"):
        time_first(jnp.zeros(3))
