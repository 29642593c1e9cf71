"""A line for each answer, to know more than the figures tell.

    1732372345.123456 0.000412 HEAD /jobs/0000000000018e2a51a5b0c1f16d 200

Its parts are the time in seconds since the epoch, the duration in seconds, the request, and the
code, or a word for the reason of a missing answer.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

BUFFER_BYTES = 1 << 20


class Trace(AbstractContextManager["Trace"]):
    """The file of the lines."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=BUFFER_BYTES)
        # Wall clock minus monotonic clock, in seconds.
        self._offset = time.time() - time.monotonic()

    def line(self, now: float, sent: float, request: bytes, outcome: bytes) -> None:
        """Write one line. ``now`` and ``sent`` are of time.monotonic."""
        asked = request[: request.index(b" HTTP/")]
        self._file.write(b"%.6f %.6f %b %b\n" % (now + self._offset, now - sent, asked, outcome))

    def __exit__(self, *_: object) -> None:
        """Write the rest."""
        self._file.close()
