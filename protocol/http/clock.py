"""The time of day for answers, formatted once a second."""

from __future__ import annotations

import time
from functools import lru_cache

from headway.core.wall import wall

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


# Dates that are kept: each second needs up to three new ones, so these are there within minutes. With 4,096 memory grew
# for half an hour and longer. Others are made of the dates of minutes, of which few are new.
SECONDS_KEPT, MINUTES_KEPT = 512, 1024
ENDS = tuple(b"%02d GMT" % second for second in range(60))


@lru_cache(maxsize=SECONDS_KEPT)
def http_date(second: int) -> bytes:
    """Return the IMF-fixdate (RFC 9110, 5.6.7) of ``second`` since the epoch."""
    return _minute(second // 60) + ENDS[second % 60]


@lru_cache(maxsize=MINUTES_KEPT)
def _minute(minute: int) -> bytes:
    t = time.gmtime(minute * 60)
    return (
        f"{DAYS[t.tm_wday]}, {t.tm_mday:02} {MONTHS[t.tm_mon - 1]} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:".encode()
    )


class Clock:
    """The time, as of the last ``tick``. Ticks come once a second."""

    __slots__ = ("_also", "date", "fields", "now", "offset")

    def __init__(self, also: bytes = b"") -> None:
        # Further header lines of every answer.
        self._also = also
        # Of time.monotonic, in seconds.
        self.now = 0.0
        # Wall clock minus monotonic clock, in seconds.
        self.offset = 0.0
        # The header lines of every answer.
        self.date = b""
        # The header lines of every answer about a job.
        self.fields = b""
        self.tick()

    def tick(self) -> None:
        """Read both clocks."""
        self.now = time.monotonic()
        self.offset = wall.read()
        self.date = b"Date: %b\r\n%b" % (http_date(int(self.now + self.offset)), self._also)
        self.fields = self.date + b"Cache-Control: no-store\r\n"


def iso(moment: float) -> str:
    """Return ``moment``, of time.time, as RFC 3339 in UTC with milliseconds."""
    # A time of whole milliseconds is mostly not quite that as a float.
    seconds, ms = divmod(int(moment * 1000 + 0.001), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03}Z"
