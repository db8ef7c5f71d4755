"""Small data sets in the true format of their files: each function writes one into a folder and returns the options to read."""

import gzip
import io
import tarfile
import wave
from functools import partial
from pathlib import Path

import h5py
import numpy as np

N_UNITS = 700
SPEAKERS = ("george", "jackson", "theo")


def tar_gz(entries: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """An archive of files by name, or of the `TarInfo` of something else, which is filled with ones."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in entries.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b"1" * info.size))
    return gzip.compress(out.getvalue(), mtime=0)


def wav(samples: np.ndarray, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", "not compressed"))
        out.writeframes(samples.tobytes())
    return file.getvalue()


def write_words(file: Path, times: list, units: list, labels: np.ndarray, speakers: int = 1) -> Path:
    """An HDF5 file as those of the Spiking Heidelberg Digits and of the Spiking Speech Commands."""
    with h5py.File(file, "w") as out:
        for name, rows, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            data = out.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(dtype))
            for index, row in enumerate(rows):
                data[index] = np.asarray(row, dtype)
        out["labels"] = labels
        out["extra/speaker"] = np.arange(len(labels), dtype=np.uint16) // len(set(labels.tolist())) % speakers
    return file


def words(rng: np.random.Generator, n_classes: int, each: int) -> tuple[list, list, np.ndarray]:
    """Times, units and labels of random recordings, each class `each` times."""
    labels = np.tile(np.arange(n_classes, dtype=np.uint8), each)
    sizes = rng.integers(20, 60, len(labels))
    times = [np.sort(rng.uniform(0, 1.37, size)).astype(np.float16) for size in sizes]
    return times, [rng.integers(0, N_UNITS, size, np.uint16) for size in sizes], labels


def _word_set(folder: Path, name: str, n_classes: int, splits: tuple[str, ...]) -> dict:
    rng = np.random.default_rng(0)
    for split in splits:
        write_words(folder / f"{name}_{split}.h5", *words(rng, n_classes, 4))
    return {"path": folder, "cache": folder / "cache", "pool": 20}


shd = partial(_word_set, name="shd", n_classes=20, splits=("train", "test"))
ssc = partial(_word_set, name="ssc", n_classes=35, splits=("train", "valid", "test"))


def spoken_digit(digit: int, speaker: str, take: int) -> np.ndarray:
    """Noise beside a tone whose pitch is the digit, a little longer for each take."""
    t = np.arange(800 + 40 * take) / 8000
    noise = np.random.default_rng([digit, SPEAKERS.index(speaker), take]).normal(size=len(t))
    return (6000 * np.sin(2 * np.pi * (200 + 300 * digit) * t) + 3000 * noise).astype("<i2")


def spoken_digits(folder: Path, *, rate: int = 8000, digits: range = range(10), takes: int = 7) -> dict:
    names = [(digit, name, take) for digit in digits for name in SPEAKERS for take in range(takes)]
    entries = {f"set/recordings/{'_'.join(map(str, one))}.wav": wav(spoken_digit(*one), rate) for one in names}
    path = folder / "digits.tar.gz"
    path.write_bytes(tar_gz(entries))
    return {"path": path, "cache": folder / "cache", "duration": 0.12, "n_channels": 20}


def japanese_vowels(folder: Path) -> dict:
    """Random walks of 12 channels in 7 to 12 steps."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "test"):
        lengths = rng.integers(7, 13, 54).astype(np.int32)
        values = rng.normal(size=(54, 12, 12)).cumsum(axis=1) * (np.arange(12) < lengths[:, None])[..., None]
        arrays |= {f"{split}_values": values.astype(np.float32), f"{split}_lengths": lengths}
        arrays[f"{split}_labels"] = np.tile(np.arange(9, dtype=np.int32), 6)
    np.savez(folder / "vowels.npz", **arrays)
    return {"path": folder / "vowels.npz"}


SMALL_SETS = {"japanese_vowels": japanese_vowels, "shd": shd, "spoken_digits": spoken_digits, "ssc": ssc}
