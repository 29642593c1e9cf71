"""The file of the journal and its mark: opened by one process alone, written to, kept small, closed.

What order matters. commit → mark → telling → checkpoint: so no acknowledgement waits for a checkpoint.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
from headway.core.errors import JournalError
from headway.core.journal import mark, schema
from headway.core.journal.batch import APPLY, Change, put
from headway.core.journal.replay import Key, Saved, jobs, keys, last_place, waiting
from headway.core.journal.schema import SKIP
from headway.core.stats import Histogram

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
    """The file at ``path``, made where there is none. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path, sync: schema.Sync) -> None:
        self.path = path
        # Whether there was no room at the last try.
        self.full = False
        # Jobs deleted by retention, and how long commits took.
        self.expired = 0
        self.commit_seconds = Histogram()
        self._slice = 500
        self._mark = mark.Mark(mark.beside(path))
        try:
            self._open(path, sync)
        except BaseException:
            self._mark.close()
            raise

    def _open(self, path: Path, sync: schema.Sync) -> None:
        marked = self._mark.read()
        if not path.exists():
            if marked is not None and marked.commits:
                raise JournalError(
                    f"{path}: is missing, and {mark.beside(path)} says that it held {marked.commits} commits; "
                    "put it back, or delete the mark too to begin anew"
                )
            marked = None
        try:
            if not path.exists():
                schema.create(path)
            # ``lost``: acknowledged commits that are missing, which is possible with ``sync: normal`` only.
            self._connection, self._meta, self.lost = schema.open_checked(path, marked, sync)
            self._begin(sync, marked or mark.Marked(0, 0, 0, 0))
        except apsw.Error as error:
            raise JournalError(f"{path}: cannot be opened: {one_line(error)}") from None

    def _begin(self, sync: schema.Sync, marked: mark.Marked) -> None:
        """From here on the file is ours to write to."""
        connection, meta = self._connection, self._meta
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        schema.migrate(connection, self.path)
        connection.execute(
            f"PRAGMA synchronous = {sync}; PRAGMA fullfsync = 1; PRAGMA wal_autocheckpoint = 0; "
            f"PRAGMA journal_size_limit = {LOG_BYTES}; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY;" + APPLY
        ).fetchall()
        self.secret = meta.secret
        # The first sequence number that was never given.
        self.next_sequence = meta.high + 1 if meta.clean else meta.high + 1 + SKIP
        # The highest that was.
        self.high = self.next_sequence - 1
        self._commits = self._looked = meta.commits
        self._mark.begin(marked._replace(journal=meta.journal, commits=meta.commits))
        # The number of the job that ended last.
        self.last_place = last_place(connection)
        self._set_clean(False)
        # What the last process wrote is put on disk before anything is built on it: a sync of its may have failed.
        self._checkpoint()

    def jobs(self, progress: Callable[[int], object] = lambda _: None) -> Iterator[list[Saved]]:
        """Return the jobs that are kept, in the order of their numbers; see replay.Saved."""
        return jobs(self._connection, progress)

    def waiting(self) -> list[int]:
        """Return the sequence numbers of the jobs that are not over."""
        return waiting(self._connection)

    def keyed(self) -> Iterator[list[Key]]:
        """Return the idempotency keys that are kept, the oldest first."""
        return keys(self._connection)

    def commit(self, batch: list[Change]) -> bool:
        """Commit a batch; False, with nothing done, where there is no room."""
        begun = time.perf_counter()
        if not self._with_room(lambda: put(self._connection, batch, self.high)):
            return False
        self.commit_seconds.add(time.perf_counter() - begun)
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
            put(connection, [], self.high)
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

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its log on disk."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return sum(found.stat().st_size for found in (self.path, log) if found.exists())

    def close(self) -> None:
        """Say that all is written, and close; with no room it is as after a kill."""
        if not self.full:
            self._set_clean(True)
            self._checkpoint()
            # Before the log is deleted.
            self._mark.sync()
        self._connection.close()
        self._mark.close()

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
        sql = "UPDATE meta SET clean = ?, high = ?, commits = commits + 1 WHERE id = 1"
        self._connection.execute(sql, (clean, self.high))
        self._commits += 1


def one_line(error: BaseException) -> str:
    """Return an error as one line of text."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
