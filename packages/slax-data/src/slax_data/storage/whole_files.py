"""Files that are either complete or absent: written under another name, then renamed, and verified by checksum."""

import contextlib
import gzip
import hashlib
import http.client
import io
import os
import secrets
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

TIMEOUT = 60  # seconds without receiving data
UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)
NOT_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)  # a truncated or damaged file, or another one


def data_folder() -> Path:
    """The folder where data sets are looked up and stored: the environment variable SLAX_DATA, or else `~/.cache/slax`.

    Example:
        >>> import os
        >>> from unittest import mock
        >>> from slax_data import data_folder
        >>> with mock.patch.dict(os.environ, SLAX_DATA="/data/spikes"):
        ...     print(data_folder().as_posix())
        /data/spikes
    """
    return Path(os.environ.get("SLAX_DATA") or "~/.cache/slax").expanduser()


def resolve_folder(path: str | Path | None) -> Path:
    """The folder given by an option, with `~` expanded to the user's home folder, or `data_folder()` if it is not given."""
    return Path(path).expanduser() if path else data_folder()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` once the block ends without an error.

    The file has the permissions that the umask gives a new file. After an error, a full disk or a kill, `path` is unchanged;
    a kill may leave a file with another name, ending in `.part`, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    aside.touch(exist_ok=False)
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def file_stamp(file: Path) -> str:
    """The name, size and time of a file, which change with it and are known without reading it."""
    return f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}"


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str, name: str | None = None) -> None:
    """Raise ValueError, with the file's path or another name, unless a file has the expected checksum."""
    found = sha256_of(path)
    if found != expected:
        raise ValueError(f"{name or path} has the wrong checksum: its sha256 is {found}, expected {expected}.")


def download(url: str, path: str | Path, *, sha256: str, unpack: bool = False) -> Path:
    """Download a file, unless it already exists.

    Args:
        url: address of the file.
        path: destination, with `~` expanded to the user's home folder. An existing file is verified too.
        sha256: its checksum; with `unpack`, that of the unpacked file.
        unpack: whether the file is packed by gzip, and is to be unpacked.

    Returns:
        The path of the file.

    Raises:
        ConnectionError: the download failed; the message explains how to obtain the file by hand.
        ValueError: a wrong checksum, as of a download that ended early. A new download is then not kept.

    Example:
        A file stands in for the site:
        >>> import hashlib
        >>> import tempfile
        >>> from pathlib import Path
        >>> from slax_data import download
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     site = Path(folder, "site.zip")
        ...     size = site.write_bytes(b"spikes")
        ...     path = download(site.as_uri(), Path(folder, "copy.zip"), sha256=hashlib.sha256(b"spikes").hexdigest())
        ...     print(path.name, path.read_bytes())
        copy.zip b'spikes'
    """
    path = Path(path).expanduser()
    if path.exists():
        check_sha256(path, sha256)
        return path
    with atomic_write(path) as aside:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, aside.open("wb") as file:
                shutil.copyfileobj(gzip.GzipFile(fileobj=answer) if unpack else answer, file)
        except (*UNREACHABLE, *NOT_GZIP) as error:
            raise ConnectionError(f"{url} cannot be read: {error}. Get it elsewhere, and put it at {path}.") from error
        check_sha256(aside, sha256, name=url)
    return path


def load_arrays(path: Path, remedy: str = "Make it again: numpy.savez(path, ...).") -> dict[str, np.ndarray]:
    """The arrays of an .npz file. No code in it is executed: pickles are rejected.

    Args:
        path: the file.
        remedy: what to do about a damaged file, in the error message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another format.
    """
    content = path.read_bytes()
    try:
        # `read` verifies all bytes of a member, `np.load` only those that it needs.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.removesuffix(".npy"): io.BytesIO(archive.read(name)) for name in archive.namelist()}
        announced = int.from_bytes(content[-12:-10], "little")  # which zipfile does not look at
        if announced != len(members):
            raise ValueError(f"it has {len(members)} of {announced} files")
        return {name: np.lib.format.read_array(member, allow_pickle=False) for name, member in members.items()}
    except MemoryError:
        raise
    # Any exception: zipfile, zlib, struct and NumPy each raise their own for damaged content.
    except Exception as error:
        raise ValueError(f"Got {path} ({error}), expected a complete .npz file of plain arrays. {remedy}") from error


def read_archive(path: Path, wanted: Callable[[PurePosixPath], bool]) -> list[tuple[PurePosixPath, bytes]]:
    """The selected files of a .tar.gz archive, or of a folder and its subfolders, by name.

    An archive is read to its end, where the checksum of its content is.

    Args:
        path: the archive or the folder.
        wanted: selects files by name, relative to the top of the archive or folder.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: not an archive, a truncated or damaged one, or a selected member that is no plain file, such as a link.
            Links in a folder are trusted and followed.
    """
    if path.is_dir():
        files = {PurePosixPath(file.relative_to(path).as_posix()): file for file in path.rglob("*") if file.is_file()}
        return [(name, files[name].read_bytes()) for name in sorted(files) if wanted(name)]
    try:
        with gzip.open(path) as file:
            content = file.read()
        members = {}
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for info in archive:
                name = PurePosixPath(info.name)
                if info.isdir() or not wanted(name):
                    continue
                if not info.isfile():
                    raise ValueError(f"it has a member that is a link or a device, {info.name!r}")
                members[name] = archive.extractfile(info).read()  # type: ignore[union-attr]
        return sorted(members.items())
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    # Any exception: only the content can be at fault, and the readers report that by many types.
    except Exception as error:
        cure = "If it is damaged, download it again; otherwise unpack it, and give the path of the folder."
        raise ValueError(f"Got {path}, expected a whole .tar.gz archive of plain files ({error}). {cure}") from error
