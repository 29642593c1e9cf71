"""The document of GET of a job: a status document while all is well, else a problem document."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from headway.core.job import Reason, State
from headway.core.past_attempt import PastAttempt
from headway.core.status import Status
from headway.protocol.api.headers import ENDED, HELD, NAMES, REASONS
from headway.protocol.http.clock import iso
from headway.protocol.http.problems import document


def status_document(status: Status, jobs: bytes, error: str | None, attempts: Sequence[PastAttempt]) -> bytes:
    """Return the status document of a job, JSON. ``error`` is the error of a failed one."""
    members = job_members(status, jobs)
    if status.state == State.FAILED:
        members["error"] = error
    return orjson.dumps(members | attempts_members(attempts))


def job_members(status: Status, jobs: bytes) -> dict[str, object]:
    """Return the members of a status document. ``jobs`` stands before an id in the URL of a job."""
    job_id = status.id.decode()
    state = status.state
    members: dict[str, object] = {
        "id": job_id,
        "state": NAMES[state],
        "task": status.task,
        "attempt": status.attempt,
        "submitted": iso(status.submitted),
    }
    if status.tags:
        members["tags"] = status.tags
    members |= _run_members(status)
    if state == State.RUNNING and status.progress is not None:
        members["progress"] = status.progress
    if status.message:
        members["message"] = status.message
    if state < State.SUCCEEDED:
        members |= _waiting_members(status)
    if status.retry_after_ms:
        members["retry_after_ms"] = status.retry_after_ms
    if state == State.SUCCEEDED:
        members["result"] = f"{jobs.decode()}{job_id}/result"
    if state == State.FAILED:
        members["reason"] = REASONS[status.reason]
    return members


def _waiting_members(status: Status) -> dict[str, object]:
    members: dict[str, object] = {}
    if status.state in (State.SCHEDULED, State.QUEUED):
        members["position"] = status.position
    if status.held is not None:
        members["held"] = status.held or HELD
    return members


def _run_members(status: Status) -> dict[str, object]:
    """Return when a job began and ended, as far as it has."""
    times = (("started", status.started), ("ended", status.ended))
    return {name: iso(time) for name, time in times if time}


def attempts_members(attempts: Sequence[PastAttempt]) -> dict[str, object]:
    """Return the members of a document about the attempts at its job; none if there is no attempt."""
    if not attempts:
        return {}
    members: dict[str, object] = {"attempts": [_attempt(past) for past in attempts]}
    if left_out := attempts[-1].number - len(attempts):
        members["attempts_left_out"] = left_out
    return members


def _attempt(past: PastAttempt) -> dict[str, object]:
    members: dict[str, object] = {"attempt": past.number}
    if past.started:
        members["started"] = iso(past.started)
    if past.ended:
        members["ended"] = iso(past.ended)
    if past.place:
        members["place"] = past.place
    if past.reason is Reason.NONE:
        return members | {"outcome": "succeeded" if past.ended else "running"}
    if past.reason is Reason.INTERRUPTED:
        return members | {"outcome": "interrupted"}
    error = {"type": past.error_type, "message": past.error, "traceback": past.traceback}
    return members | {"outcome": "failed", "reason": past.reason.text, "error": error}


def ended_document(status: Status, code: int, error: str | None, attempts: Sequence[PastAttempt]) -> bytes:
    """Return the problem document of a job that failed, was cancelled or has expired."""
    job_id = status.id.decode()
    name = NAMES[status.state]
    members: dict[str, object] = {"id": job_id, "state": name}
    if status.tags:
        members["tags"] = status.tags
    if status.state != State.EXPIRED:
        members |= {"task": status.task, "submitted": iso(status.submitted), **_run_members(status)}
    if status.state == State.FAILED:
        members |= {"reason": REASONS[status.reason], "attempt": status.attempt}
        detail = error or "the job failed, and its error was deleted, or given up to stay within results.max_bytes"
    elif status.reason == Reason.LOST:
        members |= {"reason": REASONS[status.reason]}
        detail = "the job was in memory when its engine ended, and is lost: submit it again"
    elif status.state == State.CANCELLED:
        detail = "the job was cancelled"
    else:
        detail = "the job has finished, and its status was kept as long as retention and keep say"
    members |= attempts_members(attempts)
    return document(code, f"job-{name}", f"The job {ENDED[status.state]}", detail, **members)
