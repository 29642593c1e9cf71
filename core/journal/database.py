"""The file of the journal and its mark: written by one process alone, kept small, closed.

The order matters: room → commit → mark → acknowledgement → checkpoint. So no acknowledgement waits
for a checkpoint, and no checkpoint lacks room.

*The log* is bounded by bytes. A checkpoint begins when the log has LOG_BYTES, at any number of
commits. If a reader still needs the log then, the next one begins an eighth of that later, and so
on. The log starts over with the first commit after a checkpoint that found no reader, and is cut
back to LOG_BYTES. Our readers read one row or one chunk at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import apsw
from headway.core.errors import JournalError
from headway.core.job import TERMINAL
from headway.core.journal import clock, schema
from headway.core.journal.expiry import SLICE_LEAST, Expiry
from headway.core.journal.notes import Note, put
from headway.core.journal.room import Room, no_room
from headway.core.journal.statement import APPLY, Change, apply_changes, count_ends, ends_of
from headway.core.journal.watermark import Mark, beside
from headway.core.wall import wall

# Bytes of the write-ahead log that begin a checkpoint. The log file is cut back to them when it
# starts over. It grows beyond by the commit under way, and by an eighth each time that a reader
# needs it.
LOG_BYTES = 8 << 20
LOG_FRAMES = LOG_BYTES // schema.PAGE_BYTES
# Seconds of deleting in one try while there is no room.
RELIEF_S = 0.1


class File:
    """The file at ``path``, open as ``connection``, locked by ``mark``.

    ``high`` is the highest sequence number ever given. ``run`` is written down at the beginning.
    """

    def __init__(
        self,
        path: Path,
        mark: Mark,
        connection: apsw.Connection,
        *,
        sync: schema.Sync,
        high: int,
        run: schema.ServerRun,
    ) -> None:
        # Why there was no room at the last try; empty if there was.
        self.full = ""
        # Jobs deleted by retention.
        self.expired = 0
        self.expiry = Expiry(connection)
        self._run = run
        # A writer is a process of its own.
        wall.keep(run.offset)
        self.mark = mark
        self._connection = connection
        self.room = Room(path, connection)
        # SQLite would delete the log and the shared memory. A start on a full disk has no room to
        # make them anew.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute(
            f"PRAGMA synchronous = {sync}; PRAGMA fullfsync = 1; PRAGMA wal_autocheckpoint = 0; "
            f"PRAGMA journal_size_limit = {LOG_BYTES}; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY;" + APPLY
        ).fetchall()
        meta = schema.Meta(connection)
        self.high = max(high, meta.high)
        # The number of the last change in the file.
        self.changes = meta.changes
        self.commits = meta.commits
        # Whether the file says that it is open.
        self._begun = False
        # Frames of the log at the last look, and those that begin a checkpoint.
        self._looked, self._checkpoint_at = 0, LOG_FRAMES

    @classmethod
    def taken_over(cls, path: Path, sync: schema.Sync, lock: int, high: int, run: schema.ServerRun) -> File:
        """Open the file that another process has checked and handed over.

        ``lock`` is the descriptor of its lock. Raises JournalError if a commit is missing that was
        acknowledged since.
        """
        connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(schema.BUSY_MS)
        mark = Mark(beside(path), lock)
        if schema.missing_commits(path, connection, schema.Meta(connection), mark.read()):
            raise JournalError("commits that were acknowledged are missing")
        return cls(path, mark, connection, sync=sync, high=high, run=run)

    def begin(self, begun: bool = False) -> None:
        """Say that the file is open, by which clock and with which salt, and bring it to the disk.

        It does so as far as there is room. The last process's writes are put on the disk before
        anything is built on them: a sync of theirs may have failed. Nothing is left to do if the
        process that handed over the file has ``begun`` it.
        """
        self._begun = begun
        if not begun and not self._with_room(self._begin):
            # At least the data that is read meanwhile is on the disk. That needs no room.
            self.room.sync_log()

    def commit(self, changes: list[Change], last: int, notes: Sequence[Note] = ()) -> bool:
        """Commit ``changes`` and ``notes``, the last of which is number ``last``.

        Return False, with nothing done, if there is no room.
        """

        def write() -> None:
            if not self._begun:
                self._begin()
            self.room.reserve(changes, notes)
            ends = ends_of(changes)
            if not (self.expiry.left or notes or ends):
                self._put(changes, last)
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._put(changes, last)
            if ends:
                count_ends(self._connection, ends)
            put(self._connection, notes)
            jobs = self.expiry.delete(2 * len(changes) + SLICE_LEAST)[0]
            self._connection.execute("COMMIT")
            self.expired += jobs

        # Without room, the log may be the one that takes it.
        if not (self._with_room(write) or (self._with_room(self.checkpoint) and self._with_room(write))):
            return False
        self.changes = last
        self.commits += 1
        self.mark.acknowledge(self.commits)
        return True

    def expire(self) -> bool:
        """Delete a slice of the rows that retention has given up; False without room."""
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
        """Without room, make some and try again. ``full`` has the outcome afterwards."""

        def write() -> None:
            if not self._begun:
                self._begin()
            self.room.reserve_log()
            self.room.reserve_piece()

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
        """Copy the log into the file. Meanwhile the mark has the length of the log (see schema.missing_commits)."""
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
            # The log has started over.
            self._checkpoint_at = LOG_FRAMES
        self._looked = frames
        if frames >= self._checkpoint_at:
            self._checkpoint_at = frames + LOG_FRAMES // 8
            self._with_room(self.checkpoint)

    def close(self) -> None:
        """Say that all is written, and close. Without room the file is as after a kill."""
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
            give_up = "UPDATE outcome SET given_up = max(given_up, place - kept), kept = ? WHERE state = ?"
            self._connection.executemany(give_up, [(run.kept[state], state) for state in TERMINAL])
            self._set_clean(False)
        self._begun = True
        self.room.reserve_log()
        self.checkpoint()

    def _finish(self) -> None:
        self._set_clean(True)
        self.checkpoint()
        # Before the log is emptied.
        self.mark.sync()
        with suppress(apsw.BusyError, apsw.LockedError):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _put(self, changes: list[Change], last: int) -> None:
        apply_changes(self._connection, changes, self.high, last, clock.skew(self._run.epoch))

    def _with_room(self, write: Callable[[], object]) -> bool:
        """Do ``write``. Without room for it return False, with nothing done and ``full`` set."""
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
