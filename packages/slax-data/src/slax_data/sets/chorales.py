"""Pieces in four voices by Bach, mostly chorales: to predict which of the 88 keys of a piano sound next."""

import math
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from slax_data.checks import check_choice, check_size
from slax_data.extras import import_extra
from slax_data.sets.indexed import indexed_task, stacked
from slax_data.storage.packed import SpikeTrains, cached_sets, spike_trains
from slax_data.storage.whole_files import file_stamp, resolve_folder
from slax_data.task import Task

CHORALE_SPLITS = ("train", "validation", "test")
KEYS = range(21, 109)  # of a piano, as MIDI numbers them
SEMITONES = dict(C=0, D=2, E=4, F=5, G=7, A=9, B=11)
OPENING = 8  # steps
VOICES = 4


class Chorales(NamedTuple):
    """The pieces of one split.

    Args:
        names: names of the files, such as "bwv371".
        rolls: for each piece, whether a key sounds in a step, [T_i, 88].
    """

    names: list[str]
    rolls: list[Bool[np.ndarray, "_ 88"]]


def bach(path: str | Path | None = None, *, split: str = "train") -> Chorales:
    """The pieces by Bach in four voices that music21 has, 364, as the keys that sound at the start of each eighth note.

    A held note sounds in each of its steps. The 1 % of notes that begin and end between two steps are missing. Pieces are in
    the key in which they are written, and repeats are not played twice. The other 44 pieces have more voices, or fewer, and
    are left out.

    Of five pieces, in the order of their names, the fourth is in the validation split and the fifth in the test split. But
    Bach used some pieces twice: those that begin with the same eight steps as another one, in any key, are all in the training
    split. It has 242 pieces, validation 63, and test 59. Melodies occur in several splits, in other settings.

    Args:
        path: a folder of compressed MusicXML files (.mxl), by default that of music21.
        split: "train", "validation" or "test".

    Raises:
        ImportError: music21 is missing, and no folder was given.
        ValueError: an unknown split, a damaged file, a note outside the 88 keys, or fewer than five pieces in four voices.

    References:
        M. S. Cuthbert, C. Ariza, "music21: a toolkit for computer-aided musicology and symbolic music data", ISMIR 2010; BSD
        license. N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, "Modeling temporal dependencies in high-dimensional
        sequences", 2012, arXiv:1206.6392, has this task on other chorales, in quarter notes.

    Example:
        Where music21 is installed, `bach().rolls` has 242 pieces. Splits are checked first:
        >>> from slax_data import bach
        >>> bach(split="valid")
        Traceback (most recent call last):
            ...
        ValueError: split got 'valid', expected one of: 'test', 'train', 'validation'.
    """
    check_choice("split", split, CHORALE_SPLITS)
    return _splits(_folder(path))[split]


def bach_task(
    key: PRNGKeyArray,
    *,
    n_steps: int | None = None,
    code: str = "keys",
    path: str | Path | None = None,
    cache: str | Path | None = None,
) -> Task:
    """The pieces of `bach` as a `Task`: at each step, the keys that sound next are to be predicted.

    The pieces are read once, in about seven seconds: they are kept in a file whose name changes with everything they depend on.

    Args:
        key: not used; nothing is drawn.
        n_steps: T, by default the length of the longest piece, 385. A longer piece is cut into samples that follow each other.
        code: "keys", 1 for each key that sounds.
        path: see `bach`.
        cache: folder for the pieces as they were read, by default `data_folder()`.

    Returns:
        A task with batches (inputs [T, B, 88], targets [T, B, 88], mask [T, B]): the targets of a step are the inputs of the
        next, and the mask is true until the last step that has one.

    Raises:
        ImportError, ValueError: as `bach` does, or for an unknown code or number of steps.

    Example:
        Where music21 is installed, `bach_task(key, n_steps=96)` is the task. Codes are checked first:
        >>> import jax
        >>> from slax_data import bach_task
        >>> bach_task(jax.random.key(0), code="notes")
        Traceback (most recent call last):
            ...
        ValueError: code got 'notes', expected one of: 'keys'.
    """
    check_choice("code", code, ["keys"])
    if n_steps is not None:
        check_size("n_steps", n_steps)
    folder = _folder(path)

    def read() -> dict[str, SpikeTrains]:
        return {split: _trains(one.rolls) for split, one in _splits(folder).items()}

    stamps = [file_stamp(file) for file in _files(folder)]
    sets = cached_sets(resolve_folder(cache), "bach", stamps, read)
    n_steps = n_steps or max(one.packed.shape[1] for one in sets.values()) - 1
    splits = {split: [pair for roll in _rolls(one) for pair in _pairs(roll, n_steps)] for split, one in sets.items()}
    return indexed_task(splits, n_steps=n_steps, padding="mask", per_step=True)


