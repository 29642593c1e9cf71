"""The source of the jobs of one pool of workers: those of the user's tasks, or the server's own."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from headway.core.job import Job
from headway.core.nodes.hand import Hand
from headway.core.tasks.context import Context
from headway.core.work.outcome import Outcome
from headway.core.work.workers import Workers


class Holder(Protocol):
    """The side of ``Hands``."""

    def look(self) -> None:
        """Have jobs claimed, if there may be some: a worker is free."""

    def context(self, hand: Hand) -> Context:
        """Return the context for an attempt."""

    def write(self, sequence: int, attempt: int, text: bytes) -> None:
        """Add text to the log of a job."""

    def settle(self, hand: Hand, outcome: Outcome, now: float) -> None:
        """End an attempt."""

    def release(self, hand: Hand) -> None:
        """Note that an attempt less runs."""


class Crew:
    """The source of the jobs of one pool of workers. ``workers`` is set by the maker."""

    workers: Workers

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        # Claimed and not begun.
        self.ready: deque[Hand] = deque()

    @property
    def free(self) -> int:
        """Workers without a job."""
        return max(self.workers.idle - len(self.ready), 0)

    def claim(self, now: float) -> Job | None:
        """Return a job that begins now, or None."""
        if self.ready:
            return self.ready.popleft()
        self._holder.look()
        return None

    def context(self, job: Job) -> Context:
        """Return the context for an attempt."""
        return self._holder.context(_hand(job))

    def write(self, sequence: int, attempt: int, text: bytes) -> None:
        """Add text to the log of a job."""
        self._holder.write(sequence, attempt, text)

    def settle(self, job: Job, outcome: Outcome, now: float) -> None:
        """End an attempt."""
        self._holder.settle(_hand(job), outcome, now)

    def release(self, job: Job) -> None:
        """Note that an attempt less runs at the task of ``job``."""
        self._holder.release(_hand(job))


def _hand(job: Job) -> Hand:
    assert isinstance(job, Hand)
    return job
