"""How an attempt at a job ended: for clients, and in the log for the author of the task."""

from __future__ import annotations

import logging

import msgspec
from headway.core.errors import InvalidPayloadError
from headway.core.job import Job, Reason, State
from headway.core.processes.pool import FailedError
from headway.core.processes.process import CrashedError
from headway.core.tasks.failure import Failure, cut, cut_traceback, failure
from headway.core.tasks.result import Result

log = logging.getLogger(__name__)

# Characters that would end a line of the log or colour a terminal, in Python's notation.
ONE_LINE = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class Outcome(msgspec.Struct, gc=False):
    """How an attempt ended: SUCCEEDED with a result or None, FAILED with a reason and an error, CANCELLED."""

    state: State
    reason: Reason = Reason.NONE
    result: Result | None = None
    error: str = ""
    # Whether another attempt may be made, and after how many seconds if the task set them.
    may_retry: bool = True
    retry_delay: float | None = None
    # The traceback of the error, for the log.
    traceback: str = ""

    def log(self, job_id: str, task: str, attempt: int) -> None:
        """Write the one line of a failed attempt. Its record has all four values as attributes."""
        if not log.isEnabledFor(logging.WARNING):
            return
        reason = self.reason.text
        record = log.makeRecord(
            log.name,
            logging.WARNING,
            fn=__file__,
            lno=0,
            msg="job %s: attempt %d at task %s failed (%s): %s",
            args=(job_id, attempt, task, reason, self.error.translate(ONE_LINE)),
            exc_info=None,
            extra={"job": job_id, "task": task, "attempt": attempt, "reason": reason},
        )
        # The exception is gone, so its traceback comes as text.
        record.exc_text = self.traceback or None
        log.handle(record)


# Members of an enum cost several times as much to look up (CPython 3.11).
SUCCEEDED = State.SUCCEEDED
NULL = Outcome(SUCCEEDED)
CANCELLED = Outcome(State.CANCELLED)


def succeeded(result: Result | None) -> Outcome:
    """Return the outcome of an attempt that returned ``result``, None for ``null``."""
    return NULL if result is None else Outcome(SUCCEEDED, result=result)


def overtime(job: Job | None, now: float) -> Outcome:
    """Return the outcome of an attempt that still runs at its timeout, or at its job's deadline."""
    if job is None or now < job.deadline:
        seconds = job.terms.timeout_s if job else 0.0
        return Outcome(State.FAILED, Reason.TIMEOUT, error=f"took longer than its timeout of {seconds:g} s")
    return Outcome(State.FAILED, Reason.DEADLINE, error="was still running at its deadline", may_retry=False)


def failed(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> Outcome:
    """Return the outcome of an attempt that raised ``error``. It keeps only text of ``error``."""
    if isinstance(error, CrashedError):
        return Outcome(State.FAILED, Reason.CRASHED, error=cut(str(error)), traceback=cut_traceback(error.stack))
    if isinstance(error, InvalidPayloadError):
        return Outcome(State.FAILED, Reason.INVALID_PAYLOAD, error=cut(str(error)), may_retry=False)
    if isinstance(error, FailedError):
        # The process has cut its texts.
        told = Failure(str(error), error.traceback, error.may_retry, error.retry_delay)
    else:
        told = failure(error, retry_on)
    return Outcome(
        State.FAILED,
        Reason.ERROR,
        error=told.text,
        may_retry=told.may_retry,
        retry_delay=told.retry_delay,
        traceback=told.traceback,
    )
