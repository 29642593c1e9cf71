"""The file of the journal and its mark: written to by one process alone, kept small, closed.

What order matters. room → commit → mark → telling → checkpoint: so no acknowledgement waits for a checkpoint, and no
checkpoint lacks room.

*The log* is bounded by bytes. A checkpoint begins when it has LOG_BYTES, whatever the number of commits. If a reader
still needs it then, the next one begins an eighth of that later, and so on; the log starts over with the first commit
after one that found no reader, and is cut back to LOG_BYTES. A reader of ours reads for one row or one chunk at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import apsw
from headway.core.errors import JournalError
from headway.core.journal import clock, schema
from headway.core.journal.expiry import SLICE_LEAST, Expiry
from headway.core.journal.room import Room, no_room
from headway.core.journal.statement import APPLY, Change, put
from headway.core.journal.watermark import Mark, beside

# Bytes of the write-ahead log that begin a checkpoint, and to which the log file is cut back when it starts over. It
# grows beyond by the commit that was under way, and by an eighth each time that a reader needs it.
LOG_BYTES = 8 << 20
LOG_FRAMES = LOG_BYTES // schema.PAGE_BYTES
# Seconds of deleting in one try while there is no room.
RELIEF_S = 0.1


class File:
    """The file at ``path``, open as ``connection``, locked by ``mark``.

    ``high`` is the highest sequence number that was ever given, ``run`` what is written down when it begins.
    """

    def __init__(
        self, path: Path, mark: Mark, connection: apsw.Connection, sync: schema.Sync, high: int, run: schema.Run
    ) -> None:
        # Why there was no room at the last try; empty where there was.
        self.full = ""
        # Jobs deleted by retention.
        self.expired = 0
        self.expiry = Expiry(connection)
        self._run = run
        self.mark = mark
        self._connection = connection
        self.room = Room(path, connection)
        # SQLite would delete the log and the shared memory, and a start on a full disk has no room to make them anew.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute(
            f"PRAGMA synchronous = {sync}; PRAGMA fullfsync = 1; PRAGMA wal_autocheckpoint = 0; "
            f"PRAGMA journal_size_limit = {LOG_BYTES}; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY;" + APPLY
        ).fetchall()
        meta = schema.Meta(connection)
        self.high = max(high, meta.high)
        # The number of the last change that is in it.
        self.changes = meta.changes
        self.commits = meta.commits
        # Whether it says that it is open.
        self._begun = False
        # Frames of the log at the last look, and those that begin a checkpoint.
        self._looked, self._checkpoint_at = 0, LOG_FRAMES

    @classmethod
    def taken_over(cls, path: Path, sync: schema.Sync, lock: int, high: int, run: schema.Run) -> File:
        """Open the file that another process has checked and handed over, with the descriptor of its lock.

        Raises JournalError where a commit is missing that was acknowledged since.
        """
        connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(schema.BUSY_MS)
        mark = Mark(beside(path), lock)
        if schema.compare(path, connection, schema.Meta(connection), mark.read()):
            raise JournalError("commits that were acknowledged are missing")
        return cls(path, mark, connection, sync, high, run)

    def begin(self, begun: bool = False) -> None:
        """Say that it is open, by which clock and with which salt; bring it to the disk, as far as there is room.

        What the last process wrote is put there before anything is built on it: a sync of its may have failed. Nothing
        is to be done where who handed it over has ``begun`` it.
        """
        self._begun = begun
        if not begun and not self._with_room(self._begin):
            # What is read meanwhile is on the disk at least; that needs no room.
            self.room.sync_log()

    def commit(self, batch: list[Change], last: int) -> bool:
        """Commit a batch that ends with change number ``last``; False, with nothing done, where there is no room."""

        def write() -> None:
            if not self._begun:
                self._begin()
            self.room.take(batch)
            if not self.expiry.left:
                self._put(batch, last)
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._put(batch, last)
            jobs = self.expiry.delete(2 * len(batch) + SLICE_LEAST)[0]
            self._connection.execute("COMMIT")
            self.expired += jobs

        # Where there is none, the log may be what takes it.
        if not (self._with_room(write) or (self._with_room(self.checkpoint) and self._with_room(write))):
            return False
        self.changes = last
        self.commits += 1
        self.mark.acknowledge(self.commits)
        return True

    def expire(self) -> bool:
        """Delete a slice of what retention has given up; False where there was no room."""
        begun = time.perf_counter()

        def write() -> None:
            self._connection.execute("BEGIN IMMEDIATE")
            jobs, rows = self.expiry.delete(self.expiry.slice)
            if not rows:
                self._connection.execute("ROLLBACK")
                return
            self._put([], self.changes)
            self._connection.execute("COMMIT")
            self.commits += 1
            self.expired += jobs

        if not self._with_room(write):
            return False
        self.expiry.took(time.perf_counter() - begun)
        return True

    def relieve(self) -> None:
        """While there is no room: make some, and see whether there is some now, which ``full`` tells afterwards."""

        def write() -> None:
            if not self._begun:
                self._begin()
            self.room.take_log()
            self.room.take_piece()

        if self._begun:
            self._with_room(self.checkpoint)
            until = time.perf_counter() + RELIEF_S
            while self.expiry.left and time.perf_counter() < until and self.expire():
                pass
        self._with_room(write)

    def frames(self) -> int:
        """Return how long the log is, in frames."""
        return self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]

    def checkpoint(self) -> None:
        """Copy the log into the file. The mark says while it lasts how long the log was: see schema.compare."""
        frames = self.frames()
        if frames > 0:
            self.mark.checkpoint(self.commits, frames)
            self.mark.sync()
            if self._connection.wal_checkpoint()[1] == frames:
                self.mark.checkpoint(self.commits, 0)
            self.room.checkpointed()

    def look(self) -> None:
        """Begin a checkpoint if the log has grown long."""
        frames = self.frames()
        if frames < self._looked:
            # It has started over.
            self._checkpoint_at = LOG_FRAMES
        self._looked = frames
        if frames >= self._checkpoint_at:
            self._checkpoint_at = frames + LOG_FRAMES // 8
            self._with_room(self.checkpoint)

    def close(self) -> None:
        """Say that all is written, and close; with no room it is as after a kill."""
        if not self.full:
            self._with_room(self._finish)
        self._connection.close()
        self.room.close()
        self.mark.close()

    def _begin(self) -> None:
        run = self._run
        with self._connection:
            self._connection.execute("UPDATE meta SET boot = ?, epoch = ? WHERE id = 1", (run.boot, run.epoch))
            self._connection.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (run.first, run.salt))
            self._set_clean(False)
        self._begun = True
        self.room.take_log()
        self.checkpoint()

    def _finish(self) -> None:
        self._set_clean(True)
        self.checkpoint()
        # Before the log is emptied.
        self.mark.sync()
        with suppress(apsw.BusyError, apsw.LockedError):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _put(self, batch: list[Change], last: int) -> None:
        put(self._connection, batch, self.high, last, clock.skew(self._run.epoch))

    def _with_room(self, write: Callable[[], object]) -> bool:
        """Do ``write``; False, with nothing done and ``full`` set, where there is no room for it."""
        try:
            write()
        except (apsw.FullError, apsw.IOError, OSError) as error:
            why = no_room(self._connection, error)
            if why is None:
                raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
                self.expiry.left = True
            self.full = why
            return False
        self.full = ""
        return True

    def _set_clean(self, clean: bool) -> None:
        sql = "UPDATE meta SET clean = ?, high = ?, skew = ?, commits = commits + 1 WHERE id = 1"
        self._connection.execute(sql, (clean, self.high, clock.skew(self._run.epoch)))
        self.commits += 1


def one_line(error: BaseException) -> str:
    """Return an error as one line of text."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
