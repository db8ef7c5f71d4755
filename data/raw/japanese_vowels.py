# /// script
# requires-python = ">=3.11"
# dependencies = ["aeon==1.6.0"]
# ///
"""Writes japanese_vowels.npz next to this file: the series of aeon as plain arrays, the same bytes each time.

    uv run --no-project data/raw/japanese_vowels.py

Of each split: `values` [D, 29, 12], 0 after the end of a series, `labels` [D] of the speakers 0..8, and `lengths` [D].
M. Kudo, J. Toyama, M. Shimbo, Japanese Vowels, UCI Machine Learning Repository, 1999, doi 10.24432/C5NS47, CC BY 4.0.
"""

from pathlib import Path

import numpy as np
from aeon.datasets import load_japanese_vowels

N_STEPS, N_CHANNELS = 29, 12


def arrays_of(split: str) -> dict[str, np.ndarray]:
    series, speakers = load_japanese_vowels(split=split)
    values = np.zeros((len(series), N_STEPS, N_CHANNELS), np.float32)
    for row, one in zip(values, series, strict=True):
        row[: one.shape[1]] = one.T
    return {
        f"{split}_values": values,
        f"{split}_labels": np.array([int(speaker) - 1 for speaker in speakers], np.int32),
        f"{split}_lengths": np.array([one.shape[1] for one in series], np.int32),
    }


# Not compressed: another version of zlib would write other bytes.
np.savez(Path(__file__).with_suffix(".npz"), allow_pickle=False, **arrays_of("train"), **arrays_of("test"))
