"""Randman with slax 0.0.1's draws against what slax 0.0.1 drew; record_upstream_randman.py wrote that down."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import random

from slax_data import make_task, randman_task, upstream_randman

RECORDS = dict(np.load(Path(__file__).parent / "upstream_randman.npz", allow_pickle=False))
CASES = sorted(name.removesuffix("-about") for name in RECORDS if name.endswith("-about"))

NAMES = {
    "nb_classes": "n_classes",
    "nb_units": "n_units",
    "nb_steps": "n_steps",
    "nb_samples": "samples_per_class",
    "dim_manifold": "dim",
    "batch_sz": "batch_size",
    "alpha": "alpha",
    "shuffle": "shuffle",
}

draw = partial(
    upstream_randman, random.key(0), random.key(1), n_classes=3, n_units=4, n_steps=6, samples_per_class=5, alpha=3.0
)


def test_records_are_of_both_ways_to_make_random_bits_and_of_both_codes():
    about = [json.loads(str(RECORDS[f"{case}-about"])) for case in CASES]
    seen = {(record["partitionable"], record["options"]["time_encode"]) for record in about}
    assert len(CASES) == 12 and seen == {(flag, code) for flag in (False, True) for code in (False, True)}


@pytest.mark.parametrize("case", CASES)
def test_draws_are_those_of_slax(case):
    about = json.loads(str(RECORDS[f"{case}-about"]))
    options = {NAMES[name]: value for name, value in about["options"].items() if name != "time_encode"}
    code = "time" if about["options"]["time_encode"] else "rate"
    shape = about["shape"]
    theirs = np.unpackbits(RECORDS[f"{case}-spikes"])[: np.prod(shape)].reshape(shape)

    with jax.threefry_partitionable(about["partitionable"]):
        spikes, labels = upstream_randman(
            random.key(about["seed"]), random.PRNGKey(100 + about["seed"]), code=code, **options
        )

    spikes = np.asarray(spikes)
    np.testing.assert_array_equal(labels, RECORDS[f"{case}-labels"])
    assert spikes.shape == theirs.shape and set(np.unique(spikes)) == {0, 1}
    differs = (spikes != theirs).any(axis=0)
    assert differs.sum() <= 1  # a value at the boundary of two steps, to the rounding of another compiler
    moved = np.argmax(spikes, axis=0) - np.argmax(theirs, axis=0) if code == "time" else spikes.sum(0) - theirs.sum(0)
    assert np.abs(moved[differs]).max(initial=0) <= 1


def test_a_batch_is_the_first_samples_of_a_draw():
    for code in ("time", "rate"):
        (spikes, labels), (few, few_labels) = draw(code=code), draw(code=code, batch_size=7)
        assert spikes.shape == (6, 15, 4) and few.shape == (6, 7, 4)
        np.testing.assert_array_equal(few, spikes[:, :7])
        np.testing.assert_array_equal(few_labels, labels[:7])


def test_task_draws_its_batches_from_a_thousand_samples_per_class():
    options = dict(n_classes=2, n_units=3, n_steps=6, alpha=3.0, dim=1)
    task = make_task("randman", random.key(3), upstream=True, **options)
    assert (task.n_units, task.n_classes, task.n_steps, task.full_split) == (3, 2, 6, None)
    expected = upstream_randman(random.key(3), random.key(4), samples_per_class=1000, batch_size=50, **options)
    drawn = task.sample(random.key(4), batch_size=50)
    for ours, theirs in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(task.sample(random.key(4), batch_size=50, split="test")[0], drawn[0])
    with pytest.raises(ValueError, match="split got 'valid'"):
        task.sample(random.key(4), batch_size=50, split="valid")


def test_several_spikes_per_unit_are_an_error():
    with pytest.raises(ValueError, match="cannot give a unit several spikes, got n_spikes=2"):
        randman_task(random.key(0), upstream=True, n_spikes=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 16}, "batch_size got 16, expected at most the 15 samples of a draw"),
        ({"batch_size": 0}, "batch_size got 0, expected an integer of at least 1"),
        ({"samples_per_class": 0}, "samples_per_class got 0, expected an integer of at least 1"),
        ({"code": "phase"}, "code got 'phase', expected one of: 'rate', 'time'"),
        ({"alpha": 0.0}, "alpha got 0.0, expected a finite number above 0"),
    ],
)
def test_bad_options_are_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)
