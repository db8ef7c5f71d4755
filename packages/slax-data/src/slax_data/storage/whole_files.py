"""Files that are whole or not there: written aside and then renamed, downloaded only when asked, checked by their checksum."""

import contextlib
import hashlib
import http.client
import io
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from slax_data.storage.archives import whole_zip

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte


def data_folder() -> Path:
    """Where data sets are looked for, and kept: the folder that the variable SLAX_DATA names, else `~/.cache/slax`."""
    return Path(os.environ.get("SLAX_DATA") or "~/.cache/slax").expanduser()


def resolve_folder(path: str | Path | None) -> Path:
    """A folder that an option names, `~` being the user's own; without one `data_folder()`."""
    return Path(path).expanduser() if path else data_folder()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` once the block ends without an error.

    It has the mode that the umask gives a new file. After an error, a full disk or a kill `path` is as it was before; a kill
    may leave a file of another name, ending in `.part`, beside it.
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


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raises ValueError unless a file has a checksum."""
    found = sha256_of(path)
    if found != expected:
        raise ValueError(
            f"{path} is not the file that was expected, or damaged: its sha256 is {found}, expected {expected}. Get it again, "
            "or look where it comes from."
        )


def download(url: str, path: Path, *, sha256: str) -> Path:
    """Downloads a file, unless it is there, with a progress bar.

    Args:
        url: where it is.
        path: where it goes, `~` being the user's own folder. A file that is there is checked as well.
        sha256: its checksum.

    Returns:
        Where it is.

    Raises:
        ConnectionError: the file cannot be had; the error says how to go on by hand.
        ValueError: another checksum. Nothing is kept under `path` then.
    """
    path = path.expanduser()
    if path.exists():
        check_sha256(path, sha256)
        return path
    with atomic_write(path) as aside:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, aside.open("wb") as file:
                announced = answer.headers.get("Content-Length")
                length = int(announced) if announced else None
                with tqdm(total=length, desc=path.name, unit="B", unit_scale=True, disable=None) as bar:
                    while block := answer.read(BLOCK):
                        file.write(block)
                        bar.update(len(block))
                if length is not None and file.tell() != length:
                    raise ConnectionError(f"it ended after {file.tell()} of {length} bytes")
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise ConnectionError(
                f"{url} cannot be read: {error}. Get it by other means, and put it at {path}."
            ) from error
        check_sha256(aside, sha256)
    return path


def cached_arrays(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that `make` makes, from the file `path` if they were made before.

    Args:
        path: an .npz file, whose name says everything that the arrays depend on.
        make: makes them; they are written to `path`.

    Raises:
        ValueError: the file is damaged. It is not made again by itself: that it was whole once says that something happened.
    """
    if path.exists():
        try:
            return load_arrays(path)
        except ValueError as error:
            raise ValueError(f"{error} Delete it, and it is made anew.") from error
    arrays = make()
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return arrays


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Nothing that it holds is run: pickles are refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a damaged one, or one of something else.
    """
    content = path.read_bytes()
    try:
        archive = whole_zip(content)
        return {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
    except MemoryError:
        raise
    # Of any kind: zipfile, zlib, struct and NumPy have each their own for what is wrong with content.
    except Exception as error:
        raise ValueError(f"{path} is not a whole .npz file of plain arrays: {error}.") from error


def _array(content: bytes) -> np.ndarray:
    """The array of an .npy file that holds nothing else: NumPy reads as much as the shape asks for, and no checksum then."""
    file = io.BytesIO(content)
    array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    if file.tell() != len(content):
        raise ValueError(f"an array ends at byte {file.tell()} of {len(content)}")
    return array
