"""Laws of batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import batches, take_batch

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
