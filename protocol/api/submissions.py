"""Submitting: ``POST /jobs``, ``PUT /jobs/{key}`` and ``POST /jobs/{id}/retry``."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from headway.core import ids
from headway.core.audit import Act
from headway.core.errors import HeadwayError, InvalidError
from headway.core.interface import Soon, Submitted
from headway.core.job import TRACEPARENT, State, Submission
from headway.core.key import Key
from headway.core.order import Action
from headway.core.status import Status
from headway.protocol.api import bodies, preconditions
from headway.protocol.api.awaited import later, once_known, unless_away
from headway.protocol.api.headers import NAMES, minimal
from headway.protocol.api.jobs import find, patience, with_document
from headway.protocol.api.service import Service
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, Answer, Awaited

SCOPE = "scope"
REPLAYED = b"Idempotency-Replayed: true\r\n"
_TRACE = re.compile(TRACEPARENT.replace("$", r"\Z").encode())
# Keys that would be hidden by routes of orders.
ORDERS = frozenset(action.value.encode() for action in Action)
_KEY = re.compile(rb"[A-Za-z0-9._~-]{1,200}")


def check_content(request: Request) -> None:
    """Raise Refusal if the content of a POST is not of the kind that the routes read."""
    headers = request.headers
    media_type = headers.get(b"content-type", b"")
    if media_type != JSON and not is_json(media_type):
        raise Refusal("media-type", "send Content-Type: application/json", fields=b"Accept: application/json\r\n")
    if b"content-encoding" in headers:
        check_coding(request)


def is_json(media_type: bytes) -> bool:
    """Whether a media type, which may have parameters, is that of JSON."""
    return media_type.partition(b";")[0].strip().lower() == JSON


def check_coding(request: Request) -> None:
    """Raise Refusal if the content of a POST is encoded."""
    if b"content-encoding" in request.headers and request.headers[b"content-encoding"].lower() != b"identity":
        raise Refusal("media-type", "send the content as it is", fields=b"Accept-Encoding: identity\r\n")


def submit(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """POST /jobs: take a job. With ``Prefer: wait`` answer when it has finished."""
    check_content(request)
    if b"idempotency-key" in request.headers:
        return _keyed(service, request, key_of(request))
    return taken(service, request, service.engine.submit(_submission(request)))


def taken(service: Service, request: Request, found: Soon[Submitted]) -> Answer | Awaited:
    """Answer a submission without a key. With ``Prefer: wait`` answer when its job has finished."""
    if b"prefer" in request.headers:
        return once_known(found, lambda found: accepted(service, request, found))
    if isinstance(found, Submitted):
        return _created(service, found.status)
    return later(found, lambda found: _created(service, found.status))


def put(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """PUT /jobs/{key}: take a job under the client's key, as POST with this Idempotency-Key does."""
    check_content(request)
    key = _checked(name)
    if not preconditions.asked(request):
        return _keyed(service, request, key)
    kept = request.copy()

    def looked(found: Status | None) -> Answer | Awaited:
        preconditions.check(kept, is_there=found is not None)
        return _keyed(service, kept, key)

    return once_known(service.engine.peek_key(key), looked)


def _keyed(service: Service, request: Request, text: str) -> Answer | Awaited:
    return under_key(service, request, Key.of(text, request.body), lambda: _submission(request))


def under_key(service: Service, request: Request, key: Key, submission: Callable[[], Submission]) -> Answer | Awaited:
    """Take the job that ``submission`` returns, unless one came under ``key`` before."""
    try:
        wanted = submission()
    except (HeadwayError, Refusal) as error:
        if isinstance(error, Refusal) and error.reason == SCOPE:
            raise
        # It was valid when it came first.
        return _replayed(service, request, key, error)
    return once_known(service.engine.submit(wanted, key), lambda found: accepted(service, request, found))


def _replayed(service: Service, request: Request, key: Key, fault: HeadwayError | Refusal) -> Answer | Awaited:
    """Answer with the job that came under ``key`` before. Raises ``fault`` if none did."""

    def told(found: Submitted | None) -> Answer | Awaited:
        if found is None:
            raise fault
        # The answer has the id, and the content may not have told the task.
        check_task(request, found.status.task)
        return accepted(service, request, found)

    return once_known(service.engine.replay(key), told)


def _submission(request: Request) -> Submission:
    submission = bodies.submission(request.body)
    # Each POST comes here, and most have neither a bound on their tasks nor a trace.
    if request.caller.tasks is not None:
        check_task(request, submission.task)
    return traced(request, submission) if b"traceparent" in request.headers else submission


