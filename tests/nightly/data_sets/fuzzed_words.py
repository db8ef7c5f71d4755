"""Reads damaged files of the Spiking Heidelberg Digits: `python fuzzed_words.py TRIES [SEED [FIRST]]`.

Each must be read, as spikes and labels in their ranges, or be refused by a ValueError that names the file. The library that
reads HDF5 is not made for damaged files: with 3 of 6,000 inputs of seed 1 it never ends. Then this process dies after a while,
and its last line says of which.
"""

import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
from small_sets import words, write_words

from slax_data import check_labels, shd

LONGEST = 30  # seconds for an input


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """With bytes of the format's own structures changed more often than those of the events, and sometimes cut off."""
    changed = bytearray(content)
    structures = [at for at, byte in enumerate(content) if byte] if rng.random() < 0.5 else range(len(content))
    for at in rng.choice(structures, rng.integers(1, 5)):
        changed[at] = rng.choice([0, 255, changed[at] ^ 1 << rng.integers(8), rng.integers(256)])
    return bytes(changed[: rng.integers(len(content))] if rng.random() < 0.1 else changed)


def main(tries: int, seed: int, first: int) -> None:
    refused = 0
    with tempfile.TemporaryDirectory() as name:
        file = write_words(Path(name) / "shd_train.h5", *words(np.random.default_rng(0), 20, 1))
        content = file.read_bytes()
        for number in range(first, tries):
            print(f"input {number} of seed {seed}", flush=True)
            signal.alarm(LONGEST)  # which ends the process in the library too
            file.write_bytes(damaged(content, np.random.default_rng([seed, number])))
            try:
                found = shd(name, n_steps=3)
            except ValueError as error:
                assert str(file) in str(error), f"input {number}: {error}"
                refused += 1
            else:
                check_labels(found.labels, n_classes=20)
                assert len(set(found.labels.tolist())) == 20, f"input {number} lacks a class"
                assert found.packed.shape == (len(found.labels), 3, 88), f"input {number} has other sizes"
    print(f"{refused} of {tries - first} were refused")


if __name__ == "__main__":
    main(*map(int, [*sys.argv[1:], "0", "0"][:3]))
