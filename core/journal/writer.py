"""The writer: a process of its own that commits what the journal tells it, and says so.

It is not a thread, because that gives up the GIL in each ``sqlite3_step`` and waits for a busy loop to hand it back,
as the loop then waits for the thread (docs/adr/0012). A batch is what came while the last one was committed.

It outlives the server by no more than the commit that it is at: it ends when the server's end of a pipe is closed or,
where a program that a task has started holds that open, when it finds within LOOK_S that the server is not its parent
any more. Signals are the server's to act on: the writer is born with them blocked.

**When it fails.** No room: nothing of the batch is acknowledged; its submissions are rejected, its other changes are
kept and tried again each second until there is room. Any other error: it is told, nothing more is committed.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from pathlib import Path

from headway.core.journal import schema
from headway.core.journal.batch import TASK, Change, divide
from headway.core.journal.file import File, one_line
from headway.core.journal.talk import (
    READ_BYTES,
    Begin,
    Changes,
    Committed,
    Expire,
    Expired,
    Failed,
    Frames,
    NoRoom,
    decode_to_writer,
)
from headway.core.messages import Message, frame

# Seconds between two tries while there is no room; and between two looks at whether the server is there.
RETRY_S = 1.0
LOOK_S = 0.25


def main(path: str, sync: schema.Sync, read_fd: int, write_fd: int, lock: int) -> None:
    """Write the journal at ``path``, whose lock is the descriptor ``lock``, as is told on ``read_fd``."""
    writer = Writer(Path(path), sync, read_fd, write_fd, lock)
    # The server is gone, and whatever is not committed was never acknowledged.
    with suppress(ConnectionError):
        try:
            writer.write()
        except ConnectionError:
            raise
        except BaseException as error:  # noqa: BLE001 — whatever it is, nothing is committed any more
            writer.say(Failed(f"{path}: cannot be written: {one_line(error)}"))


class Writer:
    """Writes the journal at ``path``. Its methods raise ConnectionError where the server is gone."""

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
        # Changes that were taken from there.
        self._taken = 0
        # What must not be lost, from a batch for which there was no room.
        self._kept: list[Change] = []
        self._cut: Expire | None = None
        self._closing = False

    def write(self) -> None:
        """Do what is told until the journal is closed."""
        while self._file is None:
            self._receive(wait=True)
        while self._turn(self._file):
            pass
        self._file.close()

    def say(self, message: Message) -> None:
        """Tell the journal."""
        data = memoryview(frame(message))
        while data:
            data = data[os.write(self._write_fd, data) :]

    def _turn(self, file: File) -> bool:
        """Do what is next; False when all is done and the journal is closing."""
        if file.full:
            self._rest(RETRY_S)
        else:
            self._receive(wait=not (self._cut or self._pending or self._closing))
        # Closing: with no room what is pending is lost, and was never acknowledged.
        last = self._closing
        if self._pending or file.full:
            self._commit(file)
        if not (last or file.full):
            self._tidy(file)
        return not last

    def _receive(self, wait: bool) -> None:
        """Take what is told; ``wait`` for it, or go on where there is nothing."""
        while wait and not self._poll.poll(LOOK_S * 1000):
            if os.getppid() != self._server:
                raise ConnectionResetError
        try:
            data = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError
        for whole in self._frames.take(data):
            message = decode_to_writer(whole)
            if isinstance(message, Changes):
                self._pending += message.changes
            elif isinstance(message, Expire):
                self._cut = message
            elif isinstance(message, Begin):
                self._file = File.taken_over(self._path, self._sync, self._lock, message.high, message.epoch)
            else:
                self._closing = True

    def _rest(self, seconds: float) -> None:
        """Wait for so long, whatever is told; closing cuts it short."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._closing:
            if self._poll.poll(left * 1000):
                self._receive(wait=False)

    def _commit(self, file: File) -> None:
        """Commit what was kept, then what was told, in its order."""
        begun = time.perf_counter()
        pending, self._pending = self._pending, []
        self._taken += len(pending)
        # Sequence numbers are submitted in ascending order.
        file.high = next((change[0] for change in reversed(pending) if change[TASK] is not None), file.high)
        batch, self._kept = self._kept + pending, []
        if file.commit(batch):
            self.say(Committed(self._taken, time.perf_counter() - begun))
        else:
            self._kept, rejected = divide(batch)
            self.say(NoRoom(rejected))

    def _tidy(self, file: File) -> None:
        """Delete a slice of what retention has given up, and see that the log does not grow long."""
        if self._cut is not None:
            before = file.expired
            if not file.expire(self._cut.place, self._cut.ended_before, self._cut.keys_before):
                self._cut = None
            if file.expired > before:
                self.say(Expired(file.expired - before))
        if not file.full:
            file.look()
        if file.full:
            self.say(NoRoom([]))
