"""The writer, seen from the loop: its start, its two pipes, its end.

The pipes are read and written as the loop finds them ready. The loop waits for the writer only to
see how it died.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from subprocess import TimeoutExpired

from headway.core import forks
from headway.core.journal.messages import READ_BYTES, Frames, FromWriter, ToWriter, decode_from_writer
from headway.core.journal.schema import Sync
from headway.core.processes.frames import parts
from headway.core.processes.spawn import how_it_ended, start

# Signals on which the server acts, and the writer does not.
SERVERS_OWN = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# Seconds after which a writer that hung up counts as dead, even if the way it died is unknown.
DYING_S = 1.0


class WriterLink:
    """The link to a writer of the journal at ``path``, which it starts. Raises OSError if it cannot."""

    # The module of the writer's ``main``.
    # Seam: tests name a writer that is watched, stops itself, forgets what it did not sync, or is none.
    module = "headway.core.journal.writer"

    def __init__(self, path: Path, sync: Sync, lock: int) -> None:
        their_read, self._write_fd = forks.pipe()
        self._read_fd, their_write = forks.pipe()
        os.set_blocking(self._write_fd, False)
        os.set_blocking(self._read_fd, False)
        given = {"path": str(path), "sync": sync, "read_fd": their_read, "write_fd": their_write, "lock": lock}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SERVERS_OWN)
        try:
            # In our session: a kill of our process group kills it too.
            self._process = start(self.module, given, (their_read, their_write, lock), new_session=False)
        except OSError:
            self._close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            forks.close(their_read)
            forks.close(their_write)
        # Frames that the pipe did not take yet.
        self._unsent: deque[memoryview] = deque()
        self._frames = Frames()

    @property
    def pid(self) -> int:
        """The process id of the writer."""
        return self._process.pid

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        hear: Callable[[FromWriter], object],
        hung_up: Callable[[str], object],
    ) -> None:
        """Start to receive. From here on ``send`` may be called.

        ``hear`` gets the writer's messages, ``hung_up`` how it ended.
        """
        self._loop, self._hear, self._hung_up = loop, hear, hung_up
        loop.add_reader(self._read_fd, self._read)

    def send(self, message: ToWriter) -> None:
        """Send as much as the pipe takes now, and the rest when it takes more.

        After the writer has hung up this does nothing.
        """
        if self._write_fd < 0:
            return
        sending = bool(self._unsent)
        self._unsent.extend(map(memoryview, parts(message)))
        if not sending:
            self._write()

    def kill(self) -> None:
        """End a writer that was sent nothing."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _write(self) -> None:
        unsent = self._unsent
        try:
            while unsent:
                unsent[0] = unsent[0][os.write(self._write_fd, unsent[0]) :]
                if unsent[0]:
                    self._loop.add_writer(self._write_fd, self._write)
                    return
                unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._write_fd, self._write)
            return
        except OSError:
            # It has ended. Its last messages are still read.
            unsent.clear()
        self._loop.remove_writer(self._write_fd)

    def _read(self) -> None:
        try:
            data = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return
        for whole in self._frames.feed(data):
            self._hear(decode_from_writer(whole))
        if not data:
            self._hang_up()

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._read_fd)
        self._loop.remove_writer(self._write_fd)
        self._close()
        try:
            how = how_it_ended(self._process.wait(DYING_S))
        except TimeoutExpired:
            how = "does not answer"
            # Another may follow, and there is one writer at a time.
            self._process.kill()
            self._process.wait()
        self._hung_up(how)

    def _close(self) -> None:
        forks.close(self._read_fd)
        forks.close(self._write_fd)
        self._read_fd = self._write_fd = -1
