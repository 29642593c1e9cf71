"""The context: one attempt as its task sees it, for functions that have a second parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headway.core import forks

if TYPE_CHECKING:
    from headway.core.tasks.task_log import TaskLog

# Characters of a message beside the progress. More are cut off.
MESSAGE_MOST = 200


def _nowhere(_: bytes) -> None:
    """Keep no text."""


class Context:
    """One attempt at one job, as its function sees it.

    Safe to use from the thread that the function runs in.
    """

    __slots__ = (
        "_log",
        "_open",
        "_report",
        "_reported",
        "_write",
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
        report: Callable[[int, str], None],
        *,
        write: Callable[[bytes], None] = _nowhere,
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
        self._write = write
        self._open = True
        # The last report of progress.
        self._reported = (-1, "")
        self._log: TaskLog | None = None

    @property
    def log(self) -> TaskLog:
        """``log("text")`` adds a line to the log of the job, which clients read.

        It is a logger as well: the lines of ``log.info("text")`` go to the log of the server, each
        with the job, the task and the attempt.
        """
        if self._log is None:
            # 8 ms, and a task module that only declares tasks needs it not.
            from headway.core.tasks.task_log import TaskLog

            self._log = TaskLog(self._add, {"job": self.id, "task": self.task, "attempt": self.attempt})
        return self._log

    def progress(self, percent: float, message: str = "") -> None:
        """Report the job's progress to clients: 0 to 100, and a message of up to 200 characters.

        Raises ValueError outside of 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"progress({percent!r}): expected 0 to 100")
        # A child that the function forks has no part in the job.
        if self._open and not forks.forked:
            reported = (int(percent), _shown(message) if message else "")
            if reported != self._reported:
                self._reported = reported
                self._report(*reported)

    def _add(self, text: bytes) -> None:
        if self._open and not forks.forked:
            self._write(text)

    def close(self) -> None:
        """Ignore reports of the function from now on: its attempt is finished."""
        self._open = False


def _shown(message: str) -> str:
    """Return a message that does no harm in a terminal: on one line, without control characters."""
    some = str(message)[:MESSAGE_MOST].encode(errors="replace").decode()
    return "".join(character if character.isprintable() else " " for character in some).strip()
