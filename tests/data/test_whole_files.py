"""A file is whole or not there, whatever happens while it is written."""

import contextlib
import errno
import hashlib
import http.server
import io
import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from mutations import many, mutated

from slax_data import japanese_vowels, read_archive, shd, spoken_digits
from slax_data.storage import packed, whole_files
from slax_data.storage.packed import arrays_of_sets, cached_sets, sets_of_arrays, spike_trains, unpacked
from slax_data.storage.whole_files import (
    atomic_write,
    cached_arrays,
    check_sha256,
    data_folder,
    download,
    load_arrays,
    resolve_folder,
    sha256_of,
)

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "bits": np.arange(5, dtype=np.uint8), "name": np.array(["train", "test"])}


def npz(arrays, save=np.savez_compressed):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_file_becomes_what_was_written_aside(before, tmp_path):
    path = tmp_path / "folder" / "file"
    if before:
        path.parent.mkdir()
        path.write_bytes(before)
    with atomic_write(path) as aside:
        aside.write_bytes(CONTENT)
        assert (path.read_bytes() if path.exists() else None) == before
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_file_has_the_mode_that_the_umask_gives(umask, tmp_path):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as aside:
            aside.write_bytes(CONTENT)
            assert aside.stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("before", [None, b"before"])
def test_after_an_error_the_file_is_as_before(before, tmp_path):
    path = tmp_path / "file"
    if before:
        path.write_bytes(before)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as aside, aside.open("wb") as file:
        file.write(CONTENT)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("before", [None, b"before"])
def test_after_a_kill_the_file_is_as_before(before, tmp_path):
    path = tmp_path / "file"
    if before:
        path.write_bytes(before)
    code = f"""
import time
from pathlib import Path
from slax_data.storage.whole_files import atomic_write
with atomic_write(Path({str(path)!r})) as aside, aside.open("wb") as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    (left,) = (one for one in tmp_path.iterdir() if one != path)
    assert left.name.startswith("file.") and left.name.endswith(".part")
    with atomic_write(path) as aside:  # which is in nobody's way
        aside.write_bytes(CONTENT)
    assert path.read_bytes() == CONTENT


@contextlib.contextmanager
def served(answer):
    """The address of a site on this machine that answers each request by `answer(handler)`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/file"
        finally:
            server.shutdown()
            thread.join()


def sends(content, length=None, **headers):
    def answer(handler):
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


CHUNK = b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT)


