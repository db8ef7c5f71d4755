"""Every data set keeps the contract, and the makers of tasks refuse what is none."""

import dataclasses
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from contract import keeps_contract
from jax import random
from small_sets import SMALL_SETS

from slax_data import DATASETS, ENCODERS, check_labels, held_out, make_task, spike_trains, stored_task

CODES = {
    "digits": tuple(ENCODERS),
    "japanese_vowels": ("delta",),
    "mnist_5k": (),  # tests/nightly/data_sets has its library
    "randman": ("time", "rate"),
    "shd": ("events",),
    "spoken_digits": ("cochlea",),
    "ssc": ("events",),
}
CASES = [(name, code) for name in sorted(DATASETS) for code in CODES[name]]


@pytest.fixture(scope="module")
def options_of(tmp_path_factory):
    """The options of a data set by its name: where a small one is, for those that are in files."""
    small = {name: write(tmp_path_factory.mktemp(name)) for name, write in SMALL_SETS.items()}
    return small | {"randman": {"n_classes": 4, "n_units": 20, "alpha": 3.0}}


@pytest.mark.parametrize(("name", "code"), CASES)
def test_every_data_set_keeps_the_contract(name, code, options_of):
    make = partial(make_task, name, n_steps=16, code=code, **options_of.get(name, {}))
    assert make(random.key(0)).n_steps == 16
    keeps_contract(make, redrawn=name == "digits" and ENCODERS[code].random)


@pytest.mark.parametrize("name", DATASETS)
def test_options_are_refused_before_anything_is_read(name, options_of):
    for option, told in (
        ({"color": 3}, f"option of data set '{name}' got 'color', expected one of: .*'code'.*'n_steps'"),
        ({"code": "morse"}, "code got 'morse', expected one of: "),
        ({"n_steps": 0}, "n_steps got 0, expected an integer of at least"),
    ):
        with pytest.raises(ValueError, match=told):
            make_task(name, random.key(0), **options_of.get(name, {}) | option)
    with pytest.raises(ValueError, match="data set got 'mnist', expected one of: 'digits', "):
        make_task("mnist", random.key(0))


def trains_of_lengths(lengths):
    """Recordings of two classes whose last step of each has all spikes, and no step after it has any."""
    spikes = np.random.default_rng(0).random((len(lengths), 6, 5)) < 0.5
    for one, length in zip(spikes, lengths, strict=True):
        one[length - 1], one[length:] = True, False
    return spike_trains(spikes, np.arange(len(lengths)) % 2, lengths=np.array(lengths))


LENGTHS = {"train": [6, 2, 5, 3, 6], "test": [1, 4, 6]}


def test_mask_ends_with_each_recording_and_changes_no_sample():
    splits = {split: trains_of_lengths(lengths) for split, lengths in LENGTHS.items()}
    masked, silent = (stored_task(splits, n_classes=2, padding=padding) for padding in ("mask", "silence"))
    for split, lengths in LENGTHS.items():
        whole = masked.full_split(split)
        assert whole[2].sum(axis=0).tolist() == lengths and len(silent.full_split(split)) == 2
        drawn = masked.sample(random.key(2), batch_size=3, split=split)
        for one, other in zip(drawn, silent.sample(random.key(2), batch_size=3, split=split), strict=False):
            np.testing.assert_array_equal(one, other)
        for spikes, _, mask in (map(np.asarray, whole), map(np.asarray, drawn)):
            last = mask.sum(axis=0) - 1
            assert mask.dtype == bool and (spikes[last, np.arange(len(last))] == 1).all() and not spikes[~mask].any()
    assert len(held_out(masked, random.key(0), 2)[1]) == 3  # the whole split, whatever the number
    traced = jax.jit(
        lambda lengths: (
            stored_task(
                dict.fromkeys(LENGTHS, dataclasses.replace(splits["test"], lengths=lengths)),
                n_classes=2,
                padding="mask",
            )
            .full_split("test")[2]
            .sum(axis=0)
        )
    )
    assert traced(splits["test"].lengths).tolist() == LENGTHS["test"]


full, short = trains_of_lengths([6, 6]), trains_of_lengths([6, 4, 5])
spikes = np.zeros((3, 6, 5), bool)
fired = spikes.copy()
fired[0, 2, 1] = fired[1, 3, 4] = True
WHOLE = {"train": full, "test": full}
REFUSED = [
    (lambda: stored_task({"train": full}, n_classes=2), r"spikes must have the splits 'train' and 'test'.*'units': 5}}"),
    (lambda: stored_task(WHOLE, n_classes=3), r"'train' must have all classes 0\.\.2, got none of \[2\]"),
    (lambda: stored_task(WHOLE | {"test": short}, n_classes=2), r"'test' has 2 recordings of fewer than its 6 steps"),
    (lambda: stored_task(WHOLE, n_classes=2, padding="zeros"), "padding got 'zeros'"),
    (lambda: stored_task(WHOLE, n_classes=2, padding="mask"), "all have the full 6 steps"),
    (lambda: spike_trains(spikes, np.array(["a", "b", "c"])), r"integers of shape \[B\], got <U1.*return_inverse"),
    (lambda: spike_trains(spikes, np.arange(2)), "Got 3 recordings with 2 labels and 3 lengths"),
    (lambda: spike_trains(spikes[0], np.arange(6)), r"booleans \[D, T, N\], got bool of shape \[6, 5\]"),
    (lambda: spike_trains(list(spikes), np.arange(3)), r"one array of booleans \[D, T, N\], got a list"),
    (lambda: spike_trains(spikes, np.arange(3), lengths=np.array([6, 7, 9])), "2 others of 3, the first of them 7, of rec"),
    (lambda: spike_trains(spikes, np.arange(3), lengths=np.array([6.0] * 3)), r"float64 of shape \[3\]"),
    (lambda: spike_trains(fired, np.arange(3), lengths=np.array([3, 3, 0])), r"recording 1, .* length is 3 .* at step 3"),
    (lambda: check_labels(np.array([0, 3]), n_classes=3), r"must lie in 0\.\.2 for n_classes=3, got values from 0 to 3"),
    (lambda: check_labels(np.array([-1, 2]), n_classes=3), r"must lie in 0\.\.2 for n_classes=3, got values from -1 to 2"),
    (lambda: check_labels(np.zeros(2, int), n_classes=0), "n_classes got 0, expected an integer of at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_what_is_no_set_is_refused(call, told, no_shape_checks):
    with pytest.raises(ValueError, match=told):
        call()


def test_lengths_that_hold_all_spikes_are_kept():
    assert spike_trains(fired, np.arange(3), lengths=np.array([3, 4, 0])).lengths.tolist() == [3, 4, 0]


def test_import_brings_no_sibling_and_no_optional_library():
    code = "import slax_data, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"slax_neurons", "slax_rules", "slax_viz", "flax", "sklearn", "beartype", "matplotlib"} & set(modules)
