"""A file is whole or not there, whatever happens while it is written; what is damaged or unsafe is refused."""

import hashlib

import numpy as np
import pytest
from small_sets import tar_gz

from slax_data import download, spike_trains
from slax_data.storage import packed
from slax_data.storage.packed import cached_sets, unpacked
from slax_data.storage.whole_files import atomic_write, read_archive

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_file_becomes_what_was_written_aside_or_stays_as_it_was(tmp_path):
    path = tmp_path / "folder" / "file"
    with atomic_write(path) as aside:
        aside.write_bytes(b"before")
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as aside, aside.open("wb") as file:
        file.write(CONTENT)
        raise OSError("No space left on device")
    assert path.read_bytes() == b"before"


def test_a_download_is_the_file_once_or_nothing(tmp_path):
    site, path = tmp_path / "site", tmp_path / "copy"
    for content in (CONTENT[:-100], CONTENT[::-1]):
        site.write_bytes(content)
        with pytest.raises(ValueError, match=f"/site has the wrong checksum: its sha256 is .*, expected {SHA256}"):
            download(site.as_uri(), path, sha256=SHA256)
        assert list(tmp_path.iterdir()) == [site]
    site.write_bytes(CONTENT)
    assert download(site.as_uri(), path, sha256=SHA256) == path and path.read_bytes() == CONTENT
    nobody = "http://127.0.0.1:9/file"
    assert download(nobody, path, sha256=SHA256) == path  # it is there
    with pytest.raises(ConnectionError, match=rf"{nobody} cannot be read.*Connection refused.* put it at"):
        download(nobody, tmp_path / "other", sha256=SHA256)


FILES = {"set/a.wav": b"first" * 5, "set/sub/b.wav": b"", "readme": b"text"}
WANTED = {name: content for name, content in FILES.items() if name.endswith(".wav")}


def members(path):
    return {str(name): content for name, content in read_archive(path, lambda name: name.suffix == ".wav")}


def test_a_folder_is_read_like_an_archive(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert list(members(tmp_path).items()) == sorted(WANTED.items())


UNSAFE = [
    *((tar_gz({"x.wav": b""}, kind), "a link or a device, 'x.wav'") for kind in b"1 2 3 6".split()),
    (tar_gz(FILES)[:-20], r"/file, .*expected a whole \.tar\.gz archive"),
    (tar_gz(FILES)[:40] + b"?" + tar_gz(FILES)[41:], r"/file, .*expected a whole \.tar\.gz archive"),
]


@pytest.mark.parametrize(("content", "told"), UNSAFE)
def test_what_is_not_to_be_trusted_is_refused(content, told, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        members(tmp_path / "file")


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
    assert files([1], "a = 2") == (3, 2)
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"expected a complete \.npz file of plain arrays.*Delete it"):
        files([1], "a = 2")
    packed._sources.cache_clear()