def check_task(request: Request, task: str) -> None:
    """Raise Refusal if the client may submit no jobs of ``task``."""
    caller = request.caller
    if caller.tasks is not None and task not in caller.tasks:
        allowed = ", ".join(sorted(caller.tasks))
        raise Refusal(SCOPE, f"the token {caller.name!r} may submit {allowed}, not {task!r}")


def traced(request: Request, submission: Submission) -> Submission:
    """Return a submission with the trace context of its request, unless it has one of its own.

    One that is not valid counts as none (https://www.w3.org/TR/trace-context).
    """
    trace = request.headers.get(b"traceparent")
    if trace is None or submission.traceparent is not None or not _TRACE.match(trace):
        return submission
    return msgspec.structs.replace(submission, traceparent=trace.decode())


def key_of(request: Request) -> str:
    """Return the Idempotency-Key: a structured string (RFC 9651, 3.3.3), or bare as many send it."""
    value = request.headers[b"idempotency-key"]
    quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
    return _checked(value[1:-1] if quoted else value)


def _checked(key: bytes) -> str:
    if ids.has_form(key):
        raise InvalidError([("key", "has the form of an id; choose another, for instance with a dash in it")])
    if key in ORDERS:
        raise InvalidError([("key", "is the name of a route; choose another")])
    if not _KEY.fullmatch(key):
        raise InvalidError([("key", "an idempotency key is 1 to 200 of the characters A-Z a-z 0-9 . _ ~ -")])
    if key in {b".", b".."}:
        # Clients take these out of a path (RFC 3986, 5.2.4).
        raise InvalidError([("key", "is no name in a path; choose another")])
    return key.decode()


def retry(service: Service, request: Request, name: bytes, act: Act) -> Answer | Awaited:
    """POST /jobs/{id}/retry: resubmit a failed job as a new one."""
    key = Key.of(key_of(request), name, b"retry") if b"idempotency-key" in request.headers else None

    def resubmitted(status: Status, fields: bytes) -> Answer | Awaited:
        if status.state == State.EXPIRED:
            return with_document(service, request, status, service.heads.job(status) + fields)
        check_task(request, status.task)
        link = b'Link: <%b%b>; rel="prev"\r\n' % (service.jobs, status.id)
        return once_known(service.engine.retry(status, key, act), lambda taken: accepted(service, request, taken, link))

    def looked(before: Submitted | None) -> Answer | Awaited:
        if before is None:
            return find(service, name, resubmitted)
        check_task(request, before.status.task)
        return accepted(service, request, before)

    return looked(None) if key is None else once_known(service.engine.replay(key), looked)


def accepted(service: Service, request: Request, taken: Submitted, fields: bytes = b"") -> Answer | Awaited:
    """Answer that a job was taken. With ``Prefer: wait`` answer when it has finished."""
    status = taken.status
    if taken.replayed:
        fields = REPLAYED
    seconds = patience(service, request)
    if seconds is None and not taken.replayed:
        # Even if it has finished before it could be answered.
        return _created(service, status, fields, _is_minimal(request))
    if seconds is not None:
        fields += b"Preference-Applied: wait=%d\r\n" % seconds

    def told() -> Answer | Awaited:
        if seconds is None or status.state >= State.SUCCEEDED:
            return _answer(service, request, status, fields)
        return later(service.engine.wait(status, seconds), lambda now: _answer(service, request, now, fields))

    # It was taken, even if nobody can tell of it now: after a 503 its client would submit it again.
    return unless_away(told, lambda: _created(service, status, fields, _is_minimal(request)))


def _answer(service: Service, request: Request, status: Status, fields: bytes) -> Answer | Awaited:
    if status.state < State.SUCCEEDED:
        return _created(service, status, fields, _is_minimal(request))
    where = b"Location: %b%b\r\n" % (service.jobs, status.id)
    if fields.startswith(REPLAYED):
        # As in the first answer.
        fields += where
    return with_document(service, request, status, service.heads.job(status) + b"Content-" + where + fields)


def _is_minimal(request: Request) -> bool:
    return b"prefer" in request.headers and request.preference(b"return") == b"minimal"


def _created(service: Service, status: Status, fields: bytes = b"", is_minimal: bool = False) -> bytes:
    job_id = status.id
    head = service.heads.accepted(status, job_id)
    if is_minimal:
        return head + minimal(fields)
    return head + fields + _BODIES[status.state] % job_id


def _body_format(state: str) -> bytes:
    """Return the answer to a submission after its head, as a format that takes the id."""
    body = b'{"id":"%%b","state":"%b"}' % state.encode()
    length = len(body) - len(b"%b") + ids.ID_LENGTH
    return b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


_BODIES = [_body_format(name) for name in NAMES]
