"""Every data set keeps the contract, and says early which options it does not take."""

import inspect
from functools import partial

import numpy as np
import pytest
from contract import keeps_contract
from jax import random
from small_sets import SMALL_SETS

from slax_data import DATASETS, ENCODERS, held_out, make_task, spike_trains, stored_task

CODES = {"digits": list(ENCODERS), "mnist_5k": [], "randman": ["time", "rate"]}  # of others the default
CASES = [
    (name, code)
    for name, make in sorted(DATASETS.items())
    for code in CODES.get(name, [inspect.signature(make).parameters["code"].default])
]


@pytest.fixture(scope="module")
def options_of(tmp_path_factory):
    """The options of a data set by its name: where a small one is, for those that are in files."""
    small = {name: write(tmp_path_factory.mktemp(name)) for name, write in SMALL_SETS.items()}
    return small | {"randman": {"n_classes": 4, "n_units": 20, "alpha": 3.0}}


@pytest.mark.parametrize(("name", "code"), CASES)
def test_every_data_set_keeps_the_contract(name, code, options_of):
    make = partial(make_task, name, n_steps=16, code=code, **options_of.get(name, {}))
    task = make(random.key(0))
    assert task.n_steps == 16
    with pytest.raises(ValueError, match="split got 'all', expected one of: 'test', 'train'"):
        task.sample(random.key(1), batch_size=4, split="all")
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
