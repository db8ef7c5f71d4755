"""Files that could not be written: an error that says which, how much room it takes, and what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OTHERS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


@contextmanager
def told_if_not_written(what: str, path: Path, size: int) -> Iterator[None]:
    """Replace an error of the system in this block by one that a reader can act on.

    Args:
        what: what is written, such as "The weights".
        path: the file or folder.
        size: the bytes to be written, at most.

    Raises:
        OSError: an error of the system, which may be in the text of another library's error, as with Orbax.
    """
    try:
        yield
    except Exception as error:
        number = system_error(error)
        if number is None:
            raise
        raise OSError(number, not_written(what, path, size, number)) from None


def system_error(error: Exception) -> int | None:
    """The number of the system's error that an error tells of; None if there is none."""
    if isinstance(error, OSError):
        return error.errno if error.errno in NO_ROOM + OTHERS else None
    return next((number for number in (*NO_ROOM, *OTHERS) if f"os_error_code='{number}'" in str(error)), None)


def not_written(what: str, path: Path, size: int, number: int) -> str:
    """The message: the reason, the room that is needed and free where it matters, and what to do."""
    text = f"{what} could not be written to {path}: {os.strerror(number)}."
    if number not in NO_ROOM:
        return f"{text} Make it writable, or take another folder, and start again."
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    room = f"{f'It takes up to {size / 1e6:.2f} MB, and ' if size else ''}{free / 1e6:.2f} MB are free there."
    return f"{text} {room} Make room, or take another folder, and start again."
