"""The output of a worker process, seen from the loop: the end of a pipe to read from.

It is read as it comes, whatever the process does, and takes a share of the loop's time at most.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from headway.core import forks

# Bytes read at once: the size of a pipe.
READ_BYTES = 1 << 16
# Reads at the end of a call, which are enough for all that was written before it.
READS = 2


class OutputPipe:
    """One pipe. ``has_read`` is told when a read began, and returns the seconds until the next one may."""

    def __init__(self, has_read: Callable[[float], float]) -> None:
        self._has_read = has_read
        self._loop = asyncio.get_running_loop()
        # Takes the text. None: nobody does, and it is dropped.
        self.write: Callable[[bytes], None] | None = None
        # The timer until it is read again.
        self._rest: asyncio.TimerHandle | None = None
        self._fd, self._theirs = forks.pipe()
        os.set_blocking(self._fd, False)

    @property
    def is_open(self) -> bool:
        """Whether somebody may still write to it."""
        return self._fd >= 0

    @property
    def theirs(self) -> int:
        """The end to write to, negative once it is closed here."""
        return self._theirs

    def start(self) -> None:
        """Read, now that the process has the end to write to."""
        self.close_theirs()
        self._loop.add_reader(self._fd, self._read)

    def take(self) -> None:
        """Take all that was written so far."""
        for _ in range(READS):
            if not self._take():
                return

    def close(self) -> None:
        """Read no more. A program that still writes to it ends."""
        self.close_theirs()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            forks.close(self._fd)
            self._fd = -1

    def close_theirs(self) -> None:
        """Close the end to write to, here."""
        if self._theirs >= 0:
            forks.close(self._theirs)
            self._theirs = -1

    def _take(self) -> bool:
        """Take some text. Return False if there was none."""
        if self._fd < 0:
            return False
        try:
            text = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not text:
            self.close()
        elif self.write is not None:
            self.write(text)
        return bool(text)

    def _read(self) -> None:
        """Take some text, then rest if that has taken more than its share of the loop's time."""
        began = time.monotonic()
        self._take()
        pause_s = self._has_read(began)
        if pause_s and self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._rest = self._loop.call_later(pause_s, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)
