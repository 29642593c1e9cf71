"""Text that a worker process writes while no job runs: at an import, in a thread that was left behind, at its end.

It is of no job, and somebody should see it. So it becomes records of the server's log: the beginning and the end of
it, ever more seldom, so that a thread that writes for ever fills no disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.core.log_text import LogText

# Bytes of the text that are kept for a record.
STRAY_BYTES = 4096
# Seconds for which text is gathered: at first, doubled by each record, and at most.
GATHER_S, GATHER_MOST_S = 1.0, 60.0


class Stray:
    """The text of one process. ``tell`` gets it, now and then."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._text = LogText(STRAY_BYTES)
        self._gather_s = GATHER_S
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: bytes) -> None:
        """Take some text."""
        self._text.add(0, text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._gather_s, self._tell_now)

    def close(self) -> str:
        """Return the text that is not told yet, and tell no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text, self._text = self._text.read().text(), LogText(STRAY_BYTES)
        return text.decode(errors="replace").strip()

    def _tell_now(self) -> None:
        self._gather_s = min(self._gather_s * 2, GATHER_MOST_S)
        text = self.close()
        if text:
            self._tell(text)
