"""A validation split is a fifth of the training split, and has its spikes; or it is the one that is stored."""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from experiments.common.job import SCALES, experiment_names, jobs_of, settings_of
from experiments.common.tasks import task_maker, with_validation
from slax_data import Task, make_task, spike_trains
from slax_data.storage.packed import arrays_of_sets

CLASSES = 2
SIZES = {"train": 40, "test": 12}
FIRST = {"train": 0, "test": 40}
NUMBERS = 2 ** np.arange(6)


def bits(numbers):
    """Each number in binary, as spikes [T=3, D, N=2] that tell samples apart."""
    return (numbers[:, None] & NUMBERS > 0).astype(np.float32).reshape(-1, 3, 2).swapaxes(0, 1)


def numbers_of(spikes):
    """The numbers whose `bits` these are."""
    return np.asarray(spikes).swapaxes(0, 1).reshape(-1, 6) @ NUMBERS


def samples(split):
    numbers = FIRST[split] + np.arange(SIZES[split])
    return bits(numbers), numbers // 3 % CLASSES


def task_of(splits):
    def sample(key, *, batch_size, split="train"):
        raise AssertionError("full_split alone has the spikes")

    return Task(n_units=2, n_classes=CLASSES, n_steps=3, sample=sample, full_split=splits.__getitem__)


def fifth_of_each_class(labels):
    """The places of the fifth, tenth, ... sample of each class."""
    places = {}
    for place, label in enumerate(labels):
        places.setdefault(int(label), []).append(place)
    return sorted(place for of_class in places.values() for place in of_class[4::5])


def test_every_fifth_training_sample_of_each_class_is_left_out_for_validation():
    task = with_validation(task_of({split: samples(split) for split in SIZES}))
    found = {split: task.full_split(split) for split in ("train", "validation", "test")}
    numbers = {split: numbers_of(spikes) for split, (spikes, _) in found.items()}
    expected = fifth_of_each_class(np.arange(40) // 3 % CLASSES)
    sizes = {split: len(of_split) for split, of_split in numbers.items()}
    assert sizes == {"train": 40 - len(expected), "validation": len(expected), "test": 12}
    assert list(numbers["validation"]) == expected
    assert set(np.asarray(found["validation"][1]).tolist()) == set(range(CLASSES))
    assert sorted([*numbers["train"], *numbers["validation"]]) == list(range(40))
    assert list(numbers["test"]) == list(range(40, 52))
    for split, (_, labels) in found.items():
        assert list(np.asarray(labels)) == list(numbers[split] // 3 % CLASSES)


def stored(path, sizes):
    """A file of spikes, and its sets: all samples of all sets differ."""
    ends = np.cumsum([0, *sizes.values()])
    numbers = {name: np.arange(*pair) for name, pair in zip(sizes, itertools.pairwise(ends), strict=True)}
    sets = {name: spike_trains(bits(of).astype(bool).swapaxes(0, 1), of % CLASSES) for name, of in numbers.items()}
    np.savez(path, **arrays_of_sets(sets))
    return {name: list(of) for name, of in numbers.items()}


@pytest.mark.parametrize("sizes", [{"train": 40, "test": 12}, {"train": 30, "test": 12, "validation": 10}], ids=str)
def test_stored_spikes_keep_their_own_validation_split(sizes, tmp_path):
    numbers = stored(tmp_path / "some.npz", sizes)
    config = {"task": "tiny", "spikes": "some", "layers": [2, 4, CLASSES], "n_steps": 3}
    task = task_maker(config, tmp_path / "some.npz")(jax.random.key(0))
    found = {name: list(numbers_of(task.full_split(name)[0])) for name in ("train", "validation", "test")}
    if "validation" in sizes:
        assert found == numbers
    else:
        left_out = fifth_of_each_class(np.array(numbers["train"]) % CLASSES)
        kept = [number for number in numbers["train"] if number not in left_out]
        assert found == {"train": kept, "validation": left_out, "test": numbers["test"]}
    # The samples to train on are those of the split "train".
    spikes, _ = task.sample(jax.random.key(0), batch_size=len(found["train"]))
    assert set(numbers_of(spikes)) == set(found["train"])


def fixed_sets():
    """The code, and the fewest steps, of each fixed data set that an experiment with validation names, at any scale."""
    found = {}
    for experiment, scale in itertools.product(experiment_names(), SCALES):
        for job in jobs_of(experiment, scale, settings_of(experiment, scale)).values():
            config = job.config
            if "learning_rates" in config and "code" in config and config.get("dataset", "randman") != "randman":
                names, sizes = (config["dataset"], config["code"]), (config["layers"][0], config["layers"][-1])
                found[names] = min(found.get(names, (config["n_steps"], *sizes)), (config["n_steps"], *sizes))
    return sorted((*names, *sizes) for names, sizes in found.items())


@pytest.mark.parametrize("options", fixed_sets(), ids=str)
def test_splits_of_each_fixed_set_are_disjoint_and_complete(options):
    dataset, code, n_steps, *sizes = options
    config = {"task": dataset, "dataset": dataset, "code": code, "n_steps": n_steps, "layers": sizes}
    whole, task = make_task(dataset, jax.random.key(0), n_steps=n_steps, code=code), task_maker(config, None)
    first, second = (task(jax.random.key(seed)) for seed in (0, 1))
    assert (
        first is second and first.full_split("test")[0] is second.full_split("test")[0]
    )  # unpacked once for all seeds
    spikes, labels = map(np.asarray, whole.full_split("train"))
    left_out = np.isin(np.arange(len(labels)), fifth_of_each_class(labels))
    expected = {
        "train": (spikes[:, ~left_out], labels[~left_out]),
        "validation": (spikes[:, left_out], labels[left_out]),
    }
    for split, (x, y) in (expected | {"test": whole.full_split("test")}).items():
        np.testing.assert_array_equal(first.full_split(split)[0], x)
        np.testing.assert_array_equal(first.full_split(split)[1], y)
    assert set(labels[left_out]) == set(labels)


def test_recordings_of_speakers_are_stored_with_a_validation_split():
    sets = yaml.safe_load((Path(__file__).parents[2] / "data/config.yaml").read_text())["sets"]
    spoken = {name: of["options"] for name, of in sets.items() if of["maker"] == "spoken_digits"}
    assert {"spoken_digits", "spoken_digits_new_speakers"} < set(spoken)
    assert all(options["with_validation"] for options in spoken.values())


@pytest.mark.parametrize("wrong", [0.25, -1.0, 2.0, np.nan])
@pytest.mark.parametrize("split", SIZES)
def test_inputs_that_are_not_spikes_are_refused(split, wrong):
    splits = {split: samples(split) for split in SIZES}
    splits[split][0][1, 3, 0] = wrong
    with pytest.raises(SystemExit, match=f"The split '{split}' .* an input of {wrong:g}, expected spikes, .* 0 or 1"):
        with_validation(task_of(splits))
