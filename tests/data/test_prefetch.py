"""Laws of batches ahead of use."""

import itertools
import threading
import time

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from slax_data import prefetched


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetched")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not threads()


def batches(n, made=None):
    for i in range(n):
        if made is not None:
            made.append(i)
        yield np.full((2, 3), i, np.float32), np.array([i])


def soon(condition):
    """Whether a condition holds within some seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


@pytest.mark.parametrize("size", [1, 2, 9])
def test_batches_are_the_same_in_the_same_order_on_the_device(size):
    drawn = list(prefetched(batches(5), size))
    assert len(drawn) == 5
    for (inputs, labels), (expected, number) in zip(drawn, batches(5), strict=True):
        assert isinstance(inputs, jax.Array) and isinstance(labels, jax.Array)
        np.testing.assert_array_equal(inputs, expected)
        np.testing.assert_array_equal(labels, number)


def test_nothing_is_no_batches():
    assert list(prefetched([])) == []


def test_batches_are_made_ahead_of_use_and_no_more_than_size():
    made = []
    ahead = prefetched(batches(9, made), 3)
    assert made == []
    next(ahead)
    assert soon(lambda: made == [0, 1, 2, 3])  # one in use, three ahead
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    next(ahead)
    assert soon(lambda: made == [0, 1, 2, 3, 4])
    ahead.close()


def test_making_is_in_a_thread_of_its_own():
    names = []

    def endless():
        for i in itertools.count():
            names.append(threading.current_thread().name)
            yield i

    ahead = prefetched(endless())
    assert [int(next(ahead)) for _ in range(4)] == [0, 1, 2, 3]
    assert len(threads()) == 1 and {name.startswith("prefetched") for name in names} == {True}
    ahead.close()


def test_an_error_is_raised_where_its_batch_would_have_come():
    def broken():
        yield from batches(2)
        raise RuntimeError("the disk is gone")

    ahead = prefetched(broken(), 4)
    assert len([next(ahead), next(ahead)]) == 2
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(ahead)
    assert list(ahead) == []


@pytest.mark.parametrize("stop", ["close", "drop", "break", "error"])
def test_thread_ends_when_the_consumer_stops(stop):
    made = []
    ahead = prefetched(batches(1000, made))
    next(ahead)
    assert len(threads()) == 1
    if stop == "close":
        ahead.close()
    elif stop == "break":
        for _ in ahead:
            break
    elif stop == "error":
        with pytest.raises(KeyError):
            ahead.throw(KeyError("of the consumer"))
    del ahead
    assert soon(lambda: not threads())
    assert len(made) <= 5


def test_batches_go_where_they_are_sent():
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    placed = NamedSharding(mesh, P(None, "batch")), NamedSharding(mesh, P("batch"))
    for inputs, labels in prefetched(batches(3), sharding=placed):
        assert (inputs.sharding, labels.sharding) == placed
    for inputs, _ in prefetched(batches(3), sharding=jax.devices()[0]):
        assert inputs.devices() == {jax.devices()[0]}


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_size_below_one_is_an_error_at_once(no_shape_checks, size):
    with pytest.raises(ValueError, match=rf"size got {size}, expected an integer of at least 1"):
        prefetched(batches(3), size)
