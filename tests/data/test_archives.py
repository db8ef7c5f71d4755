"""Archives give out what was packed, or an error: never less, and nothing that leads out of them."""

import gzip
import io
import itertools
import stat
import tarfile
import zipfile
from functools import partial

import pytest
from hypothesis import given
from mutations import many, mutated

from slax_data.storage import archives
from slax_data.storage.archives import read_archive

FILES = {"set/a.wav": b"first" * 5, "set/sub/b.wav": b"", "readme": b"text"}
WANTED = {name: content for name, content in FILES.items() if name.endswith(".wav")}


def tar(entries):
    """Of files by name, or of the `TarInfo` of something else."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in entries.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    return out.getvalue()[:end]  # without the further zeros that fill it up: two blocks of them end it


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


FORMATS = {
    "tar": tar,
    "tar.gz": lambda entries: gzip.compress(tar(entries), mtime=0),
    "zip": zipped,
    "stored.zip": partial(zipped, method=zipfile.ZIP_STORED),
}
PACKED = {name: pack(FILES) for name, pack in FORMATS.items()}
each_format = pytest.mark.parametrize("form", FORMATS)


def read(path):
    return {str(name): content for name, content in read_archive(path, lambda name: name.suffix == ".wav")}


@pytest.fixture
def read_bytes(tmp_path):
    def read_bytes(content):
        (tmp_path / "archive").write_bytes(content)
        return read(tmp_path / "archive")

    return read_bytes


def read_or_none(read_bytes, content):
    """The members, or None where they are refused by an error that names the file."""
    try:
        return read_bytes(content)
    except ValueError as error:
        assert "/archive is not a readable archive" in str(error)
        return None


@each_format
def test_members_are_what_was_packed(form, read_bytes):
    assert read_bytes(PACKED[form]) == WANTED
    assert list(read_bytes(FORMATS[form](dict(reversed(FILES.items()))))) == sorted(WANTED)


def test_a_folder_is_read_like_an_archive(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert read(tmp_path) == WANTED
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder .*/nothing"):
        read(tmp_path / "nothing")


@each_format
def test_a_truncated_archive_is_an_error_at_every_length(form, read_bytes):
    content = PACKED[form]
    for length in range(0, len(content), 7 if form == "tar" else 1):
        found = read_or_none(read_bytes, content[:length])
        # Of a .tar the end is two blocks of zeros, of which one is enough.
        assert found is None or (form == "tar" and length >= len(content) - 512 and found == WANTED), length


@each_format
def test_one_damaged_byte_is_an_error_or_changes_nothing(form, read_bytes):
    content = PACKED[form]
    for at, flip in itertools.product(range(0, len(content), 5 if form == "tar" else 1), [1, 0xFF]):
        found = read_or_none(read_bytes, content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        if form == "tar" and found is not None:  # no checksum of what is in the files
            assert list(map(len, found.values())) == list(map(len, WANTED.values())), at
        else:
            assert found in (None, WANTED), at


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../x.wav", "/x.wav", "set/../../x.wav"])
def test_names_that_lead_out_are_errors(form, name, read_bytes):
    with pytest.raises(ValueError, match=rf"has a member that leads out of it, '{name}', and is not to be trusted"):
        read_bytes(FORMATS[form]({name: b"1"} | FILES))


def link(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return {name: info}


def test_links_and_devices_are_errors_if_they_are_wanted(read_bytes):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        with pytest.raises(ValueError, match=r"a link or a device, 'set/x\.wav', expected a file"):
            read_bytes(tar(FILES | link("set/x.wav", kind)))
        assert read_bytes(tar(FILES | link("set/x.txt", kind))) == WANTED
    out = io.BytesIO()
    info = zipfile.ZipInfo("x.wav")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=r"a link or a device, 'x\.wav'"):
        read_bytes(out.getvalue())


@each_format
def test_bombs_are_errors(form, read_bytes, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 100_000)
    assert len(read_bytes(FORMATS[form]({"a.wav": b"1" * 80_000}))["a.wav"]) == 80_000
    with pytest.raises(ValueError, match="holds more than 100000 bytes"):
        read_bytes(FORMATS[form]({"a.wav": b"1" * 60_000, "b.wav": b"1" * 60_000}))


def test_sparse_files_are_errors(read_bytes):
    """529 bytes that stand for 6 GiB."""
    info = tarfile.TarInfo("a.wav")
    info.size, size = 512, str(6 << 30)
    info.pax_headers = {"GNU.sparse.size": size, "GNU.sparse.realsize": size, "GNU.sparse.map": f"0,512,{size},0"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"1" * 512))
    with pytest.raises(ValueError, match=r"it has a sparse file, 'a\.wav'"):
        read_bytes(out.getvalue())


def test_two_files_of_one_name_are_an_error_and_a_tar_that_ends_in_a_zip_is_a_tar(read_bytes):
    with pytest.raises(ValueError, match="it has two files of one name"):
        read_bytes(tar({"a.wav": b"1", "b.wav": b"2", "another a.wav": tarfile.TarInfo("a.wav")}))
    assert read_bytes(tar({"a.wav": b"1", "z.zip": zipped({"inner.wav": b"inner"})})) == {"a.wav": b"1"}


def test_a_zip_file_that_says_less_than_it_holds_is_not_read_beyond(read_bytes):
    """A bomb that lies: the size in the list of files is smaller than what comes out."""
    content = bytearray(zipped({"a.wav": bytes(50_000)}))
    at = content.rfind(b"PK\1\2") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(ValueError, match="damaged"):
        read_bytes(bytes(content))


def test_something_else_is_an_error(read_bytes):
    for content in (
        b"",
        b"P",
        b"\x1f\x8b",
        gzip.compress(b""),
        gzip.compress(b"text"),
        b"<html>not found</html>" * 100,
    ):
        with pytest.raises(
            ValueError, match=r"is not a readable archive \(\.tar, \.tar\.gz or \.zip\), or it is truncated"
        ):
            read_bytes(content)
    with pytest.raises(ValueError, match=r"a\.wav is compressed by method 12, expected deflate or none"):
        read_bytes(zipped({"a.wav": b"1"}, zipfile.ZIP_BZIP2))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "archive"


@each_format
def test_damage_of_any_kind_is_an_error_or_gives_files(form, place):
    @many
    @given(mutated(PACKED[form]))
    def check(content):
        place.write_bytes(content)
        found = read_or_none(lambda _: read(place), content)
        if found is not None and form == "tar.gz":
            # Two packed files in a row are one to gzip, and its own header has no checksum.
            assert set(found.values()) <= set(WANTED.values())

    check()


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 100)
    (tmp_path / "archive").write_bytes(bytes(101))
    with pytest.raises(ValueError, match="archive holds more than 100 bytes"):
        read(tmp_path / "archive")
