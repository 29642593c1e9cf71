"""Room on the disk, taken before it is needed.

A commit goes to the log, and a checkpoint copies it from there into the file, which may have to
grow for it. With a full disk then, the log could never start over. Nothing could be deleted either,
since a deletion is written to the log as well: the journal would be stuck until somebody else made
room. So the file grows before changes are committed, by the most that they may add to it. A
checkpoint thus always finds its room, the log then starts over in the bytes that it has, and
retention goes on. The log has LOG_LEAST bytes from the beginning for the same reason.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import apsw
from headway.core.journal.notes import Note, body_bytes
from headway.core.journal.schema import PAGE_BYTES
from headway.core.journal.statement import BODY, Change

# The least that the file grows by, and the least bytes of the log. The rest of the last piece is
# free for others to write to.
PIECE_BYTES = LOG_LEAST = 256 << 10
# Pages that a commit may add besides those of its bodies: one for this many changes, and some for
# the trees.
CHANGES_PER_PAGE = 4
TREE_PAGES = 8
# A body of more bytes than this has pages of its own.
OWN_PAGES_BYTES = 512
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def no_room(connection: apsw.Connection, error: Exception) -> str | None:
    """Return why a write failed if it was for want of room, or None for another cause."""
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
        # Opened when needed, and closed after the connection: closing a descriptor of the file
        # gives up the locks that SQLite has on it for this process.
        self._file = -1
        # Bytes of the file (0: to be looked up), and the most pages in use.
        self._bytes = self._pages = 0

    def reserve(self, changes: Iterable[Change], notes: Iterable[Note]) -> None:
        """Make the file as large as it may be once ``changes`` and ``notes`` are in it. Raises OSError."""
        self._grow(_pages(changes) + sum(2 + body_bytes(note) // (PAGE_BYTES - 100) for note in notes))

    def reserve_piece(self) -> None:
        """Make room for one more piece. Raises OSError."""
        self._grow(PIECE_BYTES // PAGE_BYTES)

    def reserve_log(self) -> None:
        """Make the log LOG_LEAST bytes long. SQLite ignores bytes behind its last frame. Raises OSError."""
        log = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _extend(log, LOG_LEAST)
        finally:
            os.close(log)

    def sync_log(self) -> None:
        """Bring the log to the disk. Raises OSError."""
        with suppress(FileNotFoundError):
            log = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(log)
            finally:
                os.close(log)

    def checkpointed(self) -> None:
        """Note that a checkpoint has cut the file down to its pages in use."""
        self._bytes = 0

    def close(self) -> None:
        """Close the file. Call this after the connection was closed."""
        if self._file >= 0:
            os.close(self._file)

    def _grow(self, pages: int) -> None:
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


def _pages(changes: Iterable[Change]) -> int:
    """Return how many pages ``changes`` may add to the file."""
    count = pages = 0
    for change in changes:
        count += 1
        body = change[BODY]
        if body is not None and len(body) > OWN_PAGES_BYTES:
            pages += len(body) // (PAGE_BYTES - 100) + 1
    return pages + count // CHANGES_PER_PAGE + TREE_PAGES


def _extend(file: int, length: int) -> None:
    """Write zeros to the end of ``file`` until it has ``length`` bytes: a hole would be no room."""
    size = os.fstat(file).st_size
    while size < length:
        size += os.pwrite(file, bytes(min(length - size, PIECE_BYTES)), size)
