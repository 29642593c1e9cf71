"""The wait for the end of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from headway.core.interface import Later
from headway.core.waiters import Waiter, Waiters

Found = TypeVar("Found")


class BatchWait(Later[Found]):
    """Known once all jobs of a batch have finished, or once the time is up.

    It waits for one pending job after the other, the last first: as a rule that one is the last to
    end.
    """

    __slots__ = ("_deadline", "_waiter", "_waiters", "_wake")

    def __init__(self, waiters: Waiters, seconds: float) -> None:
        self._waiters = waiters
        # Of time.monotonic.
        self._deadline = time.monotonic() + seconds
        self._waiter: Waiter | None = None
        self._wake: Callable[[], object] = int

    def _last_pending(self) -> int:
        """Return the last job that has not finished, 0 if all have."""
        raise NotImplementedError

    def _has_ended(self, sequence: int) -> bool:
        """Whether a job has finished."""
        raise NotImplementedError

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when no job is pending, when the time is up, or when a drain begins."""
        self._wake = wake
        self._wait_for(self._last_pending())

    def hurry(self) -> None:
        """Wake now, unless that was done."""
        if self._waiter is not None and self._waiters.remove(self._waiter):
            self._wake()

    def cancel(self) -> None:
        """Wait no more."""
        if self._waiter is not None:
            self._waiter.cancel()

    def _wait_for(self, sequence: int) -> None:
        seconds = max(self._deadline - time.monotonic(), 0.0)
        self._waiter = self._waiters.add(sequence, seconds, self._go_on)

    def _go_on(self) -> None:
        # If it was woken before its job has finished, its time is up, or a drain has begun.
        if self._waiter is not None and self._has_ended(self._waiter.sequence):
            pending = self._last_pending()
            if pending:
                self._wait_for(pending)
                return
        self._wake()
