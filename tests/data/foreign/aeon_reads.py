# /// script
# requires-python = ">=3.11"
# dependencies = ["aeon==1.6.0", "slax-data"]
#
# [tool.uv.sources]
# slax-data = { path = "../../../packages/slax-data", editable = true }
# ///
"""Series of aeon are those of its files, the tracked file of Japanese Vowels has the same, and their tasks have their sizes."""

import hashlib
import runpy
import sys
import tempfile
from functools import partial
from importlib.resources import files
from pathlib import Path
from shutil import copy

import jax
import numpy as np

from slax_data import basic_motions, japanese_vowels, make_task
from slax_data.sets.time_series import MOTIONS, SPEAKERS

sys.path.insert(0, str(Path(__file__).parents[1]))
from contract import keeps_contract

SPLITS = ("train", "test")
RAW = Path(__file__).resolve().parents[3] / "data" / "raw"


def lines_of(name: str, split: str) -> tuple[list[np.ndarray], list[str]]:
    """The file itself, without aeon's reader: a series in a line, its channels and then its class after colons."""
    path = files("aeon.datasets") / "data" / name / f"{name}_{split.upper()}.ts"
    lines = path.read_text().lower().partition("@data")[2].split()
    parts = [line.split(":") for line in lines]
    series = [np.array([channel.split(",") for channel in channels], np.float32).T for *channels, _ in parts]
    return series, [name for *_, name in parts]


for split in SPLITS:
    for name, read, classes, size in (
        ("JapaneseVowels", japanese_vowels, SPEAKERS, {"train": 270, "test": 370}),
        ("BasicMotions", basic_motions, MOTIONS, {"train": 40, "test": 40}),
    ):
        series, names = lines_of(name, split)
        found = read(split=split)
        assert len(series) == len(found.labels) == size[split]
        assert [classes[label] for label in found.labels] == names
        assert found.lengths.tolist() == [len(one) for one in series]
        for values, one in zip(found.values, series, strict=True):
            assert np.array_equal(values[: len(one)], one) and not values[len(one) :].any()

with tempfile.TemporaryDirectory() as folder:
    script = Path(copy(RAW / "japanese_vowels.py", folder))
    made = script.with_suffix(".npz")
    sums = set()
    for _ in range(2):
        made.unlink(missing_ok=True)
        runpy.run_path(str(script))
        sums.add(hashlib.sha256(made.read_bytes()).hexdigest())
    tracked = RAW / "japanese_vowels.npz"
    if tracked.exists():
        sums.add(hashlib.sha256(tracked.read_bytes()).hexdigest())
    assert len(sums) == 1, sums
    for split in SPLITS:
        for from_file, from_aeon in zip(japanese_vowels(made, split=split), japanese_vowels(split=split), strict=True):
            assert from_file.dtype == from_aeon.dtype and np.array_equal(from_file, from_aeon)

for name, sizes in (("japanese_vowels", (24, 9, 29)), ("basic_motions", (12, 4, 100))):
    task = make_task(name, jax.random.key(0))
    assert (task.n_units, task.n_classes, task.n_steps) == sizes
    spikes, labels = task.sample(jax.random.key(1), batch_size=20, split="test")
    assert spikes.shape == (sizes[2], 20, sizes[0]) and set(np.unique(spikes)) == {0, 1}

keeps_contract(partial(make_task, "basic_motions", n_steps=100, threshold=0.1))
keeps_contract(partial(make_task, "japanese_vowels", n_steps=29))
