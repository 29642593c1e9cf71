"""The kinds of answers that several routes have, as the description of the API lists them."""

from __future__ import annotations

from headway.core.job import State
from headway.protocol.api.operation import Says
from headway.protocol.http.responses import JSON, PROBLEM
from msgspec.structs import replace

AGAIN = ("Retry-After", "Retry-After-Ms")
# Of an answer about a job that a key named, and of one that waited.
NAMED = ("Content-Location",)
WAITED = ("Preference-Applied",)
HELD = ("Job-Held",)
JOB = ((JSON.decode(), "Job"),)
BATCH = ((JSON.decode(), "Batch"),)
ENDED_JOB = ((PROBLEM.decode(), "EndedJob"),)
ENDED_BATCH = ((PROBLEM.decode(), "EndedBatch"),)


def _job(state: State, text: str, fields: tuple[str, ...] = (), maybe: tuple[str, ...] = ()) -> Says:
    content = ENDED_JOB if state in (State.FAILED, State.CANCELLED, State.EXPIRED) else JOB
    return Says(state, text, ("Job-State", *fields), (*maybe, *NAMED, *WAITED), content)


ACTIVE_JOB = (
    _job(State.SCHEDULED, "The job waits for its delay.", (*AGAIN, "Job-Position"), maybe=HELD),
    _job(State.QUEUED, "The job waits for a worker.", (*AGAIN, "Job-Position"), maybe=HELD),
    _job(State.RUNNING, "The job runs.", (*AGAIN, "Job-Attempt"), maybe=("Job-Progress", "Job-Message")),
    _job(State.RETRYING, "The job waits for its next attempt.", (*AGAIN, "Job-Position", "Job-Attempt"), maybe=HELD),
)
SUCCEEDED_JOB = _job(State.SUCCEEDED, "The job succeeded.", ("Expires", "Sunset", "Server-Timing"))
LOST_JOB = (
    _job(State.FAILED, "The job failed.", ("Job-Reason", "Job-Attempt", "Expires", "Sunset")),
    _job(State.CANCELLED, "The job was cancelled.", ("Expires", "Sunset"), maybe=("Job-Reason",)),
    _job(State.EXPIRED, "The job has finished, and its status is no longer kept."),
)
# Of a submission: what follows is said of a job that has finished, because the client waited or
# because it came before under its key.
SUBMITTED = (
    Says(
        202,
        "The job is accepted: ask at Location.",
        ("Location", "Job-State", "Job-Durability", *AGAIN),
        ("Job-Position", "Job-Attempt", "Job-Progress", "Job-Message", "Idempotency-Replayed", *HELD, *WAITED),
        ((JSON.decode(), "Accepted"),),
        minimal=True,
    ),
    *(
        replace(said, fields=(*said.fields, *NAMED), maybe=("Location", "Idempotency-Replayed", *WAITED))
        for said in (SUCCEEDED_JOB, *LOST_JOB)
    ),
)

MATCHES = Says(200, "With dry-run=1: the jobs that fit.", content=((JSON.decode(), "Matches"),))

COUNTS = ("Batch-Pending", "Batch-Failed")
MORE_COUNTS = ("Batch-Cancelled", "Batch-Expired")


def _batch(state: State, text: str, *fields: str) -> Says:
    content = BATCH if state in (State.RUNNING, State.SUCCEEDED) else ENDED_BATCH
    return Says(state, text, (*COUNTS, *fields), (*MORE_COUNTS, *WAITED), content)


PENDING_BATCH = _batch(State.RUNNING, "Some of its jobs have not finished.", *AGAIN)
FINISHED_BATCH = (
    _batch(State.SUCCEEDED, "All of its jobs succeeded."),
    _batch(State.FAILED, "Some of its jobs failed."),
    _batch(State.CANCELLED, "Some of its jobs were cancelled."),
    _batch(State.EXPIRED, "None of its jobs is kept any longer."),
)
SUBMITTED_BATCH = (
    Says(
        202,
        "The batch is accepted: ask at Location.",
        ("Location", "Job-Durability", *COUNTS, *AGAIN),
        (*MORE_COUNTS, "Idempotency-Replayed", *WAITED),
        ((JSON.decode(), "AcceptedBatch"),),
        minimal=True,
    ),
    *(
        replace(said, fields=(*said.fields, *NAMED), maybe=(*said.maybe, "Location", "Idempotency-Replayed"))
        for said in FINISHED_BATCH
    ),
)

# Of the server, or of a task.
LOAD = ("Queue-Length", "Queue-Oldest-Ms", "Queue-Wait-Ms", "Workers-Busy", "Workers-Wanted")
# Content that stays the same, with an ETag.
SAME = Says(304, "The content is that of If-None-Match.", ("ETag",))
PAGE = ("Content-Security-Policy", "X-Content-Type-Options")
HTML = (("text/html; charset=utf-8", "Text"),)
# Of the page for a person, and its files.
OF_THE_DASHBOARD = (*PAGE, "Referrer-Policy", "Vary")
FILES = (
    ("text/javascript; charset=utf-8", "Text"),
    ("text/css; charset=utf-8", "Text"),
    ("image/svg+xml", "Text"),
    ("text/html; charset=utf-8", "Text"),
)
EVENTS = (("text/event-stream", "Text"),)
PLAIN = (("text/plain; charset=utf-8", "Text"),)

# Of a log.
OF_A_LOG = ("Job-State", "Log-Length", "Accept-Ranges", *PAGE)

# Reasons to refuse any request, a request about jobs, a change of one, a submission.
ANY_REQUEST = (
    *("bad-request", "request-timeout", "too-large", "target-too-long", "head-too-large", "expectation"),
    *("not-implemented", "version", "internal", "connections", "connections-of-address", "half-sent", "host"),
)
ABOUT_JOBS = ("recovering", "journal", "engine-away")
OF_AN_ID = (*ABOUT_JOBS, "not-found", "misdirected")
CHANGES = ("journal-full",)
CONTENT = ("media-type", "malformed-json", "invalid")
SUBMITS = (
    *(*ABOUT_JOBS, *CHANGES, "draining", "task-closed", "queue-full", "engine-full"),
    *("length-required", "media-type", "malformed-json", "invalid", "unknown-task"),
    *("invalid-payload", "not-durable", "key-reused"),
)
