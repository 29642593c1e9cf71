"""Clients that wait for the end of a job or a batch: one look at the live words of all of them, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from headway.core.batch_wait import BatchWait
from headway.core.gateway.statuses import SeenStatuses
from headway.core.interface import Later
from headway.core.waiters import Waiter, Waiters, slot_of

# Seconds between two looks, and the part of the loop's time that they take at most.
LOOK_S = 0.005
SHARE = 0.1


class JobOver(Waiter, Later[None]):
    """Known once a job has finished, or once the time is up."""

    __slots__ = ("_sweep",)

    def __init__(self, sweep: Sweep, sequence: int, seconds: float) -> None:
        super().__init__(sweep.waiters, sequence, slot_of(seconds), int)
        self._sweep = sweep

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the job has finished, when the time is up, or when a drain begins."""
        self.wake = wake
        self._waiters.put(self)
        self._sweep.begin()

    def value(self) -> None:
        """Return nothing: the status is read then."""


class BatchOver(BatchWait[None]):
    """Known once all jobs of a batch have finished, or once the time is up."""

    __slots__ = ("_count", "_first", "_sweep")

    def __init__(self, sweep: Sweep, first: int, count: int, seconds: float) -> None:
        super().__init__(sweep.waiters, seconds)
        self._sweep = sweep
        self._first = first
        self._count = count

    def value(self) -> None:
        """Return nothing: the status is read then."""

    def _last_pending(self) -> int:
        last = range(self._first + self._count - 1, self._first - 1, -1)
        return next((sequence for sequence in last if not self._has_ended(sequence)), 0)

    def _has_ended(self, sequence: int) -> bool:
        return self._sweep.has_ended(sequence)

    def _wait_for(self, sequence: int) -> None:
        # The jobs may all have ended since the status was read: then the next look finds the first.
        super()._wait_for(sequence or self._first)
        self._sweep.begin()


class Sweep:
    """Looks at the jobs that clients wait for."""

    def __init__(self) -> None:
        self.waiters = Waiters()
        # The rows to look at.
        self.of: SeenStatuses | None = None
        self._timer: asyncio.TimerHandle | None = None

    def job(self, sequence: int, seconds: float) -> JobOver:
        """Wait for the end of a job."""
        return JobOver(self, sequence, seconds)

    def batch(self, first: int, count: int, seconds: float) -> BatchOver:
        """Wait for the end of a batch."""
        return BatchOver(self, first, count, seconds)

    def has_ended(self, sequence: int) -> bool:
        """Whether a job has finished."""
        return self.of is not None and self.of.has_ended(sequence)

    def begin(self) -> None:
        """Look from now on, until nobody waits."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer, began = None, time.monotonic()
        for sequence in self.waiters.jobs():
            if self.has_ended(sequence):
                self.waiters.ended(sequence)
        if self.waiters.count:
            took = time.monotonic() - began
            self._timer = asyncio.get_running_loop().call_later(max(LOOK_S, took / SHARE), self._look)
