"""Asking: ``/jobs/{id}``, its result, its early end, and the list of jobs that fit a filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import orjson
from headway.core import ids
from headway.core.audit import Act
from headway.core.body import Body
from headway.core.errors import PayloadGoneError
from headway.core.interface import Cancel, Cancelled, Page
from headway.core.job import State
from headway.core.past_attempt import PastAttempt
from headway.core.status import Status
from headway.core.tasks.result import Result
from headway.protocol.access.scopes import reads
from headway.protocol.api import filters
from headway.protocol.api.awaited import later, once_known
from headway.protocol.api.documents import ended_document, job_members, status_document
from headway.protocol.api.headers import NAMES, content_type
from headway.protocol.api.page import matches
from headway.protocol.api.service import Service
from headway.protocol.http.problems import Refusal, document
from headway.protocol.http.request import Request
from headway.protocol.http.responses import (
    JSON,
    PROBLEM,
    STATUS_LINES,
    Answer,
    Awaited,
    bodiless,
    complete,
    complete_shared,
)
from msgspec import Meta

# A result has the media type that its task chose, maybe from a client. A browser that shows it runs
# no script of it as ours, and takes it for nothing else.
ISOLATED = b"X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n"
# The error of a failed job, for a client that may not read it.
UNTOLD = "the job failed: a token with the scope read is told why"
# Describes a job in an answer with further header lines.
Tell = Callable[[Service, Request, Status, bytes], Answer | Awaited]


def find(
    service: Service, name: bytes, then: Callable[[Status, bytes], Answer | Awaited], *, brief: bool = False
) -> Answer | Awaited:
    """Return the answer that ``then`` makes of the job that a path names, by its id or by its key.

    ``then`` gets header lines as well, which for a key name the id. Its status may lack tags if it is to be
    ``brief``. Raises Refusal if there is no such job.
    """
    return once_known(service.engine.peek(name, brief), finding(service, name, then))


def finding(
    service: Service, name: bytes, then: Callable[[Status, bytes], Answer | Awaited]
) -> Callable[[Status | None], Answer | Awaited]:
    """Return the rest of ``find``, from what the engine knows by the id."""

    def by_id(status: Status | None) -> Answer | Awaited:
        if status is not None:
            return then(status, b"")
        return once_known(service.engine.peek_key(name.decode("latin-1")), by_key)

    def by_key(status: Status | None) -> Answer | Awaited:
        if status is None:
            raise Refusal("not-found", "no job with this id was ever issued here")
        return then(status, b"Content-Location: %b%b\r\n" % (service.jobs, status.id))

    return by_id


def job(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """GET, HEAD /jobs/{id}: the state of a job. With ``Prefer: wait`` when it has finished."""
    return _asked(service, request, name, _told)


def result(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """GET, HEAD /jobs/{id}/result: the returned value. If there is none, or not yet, the state."""
    return _asked(service, request, name, _result)


def _asked(service: Service, request: Request, name: bytes, tell: Tell) -> Answer | Awaited:
    """Return the answer that ``tell`` makes of a job, at its end if the client wants to wait."""
    is_head = request.method == b"HEAD"
    return find(service, name, lambda status, fields: _waited(service, request, status, fields, tell), brief=is_head)


def _waited(service: Service, request: Request, status: Status, fields: bytes, tell: Tell) -> Answer | Awaited:
    seconds = patience(service, request)
    if seconds is None:
        return tell(service, request, status, fields)
    fields += b"Preference-Applied: wait=%d\r\n" % seconds
    if status.state >= State.SUCCEEDED:
        return tell(service, request, status, fields)
    return later(service.engine.wait(status, seconds), lambda now: tell(service, request, now, fields))


def patience(service: Service, request: Request) -> int | None:
    """Return the seconds that the client waits for the job's end, None if it does not.

    A preference may be ignored (RFC 7240, 2). So at ``limits.waiting`` it is, and the client polls.
    """
    value = request.preference(b"wait") if b"prefer" in request.headers else None
    if value is None or not (value.isdigit() and len(value) < 20):
        return None
    seconds = min(int(value), service.config.http.wait_most)
    if seconds and service.engine.waiting >= service.config.limits.waiting:
        service.waits_ignored += 1
        return None
    return seconds or None


def _told(service: Service, request: Request, status: Status, fields: bytes) -> Answer | Awaited:
    return asked_for(service, request, status, service.heads.job(status) + fields)


def asked_for(service: Service, request: Request, status: Status, head: bytes) -> Answer | Awaited:
    """Return ``head`` with the document of a job. A HEAD gets no document."""
    return head + b"\r\n" if request.method == b"HEAD" else with_document(service, request, status, head)


def with_document(service: Service, request: Request, status: Status, head: bytes) -> Answer | Awaited:
    """Return ``head`` with the document of a job: with errors and tracebacks if the client may read them."""
    if not reads(request.caller):
        return _documented(service, status, head, None, None)
    attempts = service.engine.attempts(status) if status.attempt else ()
    return once_known(attempts, lambda attempts: _with_attempts(service, status, head, attempts))


def _with_attempts(service: Service, status: Status, head: bytes, attempts: Sequence[PastAttempt]) -> Answer | Awaited:
    if status.state != State.FAILED:
        return _documented(service, status, head, None, attempts)
    return once_known(service.engine.result(status), lambda said: _documented(service, status, head, said, attempts))


def _documented(
    service: Service, status: Status, head: bytes, said: Result | None, attempts: Sequence[PastAttempt] | None
) -> bytes:
    """Return ``head`` with a document. ``attempts``: None if the client may read nothing of errors."""
    code = service.heads.codes[status.state]
    error = UNTOLD if attempts is None else None if said is None else said.body.decode()
    attempts = attempts or ()
    if code >= 400:
        body = ended_document(status, code, error, attempts)
    else:
        body = status_document(status, service.jobs, error, attempts)
    # The head has its media type.
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class Query(filters.FilterQuery, frozen=True, forbid_unknown_fields=True):
    """The query of ``GET /jobs``. ``after`` is the end of the page before."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    after: Annotated[int, Meta(ge=0, le=ids.SEQUENCE_LIMIT)] = 0


