"""Laws of streams."""

import dataclasses
from itertools import islice

import numpy as np
import pytest
from jax import random

from slax_data import randman_task, stream

KEY = random.key(3)


@pytest.fixture(scope="module")
def task():
    return randman_task(random.key(0), n_steps=5, n_classes=3, n_units=4, alpha=3.0, dim=1)


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("split", ["train", "test"])
def test_batch_of_a_step_is_the_tasks_own_by_the_key_of_the_step(task, split):
    drawn = list(islice(stream(task, KEY, batch_size=6, split=split), 3))
    for step, batch in enumerate(drawn):
        assert same(batch, task.sample(random.fold_in(KEY, step), batch_size=6, split=split))
    assert not same(drawn[0], drawn[1])


def test_a_run_that_starts_at_a_step_has_the_batches_of_one_that_did_not_stop(task):
    whole = list(islice(stream(task, KEY, batch_size=6), 5))
    for left, right in zip(whole[3:], stream(task, KEY, batch_size=6, start=3), strict=False):
        assert same(left, right)


def test_the_draw_is_traced_once(task):
    traced = []

    def sample(key, **options):
        traced.append(options)
        return task.sample(key, **options)

    list(islice(stream(dataclasses.replace(task, sample=sample), KEY, batch_size=6), 4))
    assert traced == [{"batch_size": 6, "split": "train"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size got 0, expected an integer of at least 1"),
        ({"batch_size": 6, "start": -1}, "start got -1, expected an integer of at least 0"),
        ({"batch_size": 6, "split": "valid"}, "split got 'valid', expected one of: 'test', 'train'"),
    ],
)
def test_bad_options_are_an_error_at_once(task, options, message):
    with pytest.raises(ValueError, match=message):
        stream(task, KEY, **options)


def test_what_the_task_refuses_is_an_error_at_once(task):
    def sample(key, **options):
        raise ValueError("only 5 samples")

    with pytest.raises(ValueError, match="only 5 samples"):
        stream(dataclasses.replace(task, sample=sample), KEY, batch_size=6)
