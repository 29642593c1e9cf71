"""How an attempt at a job ended, and what is said of it: to clients, and to the author of the task in the log."""

from __future__ import annotations

import logging

import msgspec
from headway.core.job import Job, Reason, State
from headway.core.process import CrashedError
from headway.core.processes import FailedError
from headway.core.registry import Retry
from headway.core.results import Result, ResultError

log = logging.getLogger(__name__)

# Characters of an error that are kept.
ERROR_LONGEST = 2000


class Outcome(msgspec.Struct, gc=False):
    """How an attempt ended: SUCCEEDED with a result or None, FAILED with a reason and an error, CANCELLED."""

    state: State
    reason: Reason = Reason.NONE
    result: Result | None = None
    error: str = ""
    # Whether another attempt may be made, and in how many seconds if the task said so.
    may_retry: bool = True
    retry_delay: float | None = None


# Members of an enum cost several times as much to look up (CPython 3.11).
SUCCEEDED = State.SUCCEEDED
NULL = Outcome(SUCCEEDED)
CANCELLED = Outcome(State.CANCELLED)


def overtime(job: Job | None, now: float) -> Outcome:
    """Return the outcome of an attempt that is still running at its timeout, or its job's deadline."""
    if job is None or now < job.deadline:
        seconds = job.timeout_s if job else 0.0
        return Outcome(State.FAILED, Reason.TIMEOUT, error=f"took longer than its timeout of {seconds:g} s")
    return Outcome(State.FAILED, Reason.DEADLINE, error="was still running at its deadline", may_retry=False)


def failed(job: Job, error: BaseException) -> Outcome:
    """Return the outcome of an attempt that raised ``error``, which its author finds in the log."""
    if isinstance(error, CrashedError):
        log.warning("task %s: an attempt failed: %s\n%s", job.task.name, error, error.stack)
        return Outcome(State.FAILED, Reason.CRASHED, error=_kept(str(error)))
    if isinstance(error, FailedError):
        outcome = Outcome(State.FAILED, Reason.ERROR, None, _kept(str(error)), error.may_retry)
    elif isinstance(error, Retry):
        outcome = Outcome(State.FAILED, Reason.ERROR, None, _kept(str(error)), True, error.delay)
    else:
        text = str(error) if isinstance(error, ResultError) else f"{type(error).__name__}: {error}"
        outcome = Outcome(State.FAILED, Reason.ERROR, None, _kept(text), isinstance(error, job.task.retry_on))
    if isinstance(error, FailedError):
        log.warning("task %s: an attempt failed: %s\n%s", job.task.name, outcome.error, error.traceback)
    elif not isinstance(error, Retry):
        log.warning("task %s: an attempt failed: %s", job.task.name, outcome.error, exc_info=error)
    return outcome


def _kept(text: str) -> str:
    return text[:ERROR_LONGEST].encode(errors="replace").decode()
