"""Batches: ``POST /batches`` and ``/batches/{id}``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from headway.core import ids
from headway.core.audit import Act
from headway.core.errors import HeadwayError
from headway.core.interface import CancelledBatch, SubmittedBatch
from headway.core.job import State
from headway.core.key import Key
from headway.core.status import BatchStatus
from headway.protocol.api import bodies
from headway.protocol.api.awaited import later, once_known, unless_away
from headway.protocol.api.headers import ENDED, FINISHED_FIELDS, NAMES, media_type, minimal
from headway.protocol.api.jobs import patience
from headway.protocol.api.service import Service
from headway.protocol.api.submissions import REPLAYED, check_content, check_task, key_of, traced
from headway.protocol.http.problems import Refusal, document, retry_after_lines
from headway.protocol.http.request import Request
from headway.protocol.http.responses import (
    JSON,
    PROBLEM,
    STATUS_LINES,
    Answer,
    Awaited,
    NextRound,
    bodiless,
    complete,
)

# A batch of this many jobs fills the turn that takes it, so the next turn answers.
LARGE = 200

# The detail in the problem document of a finished batch, by its state.
ENDINGS = {
    State.FAILED: "not all of its jobs succeeded: at least one failed",
    State.CANCELLED: "not all of its jobs succeeded: at least one was cancelled",
    State.EXPIRED: "all of its jobs have finished, and no status of them is kept any longer",
}


def recent(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /batches: the last batches."""
    head_only = request.method == b"HEAD"

    def told(found: Sequence[BatchStatus]) -> bytes:
        head = STATUS_LINES[200] + service.clock.fields
        if head_only:
            return bodiless(head, JSON)
        listed = [{**_told_of(batch), "state": NAMES[batch.state]} for batch in found]
        if not request.caller.sees_ids:
            listed = [
                {**members, "id": ids.without_tag(batch.id).decode()}
                for members, batch in zip(listed, found, strict=True)
            ]
        return complete(head, JSON, orjson.dumps({"batches": listed}), bodiless=False)

    return once_known(service.engine.recent_batches(), told)


