"""The file of the journal and its mark: written to by one process alone, kept small, closed.

What order matters. commit → mark → telling → checkpoint: so no acknowledgement waits for a checkpoint.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import apsw
from headway.core.ids import TOGETHER
from headway.core.journal import clock, schema
from headway.core.journal.batch import APPLY, Change, put
from headway.core.journal.mark import Mark, beside

# Frames (4 KiB pages) of the write-ahead log that begin a checkpoint, and commits between two looks at their number.
CHECKPOINT_FRAMES = 2000
LOOK_COMMITS = 50
# Bytes to which the log file is cut back when it starts over.
LOG_BYTES = 32 << 20
# A deletion by retention that took longer than this is followed by a smaller one.
SLICE_S = 0.004
SLICE_LEAST, SLICE_MOST = 16, 2000

# Looks at the oldest ends only, so its cost is bounded; the order of ``place`` is that of the ends.
_EXPIRE = """DELETE FROM job WHERE sequence IN (SELECT sequence FROM
    (SELECT sequence, place, ended FROM job WHERE place IS NOT NULL ORDER BY place LIMIT ?)
    WHERE place <= ? OR ended < ?)"""
_UNKEY = """DELETE FROM keyed WHERE sequence IN (SELECT sequence FROM
    (SELECT sequence, submitted FROM keyed ORDER BY sequence LIMIT ?) WHERE submitted < ?)"""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class File:
    """The file of a ``connection``, locked by ``mark``; ``high`` is the highest sequence number that was ever given.

    ``epoch`` is that of the journal's clock.
    """

    def __init__(self, mark: Mark, connection: apsw.Connection, sync: schema.Sync, high: int, epoch: float) -> None:
        # Whether there was no room at the last try.
        self.full = False
        self.high = high
        # Jobs deleted by retention.
        self.expired = 0
        self._slice = 500
        self._epoch = epoch
        self._mark = mark
        self._connection = connection
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        connection.execute(
            f"PRAGMA synchronous = {sync}; PRAGMA fullfsync = 1; PRAGMA wal_autocheckpoint = 0; "
            f"PRAGMA journal_size_limit = {LOG_BYTES}; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY;" + APPLY
        ).fetchall()
        self._commits = self._looked = schema.Meta(connection).commits

    @classmethod
    def taken_over(cls, path: Path, sync: schema.Sync, lock: int, high: int, epoch: float) -> File:
        """Open the file that another process has checked and handed over, with the descriptor of its lock."""
        connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(schema.BUSY_MS)
        return cls(Mark(beside(path), lock), connection, sync, high, epoch)

    def begin(self, boot: str, salt: bytes) -> None:
        """Say that it is open, by which clock and with which salt for the numbers from here on; bring it to the disk.

        What the last process wrote is put there before anything is built on it: a sync of its may have failed.
        """
        with self._connection:
            self._connection.execute("UPDATE meta SET boot = ?, epoch = ? WHERE id = 1", (boot, self._epoch))
            first = (self.high + 1) // TOGETHER * TOGETHER
            self._connection.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (first, salt))
            self._set_clean(False)
        self._checkpoint()

    def commit(self, batch: list[Change]) -> bool:
        """Commit a batch; False, with nothing done, where there is no room."""
        if not self._with_room(lambda: put(self._connection, batch, self.high, clock.skew(self._epoch))):
            return False
        self._commits += 1
        self._mark.acknowledge(self._commits)
        self.full = False
        return True

    def expire(self, place: int, ended_before: float, keys_before: float) -> bool:
        """Delete some jobs that ended as the ``place``-th or earlier, or before a time, and keys from before one.

        Return whether there may be more of them; True as well where there is no room.
        """
        connection, size = self._connection, self._slice
        deleted = [0, 0]

        def delete() -> None:
            connection.execute("BEGIN IMMEDIATE")
            for at, (sql, values) in enumerate(((_EXPIRE, (size, place, ended_before)), (_UNKEY, (size, keys_before)))):
                connection.execute(sql, values)
                deleted[at] = connection.changes()
            put(connection, [], self.high, clock.skew(self._epoch))
            connection.execute("COMMIT")

        begun = time.perf_counter()
        if not self._with_room(delete):
            return True
        took = time.perf_counter() - begun
        self._commits += 1
        self._slice = max(size // 2, SLICE_LEAST) if took > SLICE_S else min(size * 2, SLICE_MOST)
        self.expired += deleted[0]
        return max(deleted) >= size

    def look(self) -> None:
        """Begin a checkpoint if the log has grown long."""
        if self._commits - self._looked < LOOK_COMMITS:
            return
        self._looked = self._commits
        if self._frames() >= CHECKPOINT_FRAMES:
            self._with_room(self._checkpoint)

    def close(self) -> None:
        """Say that all is written, and close; with no room it is as after a kill."""
        if self.full or not self._with_room(self._finish):
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()
        self._mark.close()

    def _finish(self) -> None:
        self._set_clean(True)
        self._checkpoint()
        # Before the log is deleted.
        self._mark.sync()

    def _frames(self) -> int:
        return self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]

    def _checkpoint(self) -> None:
        """Copy the log into the file. The mark says while it lasts how long the log was: see schema.compare."""
        frames = self._frames()
        if frames > 0:
            self._mark.checkpoint(self._commits, frames)
            self._mark.sync()
            if self._connection.wal_checkpoint()[1] == frames:
                self._mark.checkpoint(self._commits, 0)

    def _with_room(self, write: Callable[[], object]) -> bool:
        """Do ``write``; False, with nothing done and ``full`` set, where there is no room for it."""
        try:
            write()
        except (apsw.FullError, apsw.IOError) as error:
            if not isinstance(error, apsw.FullError) and self._connection.system_errno not in _NO_ROOM:
                raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self.full = True
            return False
        return True

    def _set_clean(self, clean: bool) -> None:
        sql = "UPDATE meta SET clean = ?, high = ?, skew = ?, commits = commits + 1 WHERE id = 1"
        self._connection.execute(sql, (clean, self.high, clock.skew(self._epoch)))
        self._commits += 1


def one_line(error: BaseException) -> str:
    """Return an error as one line of text."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
