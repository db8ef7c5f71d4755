"""Small data sets in the true format of their files: each function writes one into a folder and returns the options to read."""

import io
import tarfile
import wave
from pathlib import Path

import h5py
import numpy as np

N_UNITS = 700


def write_words(file: Path, times: list, units: list, labels: np.ndarray, speakers: int = 1) -> Path:
    """An HDF5 file as those of the Spiking Heidelberg Digits and of the Spiking Speech Commands."""
    with h5py.File(file, "w") as out:
        for name, rows, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            data = out.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(dtype))
            for index, row in enumerate(rows):
                data[index] = np.asarray(row, dtype)
        out["labels"] = labels
        out["extra/speaker"] = np.arange(len(labels), dtype=np.uint16) // len(set(labels.tolist())) % speakers
        out["extra/keys"] = np.array([f"word {label}" for label in range(20)], "S8")
        for name in ("gender", "age", "body_height"):
            out[f"extra/meta_info/{name}"] = np.zeros(1, "S6")
    return file


def words(
    rng: np.random.Generator, n_classes: int, each: int, *, longest: float = 1.37
) -> tuple[list, list, np.ndarray]:
    """Times, units and labels of random recordings, each class `each` times."""
    labels = np.tile(np.arange(n_classes, dtype=np.uint8), each)
    sizes = rng.integers(20, 60, len(labels))
    times = [np.sort(rng.uniform(0, longest, size)).astype(np.float16) for size in sizes]
    return times, [rng.integers(0, N_UNITS, size, np.uint16) for size in sizes], labels


def shd(folder: Path) -> dict:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        write_words(folder / f"shd_{split}.h5", *words(rng, 20, 4))
    return {"path": folder, "cache": folder / "cache", "pool": 10}


def ssc(folder: Path) -> dict:
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        write_words(folder / f"ssc_{split}.h5", *words(rng, 35, 3))
    return {"path": folder, "cache": folder / "cache", "pool": 20}


def spoken_digits(folder: Path) -> dict:
    """Noise beside a tone whose pitch is the digit."""
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "digits.tar.gz", "w:gz") as archive:
        for digit in range(10):
            for speaker in ("george", "theo"):
                for take in range(7):
                    t = np.arange(1000) / 8000
                    sound = 6000 * np.sin(2 * np.pi * (200 + 300 * digit) * t) + 3000 * rng.normal(size=len(t))
                    file = io.BytesIO()
                    with wave.open(file, "wb") as out:
                        out.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
                        out.writeframes(sound.astype("<i2").tobytes())
                    info = tarfile.TarInfo(f"digits/{digit}_{speaker}_{take}.wav")
                    info.size = len(file.getvalue())
                    archive.addfile(info, io.BytesIO(file.getvalue()))
    return {"path": folder / "digits.tar.gz", "cache": folder / "cache", "duration": 0.12, "n_channels": 20}


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
