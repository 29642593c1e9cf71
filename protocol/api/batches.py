"""Batches: ``POST /batches`` and ``/batches/{id}``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import orjson
from headway.core.board.idempotency import Key
from headway.core.job import State
from headway.core.status import BatchStatus
from headway.protocol.api import bodies
from headway.protocol.api.headers import media_type
from headway.protocol.api.jobs import patience, when_safe
from headway.protocol.api.service import Service
from headway.protocol.api.submissions import REPLAYED, check_content, key_of
from headway.protocol.http.problems import Refusal, document
from headway.protocol.http.request import Request
from headway.protocol.http.responses import (
    JSON,
    NAMES,
    PROBLEM,
    STATUS_LINES,
    Answer,
    Held,
    NextTurn,
    bodiless,
    complete,
)

# A batch of so many jobs is answered for in the turn after the one that took them, which that has filled.
LARGE = 200

# What the problem document of a batch that is over says, by its state.
ENDINGS = {
    State.FAILED: "not all of its jobs succeeded: at least one failed",
    State.CANCELLED: "not all of its jobs succeeded: at least one was cancelled",
    State.EXPIRED: "all of its jobs are over, and the status of none is kept any longer",
}


def submit(service: Service, request: Request, _: bytes) -> Answer | Held:
    """POST /batches: take 1 to 1,000 jobs, all or none; with ``Prefer: wait`` answer when all are over."""
    check_content(request)
    submissions = bodies.batch(request.body)
    if service.limits is not None:
        service.limits.batch(request, len(submissions))
    key, fields = None, b""
    if b"idempotency-key" in request.headers:
        key = Key.of(key_of(request), request.body, b"batch")
        before = service.engine.replayed_batch(key)
        if before is not None:
            return _when_safe(service, request, before, REPLAYED)
    batch = service.engine.submit_many(submissions, key)
    if batch.count < LARGE:
        return _when_safe(service, request, batch, fields)
    return Held(NextTurn, lambda: _when_safe(service, request, batch, fields))


def _when_safe(service: Service, request: Request, batch: BatchStatus, fields: bytes) -> Answer | Held:
    last = batch.first + batch.count - 1
    if service.engine.owes(last) and not batch.pending:
        # Its submission is not safe, so nobody sees it yet.
        return when_safe(
            service, last, lambda: _accepted(service, request, service.engine.confirmed_batch(batch), fields)
        )
    return _accepted(service, request, batch, fields)


def _accepted(service: Service, request: Request, batch: BatchStatus, fields: bytes) -> Answer | Held:
    """Answer that a batch was taken; with ``Prefer: wait``, or where it came before and is over, what came of it."""
    seconds = patience(service, request)
    if seconds is not None:
        fields += b"Preference-Applied: wait=%d\r\n" % seconds

    def then() -> bytes:
        now = service.engine.peek_batch(batch.id) or batch
        if now.pending:
            return _created(service, request, now, fields)
        where = b"Location: /batches/%b\r\n" % batch.id
        # As in the first answer.
        again = where if fields.startswith(REPLAYED) else b""
        return _with_document(service, now, _head(service, now) + b"Content-" + where + again + fields)

    if seconds is None or not batch.pending:
        return then()
    return Held(partial(service.engine.wait_batch, batch, seconds), then)


def batch(service: Service, request: Request, batch_id: bytes) -> Answer | Held:
    """GET, HEAD /batches/{id}: how many jobs of a batch are pending or failed; with ``Prefer: wait`` when none is."""
    found = _found(service, batch_id)
    seconds = patience(service, request)
    if seconds is None:
        return _told(service, request, found)
    fields = b"Preference-Applied: wait=%d\r\n" % seconds
    then: Callable[[], bytes] = lambda: _told(service, request, _found(service, batch_id), fields)  # noqa: E731
    return Held(partial(service.engine.wait_batch, found, seconds), then) if found.pending else then()


def delete(service: Service, _: Request, batch_id: bytes) -> Answer | Held:
    """DELETE /batches/{id}: cancel the jobs of a batch that are not over."""
    found = _found(service, batch_id)
    if found.expired == found.count:
        return _with_document(service, found, _head(service, found))
    running, last = service.engine.cancel_batch(found)
    return when_safe(service, last, lambda: _deleted(service, batch_id, running))


def _deleted(service: Service, batch_id: bytes, running: bool) -> bytes:
    counts = _counts(_found(service, batch_id)) + service.clock.fields
    if running:
        return STATUS_LINES[202] + counts + b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n"
    return STATUS_LINES[204] + counts + b"\r\n"


def _found(service: Service, batch_id: bytes) -> BatchStatus:
    found = service.engine.peek_batch(batch_id)
    if found is None:
        raise Refusal("not-found", "no batch with this id was ever issued here")
    return found


def _created(service: Service, request: Request, batch: BatchStatus, fields: bytes) -> bytes:
    head = STATUS_LINES[202] + b"Location: /batches/%b\r\n" % batch.id + _fields(service, batch) + fields
    if b"prefer" in request.headers and request.preference(b"return") == b"minimal":
        return head + b"Preference-Applied: return=minimal\r\nContent-Length: 0\r\n\r\n"
    jobs = [job_id.decode() for job_id, _ in service.engine.list_batch(batch)]
    return complete(head, JSON, orjson.dumps({"id": batch.id.decode(), "jobs": jobs}), bodiless=False)


def _told(service: Service, request: Request, batch: BatchStatus, fields: bytes = b"") -> bytes:
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
    milliseconds = batch.retry_after_ms
    return b"%bRetry-After: %d\r\nRetry-After-Ms: %d\r\n" % (fields, (milliseconds + 999) // 1000, milliseconds)


def _counts(batch: BatchStatus) -> bytes:
    fields = b"Batch-Pending: %d\r\nBatch-Failed: %d\r\n" % (batch.pending, batch.failed)
    if batch.cancelled:
        fields += b"Batch-Cancelled: %d\r\n" % batch.cancelled
    if batch.expired:
        fields += b"Batch-Expired: %d\r\n" % batch.expired
    return fields


def _with_document(service: Service, batch: BatchStatus, head: bytes) -> bytes:
    jobs = [{"id": job_id.decode(), "state": NAMES[state]} for job_id, state in service.engine.list_batch(batch)]
    members: dict[str, object] = {
        "id": batch.id.decode(),
        "pending": batch.pending,
        "succeeded": batch.succeeded,
        "failed": batch.failed,
        "cancelled": batch.cancelled,
        "expired": batch.expired,
        "jobs": jobs,
    }
    code = service.heads.codes[batch.state]
    if code < 400:
        return complete(head, JSON, orjson.dumps(members), bodiless=False)
    name = NAMES[batch.state]
    body = document(code, f"batch-{name}", f"The batch is {name}", ENDINGS[batch.state], **members)
    return complete(head, PROBLEM, body, bodiless=False)
