"""A disk that can be filled and made read-only: a file system in memory where root may mount one, or else a folder."""

import contextlib
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SIZE = 1 << 30  # bytes of a disk with room enough


class Mounted:
    """A file system in memory."""

    name = "a file system in memory"

    def __init__(self, path: Path):
        self.path = path
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "chaos", path], check=True, capture_output=True)

    def leave(self, room: int) -> None:
        """Leave only so many bytes free."""
        self._remount(f"size={shutil.disk_usage(self.path).used + room}")

    def lock(self) -> None:
        """Make it read-only."""
        self._remount("ro")

    def mend(self) -> None:
        """Make it writable, with room enough."""
        self._remount(f"rw,size={SIZE}")

    @property
    def prefix(self) -> list[str]:
        """What stands before a command that is to work on it."""
        return []

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def _remount(self, options: str) -> None:
        command = ["mount", "-o", f"remount,{options}", self.path]
        subprocess.run(command, check=True, capture_output=True, text=True)


class Folder:
    """A folder in which no file may be larger than some bytes, or whose folders are read-only; root may write into these."""

    name = "a folder"

    def __init__(self, path: Path):
        self.path, self.room = path, resource.RLIM_INFINITY

    def leave(self, room: int) -> None:
        self.room = room

    def lock(self) -> None:
        self._set(lambda mode: mode & ~stat.S_IWUSR)

    def mend(self) -> None:
        self.room = resource.RLIM_INFINITY
        self._set(lambda mode: mode | stat.S_IWUSR)

    @property
    def prefix(self) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("limited.py")), str(self.room)]

    def close(self) -> None:
        self.mend()

    def _set(self, changed) -> None:
        for folder in (self.path, *(path for path in self.path.rglob("*") if path.is_dir() and not path.is_symlink())):
            with contextlib.suppress(FileNotFoundError):  # renamed or removed by a program that still writes
                folder.chmod(changed(stat.S_IMODE(folder.stat().st_mode)))


Disk = Mounted | Folder


@contextlib.contextmanager
def disk(path: Path) -> Iterator[Disk]:
    """A disk at an empty folder as long as the block runs."""
    path.mkdir(parents=True)
    made: Disk
    try:
        made = Mounted(path) if os.geteuid() == 0 else Folder(path)
    except (subprocess.CalledProcessError, FileNotFoundError):  # as in a container, whose root may not mount
        made = Folder(path)
    try:
        yield made
    finally:
        made.close()
