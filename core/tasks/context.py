"""The context: one attempt as its task sees it, for functions that have a second parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headway.core import forks

if TYPE_CHECKING:
    import logging

# The logger of ``Context.log``.
LOGGER = "headway.task"


class Context:
    """One attempt at one job, as its function sees it.

    Safe to use from the thread that the function runs in.
    """

    __slots__ = (
        "_log",
        "_open",
        "_percent",
        "_report",
        "attempt",
        "cancelled",
        "id",
        "state",
        "task",
        "traceparent",
    )

    def __init__(
        self,
        job_id: str,
        attempt: int,
        report: Callable[[int], None],
        *,
        task: str = "",
        state: Any = None,
        traceparent: str | None = None,
    ) -> None:
        # The id under which clients know the job.
        self.id = job_id
        # 1 for the first attempt.
        self.attempt = attempt
        # The name of the task.
        self.task = task
        # The value of the lifespan in this process, None without one.
        self.state = state
        # The trace context of the submission (https://www.w3.org/TR/trace-context), None without one.
        self.traceparent = traceparent
        # True once the job was cancelled or the attempt ran out of time. A coroutine is cancelled
        # as well. A plain function should look here now and then, and return.
        self.cancelled = False
        self._report = report
        self._open = True
        self._percent = -1
        self._log: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger. Each of its lines has the job, the task and the attempt."""
        if self._log is None:
            import logging  # 8 ms, and a task module that only declares tasks needs it not

            extra = {"job": self.id, "task": self.task, "attempt": self.attempt}
            self._log = logging.LoggerAdapter(logging.getLogger(LOGGER), extra)
        return self._log

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
