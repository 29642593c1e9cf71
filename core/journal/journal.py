"""The journal: what happened to every job, on disk before anyone is told.

**Promises.** ``on_commit(n)`` is called on the loop when the first ``n`` changes are committed (``sync: full``: and
synced; ``normal``: safe from a killed process, not from a loss of power). Whatever was not committed when the process
ends has not happened. A sequence number that was ever handed to ``submit`` is not given again, committed or not: a
journal that was not closed begins ``SKIP`` numbers later.

**Who writes.** The loop appends changes, 0.3 µs each; one thread owns the connection and commits. A batch is what
gathered while the last one was committed. Any other thread only reads.

**What it costs.** Each ``sqlite3_step`` gives up the GIL; a busy loop hands it back after the switch interval: 5 ms,
which a server makes shorter. So a batch is one statement (see batch). docs/adr/0008 has the figures and the forms that
lost.

**When it fails.** No room: nothing of the batch is acknowledged; its submissions are rejected, ``on_full`` gets their
numbers; its other changes are kept and tried again each second until there is room. Any other error:
``on_fatal`` gets one line, nothing more is committed, and the process has to end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from headway.core.journal import schema
from headway.core.journal.batch import TASK, Change, divide
from headway.core.journal.file import File, one_line
from headway.core.journal.replay import Reader

# Seconds between two tries while there is no room.
RETRY_S = 1.0


class Journal:
    """The journal at ``path``, made where there is none. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path, sync: schema.Sync = "full") -> None:
        self.path = path
        self.file = File(path, sync)
        # Changes appended, and the same as of the last commit.
        self.appended = 0
        self.committed = 0
        # Commits by this process.
        self.batches = 0
        self._pending: list[Change] = []
        # Where changes are put: ``_pending``, or what is gathered to go there at once.
        self._into = self._pending
        self._taken = 0
        # What must not be lost, from a batch for which there was no room.
        self._kept: list[Change] = []
        # What to delete: up to this place, ended before, keys from before.
        self._cut: tuple[int, float, float] | None = None
        # One for each turn of the loop in which something was appended, at its end: a batch is never less than a turn.
        self._signal: SimpleQueue[None] = SimpleQueue()
        self._signalled = False
        self._closing = False
        self._thread: Thread | None = None
        self.reader = Reader(path)

    @property
    def full(self) -> bool:
        """Whether there is no room; new submissions would only be rejected."""
        return self.file.full

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
        return self._append(
            (sequence, task, state, due, payload, priority, timeout_s, retries, deadline, submitted, key, digest)
        )

    def retry(self, sequence: int, state: int, attempt: int, due: float, started: float) -> int:
        """Record that a job waits for another attempt, due at a time; the last one was started at one."""
        return self._append((sequence, None, state, due, None, None, None, attempt, None, started, None, None))

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
            (sequence, None, state, None, body, reason, place, attempt, ended, started, media_type, None)
        )

    def forget_result(self, sequence: int) -> int:
        """Record that the result of a job that is over was deleted."""
        return self._append((sequence, *[None] * 10, 1))

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
        self.file.close()

    # What the thread does.

    def _write(self) -> None:
        try:
            while self._turn():
                pass
            self.reader.close()
            self.file.close()
        except BaseException as error:  # noqa: BLE001 — whatever it is, nothing is committed any more
            self._tell(self._on_fatal, f"{self.path}: cannot be written: {one_line(error)}")

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
            self._tidy()
        return not last

    def _take(self) -> list[Change]:
        """What was kept, then what was appended, in its order."""
        batch = self._pending[:]
        del self._pending[: len(batch)]
        self._taken += len(batch)
        # Sequence numbers are submitted in ascending order.
        self.file.high = next((change[0] for change in reversed(batch) if change[TASK] is not None), self.file.high)
        batch, self._kept = self._kept + batch, []
        return batch

    def _sleep(self) -> None:
        """Wait for the end of a turn in which something was appended; then forget the other turns that are over."""
        self._signal.get()
        while not self._signal.empty():
            self._signal.get_nowait()

    def _rest(self, seconds: float) -> None:
        """Wait for so long, whatever is appended; closing cuts it short."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._closing:
            with suppress(Empty):
                self._signal.get(timeout=left)

    def _commit(self, batch: list[Change]) -> None:
        if not self.file.commit(batch):
            self._kept, rejected = divide(batch)
            self._tell(self._on_full, rejected)
            return
        self.batches += 1
        self.committed = self._taken
        self._tell(self._on_commit, self.committed)

    def _tidy(self) -> None:
        """Delete a slice of what retention has given up, and see that the log does not grow long."""
        cut = self._cut
        if cut is not None and not self.file.expire(*cut) and self._cut is cut:
            self._cut = None
        if not self.full:
            self.file.look()
        if self.full:
            self._tell(self._on_full, [])

    def _tell(self, function: Callable[..., object], argument: object) -> None:
        # A loop that is closed has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, argument)
