"""Lines that are written by a thread of their own, so that nobody waits for whoever reads them.

A pipe that nobody reads, a terminal that has gone, a disk that is full: a line that cannot be written waits, up to
BYTES_MOST of them, and what comes then is dropped and counted. One line says how many once lines can be written again.
The event loop never waits. Other threads wait for room, ROOM_S at most and not where nothing was written since, so
that a burst is written whole where lines are read.

The descriptor is a duplicate: closing ``sys.stdout``, or descriptor 1, closes nothing here. A forked child has neither
that nor the thread, and writes its lines to its stdout itself.
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
# Bytes written at once, about, and seconds in which more may come before the next are.
BYTES_AT_ONCE = 1 << 16
GATHER_S = 0.002
# Seconds for which a thread waits for room.
ROOM_S = 0.5


class Lines:
    """Lines on their way to stdout. ``lost`` makes the line that says how many were dropped, and why."""

    def __init__(self, lost: Callable[[int, str], bytes]) -> None:
        self._fd = forks.keep(os.dup(STDOUT))
        self._lost = lost
        # Waited for by the thread that writes, and by those that want room or an end. A handler of signals may log in
        # the midst of it, hence the lock.
        self._news = threading.Condition(threading.RLock())
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        # Lines that were dropped and not told of yet, and what the last was dropped for.
        self.dropped = 0
        self._why = ""
        # Nothing could be written since somebody waited for room in vain.
        self._stuck = False
        # Whether a line was written in part, so that the next has to begin with an end.
        self._torn = False
        self._loop_thread = threading.get_ident()
        threading.Thread(target=self._write_on, name="headway-log", daemon=True).start()

    def put(self, line: bytes) -> None:
        """Have ``line`` written, which has its end."""
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

    def flush(self, seconds: float) -> None:
        """Wait until all is written, ``seconds`` at most."""
        if not forks.forked:
            with self._news:
                self._news.wait_for(lambda: not self._waiting, seconds)

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
                # They wait until they are written: ``flush`` waits for that, and they take their room.
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
        """Write ``data``; return how many bytes of it could be, and why no more."""
        if self._torn:
            data = b"\n" + data
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[os.write(self._fd, unsent) :]
            except BlockingIOError:
                # Somebody else has made it so, who has the same file.
                select.select([], [self._fd], [], 1.0)
            except OSError as error:
                written = len(data) - len(unsent)
                self._torn = self._torn or (written > 0 and data[written - 1] != ord("\n"))
                return written - self._torn, f"{error.strerror}"
        self._torn = False
        return len(data), ""