def _trains(rolls: list[np.ndarray]) -> SpikeTrains:
    lengths = np.array([len(roll) for roll in rolls])
    return spike_trains(stacked(rolls, int(lengths.max())), np.arange(len(rolls)), lengths)


def _rolls(trains: SpikeTrains) -> list[np.ndarray]:
    bits = np.unpackbits(np.asarray(trains.packed), axis=-1, count=len(KEYS)).astype(bool)
    return [row[:length] for row, length in zip(bits, np.asarray(trains.lengths), strict=True)]


def _pairs(roll: np.ndarray, n_steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets of the samples of one piece."""
    targets = roll[1:].astype(np.float32)
    starts = range(0, len(targets), n_steps)
    return [(roll[:-1][start : start + n_steps], targets[start : start + n_steps]) for start in starts]


def _folder(path: str | Path | None) -> Path:
    if path:
        return Path(path).expanduser()
    return Path(import_extra("music21", extra="music").__file__).parent / "corpus" / "bach"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mxl"))


def _splits(folder: Path) -> dict[str, Chorales]:
    files = _files(folder)
    rolls = {file.stem: roll for file in files if (roll := _roll(file)) is not None}
    if len(rolls) < 5:
        which = f"{len(rolls)} pieces in {VOICES} voices among the {len(files)} files *.mxl in {folder}"
        raise ValueError(f"Got {which}, expected at least 5.")
    often = Counter(map(_opening, rolls.values()))
    splits = {split: Chorales([], []) for split in CHORALE_SPLITS}
    for place, (name, roll) in enumerate(rolls.items()):
        chosen = splits[CHORALE_SPLITS[max(place % 5, 2) - 2 if often[_opening(roll)] == 1 else 0]]
        chosen.names.append(name)
        chosen.rolls.append(roll)
    return splits


def _opening(roll: np.ndarray) -> tuple[bytes, bytes]:
    """What a piece and the same piece in another key have in common: its first steps, from their lowest key up."""
    steps, keys = np.nonzero(roll[:OPENING])
    return steps.tobytes(), (keys - keys.min(initial=len(KEYS))).tobytes()


def _roll(file: Path) -> Bool[np.ndarray, "T 88"] | None:
    """Which keys sound in each step of a piece, or None if it has not four parts of one voice each."""
    # Any exception: only the content can be at fault, and the readers report that by many types.
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("xml") and not name.startswith("META-INF")]
            score = ElementTree.fromstring(archive.read(names[0]))
        parts = score.findall("part")
        if len(parts) != VOICES or any(score.find(f".//{tag}") is not None for tag in ("backup", "chord")):
            return None
        notes = [note for part in parts for note in _notes(part)]
        roll = np.zeros((max(end for _, end, _ in notes), len(KEYS)), bool)
        for start, end, key in notes:
            roll[start:end, key] = True
    except Exception as error:
        expected = "a whole piece in compressed MusicXML, for the 88 keys of a piano"
        raise ValueError(f"Got {file}, expected {expected} ({error}).") from error
    return roll


def _notes(part: ElementTree.Element) -> list[tuple[int, int, int]]:
    """The notes of a voice: the step in which each begins to sound, the one in which it no longer does, and its key."""
    now, divisions, notes = Fraction(0), 1, []
    for item in part.iterfind("measure/*"):
        divisions = int(item.findtext("divisions") or divisions)  # of a quarter note, the unit of durations
        if item.tag not in ("note", "forward"):
            continue
        end = now + Fraction(2 * int(item.findtext("duration") or 0), divisions)  # ornaments have no duration
        if (pitch := item.find("pitch")) is not None:
            above = SEMITONES[pitch.findtext("step", "")] + int(pitch.findtext("alter") or 0)
            key = KEYS.index(12 * (int(pitch.findtext("octave", "")) + 1) + above)
            notes.append((math.ceil(now), math.ceil(end), key))
        now = end
    return notes
