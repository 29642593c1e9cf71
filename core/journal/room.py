"""Room on the disk, taken before it is needed.

A commit goes to the log, and a checkpoint copies it from there into the file, which may have to grow for it. If the
disk were full then, the log could never start over, and nothing could be deleted either, since that is written to the
log as well: the journal would be stuck until somebody else made room. So the file grows before a batch is committed, by
what the batch may add to it: a checkpoint always finds its room, the log then starts over in the bytes that it has, and
retention goes on. The log has LOG_LEAST bytes from the beginning for the same reason.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import apsw
from headway.core.journal.schema import PAGE_BYTES
from headway.core.journal.statement import BODY, Change

# The least that the file grows by, and the log has. What is left of the last piece is free for others to write to.
PIECE_BYTES = LOG_LEAST = 256 << 10
# Pages that a batch may add besides those of its bodies: one for so many of its changes, and some for the trees.
CHANGES_PER_PAGE = 4
TREE_PAGES = 8
# A body over so many bytes has pages of its own.
OWN_PAGES_BYTES = 512
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def no_room(connection: apsw.Connection, error: Exception) -> str | None:
    """Return why a write could not be done, where that is for want of room; None where it is for another cause."""
    if isinstance(error, apsw.FullError):
        return os.strerror(errno.ENOSPC)
    number = error.errno if isinstance(error, OSError) else connection.system_errno
    return os.strerror(number) if number in NO_ROOM else None


class Room:
    """The room of the file at ``path`` and of its log, as ``connection`` has it open."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._connection = connection
        # Opened when it is needed and closed after the connection: closing a descriptor of the file gives up the locks
        # that SQLite has on it for this process.
        self._file = -1
        # Bytes of the file; 0 where they are to be looked up. And pages in use at most.
        self._bytes = self._pages = 0

    def take(self, batch: Iterable[Change]) -> None:
        """Have the file as large as it may be once ``batch`` is in it; raises OSError."""
        self._take(_pages(batch))

    def take_piece(self) -> None:
        """Have room for a piece more; raises OSError."""
        self._take(PIECE_BYTES // PAGE_BYTES)

    def take_log(self) -> None:
        """Have the log LOG_LEAST bytes long; what is behind its last frame SQLite does not look at. Raises OSError."""
        log = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _extend(log, LOG_LEAST)
        finally:
            os.close(log)

    def sync_log(self) -> None:
        """Bring the log to the disk; raises OSError."""
        with suppress(FileNotFoundError):
            log = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(log)
            finally:
                os.close(log)

    def checkpointed(self) -> None:
        """A checkpoint cuts the file down to what is in use."""
        self._bytes = 0

    def close(self) -> None:
        """To be called after the connection was closed."""
        if self._file >= 0:
            os.close(self._file)

    def _take(self, pages: int) -> None:
        self._pages += pages
        if self._pages * PAGE_BYTES <= self._bytes:
            return
        count, free = (int(str(self._connection.pragma(name))) for name in ("page_count", "freelist_count"))
        self._pages = count + max(pages - free, 0)
        self._bytes = self._path.stat().st_size
        if self._pages * PAGE_BYTES > self._bytes:
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            wanted = -(-self._pages * PAGE_BYTES // PIECE_BYTES) * PIECE_BYTES
            _extend(self._file, wanted)
            self._bytes = wanted


def _pages(batch: Iterable[Change]) -> int:
    """Return how many pages ``batch`` may add to the file."""
    changes = pages = 0
    for change in batch:
        changes += 1
        body = change[BODY]
        if body is not None and len(body) > OWN_PAGES_BYTES:
            pages += len(body) // (PAGE_BYTES - 100) + 1
    return pages + changes // CHANGES_PER_PAGE + TREE_PAGES


def _extend(file: int, length: int) -> None:
    """Write zeros to the end of ``file`` until it is ``length`` bytes long: a hole would be no room."""
    size = os.fstat(file).st_size
    while size < length:
        size += os.pwrite(file, bytes(min(length - size, PIECE_BYTES)), size)
