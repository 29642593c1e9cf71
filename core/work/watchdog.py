"""A thread that notices a blocked loop, and names the task that blocks it in the log.

The loop beats every BEAT_S. The delay of a beat is the loop's lag, which /metrics shows. If no beat
comes for longer than ``stall_s``, the thread logs, once a stall, the loop's present task and its
stack: a coroutine that blocks stops every request, and nothing on the loop could report it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from headway.core.stats import Histogram

log = logging.getLogger(__name__)

BEAT_S = 0.25
# Frames of the stack that are logged, the innermost.
FRAMES = 12


class Watchdog:
    """Watches the loop on which ``start`` is called. ``holder`` names the loop's present task, if any."""

    def __init__(self, stall_s: float, holder: Callable[[asyncio.AbstractEventLoop], str | None]) -> None:
        self.stall_s = stall_s
        self.lag = Histogram()
        # Stalls that were logged.
        self.stalls = 0
        self._holder = holder
        self._beat_at = 0.0
        self._stopped = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch. With 0 for ``stall_s`` only the lag is measured."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._beat_at = time.monotonic()
        self._timer = self._loop.call_later(BEAT_S, self._beat)
        if self.stall_s:
            threading.Thread(target=self._watch, name="headway-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = time.monotonic()
        self.lag.add(max(now - self._beat_at - BEAT_S, 0.0))
        self._beat_at = now
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        told_of = 0.0
        while not self._stopped.wait(min(self.stall_s / 4, BEAT_S)):
            beat_at = self._beat_at
            if time.monotonic() - beat_at - BEAT_S > self.stall_s and beat_at != told_of:
                told_of = beat_at
                self.stalls += 1
                self._tell(time.monotonic() - beat_at - BEAT_S)

    def _tell(self, late_s: float) -> None:
        held_by = self._holder(self._loop)
        if held_by is None:
            log.warning("event loop lag %.1f s: the server is overloaded", late_s)
            return
        # No more of them: the sources of all that are formatted stay in memory.
        stack = traceback.format_stack(sys._current_frames().get(self._thread_id), FRAMES)
        text = "event loop blocked for %.1f s by %s, nothing is answered meanwhile:\n%s"
        log.error(text, late_s, held_by, "".join(stack).rstrip())
