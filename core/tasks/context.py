"""The context: one attempt as its task sees it, for functions that have a second parameter."""

from __future__ import annotations

from collections.abc import Callable

from headway.core import forks


class Context:
    """One attempt at one job, as its function sees it.

    Safe to use from the thread that the function runs in.
    """

    __slots__ = ("_open", "_percent", "_report", "attempt", "cancelled", "id")

    def __init__(self, job_id: str, attempt: int, report: Callable[[int], None]) -> None:
        # The id under which clients know the job.
        self.id = job_id
        # 1 for the first attempt.
        self.attempt = attempt
        # True once the job was cancelled or the attempt ran out of time. A coroutine is cancelled
        # as well. A plain function should look here now and then, and return.
        self.cancelled = False
        self._report = report
        self._open = True
        self._percent = -1

    def progress(self, percent: float) -> None:
        """Report the job's progress to clients, 0 to 100. Raises ValueError outside of that."""
        if not 0 <= percent <= 100:
            raise ValueError(f"progress({percent!r}): expected 0 to 100")
        # A child that the function forks has no part in the job.
        if self._open and not forks.forked and int(percent) != self._percent:
            self._percent = int(percent)
            self._report(self._percent)

    def close(self) -> None:
        """Ignore reports of the function from now on: its attempt is finished."""
        self._open = False
