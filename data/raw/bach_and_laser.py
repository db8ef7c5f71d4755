# /// script
# requires-python = ">=3.11"
# dependencies = ["music21==10.5.1", "reservoirpy==0.4.2", "slax-data"]
#
# [tool.uv.sources]
# slax-data = {path = "../../packages/slax-data"}
# ///
"""Writes bach.npz and laser.npz next to this file, what `slax_data.bach` and `slax_data.laser` read, the same bytes each time.

    uv run --no-project data/raw/bach_and_laser.py

bach.npz, of each split: `keys` [S, 11], the 88 keys of each step as bits, all pieces one after the other, and their `lengths`.
The music is in the public domain; these are the notes of music21's files (BSD license), without anything else of an edition.
laser.npz: `points` [10093], as reservoirpy (MIT license) has them from J. McNames. Nobody states a license of the measurement.
"""

from pathlib import Path

import numpy as np

from slax_data import bach, laser

folder, keys = Path(__file__).parent, {}
for split in ("train", "validation", "test"):
    rolls = bach(split=split).rolls
    keys[f"{split}_keys"] = np.packbits(np.concatenate(rolls), axis=1)
    keys[f"{split}_lengths"] = np.array([len(roll) for roll in rolls], np.int32)
# Not compressed: another version of zlib would write other bytes.
np.savez(folder / "bach.npz", allow_pickle=False, **keys)
np.savez(folder / "laser.npz", allow_pickle=False, points=laser().astype(np.uint8))
