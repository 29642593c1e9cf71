"""The journal: what happened to every job, on disk before anyone is told.

**Promises.** ``on_commit(n)`` is called on the loop when the first ``n`` changes are committed (``sync: full``: and
synced; ``normal``: safe from a killed process, not from a loss of power). Whatever was not committed when the process
ends has not happened. A sequence number that was ever handed to ``submit`` is not given again, committed or not: a
journal that was not closed begins ``SKIP`` numbers later.

**Who writes.** The loop gathers changes, and at the end of a turn in which there were any they go to the writer, a
process of its own (see writer) that commits them: a batch is what came while the last one was committed. Results are
read in a thread of their own.

**What it costs.** The loop 2 µs a change: to make it, to encode it, to send it. docs/adr/0008 and 0012 have the
figures and the forms that lost.

**When it fails.** No room: nothing of the batch is acknowledged; ``on_full`` gets the numbers of its submissions, which
are rejected; its other changes are kept and tried again until there is room. Any other error, the end of the writer
included: ``on_fatal`` gets one line, nothing more is committed, and the process has to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headway.core.errors import JournalError
from headway.core.journal import schema
from headway.core.journal.batch import Change
from headway.core.journal.found import Found
from headway.core.journal.link import Link
from headway.core.journal.replay import Reader
from headway.core.journal.talk import Begin, Changes, Close, Committed, Expire, Expired, FromWriter, NoRoom
from headway.core.stats import Histogram

# Turns of the loop after which a change is sent that no client waits for: under load it goes with the submissions that
# come meanwhile, so that one commit serves both; else the loop comes to its third turn at once.
LATER = 3


class Journal:
    """The journal at ``path``, made where there is none. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path, sync: schema.Sync = "full") -> None:
        self.path = path
        self.found = Found(path, sync)
        # Whether there is no room; new submissions would only be rejected.
        self.full = False
        # Changes appended, and the same as of the last commit.
        self.appended = 0
        self.committed = 0
        # Commits by this process and how long they took; jobs deleted by retention.
        self.batches = 0
        self.commit_seconds = Histogram()
        self.expired = 0
        # What was appended and not sent, and at the end of which turn of the loop it will be, 0: of none. A batch is
        # never less than a turn.
        self._pending: list[Change] = []
        self._turns = 0
        self._running = self._closing = self._failed = False
        try:
            # By the time that all is read it is ready.
            self._link = Link(path, sync, self.found.lock)
        except OSError as error:
            self.found.close()
            raise JournalError(f"{path}: its writer cannot be started: {error}") from None
        self.reader = Reader(path)

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its log on disk."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return sum(found.stat().st_size for found in (self.path, log) if found.exists())

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
        batch: int | None = None,
    ) -> int:
        """Record a job that was submitted, SCHEDULED or QUEUED."""
        self._send_in(1)
        return self._append(
            (sequence, task, state, due, payload, priority, timeout_s, retries, deadline, submitted, key, digest, batch)
        )

    def retry(self, sequence: int, state: int, attempt: int, due: float | None, started: float) -> int:
        """Record that a job waits for another attempt, due at a time or now; the last one was started at one."""
        return self._append((sequence, None, state, due, None, None, None, attempt, None, started, None, None, None))

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
        return self._append(
            (sequence, None, state, None, body, reason, place, attempt, ended, started, media_type, None, None)
        )

    def forget_result(self, sequence: int) -> int:
        """Record that the result of a job that is over was deleted."""
        return self._append((sequence, *[None] * 10, 1, None))

    def expire(self, place: int, ended_before: float, keys_before: float) -> None:
        """Have jobs deleted that ended as the ``place``-th or earlier, or before a time; and keys from before one."""
        # After what was appended before.
        self._send()
        self._link.send(Expire(place, ended_before, keys_before))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have all that is appended within it, without awaiting, committed or rejected as one; none if it raises."""
        begun, count = self.appended, len(self._pending)
        try:
            yield
        except BaseException:
            self.appended = begun
            del self._pending[count:]
            raise

    def _append(self, change: Change) -> int:
        self._pending.append(change)
        self.appended += 1
        if not self._turns:
            self._send_in(LATER)
        return self.appended

    def _send_in(self, turns: int) -> None:
        """Have what is pending sent at the end of this turn of the loop, 1, or of a later one."""
        if not self._turns and self._running:
            self._loop.call_soon(self._end_of_turn)
            self._turns = turns
        elif turns < self._turns:
            self._turns = turns

    def _end_of_turn(self) -> None:
        self._turns -= 1
        if self._turns > 0:
            self._loop.call_soon(self._end_of_turn)
        else:
            self._turns = 0
            self._send()

    def _send(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._link.send(Changes(pending))

    # Life.

    def run(
        self,
        loop: asyncio.AbstractEventLoop,
        on_commit: Callable[[int], object],
        on_full: Callable[[list[int]], object],
        on_fatal: Callable[[str], object],
    ) -> None:
        """Have the writer begin; the functions are called on ``loop``, in the order of what happened."""
        self._loop, self._on_commit, self._on_full, self._on_fatal = loop, on_commit, on_full, on_fatal
        self._ended = loop.create_future()
        self._running = True
        self._link.open(loop, self._hear, self._hung_up)
        self._link.send(Begin(self.found.hand_over(), self.found.epoch))
        # For what was appended before.
        self._send()

    async def close(self) -> None:
        """Commit what was appended, end the writer and close the file."""
        if not self._running:
            self.abandon()
            return
        self._closing = True
        self._send()
        self._link.send(Close())
        await self._ended
        await asyncio.to_thread(self.reader.close)

    def abandon(self) -> None:
        """Close a journal that was not run; a start that comes to nothing."""
        self._link.kill()
        self.reader.close()
        self.found.close()

    # What the writer says.

    def _hear(self, message: FromWriter) -> None:
        if isinstance(message, Committed):
            self.full = False
            self.batches += 1
            self.commit_seconds.add(message.seconds)
            self.committed = message.changes
            self._on_commit(message.changes)
        elif isinstance(message, NoRoom):
            self.full = True
            self._on_full(message.rejected)
        elif isinstance(message, Expired):
            self.expired += message.jobs
        else:
            self._fail(message.line)

    def _hung_up(self, how: str) -> None:
        if not self._closing:
            self._fail(f"{self.path}: cannot be written: its writer {how}")
        self._ended.set_result(None)

    def _fail(self, line: str) -> None:
        if not self._failed:
            self._failed = True
            self._on_fatal(line)
