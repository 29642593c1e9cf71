"""The end of an attempt, as it goes to the store."""

from __future__ import annotations

from math import ceil

from headway.core.job import Reason, State
from headway.core.nodes.hand import Hand
from headway.core.store.record import encode_error, encode_result
from headway.core.store.steps import (
    Claimed,
    Finish,
    FinishEnd,
    FinishPutBack,
    FinishRelease,
    FinishRetry,
    FinishSnooze,
)
from headway.core.work.outcome import Outcome
from headway.core.work.verdict import Verdict

# Members of an enum cost several times as much to look up (CPython 3.11).
FAILED, SCHEDULED, RETRYING = State.FAILED, State.SCHEDULED, State.RETRYING


def end_of(hand: Hand, verdict: Verdict, past: bytes) -> Finish:
    """Return the end of an attempt by its verdict. ``past`` is the attempt as it is kept, if it failed."""
    sequence, attempt, task, releases = hand.sequence, hand.attempt, hand.task.name, hand.is_released
    if verdict.state is SCHEDULED or verdict.state is RETRYING:
        kind = FinishSnooze if verdict.state is SCHEDULED else FinishRetry
        delay_ms = ceil(verdict.delay_s * 1000)
        return kind(sequence=sequence, attempt=attempt, task=task, releases=releases, past=past, delay_ms=delay_ms)
    return FinishEnd(
        sequence=sequence,
        attempt=attempt,
        task=task,
        releases=releases,
        past=past,
        state=verdict.state,
        reason=verdict.reason,
        result=_kept(verdict),
    )


def _kept(verdict: Verdict) -> bytes:
    """Return the result, or the error, as the store keeps it."""
    if verdict.state is FAILED and verdict.result is not None:
        return encode_error(verdict.result.body.decode())
    return encode_result(verdict.result)


def put_back(hand: Hand) -> FinishPutBack:
    """Return the end of an attempt that counts as not begun."""
    return FinishPutBack(sequence=hand.sequence, attempt=hand.attempt, task=hand.task.name)


def released(hand: Hand) -> FinishRelease:
    """Return the end of the part that an attempt has in the limits of its task."""
    return FinishRelease(sequence=hand.sequence, attempt=hand.attempt, task=hand.task.name)


def unreadable(claimed: Claimed, error: Exception) -> tuple[Outcome, FinishEnd]:
    """Return the outcome of an attempt at a job that cannot be run, and the end of the job."""
    outcome = Outcome(
        FAILED, Reason.CRASHED, error=f"its record in the store cannot be read: {type(error).__name__}: {error}"
    )
    return outcome, FinishEnd(
        sequence=claimed.sequence,
        attempt=claimed.attempt,
        task=claimed.task,
        state=FAILED,
        reason=outcome.reason,
        result=encode_error(outcome.error),
    )
