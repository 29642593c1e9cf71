"""Lines that a thread of their own writes, so that nobody waits for their reader.

The reader of a pipe may not read, a terminal may be gone, a disk may be full. Lines that cannot be
written wait, up to BYTES_MOST of them. Further lines are dropped and counted. Once lines can be
written again, one line says how many were dropped. The event loop never waits. Other threads wait
for room, for ROOM_S at most, and not if nothing was written since such a wait was in vain. So a
burst is written whole if lines are read.

The descriptor is a duplicate: closing ``sys.stdout``, or descriptor 1, closes nothing here. A
forked child has neither the duplicate nor the thread. It writes its lines to its stdout itself.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate

from headway.core import forks

STDOUT = 1
# Bytes of lines that wait to be written.
BYTES_MOST = 4 << 20
# Bytes written at once, roughly, and seconds in which more may come before the next write.
BYTES_AT_ONCE = 1 << 16
GATHER_S = 0.002
# Seconds for which a thread waits for room.
ROOM_S = 0.5


class Lines:
    """Lines on their way to ``fd``. ``lost`` makes the line about dropped ones: count, reason."""

    def __init__(self, lost: Callable[[int, str], bytes], fd: int = STDOUT) -> None:
        self._fd = forks.keep(os.dup(fd))
        self._lost = lost
        # The thread that writes waits for it, and so do threads that want room or an end. A signal
        # handler may log in the midst of it, so the lock is reentrant.
        self._news = threading.Condition(threading.RLock())
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        # Lines dropped and not reported yet, and the reason for the last.
        self.dropped = 0
        self._why = ""
        # Nothing could be written since a thread waited for room in vain.
        self._stuck = False
        # Whether a line was written in part, so that the next has to begin with a line end.
        self._torn = False
        self._loop_thread = threading.get_ident()
        threading.Thread(target=self._write_on, name="headway-log", daemon=True).start()

    def put(self, line: bytes) -> None:
        """Have ``line`` written, which has its line end."""
        if forks.forked:
            with suppress(OSError):
                os.write(STDOUT, line)
            return
        with self._news:
            if self._waiting_bytes + len(line) > BYTES_MOST and not self._comes_room(len(line)):
                self.dropped += 1
                self._why = "they were not read"
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            self._news.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, ``seconds`` at most. Return whether it is."""
        if forks.forked:
            return True
        with self._news:
            return self._news.wait_for(lambda: not self._waiting, seconds)

    def _comes_room(self, size: int) -> bool:
        if self._stuck or threading.get_ident() == self._loop_thread:
            return False
        came = self._news.wait_for(lambda: self._waiting_bytes + size <= BYTES_MOST, ROOM_S)
        self._stuck = self._stuck or not came
        return came

    def _write_on(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting)
                lines = self._first()
            written, why = self._write(b"".join(lines))
            with self._news:
                # They stay until they are written: ``flush`` waits for that, and they take their
                # room.
                for line in lines:
                    self._waiting.popleft()
                    self._waiting_bytes -= len(line)
                if why:
                    self.dropped += sum(end > written for end in accumulate(map(len, lines)))
                    self._why = why
                elif self.dropped:
                    line = self._lost(self.dropped, self._why)
                    self._waiting.append(line)
                    self._waiting_bytes += len(line)
                    self.dropped = 0
                self._stuck = self._stuck and bool(why)
                self._news.notify_all()
                gather_s = 0 if self._waiting else GATHER_S
            time.sleep(gather_s)

    def _first(self) -> list[bytes]:
        size = 0
        lines = []
        for line in self._waiting:
            lines.append(line)
            size += len(line)
            if size >= BYTES_AT_ONCE:
                break
        return lines

    def _write(self, data: bytes) -> tuple[int, str]:
        """Write ``data``. Return how many of its bytes were written, and why no more."""
        if self._torn:
            data = b"\n" + data
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[os.write(self._fd, unsent) :]
            except BlockingIOError:
                # Another process that has the same file has made it non-blocking.
                select.select([], [self._fd], [], 1.0)
            except OSError as error:
                written = len(data) - len(unsent)
                self._torn = self._torn or (written > 0 and data[written - 1] != ord("\n"))
                return written - self._torn, f"{error.strerror}"
        self._torn = False
        return len(data), ""
