"""A file is whole or not there, whatever happens while it is written, and its reader says what is damaged."""

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import wave
import zipfile

import numpy as np
import pytest
from hypothesis import given
from mutations import many, mutated

from slax_data import data_folder, download, japanese_vowels, read_archive, shd, spike_trains, spoken_digits
from slax_data.audio.sounds import read_wav
from slax_data.storage import packed, whole_files
from slax_data.storage.packed import arrays_of_sets, cached_sets, sets_of_arrays, unpacked
from slax_data.storage.whole_files import atomic_write, cached_arrays, load_arrays, resolve_folder

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def npz(arrays, save=np.savez_compressed):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_file_becomes_what_was_written_aside_or_stays_as_it_was(before, tmp_path):
    path = tmp_path / "folder" / "file"
    if before:
        path.parent.mkdir()
        path.write_bytes(before)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as aside, aside.open("wb") as file:
        file.write(CONTENT)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    code = "import sys, time; from pathlib import Path; from slax_data.storage.whole_files import atomic_write\n"
    code += "with atomic_write(Path(sys.argv[1])) as aside:\n"
    code += "  aside.write_bytes(b'half'); print('half', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert (path.read_bytes() if path.exists() else None) == before
    (left,) = (one.name for one in path.parent.iterdir() if one != path)
    assert left.startswith("file.") and left.endswith(".part")
    umask = os.umask(0o027)
    try:
        with atomic_write(path) as aside:
            aside.write_bytes(CONTENT)
    finally:
        os.umask(umask)
    assert path.read_bytes() == CONTENT and path.stat().st_mode & 0o777 == 0o640


class Answer(io.BytesIO):
    """What a site sends, of which it announces the length."""

    headers: dict[str, str]


def test_a_download_is_the_file_once_or_nothing(monkeypatch, tmp_path):
    path, url = tmp_path / "file", "https://somewhere/file"

    def site(content, length):
        answer = Answer(content)
        answer.headers = {"Content-Length": str(length)} if length else {}
        monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: answer)

    for content, length, error, told in (
        (
            CONTENT[:-100],
            10240,
            ConnectionError,
            "it ended after 10140 of 10240 bytes. Get it by other means, and put it at",
        ),
        (CONTENT[:-100], None, ValueError, "is not the file that was expected, or damaged"),
        (CONTENT[::-1], 10240, ValueError, f"its sha256 is [0-9a-f]+, expected {SHA256}"),
    ):
        site(content, length)
        with pytest.raises(error, match=told):
            download(url, path, sha256=SHA256)
        assert not list(tmp_path.iterdir())
    site(CONTENT, None)
    assert download(url, path, sha256=SHA256) == path and path.read_bytes() == CONTENT
    monkeypatch.undo()
    nobody = "http://127.0.0.1:9/file"
    assert download(nobody, path, sha256=SHA256) == path  # it is there
    path.write_bytes(CONTENT[1:])
    with pytest.raises(ValueError, match=f"{path} is not the file that was expected"):
        download(nobody, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT[1:]
    with pytest.raises(ConnectionError, match=rf"{nobody} cannot be read.*Connection refused"):
        download(nobody, tmp_path / "other", sha256=SHA256)


def test_paths_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SLAX_DATA", raising=False)
    assert data_folder() == resolve_folder(None) == tmp_path / ".cache" / "slax"
    monkeypatch.setenv("SLAX_DATA", "~/data")
    assert data_folder() == tmp_path / "data" and resolve_folder("~/here") == tmp_path / "here"
    for read in (shd, spoken_digits, japanese_vowels, lambda path: read_archive(path, bool)):
        with pytest.raises(FileNotFoundError, match=str(tmp_path / "none")):
            read("~/none")


ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "bits": np.arange(5, dtype=np.uint8), "name": np.array(["train", "test"])}


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in right
    )


def load(path, content):
    """The arrays, or None where they are refused by an error that names the file."""
    path.write_bytes(content)
    try:
        return load_arrays(path)
    except ValueError as error:
        assert f"{path} is not a complete .npz file of plain arrays" in str(error)
        return None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_arrays_are_an_error_or_whole(save, tmp_path):
    content, path = npz({"a": np.arange(7), "b": np.zeros(0)}, save), tmp_path / "file.npz"
    whole = load(path, content)
    assert same(whole, {"a": np.arange(7), "b": np.zeros(0)})
    for length in range(0, len(content), 3):
        assert load(path, content[:length]) is None, length
    for at in range(len(content)):
        found = load(path, content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        assert found is None or same(found, whole), at


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file.npz"


@many
@given(mutated(npz(ARRAYS)))
def test_damage_of_any_kind_is_an_error_or_changes_no_array(place, content):
    found = load(place, content)
    assert found is None or same(found, ARRAYS)


def one_array(old=b"", new=b""):
    """A .npz file whose array has another header, with a right checksum."""
    array, out = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(7))
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", array.getvalue().replace(old, new))
    return out.getvalue()


