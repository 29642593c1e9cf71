"""How an attempt at a job ended: for clients, and in the log for the author of the task."""

from __future__ import annotations

import logging

import msgspec
from headway.core.errors import InvalidPayloadError
from headway.core.job import Job, Reason, State
from headway.core.past_attempt import PastAttempt
from headway.core.processes.pool import FailedError
from headway.core.processes.process import CrashedError
from headway.core.tasks.failure import cut, cut_traceback, failure
from headway.core.tasks.result import Result

log = logging.getLogger(__name__)

# Characters that would end a line of the log or colour a terminal, in Python's notation.
ONE_LINE = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}

PAYLOAD_FAULT = "its payload does not fit the task. GET /jobs/{id} names the places"


class Outcome(msgspec.Struct, gc=False):
    """How an attempt ended.

    SUCCEEDED with a result or None, FAILED with a reason and an error, CANCELLED, or SCHEDULED by a
    Snooze of ``snooze_s`` seconds.
    """

    state: State
    reason: Reason = Reason.NONE
    result: Result | None = None
    # The name of the error's class, empty if the task raised none.
    error_type: str = ""
    error: str = ""
    # Whether another attempt may be made, and after how many seconds if the task set them.
    may_retry: bool = True
    retry_delay: float | None = None
    # The traceback of the error, with its causes.
    traceback: str = ""
    snooze_s: float = 0.0

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
            args=(job_id, attempt, task, reason, self._told.translate(ONE_LINE)),
            exc_info=None,
            extra={"job": job_id, "task": task, "attempt": attempt, "reason": reason},
        )
        # The exception is gone, so its traceback comes as text.
        record.exc_text = self.traceback or None
        log.handle(record)

    def log_waiting(self, job_id: str, task: str, attempts: int) -> None:
        """Write the one line of a job that failed while it waited, after so many attempts."""
        fields = {"job": job_id, "task": task, "attempt": attempts, "reason": self.reason.text}
        log.warning("job %s of task %s failed while it waited: %s", job_id, task, self._told, extra=fields)

    @property
    def _told(self) -> str:
        """The error as the log has it: the faults of a payload may have values of it."""
        return PAYLOAD_FAULT if self.reason is Reason.INVALID_PAYLOAD else self.error

    def past(self, number: int, started: float, ended: float, place: str) -> PastAttempt:
        """Return the kept parts of a failed attempt. Times are of time.time."""
        message = self.error.removeprefix(f"{self.error_type}: ") if self.error_type else self.error
        return PastAttempt(
            number=number,
            started=started,
            ended=ended,
            place=place,
            reason=self.reason,
            error_type=self.error_type,
            error=message,
            traceback=self.traceback,
        )


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
    # A process has cut its texts.
    told = error.failure if isinstance(error, FailedError) else failure(error, retry_on)
    if told.snooze_s is not None:
        return Outcome(State.SCHEDULED, snooze_s=told.snooze_s)
    return Outcome(
        State.FAILED,
        Reason.ERROR,
        error_type=told.error_type,
        error=told.text,
        may_retry=told.may_retry,
        retry_delay=told.retry_delay,
        traceback=told.traceback,
    )
