"""The files of an archive or a folder, read into memory. Nothing is unpacked, so no member can be written elsewhere."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

LARGEST = 1 << 30  # bytes that an archive may hold: a larger one is a decompression bomb, not a data set
GZIP, END_OF_ZIP = b"\x1f\x8b", b"PK\5\6"
STARTS_OF_ZIP = (b"PK\3\4", END_OF_ZIP)
MANY = 0xFFFF  # from this number of files on, a .zip file stores the number elsewhere

Member = tuple[PurePosixPath, bytes]


def read_archive(path: str | Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    """The selected files of an archive or of a folder and its subfolders, by name.

    All archives are checked for completeness, and .tar.gz and .zip files against their checksums. A .tar file has no checksums
    of its contents, so damage there goes undetected.

    Args:
        path: a .tar, .tar.gz or .zip file, recognized by its content, or a folder; `~` is the user's home folder.
        wanted: selects files by name, relative to the top of the archive or folder.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: not an archive, a truncated, damaged or too large archive, a member whose name leads outside the archive,
            or a selected member that is a link. Links in a folder are trusted and followed.

    Example:
        >>> import tempfile
        >>> import zipfile
        >>> from pathlib import Path
        >>> from slax_data import read_archive
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(Path(folder, "set.zip"), "w") as archive:
        ...         archive.writestr("set/labels.txt", "0 1 2")
        ...         archive.writestr("set/readme.md", "A small set.")
        ...     files = dict(read_archive(Path(folder, "set.zip"), lambda name: name.suffix == ".txt"))
        >>> {str(name): content for name, content in files.items()}
        {'set/labels.txt': b'0 1 2'}
    """
    path = Path(path).expanduser()
    if path.is_dir():
        files = {PurePosixPath(file.relative_to(path).as_posix()): file for file in path.rglob("*") if file.is_file()}
        return ((name, files[name].read_bytes()) for name in sorted(files) if wanted(name))
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if path.stat().st_size > LARGEST:
        raise ValueError(
            f"{path} holds more than {LARGEST} bytes, more than any data set that is read from an archive."
        )
    content = path.read_bytes()
    try:
        found = (_zipped if content[:4] in STARTS_OF_ZIP else _tarred)(content, wanted)
    except MemoryError:
        raise
    # Any exception: only the content can be at fault, and the readers report that by many types.
    except Exception as error:
        raise ValueError(
            f"{path} is not a readable archive (.tar, .tar.gz or .zip), or it is truncated or damaged: {error}. "
            "Get it again."
        ) from error
    return iter(sorted(found, key=lambda member: member[0]))


def whole_zip(content: bytes) -> zipfile.ZipFile:
    """Open a .zip file that has as many files as it states, with unique names: `zipfile` itself does not check this.

    Raises:
        Exception: one of many types, for content that is damaged or of another format.
    """
    archive = zipfile.ZipFile(io.BytesIO(content))
    end = content.rfind(END_OF_ZIP)
    announced = int.from_bytes(content[end + 10 : end + 12], "little")
    if announced not in (len(archive.infolist()), MANY):
        raise zipfile.BadZipFile(f"it has {len(archive.infolist())} of {announced} files")
    for info in archive.infolist():
        archive.open(info).close()  # compares the name in the directory with the name at the file
    return archive


def _zipped(content: bytes, wanted: Callable[[PurePosixPath], bool]) -> list[Member]:
    archive = whole_zip(content)
    chosen = [info for info in archive.infolist() if not info.is_dir() and wanted(_inside(info.filename))]
    for info in chosen:
        _check_plain(info.filename, not stat.S_ISLNK(info.external_attr >> 16))
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(
                f"{info.filename} is compressed by method {info.compress_type}, expected deflate or none"
            )
    _check_size(sum(info.file_size for info in chosen))
    return [(PurePosixPath(info.filename), archive.read(info)) for info in chosen]


def _tarred(content: bytes, wanted: Callable[[PurePosixPath], bool]) -> list[Member]:
    if content.startswith(GZIP):
        # Read to the end: that is where the checksum of gzip is, and reading only the members does not reach it.
        with gzip.open(io.BytesIO(content)) as file:
            content = file.read(LARGEST + 1)
    _check_size(len(content))
    read = []
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for info in archive:
            if info.isdir() or not wanted(_inside(info.name)):
                continue
            _check_plain(info.name, info.isfile())
            if info.issparse():  # 500 bytes of it may unpack to terabytes
                raise ValueError(f"it has a sparse file, {info.name!r}, expected a plain one")
            data = archive.extractfile(info).read()  # type: ignore[union-attr]
            if len(data) != info.size:
                raise tarfile.ReadError(f"{info.name} is cut off")
            read.append((PurePosixPath(info.name), data))
        if len({name for name, _ in read}) < len(read):
            raise tarfile.ReadError("it has two files of one name")
        # A block of zeros marks the end; at a damaged or missing header the reader stops without an error.
        end = content[archive.offset :]
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        raise tarfile.ReadError(f"after {len(read)} files it does not end as such archives do")
    return read


def _inside(name: str) -> PurePosixPath:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"it has a member that leads out of it, {name!r}, and is not to be trusted")
    return inside


def _check_plain(name: str, is_plain: bool) -> None:
    if not is_plain:
        raise ValueError(f"it has a member that is a link or a device, {name!r}, expected a file")


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"it holds more than {LARGEST} bytes, more than any data set that is read from an archive")
