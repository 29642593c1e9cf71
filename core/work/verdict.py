"""The verdict on an attempt: its job ends, or waits for another one. Every engine judges by this.

A failed attempt is made again while the job has retries, the error allows it and the deadline
leaves time. A Snooze waits as if the attempt had not begun.
"""

from __future__ import annotations

import random

import msgspec
from headway.core.config import JobsSection
from headway.core.job import Reason, State
from headway.core.tasks.result import Result
from headway.core.work.outcome import Outcome

# The error of a job that failed at its deadline without running.
PAST_DEADLINE = "its deadline came before an attempt succeeded"
# A server or node may have died of the job that it was running. Such a job is not tried again if
# this many more attempts were begun than it may fail.
DEATHS_MOST = 2

# Members of an enum cost several times as much to look up (CPython 3.11).
FAILED, SCHEDULED, RETRYING = State.FAILED, State.SCHEDULED, State.RETRYING


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The next state of a job: RETRYING or SCHEDULED in ``delay_s``, or the end with ``result``.

    ``fault`` is the failed attempt that is kept and logged, None if none failed.
    """

    state: State
    delay_s: float = 0.0
    result: Result | None = None
    reason: Reason = Reason.NONE
    fault: Outcome | None = None


def judge(outcome: Outcome, attempt: int, retries: int, left_s: float, jobs: JobsSection) -> Verdict:
    """Return what follows ``outcome`` of a job with so many ``retries`` and ``left_s`` until its deadline."""
    if outcome.state is FAILED:
        return _after_failure(outcome, attempt, retries, left_s, jobs)
    if outcome.state is not SCHEDULED:
        return Verdict(outcome.state, result=outcome.result)
    if outcome.snooze_s < left_s:
        return Verdict(SCHEDULED, delay_s=outcome.snooze_s)
    error = f"snoozed for {outcome.snooze_s:g} s, and its deadline comes before that"
    fault = Outcome(FAILED, Reason.DEADLINE, error=error)
    return Verdict(FAILED, result=Result(error), reason=fault.reason, fault=fault)


def _after_failure(outcome: Outcome, attempt: int, retries: int, left_s: float, jobs: JobsSection) -> Verdict:
    if not outcome.may_retry or attempt > retries:
        return Verdict(FAILED, result=Result(outcome.error), reason=outcome.reason, fault=outcome)
    delay = _backoff(attempt, jobs) if outcome.retry_delay is None else outcome.retry_delay
    if delay < left_s:
        return Verdict(RETRYING, delay_s=delay, fault=outcome)
    error = f"{outcome.error} (and its deadline leaves no time to try again)"
    return Verdict(FAILED, result=Result(error), reason=Reason.DEADLINE, fault=outcome)


def _backoff(attempt: int, jobs: JobsSection) -> float:
    """Return the seconds before the attempt after ``attempt``.

    They double up to a bound, less up to half of them at random.
    """
    return min(jobs.backoff * 2.0 ** min(attempt - 1, 60), jobs.backoff_max) * random.uniform(0.5, 1.0)  # noqa: S311
