"""The journal: everything that happened to every job, on disk before any client hears of it.

**Promises.** ``on_commit(n)`` is called on the loop when the changes up to number ``n`` are
committed (``sync: full``: and synced; ``normal``: safe from a killed process, not from a loss of
power). A change that is not committed when the process ends has not happened. A sequence number
that was ever given to ``submit`` is not given again, committed or not: a journal that was not
closed begins at least ``SKIP`` numbers later.

**Who writes.** The loop gathers changes. At the end of a turn with changes they go to the writer, a
process of its own (see writer) that commits them. A commit is of all changes that came during the
last one. Results are read in a thread of their own.

**Costs.** The loop 2 µs a change: to make it, to encode it, to send it. docs/adr/0008 and 0012 have
the figures and the forms that lost.

**Failures.** No room: a client's wish is refused and has no effect. Those are the changes of
``statement.is_recallable`` and the notes of ``notes.wished``. ``on_full`` gets the numbers of the
jobs, and the names of the tasks, that they are about. Other changes are kept, and committed once
there is room. A writer that dies is followed by another (see delivery). Any other error:
``on_fatal`` gets one line, nothing more is committed, and the process has to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headway.core.apart import apart
from headway.core.errors import JournalError
from headway.core.job import State
from headway.core.journal import schema
from headway.core.journal.delivery import Delivery
from headway.core.journal.messages import Acknowledged, Opened
from headway.core.journal.notes import Note, body_bytes
from headway.core.journal.reader import Reader
from headway.core.journal.startup import Found
from headway.core.journal.statement import ASKED, Change
from headway.core.retention import DEFAULT, Retention
from headway.core.stats import Histogram

# Turns of the loop after which a change is sent if no client waits for it. Under load it goes with
# the submissions that come meanwhile, so one commit serves both. Otherwise the loop comes to its
# third turn at once.
LATER = 3
# Bytes of bodies after which changes are sent at once: the log may grow by one commit, and this
# bounds it.
SEND_BYTES = 1 << 20


class Journal:
    """The journal at ``path``, made if there is none, which keeps as many jobs as ``retention`` says.

    Raises JournalError if it is unusable.
    """

    def __init__(self, path: Path, sync: schema.Sync = "full", retention: Retention = DEFAULT) -> None:
        self.path = path
        self.found = Found(path, sync, retention)
        # The numbers of the last change that was appended, and of the last that is committed.
        self.appended = self.committed = self.found.changes
        # Commits by this process and their seconds. Jobs deleted by retention.
        self.commits = 0
        self.commit_seconds = Histogram()
        self.expired = 0
        # Changes and notes that were appended and not sent, the bytes of their bodies, and the turns of
        # the loop until they are sent (0: no send is due). A commit is never of less than a turn,
        # unless it is large.
        self._pending: list[Change] = []
        self._notes: list[Note] = []
        self._pending_bytes = 0
        self._turns = 0
        self._running = self._as_one = False
        try:
            # From here on it always has a reader: so the file that readers and the writer share
            # stays.
            self.reader = Reader(path)
            # It is ready by the time that all is read.
            self.delivery = Delivery(path, sync, self.found.lock, self.found.run, self.appended)
        except JournalError:
            self.found.close()
            raise
        except OSError as error:
            self.reader.close()
            self.found.close()
            raise JournalError(f"{path}: its writer cannot be started: {error}") from None
        if self.found.full:
            self.delivery.lack_room(self.found.full)

    @property
    def full(self) -> bool:
        """Whether there is no room. New submissions would only be refused."""
        return self.delivery.full

    @property
    def writer_restarts(self) -> int:
        """Writers that were started after one had died."""
        return self.delivery.restarts

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its log on disk."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return sum(found.stat().st_size for found in (self.path, log) if found.exists())

    # For the loop. Each returns the number of the change, for on_commit.

    def submit(
        self,
        *,
        sequence: int,
        state: int,
        task: str,
        payload: bytes,
        priority: int,
        due: float | None,
        terms: bytes,
        submitted: float,
        key: str | None = None,
        digest: bytes | None = None,
        batch: int | None = None,
    ) -> int:
        """Record a job that was submitted, SCHEDULED or QUEUED."""
        self.delivery.high = sequence
        self._send_in(1)
        return self._append(
            (sequence, task, state, due, payload, priority, terms, 0, None, submitted, key, digest, batch),
            len(payload),
        )

    def retry(self, sequence: int, state: int, attempt: int, due: float | None, started: float | None) -> int:
        """Record that a job waits for another attempt.

        It is due at ``due``, or now. The last attempt began at ``started``, None if that is unknown.
        """
        return self._append((sequence, None, state, due, None, None, None, attempt, None, started, None, None, None))

    def end(
        self,
        *,
        sequence: int,
        state: int,
        attempt: int,
        started: float | None,
        reason: int,
        ended: float,
        place: int,
        until: float,
        media_type: str | None = None,
        body: bytes | None = None,
    ) -> int:
        """Record the end of a job, the ``place``-th to end so, with its result or the text of its error.

        It is kept until ``until``, at the longest.
        """
        return self._append(
            (sequence, None, state, until, body, reason, place, attempt, ended, started, media_type, None, None),
            0 if body is None else len(body),
        )

    def cancel(
        self,
        *,
        sequence: int,
        attempt: int,
        started: float | None,
        reason: int,
        ended: float,
        place: int,
        until: float,
    ) -> int:
        """Record that a client ended a job, as ``end`` does. Refused without room."""
        self._send_in(1)
        state = State.CANCELLED
        return self._append(
            (sequence, None, state, until, None, reason, place, attempt, ended, started, None, ASKED, None)
        )

    def forget_result(self, sequence: int) -> int:
        """Record that the result, the attempts and the log of a finished job were deleted. Refused without room."""
        self._send_in(1)
        return self._append((sequence, *[None] * 10, 1, None))

    def note(self, note: Note, soon: bool = False) -> int:
        """Record a note. ``soon``: a client waits for it."""
        if soon:
            self._send_in(1)
        self._notes.append(note)
        return self._count(body_bytes(note))

    def give_up(self, places: list[int], key: int) -> None:
        """Have the next commits delete jobs up to the place of their outcome, by State.

        They also delete the keys of jobs up to number ``key``.
        """
        self.delivery.places, self.delivery.key = places, key

    def expire(self, places: list[int], kept_until: float, key: int, keys_before: float) -> None:
        """Have deleted: all that ``give_up`` names, jobs kept no longer than a time, and keys older than one."""
        # After the changes appended before.
        self._send()
        self.give_up(places, key)
        self.delivery.expire(kept_until, keys_before)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have all changes appended within it committed or refused as one.

        Nothing may await within it. If it raises, none of them is kept.
        """
        begun, count, noted, size_bytes = self.appended, len(self._pending), len(self._notes), self._pending_bytes
        self._as_one = True
        try:
            yield
        except BaseException:
            self.appended, self._pending_bytes = begun, size_bytes
            del self._pending[count:], self._notes[noted:]
            raise
        finally:
            self._as_one = False

    def _append(self, change: Change, size_bytes: int = 0) -> int:
        self._pending.append(change)
        return self._count(size_bytes)

    def _count(self, size_bytes: int) -> int:
        """Give a change or a note that was added its number, and have it sent."""
        self.appended += 1
        if not self._turns:
            self._send_in(LATER)
        self._pending_bytes += size_bytes
        if self._pending_bytes > SEND_BYTES and self._running and not (self._as_one or self.full):
            self._send()
        return self.appended

    def _send_in(self, turns: int) -> None:
        """Have pending changes sent at the end of this turn of the loop, 1, or of a later one."""
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
        if self._pending or self._notes:
            pending, self._pending = self._pending, []
            notes, self._notes = self._notes, []
            self._pending_bytes = 0
            self.delivery.send(self.appended, pending, notes)

    # Life.

    def run(
        self,
        loop: asyncio.AbstractEventLoop,
        on_commit: Callable[[int], object],
        on_full: Callable[[list[int | str]], object],
        on_fatal: Callable[[str], object],
    ) -> None:
        """Have the writer begin. The functions are called on ``loop``, in the order of events."""
        self._loop, self._on_commit = loop, on_commit
        self._running = True
        self.delivery.high = max(self.delivery.high, self.found.hand_over())
        self.delivery.open(
            loop,
            begun=not self.found.full,
            on_commit=self._committed,
            on_full=on_full,
            on_expired=self._expired,
            on_fatal=on_fatal,
        )
        # For the changes appended before.
        self._send()

    async def close(self) -> None:
        """Commit all appended changes, end the writer and close the file."""
        if not self._running:
            self.abandon()
            return
        self._send()
        await self.delivery.close()
        self.found.unlock()
        await apart(self.reader.close)

    def abandon(self) -> None:
        """Close a journal that was not run, because the start failed."""
        self.delivery.kill()
        self.reader.close()
        self.found.close()

    # The messages of the writer.

    def _committed(self, message: Acknowledged | Opened, settled: int) -> None:
        if isinstance(message, Acknowledged):
            self.commits += 1
            self.commit_seconds.add(message.seconds)
            self.expired += message.expired
        self.committed = settled
        self._on_commit(settled)

    def _expired(self, jobs: int) -> None:
        self.expired += jobs
