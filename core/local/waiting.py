"""Answers that come with the end of a job, with more of its log, or with the end of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.core.batch_wait import BatchWait
from headway.core.board.batches import Batches
from headway.core.interface import Later
from headway.core.job import State
from headway.core.status import BatchStatus, Status
from headway.core.waiters import Waiter, Waiters, slot_of


class Finished(Waiter, Later[Status]):
    """The status of a job once it has finished, or once the time is up.

    ``at`` returns the present status of a job by its number. Thousands may wait, so no status is
    kept meanwhile.
    """

    __slots__ = ("_at",)

    def __init__(self, waiters: Waiters, sequence: int, seconds: float, at: Callable[[int], Status]) -> None:
        super().__init__(waiters, sequence, slot_of(seconds), int)
        self._at = at

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the job ends, when the time is up, or when a drain begins."""
        self.wake = wake
        self._waiters.put(self)

    def value(self) -> Status:
        """Return the present status of the job."""
        return self._at(self.sequence)


class LogGrown(Waiter, Later[Status]):
    """The status of a job once its log has more than ``length`` bytes, it has finished, or the time is up.

    ``total`` returns the length of a job's log by its number, ``at`` its status.
    """

    __slots__ = ("_at", "_length", "_total")
    of_log = True

    def __init__(
        self,
        waiters: Waiters,
        status: Status,
        seconds: float,
        *,
        length: int,
        total: Callable[[int], int],
        at: Callable[[int], Status],
    ) -> None:
        super().__init__(waiters, status.sequence, slot_of(seconds), int)
        self._length = length
        self._total = total
        self._at = at

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when there is more, when the job ends, when the time is up, or when a drain begins."""
        self.wake = wake
        self._waiters.put(self)
        if self.is_due():
            # It came since the log was read.
            asyncio.get_running_loop().call_soon(self._waiters.grown, self.sequence)

    def is_due(self) -> bool:
        """Whether the log is longer than that, or the job has ended."""
        return self._total(self.sequence) > self._length or self.value().state >= State.SUCCEEDED

    def value(self) -> Status:
        """Return the present status of the job."""
        return self._at(self.sequence)


class BatchFinished(BatchWait[BatchStatus]):
    """The status of a batch once its jobs have finished, or once the time is up.

    ``again`` returns the present status of the batch.
    """

    __slots__ = ("_again", "_batch", "_batches")

    def __init__(
        self,
        batches: Batches,
        waiters: Waiters,
        batch: BatchStatus,
        seconds: float,
        again: Callable[[BatchStatus], BatchStatus],
    ) -> None:
        super().__init__(waiters, seconds)
        self._batches = batches
        self._batch = batch
        self._again = again

    def value(self) -> BatchStatus:
        """Return the present status of the batch."""
        return self._again(self._batch)

    def _last_pending(self) -> int:
        return self._batches.last_pending(self._batch.first, self._batch.count)

    def _has_ended(self, sequence: int) -> bool:
        return self._batches.board.state(sequence) >= State.SUCCEEDED