@pytest.mark.parametrize("length", [len(CONTENT), None])
def test_a_download_is_the_file_and_is_done_once(length, tmp_path):
    path = tmp_path / "folder" / "file"
    with served(sends(CONTENT, length)) as url:
        assert download(url, path, sha256=SHA256) == path
    assert path.read_bytes() == CONTENT
    assert download(url, path, sha256=SHA256) == path  # nobody serves any more


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (
            sends(CONTENT[:-100], len(CONTENT)),
            ConnectionError,
            "it ended after 10140 of 10240 bytes. Get it by other means",
        ),
        (sends(CONTENT[:-100]), ValueError, "is not the file that was expected, or damaged"),
        (sends(CHUNK[:-100], Transfer_Encoding="chunked"), ConnectionError, "IncompleteRead"),
        (sends(CONTENT[::-1], len(CONTENT)), ValueError, f"its sha256 is [0-9a-f]+, expected {SHA256}"),
        (lambda handler: handler.send_error(404), ConnectionError, "HTTP Error 404: Not Found. Get it by other means"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), ConnectionError, "cannot be read"),
        (lambda handler: None, ConnectionError, "cannot be read"),
    ],
    ids=["cut off", "cut off without a length", "chunk cut off", "another file", "not found", "nonsense", "hangs up"],
)
def test_a_download_that_fails_leaves_nothing(answer, error, told, tmp_path):
    with served(answer) as url, pytest.raises(error, match=told):
        download(url, tmp_path / "file", sha256=SHA256)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_downloading_leaves_nothing(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r": Full(path, "w") if mode == "wb" else opened(path, mode))
    with served(sends(CONTENT, len(CONTENT))) as url, pytest.raises(OSError, match="No space left"):
        download(url, tmp_path / "file", sha256=SHA256)
    assert not list(tmp_path.iterdir())


def test_a_site_that_cannot_be_reached_is_an_error(tmp_path):
    with served(sends(CONTENT)) as url:
        pass
    with pytest.raises(ConnectionError, match=rf"{url} cannot be read.*Connection refused.*put it at {tmp_path}/file"):
        download(url, tmp_path / "file", sha256=SHA256)


def test_a_file_with_another_checksum_is_an_error_and_stays(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT[1:])
    with pytest.raises(
        ValueError, match=rf"{path} is not the file that was expected.*its sha256 is {sha256_of(path)}, expected"
    ):
        download("http://127.0.0.1:9/file", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT[1:]
    path.write_bytes(CONTENT)
    check_sha256(path, SHA256)
    assert sha256_of(path) == SHA256


def test_data_folder_is_named_by_a_variable(monkeypatch):
    monkeypatch.setenv("SLAX_DATA", "/somewhere")
    assert data_folder() == Path("/somewhere")
    monkeypatch.delenv("SLAX_DATA")
    assert data_folder() == Path.home() / ".cache" / "slax"


@pytest.mark.parametrize(
    ("read", "file"),
    [
        (lambda path: shd(path), "shd_train.h5"),
        (lambda path: spoken_digits(path), ""),
        (lambda path: japanese_vowels(path), ""),
        (lambda path: read_archive(Path(path), lambda name: True), ""),
    ],
    ids=["shd", "spoken_digits", "japanese_vowels", "members"],
)
def test_a_path_may_begin_at_home(read, file, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none" / file))):
        read("~/none")


def test_a_folder_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SLAX_DATA", "~/data")
    assert data_folder() == resolve_folder(None) == tmp_path / "data"
    assert resolve_folder("~/cache") == resolve_folder(Path("~/cache")) == tmp_path / "cache"
    assert resolve_folder("here") == Path("here")
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert download("http://localhost/none", Path("~/file"), sha256=SHA256) == path


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in right
    )


def test_arrays_are_made_once(tmp_path):
    calls = []
    make = lambda: calls.append(1) or ARRAYS  # noqa: E731
    for _ in range(2):
        assert same(cached_arrays(tmp_path / "folder" / "a.npz", make), ARRAYS)
    assert len(calls) == 1
    with pytest.raises(ZeroDivisionError):
        cached_arrays(tmp_path / "b.npz", lambda: {"a": np.array(1 // 0)})
    assert not (tmp_path / "b.npz").exists()


@pytest.fixture
def load_bytes(tmp_path):
    def load_bytes(content):
        (tmp_path / "file.npz").write_bytes(content)
        return load_arrays(tmp_path / "file.npz")

    return load_bytes


def load_or_none(load_bytes, content):
    try:
        return load_bytes(content)
    except ValueError as error:
        assert "file.npz is not a complete .npz file of plain arrays" in str(error)
        return None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_arrays_are_an_error_or_whole(save, load_bytes):
    content = npz({"a": np.arange(7), "b": np.zeros(0)}, save)
    arrays = load_bytes(content)
    assert same(arrays, {"a": np.arange(7), "b": np.zeros(0)})
    for length in range(len(content)):
        assert load_or_none(load_bytes, content[:length]) is None, length
    for at in range(len(content)):
        found = load_or_none(load_bytes, content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        assert found is None or same(found, arrays), at


def test_a_file_that_unpacks_to_too_much_is_an_error(load_bytes, monkeypatch):
    content = npz({"a": np.zeros(10_000)}, np.savez_compressed)
    assert len(content) < 1000 and load_bytes(content)["a"].size == 10_000
    monkeypatch.setattr(whole_files, "LARGEST", 10_000)
    with pytest.raises(ValueError, match="it unpacks to 80128 bytes, expected at most 10000"):
        load_bytes(content)


def test_a_shape_of_more_than_the_file_has_takes_no_memory(load_bytes):
    array = io.BytesIO()
    np.save(array, np.arange(7))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", array.getvalue().replace(b"(7,), }          ", b"(68719476736,), }"))
    with pytest.raises(ValueError, match=r"an array of shape \[68719476736\] has 56 bytes"):
        load_bytes(out.getvalue())


def test_a_shape_that_leaves_something_over_is_an_error(load_bytes):
    """Which NumPy reads without a word, whatever the checksum is."""
    array = io.BytesIO()
    np.save(array, np.arange(7))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", array.getvalue().replace(b"(7,)", b"(5,)"))
    with pytest.raises(ValueError, match=r"an array of shape \[5\] has 56 bytes, expected 40"):
        load_bytes(out.getvalue())


def test_pickles_are_refused(load_bytes):
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        load_bytes(npz({"a": np.array([{}], object)}))
    with pytest.raises(ValueError, match=r"not a complete \.npz file"):
        load_bytes(b"\x80\x04}.")
    with pytest.raises(FileNotFoundError):
        load_arrays(Path("/nothing.npz"))


NPZ = npz(ARRAYS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file.npz"


@many
@given(mutated(NPZ))
def test_damage_of_any_kind_is_an_error_or_changes_no_array(place, content):
    place.write_bytes(content)
    found = load_or_none(lambda _: load_arrays(place), content)
    if found is not None:
        assert same(found, ARRAYS)


def test_spikes_are_made_again_after_a_change_of_any_file_of_the_package(tmp_path, monkeypatch):
    assert (packed.SOURCES / "audio" / "cochlea.py").exists()
    sources, cache = tmp_path / "sources", tmp_path / "cache"
    (sources / "audio").mkdir(parents=True)
    monkeypatch.setattr(packed, "SOURCES", sources)
    splits = {"train": spike_trains(np.ones((1, 2, 3), bool), np.array([0]))}
    for number, content in enumerate(("a", "b", "b")):
        (sources / "audio" / "cochlea.py").write_text(content)
        cached_sets(cache, "name", [1], lambda: splits)
        assert len(list(cache.iterdir())) == (1, 2, 2)[number]


def test_splits_of_spikes_come_back_from_their_file(tmp_path):
    spikes = np.random.default_rng(0).random((4, 3, 11)) < 0.4
    splits = {
        name: spike_trains(spikes[rows], np.array([0, 1])) for name, rows in (("train", [0, 1]), ("test", [2, 3]))
    }
    for _ in range(2):
        found = cached_sets(tmp_path, "name", [1, "a"], lambda: splits)
        np.testing.assert_array_equal(unpacked(found["test"].packed, found["test"].n_units), spikes[2:])
        assert found["train"].lengths.tolist() == [3, 3] and found["train"].labels.tolist() == [0, 1]
    cached_sets(tmp_path, "name", [1, "b"], lambda: splits)
    assert len(list(tmp_path.iterdir())) == 2
    arrays = arrays_of_sets(splits)
    del arrays["test_labels"]
    with pytest.raises(
        ValueError, match="Spikes have the arrays splits, n_units and packed, labels, lengths of each split, got"
    ):
        sets_of_arrays(arrays)


@pytest.mark.parametrize(
    ("spikes", "labels", "told"),
    [
        (np.zeros((2, 3), bool), np.zeros(2, int), r"booleans \[D, T, N\], got bool of shape \[2, 3\]"),
        (np.zeros((2, 3, 4)), np.zeros(2, int), r"booleans \[D, T, N\], got float64"),
        (np.zeros((0, 3, 4), bool), np.zeros(0, int), r"got bool of shape \[0, 3, 4\]"),
        (np.zeros((2, 3, 4), bool), np.zeros(3, int), "Got 2 recordings with 3 labels and 2 lengths"),
        (np.zeros((2, 3, 4), bool), np.array([0, -1]), "got values from -1 to 0"),
        (np.zeros((2, 3, 4), bool), np.array([0.0, 1.0]), "labels must be integers"),
    ],
)
def test_spikes_that_do_not_belong_together_are_errors(no_shape_checks, spikes, labels, told):
    with pytest.raises(ValueError, match=told):
        spike_trains(spikes, labels)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_units": np.array(30)},
        {"train_packed": np.zeros(5, np.uint8)},
        {"train_packed": np.zeros((2, 3, 2), np.int32)},
        {"train_labels": np.zeros(3, np.int32)},
        {"train_lengths": np.zeros((2, 1), np.int32)},
    ],
    ids=["units", "axes", "dtype", "labels", "lengths"],
)
def test_spikes_of_a_file_that_do_not_fit_are_an_error(changes):
    arrays = arrays_of_sets({"train": spike_trains(np.ones((2, 3, 11), bool), np.array([0, 1]))})
    assert sets_of_arrays(arrays)["train"].n_units == 11
    with pytest.raises(ValueError, match=r"The split 'train' must have bytes \[D, T, ceil"):
        sets_of_arrays(arrays | changes)
