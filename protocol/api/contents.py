"""``POST /tasks/{name}/jobs``: a job whose payload is the content of the request, as it is.

JSON is decoded for the task, as a submission's payload is. Content of another media type comes as
``headway.Body``. A task annotated with Body gets JSON as Body, too. The options of the job are
members of the query.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from headway.core.board.idempotency import Key
from headway.core.errors import InvalidError, RecoveringError
from headway.core.faults import faults, few
from headway.core.job import ContentSubmission, Submission
from headway.protocol.api import bodies, queries
from headway.protocol.api.service import Service, once_known
from headway.protocol.api.submissions import accepted, check_coding, is_json, key_of, taken, traced
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import ContentLimit, Request
from headway.protocol.http.responses import JSON, Answer, Held

JOBS = b"/jobs"
# A media type with its parameters (RFC 9110, 8.3.1), up to a length.
_media_type = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(;[\t -~]*)?").fullmatch
MEDIA_TYPE_LONGEST = 200
# The media type of content that comes without one (RFC 9110, 8.3).
OCTETS = b"application/octet-stream"


# The members of the query: those of a submission, but for its task and payload.
ContentOptions = msgspec.defstruct(
    "ContentOptions",
    [
        (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Submission)
        if field.name not in {"task", "payload"}
    ],
    frozen=True,
    forbid_unknown_fields=True,
)


def submit(service: Service, request: Request, name: bytes) -> Answer | Held:
    """Take a job. With ``Prefer: wait`` answer when it has finished."""
    wanted = check(service, request, name)
    if b"idempotency-key" not in request.headers:
        return taken(service, request, service.engine.submit(traced(request, _submission(request, wanted))))
    # The same content with other options, or of another type, is another submission.
    what = blake2b(request.target + b"\0" + wanted.media_type, digest_size=blake2b.PERSON_SIZE).digest()
    key = Key.of(key_of(request), request.body, what)
    found = service.engine.replay(key) or service.engine.submit(traced(request, _submission(request, wanted)), key)
    return once_known(found, lambda found: accepted(service, request, found))


class Wanted(msgspec.Struct):
    """The task of a request, and how it gets the content."""

    task: str
    media_type: bytes
    as_json: bool


def check(service: Service, request: Request, name: bytes) -> Wanted:
    """Return what the head of a request asks for. Raises Refusal for no task, or content that it does not take."""
    task = task_of(name)
    accepts = service.engine.accepts(task)
    if accepts is None:
        raise Refusal("not-found", f"no module declares a task {task!r}: GET /tasks lists them")
    check_coding(request)
    # Without content the payload is null, unless the task takes content alone.
    usual = JSON if request.headers.get(b"content-length") == b"0" else OCTETS
    media_type = request.headers.get(b"content-type", usual)
    as_json = accepts.json and is_json(media_type)
    if not (as_json or accepts.content):
        detail = f"the task {task!r} takes JSON: send Content-Type: application/json"
        raise Refusal("media-type", detail, fields=b"Accept: application/json\r\n")
    if len(media_type) > MEDIA_TYPE_LONGEST or not _media_type(media_type):
        raise Refusal("media-type", "Content-Type is no media type such as image/jpeg", fields=b"Accept: */*\r\n")
    return Wanted(task, media_type, as_json)


def _submission(request: Request, wanted: Wanted) -> Submission:
    options = _options(request.target)
    if not wanted.as_json:
        return ContentSubmission(wanted.task, request.body, media_type=wanted.media_type.decode(), **options)
    return Submission(wanted.task, msgspec.Raw(bodies.payload(request.body) if request.body else b"null"), **options)


def content_limit(service: Service, request: Request) -> ContentLimit | None:
    """Return the limit of the task in a request target, None if it has none of its own."""
    path = request.target.partition(b"?")[0]
    before = service.tasks
    if not (path.startswith(before) and path.endswith(JOBS)):
        return None
    task = task_of(path[len(before) : -len(JOBS)])
    try:
        accepts = service.engine.accepts(task)
    except RecoveringError:
        return None
    if accepts is None or accepts.body_bytes is None:
        return None
    return ContentLimit(accepts.body_bytes, f"body_bytes of the task {task!r}")


def task_of(name: bytes) -> str:
    """Return the name of a task from its segment of a path."""
    return unquote_to_bytes(name).decode(errors="replace")


def _options(target: bytes) -> dict[str, Any]:
    members = queries.members(target)
    try:
        options = msgspec.convert(members, ContentOptions)
    except (msgspec.ValidationError, OverflowError):
        raise InvalidError(few(faults(ContentOptions, members))) from None
    return msgspec.structs.asdict(options)