def test_arrays_that_lie_and_pickles_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    cases = [
        (one_array(b"(7,), }          ", b"(68719476736,), }"), r"an array of shape \[68719476736\] has 56 bytes"),
        (one_array(b"(7,)", b"(5,)"), r"an array of shape \[5\] has 56 bytes, expected 40"),  # which NumPy reads
        (npz({"a": np.array([{}], object)}), "Object arrays cannot be loaded"),
        (b"\x80\x04}.", r"not a complete \.npz file"),
        (npz({"a": np.zeros(10_000)}), "it unpacks to 80128 bytes, expected at most 10000"),
    ]
    monkeypatch.setattr(whole_files, "LARGEST", 10_000)
    for content, told in cases:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=told):
            load_arrays(path)


def test_spikes_are_made_once_and_again_for_other_options_and_other_programs(tmp_path, monkeypatch):
    sources, cache = tmp_path / "sources", tmp_path / "cache"
    sources.mkdir()
    monkeypatch.setattr(packed, "SOURCES", sources)
    spikes = np.random.default_rng(0).random((2, 3, 11)) < 0.4
    splits, calls = {"train": spike_trains(spikes, np.array([0, 1]))}, []

    def files(options, program):
        (sources / "cochlea.py").write_text(program)
        packed._sources.cache_clear()
        found = cached_sets(cache, "name", options, lambda: calls.append(1) or splits)["train"]
        np.testing.assert_array_equal(unpacked(found.packed, found.n_units), spikes)
        assert found.lengths.tolist() == [3, 3] and found.labels.tolist() == [0, 1]
        return len(calls), len(list(cache.iterdir()))

    assert files([1], "a = 1") == files([1], "a = 1  # a comment") == (1, 1)
    assert files([2], "a = 1") == (2, 2)
    assert files([1], "a = 2") == (3, 2)  # what the other program made is gone
    packed._sources.cache_clear()
    arrays = arrays_of_sets(splits)
    for name in ("train_labels", "train_lengths", "train_packed"):
        with pytest.raises(ValueError, match=r"Spikes have the arrays splits, n_units and packed, labels, lengths"):
            sets_of_arrays({key: array for key, array in arrays.items() if key != name})
        with pytest.raises(ValueError, match=r"The split 'train' must have bytes \[D, T, ceil"):
            sets_of_arrays(arrays | {name: arrays[name][1:]})
    with pytest.raises(ValueError, match="for n_units=30"):
        sets_of_arrays(arrays | {"n_units": np.array(30)})
    with pytest.raises(ZeroDivisionError):
        cached_arrays(tmp_path / "b.npz", lambda: {"a": np.array(1 // 0)})
    assert not (tmp_path / "b.npz").exists()


def wav(samples, rate=8000, channels=1, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", "not compressed"))
        out.writeframes(samples.tobytes())
    return file.getvalue()


SAMPLES = np.array([0, 1, -1, 32767, -32768, 500], "<i2")
WAV = wav(SAMPLES)


@many
@given(mutated(WAV))
def test_recordings_come_out_as_they_were_written_or_not_at_all(content):
    sound = read_wav(WAV, "a.wav")
    assert sound.rate == 8000 and sound.samples.dtype == np.float32
    np.testing.assert_array_equal(sound.samples * 32768, SAMPLES)
    try:
        sound = read_wav(content, "a.wav")
    except ValueError as error:
        assert "a.wav" in str(error)
    else:
        assert len(sound.samples) and sound.rate > 0 and np.all(np.abs(sound.samples) <= 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (wav(SAMPLES, channels=2), "a.wav has 2 channels of 16 bit, expected one of 16 bit"),
        (wav(SAMPLES, width=1), "a.wav has 1 channels of 8 bit"),
        (wav(SAMPLES[:0]), "a.wav has 0 samples of the 0 that it announces"),
        (WAV[:24] + bytes(4) + WAV[28:], "a.wav has 6 samples of the 6 that it announces, at 0 Hz"),
        (WAV[:-4], "a.wav has 4 samples of the 6"),
        (b"ID3\3" + WAV, "a.wav is not a PCM .wav file"),
    ],
)
def test_other_recordings_are_errors(content, told):
    with pytest.raises(ValueError, match=told):
        read_wav(content, "a.wav")
