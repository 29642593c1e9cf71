"""The writer: a process of its own that commits the journal's changes and acknowledges them.

It is not a thread, because that gives up the GIL in each ``sqlite3_step`` and waits for a busy loop
to hand it back, as the loop then waits for the thread (docs/adr/0012). A commit is of all changes
that came during the last one.

It may die at any moment. The file has the number of the last change written to it. The journal has
the others, and starts another writer (see delivery).

It outlives the server by no more than the commit that it is at. It ends when the server's end of a
pipe is closed. If a program that a task has started holds that end open, it ends within
SERVER_LOOK_S, when it finds that the server is not its parent any more. Signals are the server's to act on: the
writer is born with them blocked.

**Failures.** No room: all changes that were sent and not committed are refused at once, and the
journal sends again those that must not be lost. The writer tries each second. Meanwhile the log is
copied into the file and retention goes on, since both make room. Any other error: it is reported,
and nothing more is committed.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from pathlib import Path

from headway.core.journal import schema
from headway.core.journal.database import File, one_line
from headway.core.journal.messages import (
    READ_BYTES,
    Acknowledged,
    Append,
    Begin,
    Close,
    Expired,
    Fatal,
    Frames,
    NoRoom,
    Opened,
    ToWriter,
    decode_to_writer,
)
from headway.core.journal.notes import Note
from headway.core.journal.statement import TASK, Change
from headway.core.processes.frames import Message, frame

# Seconds between two tries without room, and between two looks for the server.
RETRY_S = 1.0
SERVER_LOOK_S = 0.25


def main(path: str, sync: schema.Sync, read_fd: int, write_fd: int, lock: int) -> None:
    """Write the journal at ``path``, with the changes from ``read_fd``.

    ``lock`` is the descriptor of its lock.
    """
    writer = Writer(Path(path), sync, read_fd, write_fd, lock)
    # Suppressed: the server is gone, and no uncommitted change was ever acknowledged.
    with suppress(ConnectionError):
        try:
            writer.write()
        except ConnectionError:
            raise
        except BaseException as error:  # noqa: BLE001 — after any error nothing is committed any more
            writer.say(Fatal(f"{path}: cannot be written: {one_line(error)}"))


class Writer:
    """Writes the journal at ``path``. Its methods raise ConnectionError if the server is gone."""

    def __init__(self, path: Path, sync: schema.Sync, read_fd: int, write_fd: int, lock: int) -> None:
        self._path = path
        self._sync = sync
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._lock = lock
        self._server = os.getppid()
        os.set_blocking(read_fd, False)
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)
        self._frames = Frames()
        self._file: File | None = None
        self._pending: list[Change] = []
        self._notes: list[Note] = []
        # The number of the last change received.
        self._last = 0
        self._era = 0
        # Jobs deleted by retention, as reported to the journal.
        self._expired = 0
        # There is no room, and the journal knows it.
        self._full = False
        self._closing = False

    def write(self) -> None:
        """Follow the journal's messages until it closes."""
        while self._file is None:
            self._receive(wait=True)
        while self._step(self._file):
            pass
        self._file.close()

    def say(self, message: Message) -> None:
        """Send a message to the journal."""
        data = memoryview(frame(message))
        while data:
            data = data[os.write(self._write_fd, data) :]

    def _step(self, file: File) -> bool:
        """Do the next thing. Return False when all is done and the journal is closing."""
        if self._full:
            self._rest(RETRY_S)
            file.relieve()
        else:
            self._receive(wait=not (file.expiry.left or self._pending or self._notes or self._closing))
        # At the close without room, pending changes are lost, and were never acknowledged.
        last = self._closing
        if self._pending or self._notes or (self._full and not file.full):
            self._commit(file)
        if not (last or self._full):
            self._tidy(file)
        return not last

    def _receive(self, wait: bool) -> None:
        """Take messages. ``wait`` for one, or go on if there is none."""
        while wait and not self._poll.poll(SERVER_LOOK_S * 1000):
            if os.getppid() != self._server:
                raise ConnectionResetError
        try:
            data = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError
        for whole in self._frames.feed(data):
            self._hear(decode_to_writer(whole))

    def _hear(self, message: ToWriter) -> None:
        if isinstance(message, Begin):
            self._open(message)
        elif isinstance(message, Close):
            self._closing = True
        else:
            assert self._file is not None
            self._file.expiry.give_up(message.places, message.key)
            if not isinstance(message, Append):
                self._file.expiry.give_up_before(message.kept_until, message.keys_before)
            elif message.era == self._era:
                self._pending += message.changes
                self._notes += message.notes
                self._last = message.last

    def _open(self, begin: Begin) -> None:
        self._era = begin.era
        self._file = file = File.taken_over(self._path, self._sync, self._lock, begin.high, begin.run)
        file.begin(begin.begun)
        self._last = file.changes
        self._full = bool(file.full)
        self.say(Opened(file.changes, file.full))

    def _rest(self, seconds: float) -> None:
        """Wait this long, taking messages. Closing cuts it short."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._closing:
            if self._poll.poll(left * 1000):
                self._receive(wait=False)

    def _commit(self, file: File) -> None:
        """Commit the pending changes, in their order.

        Without room refuse them, unless the journal waits for room already.
        """
        begun = time.perf_counter()
        # Sequence numbers are submitted in ascending order.
        file.high = next((change[0] for change in reversed(self._pending) if change[TASK] is not None), file.high)
        if file.commit(self._pending, self._last, self._notes):
            self._pending, self._notes = [], []
            self._full = False
            self.say(Acknowledged(self._last, time.perf_counter() - begun, self._newly_expired(file)))
        elif not self._full:
            self._refuse(file.full)

    def _refuse(self, why: str) -> None:
        self._full = True
        self._pending, self._notes = [], []
        self._era += 1
        self.say(NoRoom(self._era, why))

    def _tidy(self, file: File) -> None:
        """Delete a slice of the rows that retention has given up, and keep the log from growing long."""
        if file.expiry.left:
            file.expire()
            if expired := self._newly_expired(file):
                self.say(Expired(expired))
        if not file.full:
            file.look()
        if file.full:
            self._refuse(file.full)

    def _newly_expired(self, file: File) -> int:
        """Return how many jobs were deleted since the last report to the journal."""
        before, self._expired = self._expired, file.expired
        return self._expired - before
