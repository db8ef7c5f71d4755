"""The files of an archive or a folder, read into memory. Nothing is unpacked, so no member can be written elsewhere."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath


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
