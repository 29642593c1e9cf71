"""A rate that several gateways keep together: the same limit, in memory that they share.

A table of fixed size has an entry for each client that has not regained everything: a hash of its key, and the
moment at which it will have. An entry whose moment has passed is free. A client that finds no free entry near its
own place shares the first one with others. A lock of the file keeps two gateways from changing it at once. The
system takes it back from a process that dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from headway.protocol.access.limits import CLIENTS_MOST, POLL, Rate

# Entries that are looked at for a client.
PROBES = 16
ENTRIES = 2 * CLIENTS_MOST
TABLE_BYTES = 16 * ENTRIES
# The submits, and the polls.
FILE_BYTES = 2 * TABLE_BYTES


class SharedRate(Rate):
    """A rate in its table in the file ``fd``."""

    def __init__(self, fd: int, name: str, quota: int, window: int) -> None:
        super().__init__(name, quota, window)
        self._fd = fd
        self._begin = begin = TABLE_BYTES * (name == POLL)
        # The same for each gateway.
        os.truncate(fd, FILE_BYTES)
        table = memoryview(mmap.mmap(fd, FILE_BYTES))[begin : begin + TABLE_BYTES]
        self._clients = table[: 8 * ENTRIES].cast("Q")
        self._times = table[8 * ENTRIES :].cast("d")

    def __len__(self) -> int:
        return sum(client != 0 for client in self._clients)

    def admit(self, client: bytes, count: int, now: float) -> tuple[int, float]:
        """Let ``client`` in ``count`` times, or not at all, as Rate does."""
        with self._locked():
            at, key = self._entry(client, now)
            milliseconds, whole_at = self.after(self._times[at], count, now)
            if not milliseconds:
                self._clients[at], self._times[at] = key, whole_at
            return milliseconds, whole_at - now

    def give_back(self, client: bytes, now: float) -> None:
        """Undo one admission of ``client`` a moment ago."""
        with self._locked():
            at, _ = self._entry(client, now)
            self._times[at] = max(self._times[at] - self.window / self.quota, now)

    def _entry(self, client: bytes, now: float) -> tuple[int, int]:
        """Return the entry of a client, or a free one for it, and the hash of its key."""
        key = int.from_bytes(blake2b(client, digest_size=8).digest(), "big") or 1
        first, free = key % ENTRIES or 1, 0
        for at in range(first, min(first + PROBES, ENTRIES)):
            if self._clients[at] == key:
                return at, key
            if not free and self._times[at] <= now:
                free = at
        return free, key

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, self._begin, os.SEEK_SET)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._begin, os.SEEK_SET)