def submit(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """POST /batches: take 1 to 1,000 jobs, all or none. ``Prefer: wait`` waits for all to finish."""
    check_content(request)
    key = None
    if b"idempotency-key" in request.headers:
        key = Key.of(key_of(request), request.body, b"batch")
    try:
        submissions = bodies.batch(request.body)
    except HeadwayError as fault:
        # The content has not told the tasks, and who may submit some alone may not learn of others.
        if key is None or request.caller.tasks is not None:
            raise
        return _replayed(service, request, key, fault)
    for submission in submissions:
        check_task(request, submission.task)
    if b"traceparent" in request.headers:
        submissions = [traced(request, submission) for submission in submissions]
    if service.limits is not None:
        service.limits.batch(request, len(submissions))
    taken = service.engine.submit_batch(submissions, key)
    answer: Callable[[], Answer | Awaited] = lambda: once_known(  # noqa: E731
        taken, lambda taken: _accepted(service, request, taken)
    )
    return answer() if len(submissions) < LARGE else Awaited(NextRound(), answer)


def _replayed(service: Service, request: Request, key: Key, fault: HeadwayError) -> Answer | Awaited:
    """Answer with the batch that came under ``key`` before. Raises ``fault`` if none did."""

    def told(found: SubmittedBatch | None) -> Answer | Awaited:
        if found is None:
            raise fault
        return _accepted(service, request, found)

    return once_known(service.engine.replay_batch(key), told)


def _accepted(service: Service, request: Request, taken: SubmittedBatch) -> Answer | Awaited:
    """Answer that a batch was taken.

    With ``Prefer: wait``, or if it came before and has finished, answer how it ended.
    """
    batch, fields = taken.status, REPLAYED if taken.replayed else b""
    seconds = patience(service, request)
    if seconds is None and not taken.replayed:
        # A new one may have finished before it could be answered, too.
        return _created(service, request, batch, fields)
    if seconds is not None:
        fields += b"Preference-Applied: wait=%d\r\n" % seconds

    def told() -> Answer | Awaited:
        if seconds is None or not batch.pending:
            return _ended_or_created(service, request, batch, fields)
        return later(
            service.engine.wait_batch(batch, seconds), lambda now: _ended_or_created(service, request, now, fields)
        )

    return unless_away(told, lambda: _created(service, request, batch, fields))


def _ended_or_created(service: Service, request: Request, batch: BatchStatus, fields: bytes) -> Answer | Awaited:
    if batch.pending:
        return _created(service, request, batch, fields)
    where = b"Location: %b%b\r\n" % (service.batches, batch.id)
    # As in the first answer.
    again = where if fields.startswith(REPLAYED) else b""
    return _with_document(service, batch, _head(service, batch) + b"Content-" + where + again + fields)


def batch(service: Service, request: Request, batch_id: bytes) -> Answer | Awaited:
    """GET, HEAD /batches/{id}: counts of its jobs. With ``Prefer: wait`` when none is pending."""
    return _find(service, batch_id, lambda found: _waited(service, request, found))


def _waited(service: Service, request: Request, batch: BatchStatus) -> Answer | Awaited:
    seconds = patience(service, request)
    if seconds is None:
        return _told(service, request, batch)
    fields = b"Preference-Applied: wait=%d\r\n" % seconds
    if not batch.pending:
        return _told(service, request, batch, fields)
    return later(service.engine.wait_batch(batch, seconds), lambda now: _told(service, request, now, fields))


def delete(service: Service, _: Request, batch_id: bytes, act: Act) -> Answer | Awaited:
    """DELETE /batches/{id}: cancel the jobs of a batch that have not finished."""
    return _find(service, batch_id, lambda found: _delete(service, found, act))


def _delete(service: Service, batch: BatchStatus, act: Act) -> Answer | Awaited:
    if batch.expired == batch.count:
        return _with_document(service, batch, _head(service, batch))
    return once_known(service.engine.cancel_batch(batch, act), lambda cancelled: _deleted(service, cancelled))


def _deleted(service: Service, cancelled: CancelledBatch) -> bytes:
    counts = _counts(cancelled.status) + service.clock.fields
    if cancelled.running:
        return STATUS_LINES[202] + counts + b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n"
    return STATUS_LINES[204] + counts + b"\r\n"


def _find(service: Service, batch_id: bytes, then: Callable[[BatchStatus], Answer | Awaited]) -> Answer | Awaited:
    """Return the answer that ``then`` makes of a batch. Raises Refusal if there is none."""

    def told(batch: BatchStatus | None) -> Answer | Awaited:
        if batch is None:
            raise Refusal("not-found", "no batch with this id was ever issued here")
        return then(batch)

    return once_known(service.engine.peek_batch(batch_id), told)


def _told_of(batch: BatchStatus) -> dict[str, object]:
    return {
        "id": batch.id.decode(),
        "pending": batch.pending,
        "succeeded": batch.succeeded,
        "failed": batch.failed,
        "cancelled": batch.cancelled,
        "expired": batch.expired,
    }


def _created(service: Service, request: Request, batch: BatchStatus, fields: bytes) -> Answer | Awaited:
    where = b"Location: %b%b\r\n" % (service.batches, batch.id)
    head = STATUS_LINES[202] + where + _fields(service, batch) + service.heads.durability
    if not batch.pending:
        head += FINISHED_FIELDS
    if b"prefer" in request.headers and request.preference(b"return") == b"minimal":
        return head + minimal(fields)
    head += fields

    def listed(jobs: Sequence[tuple[bytes, int]]) -> bytes:
        if not jobs:
            # The batch was taken, and its jobs are listed by GET once they can be read.
            return head + b"Content-Length: 0\r\n\r\n"
        members = {"id": batch.id.decode(), "jobs": [job_id.decode() for job_id, _ in jobs]}
        return complete(head, JSON, orjson.dumps(members), bodiless=False)

    return unless_away(lambda: once_known(service.engine.list_batch(batch), listed), lambda: listed(()))


def _told(service: Service, request: Request, batch: BatchStatus, fields: bytes = b"") -> Answer | Awaited:
    head = _head(service, batch) + fields
    if request.method == b"HEAD":
        return bodiless(head, media_type(service.heads.codes[batch.state]))
    return _with_document(service, batch, head)


def _head(service: Service, batch: BatchStatus) -> bytes:
    return STATUS_LINES[service.heads.codes[batch.state]] + _fields(service, batch)


def _fields(service: Service, batch: BatchStatus) -> bytes:
    fields = _counts(batch) + service.clock.fields
    if not batch.pending:
        return fields
    return fields + retry_after_lines(batch.retry_after_ms)


def _counts(batch: BatchStatus) -> bytes:
    fields = b"Batch-Pending: %d\r\nBatch-Failed: %d\r\n" % (batch.pending, batch.failed)
    if batch.cancelled:
        fields += b"Batch-Cancelled: %d\r\n" % batch.cancelled
    if batch.expired:
        fields += b"Batch-Expired: %d\r\n" % batch.expired
    return fields


def _with_document(service: Service, batch: BatchStatus, head: bytes) -> Answer | Awaited:
    """Return ``head`` with the document of a batch."""
    return once_known(service.engine.list_batch(batch), lambda jobs: _documented(service, batch, head, jobs))


def _documented(service: Service, batch: BatchStatus, head: bytes, jobs: Sequence[tuple[bytes, int]]) -> bytes:
    members = _told_of(batch)
    members["jobs"] = [{"id": job_id.decode(), "state": NAMES[state]} for job_id, state in jobs]
    code = service.heads.codes[batch.state]
    if code < 400:
        return complete(head, JSON, orjson.dumps(members), bodiless=False)
    name = NAMES[batch.state]
    body = document(code, f"batch-{name}", f"The batch {ENDED[batch.state]}", ENDINGS[batch.state], **members)
    return complete(head, PROBLEM, body, bodiless=False)