def listing(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /jobs?state=failed: the jobs that fit a filter, newest first, some at a time."""
    query = filters.read(request.target, Query)
    filters.check(query, request.caller)
    page = service.engine.find(filters.job_filter(query), query.after, query.limit)
    return once_known(page, lambda page: _with_errors(service, request, query, page))


def _with_errors(service: Service, request: Request, query: Query, page: Page) -> Answer | Awaited:
    if request.method == b"HEAD" or not reads(request.caller):
        return _listed(service, request, query, page, {})
    errors = service.engine.errors(page.jobs)
    return once_known(errors, lambda errors: _listed(service, request, query, page, errors))


def _listed(service: Service, request: Request, query: Query, page: Page, errors: Mapping[int, str]) -> bytes:
    head, after = STATUS_LINES[200] + service.clock.fields, None
    if page.after is not None:
        where = f"{service.config.http.base}/jobs"
        after = f"{where}?{filters.written(query)}limit={query.limit}&after={page.after}"
        head += b'Link: <%b>; rel="next"\r\n' % after.encode()
    if request.method == b"HEAD":
        return bodiless(head, JSON)
    jobs = [_listed_job(service, request, status) for status in page.jobs]
    for status, members in zip(page.jobs, jobs, strict=True):
        if status.sequence in errors:
            members["error"] = errors[status.sequence]
    return complete(head, JSON, orjson.dumps({"jobs": jobs, "next": after}), bodiless=False)


def _listed_job(service: Service, request: Request, status: Status) -> dict[str, object]:
    members = job_members(status, service.jobs)
    if not request.caller.sees_ids:
        members["id"] = ids.without_tag(status.id).decode()
        members.pop("result", None)
    return members


def _result(service: Service, request: Request, status: Status, fields: bytes) -> Answer | Awaited:
    if status.state != State.SUCCEEDED:
        return _told(service, request, status, fields)
    tag = b'"%b"' % status.id
    kept = b"Job-State: succeeded\r\n%bETag: %b\r\nCache-Control: private, max-age=%d\r\n" % (
        service.clock.date + fields,
        tag,
        service.heads.kept_for(status),
    )
    is_head = request.method == b"HEAD"
    is_known = matches(request.headers.get(b"if-none-match"), tag)

    def answer(found: Result | None) -> Answer:
        if found is None:
            return _given_up(service, status, fields, is_head)
        if is_known:
            return STATUS_LINES[304] + kept + b"\r\n"
        return complete_shared(STATUS_LINES[200] + kept + ISOLATED, content_type(found.media_type), found.body, is_head)

    return once_known(service.engine.result(status), answer)


def payload(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """GET, HEAD /jobs/{id}/payload: the payload as it was sent."""
    head_only = request.method == b"HEAD"
    return find(service, name, lambda status, fields: _payload(service, status, fields, head_only=head_only))


def _payload(service: Service, status: Status, fields: bytes, *, head_only: bool) -> Answer | Awaited:
    fields = b"Job-State: %b\r\n%b%b" % (NAMES[status.state].encode(), service.clock.fields, fields)

    def answer(found: Body | None) -> Answer:
        if found is None:
            raise PayloadGoneError
        head = STATUS_LINES[200] + fields + ISOLATED
        return complete_shared(head, content_type(found.media_type), found.data, head_only)

    return once_known(service.engine.payload(status) if status.state != State.EXPIRED else None, answer)


def _given_up(service: Service, status: Status, fields: bytes, is_head: bool) -> bytes:
    body = document(
        410,
        "result-gone",
        "The result is gone",
        "the job succeeded, and its result was deleted, or given up to stay within results.max_bytes",
        id=status.id.decode(),
        state="succeeded",
    )
    head = STATUS_LINES[410] + b"Job-State: succeeded\r\n" + service.clock.fields + fields
    return complete(head, PROBLEM, body, is_head)


def delete(service: Service, request: Request, name: bytes, act: Act) -> Answer | Awaited:
    """DELETE /jobs/{id}: cancel a job, or forget the result of a finished one."""
    return find(
        service,
        name,
        lambda status, fields: once_known(
            service.engine.cancel(status, act), lambda cancelled: _deleted(service, request, cancelled, fields)
        ),
    )


def _deleted(service: Service, request: Request, cancelled: Cancelled, fields: bytes) -> Answer | Awaited:
    status = cancelled.status
    if cancelled.how is Cancel.NOTHING:
        return with_document(service, request, status, service.heads.job(status) + fields)
    fields = b"Job-State: %b\r\n%b%b" % (NAMES[status.state].encode(), service.clock.fields, fields)
    if cancelled.how is Cancel.ASKED:
        return STATUS_LINES[202] + fields + b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n"
    return STATUS_LINES[204] + fields + b"\r\n"
