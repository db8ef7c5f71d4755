"""Spikes of a set named in `data/config.yaml` from its raw files, for experiments on real sounds and series."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.pipeline.config import ROOT, read_yaml
from slax_data import Cochlea, encode_recordings, idx_images, japanese_vowel_spikes, shd, spoken_digits
from slax_data.sets.chorales import CHORALE_SPLITS, KEYS
from slax_data.sets.indexed import stacked
from slax_data.sets.spoken_digits import spoken_digit_spikes
from slax_data.storage.packed import SpikeTrains, arrays_of_sets, spike_trains
from slax_data.storage.whole_files import atomic_write, check_sha256, load_arrays


def shd_spikes(train: Path, test: Path, **options: Any) -> dict[str, SpikeTrains]:
    if train.parent != test.parent:
        raise SystemExit(f"The two files of SHD have to be in one folder, got {train} and {test}.")
    splits = ("train", "validation", "test") if options.get("with_validation") else ("train", "test")
    return {split: shd(train.parent, split=split, **options) for split in splits}


def spikes_by_speaker(
    path: Path, *, choice_takes: int, n_steps: int, duration: float, n_channels: int
) -> dict[str, SpikeTrains]:
    """For each speaker, SPEAKER_choice has the first recordings of each digit, by which settings are chosen, and SPEAKER_stream
    has the others."""
    splits = [spoken_digits(path, split=split) for split in ("train", "test")]
    sets = {}
    for speaker in sorted({name for split in splits for name in split.speakers}):
        for part in ("choice", "stream"):
            mine = [
                (sound, label)
                for split in splits
                for sound, label, name, take in zip(*split, strict=True)
                if name == speaker and (take < choice_takes) == (part == "choice")
            ]
            sounds, labels = zip(*mine, strict=True)
            how = dict(n_steps=n_steps, duration=duration, cochlea=Cochlea(n_channels=n_channels))
            sets[f"{speaker}_{part}"] = encode_recordings(list(sounds), np.array(labels, np.int32), **how)
    return sets


def chorale_keys(path: Path) -> dict[str, SpikeTrains]:
    """The keys that sound in each step of the pieces of each split of Bach."""
    arrays, sets = load_arrays(path), {}
    for split in CHORALE_SPLITS:
        keys, lengths = arrays[f"{split}_keys"], arrays[f"{split}_lengths"]
        pieces = np.split(np.unpackbits(keys, axis=1, count=len(KEYS)), np.cumsum(lengths)[:-1])
        sets[split] = spike_trains(stacked(pieces, int(lengths.max())), np.zeros(len(pieces), int), lengths)
    return sets


def laser_points(path: Path) -> dict[str, SpikeTrains]:
    """All points of the laser as one recording."""
    return {"series": spike_trains(load_arrays(path)["points"][None, :, None], np.zeros(1, int))}


def mnist_pixels(*raw: Path) -> dict[str, SpikeTrains]:
    """The pixels of each image as a sequence of 784 bytes, row by row; they are intensities, not spikes."""
    splits = ("train", "validation", "test")
    read = {split: idx_images("mnist", raw[0].parent, split=split, with_validation=True) for split in splits}
    return {split: spike_trains(pixels[..., None], labels) for split, (pixels, labels) in read.items()}


SETS: dict[str, Any] = read_yaml(ROOT / "data/config.yaml")["sets"]
MAKERS = {
    "spoken_digits": spoken_digit_spikes,
    "spoken_digits_by_speaker": spikes_by_speaker,
    "japanese_vowels": japanese_vowel_spikes,
    "bach": chorale_keys,
    "laser": laser_points,
    "shd": shd_spikes,
    "mnist": mnist_pixels,
}


def write_spikes(settings: Mapping[str, Any], raw: Sequence[Path], output: Path) -> None:
    """Write the spikes of a set to an .npz file.

    Args:
        settings: of the set, from `data/config.yaml`.
        raw: its raw files, in the order of the settings.
        output: the path of the file.

    Raises:
        ValueError: a raw file is not the one whose checksum is in the settings.
    """
    if len(raw) != len(settings["raw"]):
        raise SystemExit(f"Got {len(raw)} files, expected {', '.join(settings['raw'])}, in this order.")
    for part, sha256 in zip(raw, settings["raw"].values(), strict=True):
        if sha256 is not None:
            check_sha256(part, sha256)
    spikes = MAKERS[settings["maker"]](*raw, **settings["options"])
    with atomic_write(output) as aside, aside.open("wb") as file:
        np.savez(file, **arrays_of_sets(spikes))
