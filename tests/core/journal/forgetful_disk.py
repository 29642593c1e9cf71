"""A disk that forgets what was not synced: what is on it is a copy of each file as of its last sync.

``install`` puts it under a process: under SQLite as its file system, and under ``os.fsync`` for what is mapped or
written by hand. The folder DISK in the environment has the disk: files by their inode, and the names as of the last
sync of the folder. ``lose_power`` makes a folder of it, as it is found when the power is back. Nothing is really
synced, so it is as fast as memory.
"""

from __future__ import annotations

import json
import os
import random
import stat
from pathlib import Path

import apsw

PAGE_BYTES = 4096
NAMES = "names"


class Disk:
    """What would survive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, inode: int, content: bytes) -> None:
        """A file was synced with this content."""
        self._write(str(inode), content)

    def keep_names(self, folder: Path) -> None:
        """A folder was synced."""
        names = {entry.name: entry.inode() for entry in os.scandir(folder) if entry.is_file()}
        self._write(NAMES, json.dumps(names).encode())

    def _write(self, name: str, content: bytes) -> None:
        # By more than one process: whole or not at all, even if we are killed now.
        new = self._folder / f"{name}.{os.getpid()}"
        new.write_bytes(content)
        os.replace(new, self._folder / name)


class File(apsw.VFSFile):
    """A file of SQLite's."""

    def __init__(self, disk: Disk, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "")
        # SQLite syncs the folder when it first syncs a log that it has opened to create.
        self._new_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

    def xSync(self, flags: int) -> None:  # noqa: N802
        # Not opened once more: closing that would give up SQLite's locks.
        self._disk.keep(self._path.stat().st_ino, self.xRead(self.xFileSize(), 0))
        if self._new_log:
            self._new_log = False
            self._disk.keep_names(self._path.parent)


class FileSystem(apsw.VFS):
    """The file system of everything that SQLite opens from here on."""

    def __init__(self, disk: Disk) -> None:
        super().__init__("forgetful", "unix", makedefault=True)
        self._disk = disk

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> File:  # noqa: N802
        return File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        if syncdir:
            self._disk.keep_names(Path(filename).parent)


def install() -> FileSystem:
    """Put the disk under this process, for as long as the file system that is returned is kept."""
    disk = Disk(Path(os.environ["DISK"]))

    def fsync(file: int) -> None:
        found = os.fstat(file)
        if stat.S_ISDIR(found.st_mode):
            disk.keep_names(Path(os.readlink(f"/proc/self/fd/{file}")))
        else:
            disk.keep(found.st_ino, os.pread(file, found.st_size, 0))

    os.fsync = fsync  # type: ignore[assignment]
    os.fdatasync = fsync  # type: ignore[assignment]
    return FileSystem(disk)


def lose_power(disk: Path, folder: Path, into: Path, how: str) -> None:
    """Make ``into`` of what is on ``disk`` of ``folder``.

    ``how``: ``synced``, what was synced and no more; ``mixed``, of each file that or what it was in the end; ``torn``,
    the same of each page. What was not synced may be there or not: nobody may build on either.
    """
    into.mkdir()
    names = json.loads((disk / NAMES).read_bytes())
    now = {entry.name: entry.inode() for entry in os.scandir(folder) if entry.is_file()}
    if how != "synced" and random.random() < 0.5:
        names = now
    for name, inode in names.items():
        kept = disk / str(inode)
        synced = kept.read_bytes() if kept.exists() else b""
        # Its name may be another's by now.
        current = (folder / name).read_bytes() if now.get(name) == inode else synced
        if not name.endswith("-shm"):
            (into / name).write_bytes(_found(synced, current, how))


def _found(synced: bytes, current: bytes, how: str) -> bytes:
    if how == "synced":
        return synced
    if how == "mixed":
        return random.choice((synced, current))
    size = random.choice((len(synced), len(current)))
    pages = [
        random.choice((synced, current))[at : at + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
        for at in range(0, size, PAGE_BYTES)
    ]
    return b"".join(pages)[:size]
