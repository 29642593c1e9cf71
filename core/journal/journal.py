"""The journal: what happened to every job, on disk before anyone is told.

**Promises.** ``on_commit(n)`` is called on the loop when the first ``n`` changes are committed (``sync: full``: and
synced; ``normal``: safe from a killed process, not from a loss of power). Whatever was not committed when the process
ends has not happened. A sequence number that was ever handed to ``submit`` is not given again, committed or not: a
journal that was not closed begins ``SKIP`` numbers later.

**Who writes.** The loop appends changes, 0.3 µs each; one thread owns the connection and commits. A batch is what
gathered while the last one was committed; all changes of a job in it become one row. Any other thread only reads.

**What order matters.** commit → mark → ``on_commit`` → checkpoint: so no acknowledgement waits for a checkpoint.

**What it costs.** Each ``sqlite3_step`` gives up the GIL, and a busy loop hands it back after 5 ms only, so a batch is
one statement (see batch). docs/adr/0008 has the figures and the forms that lost.

**When it fails.** No room: nothing of the batch is acknowledged; its submissions are rejected, ``on_full`` gets their
numbers; its other changes are kept and tried again each second until there is room. Any other error:
``on_fatal`` gets one line, nothing more is committed, and the process has to end.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import apsw
from headway.core.errors import JournalError
from headway.core.journal import mark, schema
from headway.core.journal.batch import APPLY, DUE, FORGOTTEN, STATE, TASK, Change, Row, divide, join, put
from headway.core.journal.replay import Key, Reader, Saved, jobs, keys, last_place, waiting
from headway.core.journal.schema import SKIP

# Seconds between two tries while there is no room.
RETRY_S = 1.0
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


class Journal:
    """The journal at ``path``, made where there is none. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path, sync: schema.Sync = "full") -> None:
        self.path = path
        # Changes appended, and the same as of the last commit.
        self.appended = 0
        self.committed = 0
        # Commits by this process, of which ``expired`` jobs were deleted by retention.
        self.batches = 0
        self.expired = 0
        # Whether there is no room; new submissions would only be rejected.
        self.full = False
        self._pending: list[Change] = []
        # Where changes are put: ``_pending``, or what is gathered to go there at once.
        self._into = self._pending
        self._taken = 0
        # Rows that must not be lost, from a batch for which there was no room.
        self._kept: dict[int, Row] = {}
        # What to delete: up to this place, ended before, keys from before.
        self._cut: tuple[int, float, float] | None = None
        self._slice = 500
        # One for each turn of the loop in which something was appended, at its end: a batch is never less than a turn.
        self._signal: SimpleQueue[None] = SimpleQueue()
        self._signalled = False
        self._closing = False
        self._looked = 0
        self._thread: Thread | None = None
        self._mark = mark.Mark(mark.beside(path))
        try:
            self._open(path, sync)
        except BaseException:
            self._mark.close()
            raise
        self.reader = Reader(path)

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
            raise JournalError(f"{path}: cannot be opened: {_one_line(error)}") from None

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
        self._high = self.next_sequence - 1
        self._commits = meta.commits
        self._mark.begin(marked._replace(journal=meta.journal, commits=meta.commits))
        # The number of the job that ended last.
        self.last_place = last_place(connection)
        self._set_clean(False)
        # What the last process wrote is put on disk before anything is built on it: a sync of its may have failed.
        self._checkpoint()

    def jobs(self, progress: Callable[[int], object] = lambda _: None) -> Iterator[list[Saved]]:
        """Return the jobs that are kept, in the order of their numbers, before ``run``; see replay.Saved."""
        return jobs(self._connection, progress)

    def waiting(self) -> list[int]:
        """Return the sequence numbers of the jobs that are not over, before ``run``."""
        return waiting(self._connection)

    def keyed(self) -> Iterator[list[Key]]:
        """Return the idempotency keys that are kept, the oldest first, before ``run``."""
        return keys(self._connection)

    # What the loop calls. Each returns the number of the change, for on_commit.

    def submit(
        self,
        sequence: int,
        state: int,
        task: str,
        payload: bytes,
        priority: int,
        due: float | None,
        timeout_s: float,
        retries: int,
        deadline: float | None,
        submitted: float,
        key: str | None = None,
        digest: bytes | None = None,
    ) -> int:
        """Record a job that was submitted, SCHEDULED or QUEUED."""
        values = (task, payload, priority, timeout_s, retries, deadline, submitted, key, digest, due, state)
        return self._append((sequence, TASK, values))

    def retry(self, sequence: int, state: int, attempt: int, due: float, started: float) -> int:
        """Record that a job waits for another attempt, due at a time; the last one was started at one."""
        return self._append((sequence, DUE, (due, state, attempt, started)))

    def end(
        self,
        sequence: int,
        state: int,
        attempt: int,
        started: float | None,
        reason: int,
        ended: float,
        place: int,
        media_type: str | None = None,
        body: bytes | None = None,
    ) -> int:
        """Record the end of a job, the ``place``-th to end, with its result or the text of its error."""
        return self._append((sequence, STATE, (state, attempt, started, reason, ended, place, media_type, body)))

    def forget_result(self, sequence: int) -> int:
        """Record that the result of a job that is over was deleted."""
        return self._append((sequence, FORGOTTEN, (1,)))

    def expire(self, place: int, ended_before: float, keys_before: float) -> None:
        """Have jobs deleted that ended as the ``place``-th or earlier, or before a time; and keys from before one."""
        self._cut = (place, ended_before, keys_before)
        self._wake()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have all that is appended within it committed, or rejected, as one; nothing is if it raises."""
        begun = self.appended
        self._into = []
        try:
            yield
            # One step for the thread that takes from it.
            self._pending.extend(self._into)
        except BaseException:
            self.appended = begun
            raise
        finally:
            self._into = self._pending

    def _append(self, change: Change) -> int:
        self._into.append(change)
        self.appended += 1
        if not self._signalled:
            self._wake()
        return self.appended

    def _wake(self) -> None:
        if not self._signalled and self._thread is not None:
            self._signalled = True
            self._loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._signalled = False
        self._signal.put(None)

    # Life.

    def run(
        self,
        loop: asyncio.AbstractEventLoop,
        on_commit: Callable[[int], object],
        on_full: Callable[[list[int]], object],
        on_fatal: Callable[[str], object],
    ) -> None:
        """Start the thread; the functions are called on ``loop``, in the order of what happened."""
        self._loop, self._on_commit, self._on_full, self._on_fatal = loop, on_commit, on_full, on_fatal
        # For what was appended before.
        self._signal.put(None)
        self._thread = Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Commit what was appended, end the thread and close the file."""
        if self._thread is None:
            self.abandon()
            return
        self._closing = True
        self._signal.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def abandon(self) -> None:
        """Close a journal that was not run; a start that comes to nothing."""
        self.reader.close()
        self._finish()

    # What the thread does.

    def _write(self) -> None:
        try:
            while self._turn():
                pass
            self.reader.close()
            self._finish()
        except BaseException as error:  # noqa: BLE001 — whatever it is, nothing is committed any more
            self._tell(self._on_fatal, f"{self.path}: cannot be written: {_one_line(error)}")

    def _turn(self) -> bool:
        """Do what is next; False when all is done and the journal is closing."""
        if self.full:
            self._rest(RETRY_S)
        elif not (self._cut or self._closing):
            self._sleep()
        # Closing: what is appended until now is committed. With no room it is lost, and was never acknowledged.
        last = self._closing
        if self._pending or self.full:
            self._commit(self._take())
        if not (last or self.full):
            self._expire()
            self._look()
        return not last

    def _take(self) -> dict[int, Row]:
        """What was appended, one row for each job: what was kept, then the changes in their order."""
        batch = self._pending[:]
        del self._pending[: len(batch)]
        self._taken += len(batch)
        rows, self._kept = self._kept, {}
        self._high = max(self._high, join(rows, batch))
        return rows

    def _sleep(self) -> None:
        """Wait for the end of a turn in which something was appended; then forget the other turns that are over."""
        self._signal.get()
        with suppress(Empty):
            while True:
                self._signal.get_nowait()

    def _rest(self, seconds: float) -> None:
        """Wait for so long, whatever is appended; closing cuts it short."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._closing:
            with suppress(Empty):
                self._signal.get(timeout=left)

    def _commit(self, rows: dict[int, Row]) -> None:
        if not self._with_room(lambda: put(self._connection, rows, self._high)):
            self._kept, rejected = divide(rows)
            self._tell(self._on_full, rejected)
            return
        self._commits += 1
        self.batches += 1
        self._mark.acknowledge(self._commits)
        self.committed = self._taken
        self.full = False
        self._tell(self._on_commit, self.committed)

    def _expire(self) -> None:
        """Delete a slice of what retention has given up."""
        if self._cut is None:
            return
        cut, connection, size = self._cut, self._connection, self._slice
        place, ended_before, keys_before = cut
        deleted = [0, 0]

        def delete() -> None:
            connection.execute("BEGIN IMMEDIATE")
            for at, (sql, values) in enumerate(((_EXPIRE, (size, place, ended_before)), (_UNKEY, (size, keys_before)))):
                connection.execute(sql, values)
                deleted[at] = connection.changes()
            put(connection, {}, self._high)
            connection.execute("COMMIT")

        begun = time.perf_counter()
        if not self._with_room(delete):
            self._tell(self._on_full, [])
            return
        took = time.perf_counter() - begun
        self._commits += 1
        self._slice = max(size // 2, SLICE_LEAST) if took > SLICE_S else min(size * 2, SLICE_MOST)
        self.expired += deleted[0]
        if max(deleted) < size and self._cut is cut:
            self._cut = None

    def _look(self) -> None:
        """Begin a checkpoint if the log has grown long."""
        if self.batches - self._looked < LOOK_COMMITS:
            return
        self._looked = self.batches
        frames = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
        if frames >= CHECKPOINT_FRAMES and not self._with_room(self._checkpoint):
            self._tell(self._on_full, [])

    def _checkpoint(self) -> None:
        """Copy the log into the file. The mark says while it lasts how long the log was: see schema.compare."""
        frames = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
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
        self._connection.execute(sql, (clean, self._high))
        self._commits += 1

    def _finish(self) -> None:
        if not self.full:
            self._set_clean(True)
            self._checkpoint()
            # Before the log is deleted.
            self._mark.sync()
        self._connection.close()
        self._mark.close()

    def _tell(self, function: Callable[..., object], argument: object) -> None:
        # A loop that is closed has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, argument)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
