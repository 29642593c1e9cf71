"""The header fields that routes read and send, and the members of paths: what each one means.

The description of the API has them, and browsers are told to show them to pages of other origins.
"""

from __future__ import annotations

from typing import TypeAlias

from headway.core import ids

# A JSON Schema.
Schema: TypeAlias = dict[str, object]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
DATE: Schema = {"type": "string", "description": "An IMF-fixdate (RFC 9110, 5.6.7)."}
JOB_ID = f"^[0-9a-f]{{{ids.ID_LENGTH}}}$"
BATCH_ID = f"^[0-9a-f]{{{ids.BATCH_LENGTH}}}$"

# The part of a path in braces.
ID_OR_KEY: Schema = {"type": "string", "minLength": 1, "description": "The id of a job, or its idempotency key."}
BATCH: Schema = {"type": "string", "minLength": 1, "description": "The id of a batch."}
FILE: Schema = {"type": "string", "minLength": 1, "description": "The name of a file of the dashboard."}
TASK: Schema = {"type": "string", "minLength": 1, "description": "The name of a task."}
KEY: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9._~-]{1,200}$", "description": "A key that is no id."}

# Of requests: name to meaning and schema.
ASKED: dict[str, tuple[str, Schema]] = {
    "Idempotency-Key": (
        "The same key with the same content is the same job: send both again if no answer came.",
        {"type": "string", "pattern": r'^("[A-Za-z0-9._~-]{1,200}"|[A-Za-z0-9._~-]{1,200})$'},
    ),
    "If-Range": ("With it Range is passed over: a log has no validator.", TEXT),
    "If-Match": ("Of a change: * if there has to be something to change. An ETag never matches.", TEXT),
    "If-None-Match": ("An ETag: 304 if the content is still the same. Of PUT: * if no job may be there.", TEXT),
    "Last-Event-ID": ("The id of the last event that the client has: those after it come first.", TEXT),
    "Prefer": (
        "wait=n answers when the job has finished, or after n seconds. return=minimal leaves out the body (RFC 7240).",
        {"type": "string", "examples": ["wait=10", "return=minimal"]},
    ),
    "Range": (
        "Some bytes of a log: bytes=a-, bytes=a-b or bytes=-n. Places are those of the text as it was written.",
        {"type": "string", "examples": ["bytes=1000-"]},
    ),
    "Accept": ("text/html asks for a page.", TEXT),
    "Accept-Encoding": ("gzip is used for the files of the dashboard.", TEXT),
    "Traceparent": ("The trace that the job belongs to (W3C Trace Context).", TEXT),
}

# Of answers: name to meaning and schema.
SENT: dict[str, tuple[str, Schema]] = {
    "Accept": ("The media type to send.", TEXT),
    "Accept-Encoding": ("The content coding to send.", TEXT),
    "Accept-Ranges": ("bytes: the route takes Range.", {"const": "bytes"}),
    "Allow": ("The methods of the route.", TEXT),
    "Batch-Cancelled": ("Jobs of the batch that were cancelled, if there are any.", COUNT),
    "Batch-Expired": ("Jobs of the batch without a status of their own any longer, if there are any.", COUNT),
    "Batch-Failed": ("Jobs of the batch that failed.", COUNT),
    "Batch-Pending": ("Jobs of the batch that have not finished.", COUNT),
    "Cache-Control": ("no-store, but for results and for the description.", TEXT),
    "Connection": ("close: this answer is the last of its connection.", TEXT),
    "Content-Encoding": ("gzip, if the client takes it.", TEXT),
    "Content-Location": ("The URL of the job or batch that the content describes.", TEXT),
    "Content-Range": ("The bytes of a log that the content has, and the length of the log.", TEXT),
    "Content-Security-Policy": ("What a page may load: nothing from elsewhere.", TEXT),
    "Date": ("The time of the answer.", DATE),
    "ETag": ("Names this content, for If-None-Match.", TEXT),
    "Expires": ("The latest time until which the status of the finished job is kept.", DATE),
    "Idempotency-Replayed": ("true: the job or batch was accepted before, under the same key.", {"const": "true"}),
    "Job-Attempt": ("The number of the attempt, from 1.", COUNT),
    "Job-Durability": (
        "What the acceptance survives. disk: a loss of power. process: a killed process. memory: neither.",
        {"enum": ["disk", "process", "memory"]},
    ),
    "Job-Message": ("The message beside the progress. Other characters than visible ASCII are percent-encoded.", TEXT),
    "Job-Held": (
        "Why the task of this waiting job is held, or held. All but visible ASCII is percent-encoded.",
        TEXT,
    ),
    "Job-Position": ("The most jobs that will be taken before this one.", COUNT),
    "Job-Progress": ("Per cent, if the task reports it.", {"type": "integer", "minimum": 0, "maximum": 100}),
    "Job-Reason": ("Why the job failed.", TEXT),
    "Job-State": ("The state of the job. Every answer about a job has it.", TEXT),
    "Link": ("The next page, or the job that was resubmitted (RFC 8288).", TEXT),
    "Log-Length": ("Bytes that the job has logged, kept or not.", COUNT),
    "Location": ("The URL of the job or batch: ask there.", TEXT),
    "Preference-Applied": ("The preference that was followed, and with which value.", TEXT),
    "Queue-Length": ("Jobs that are ready and wait for a worker.", COUNT),
    "Queue-Oldest-Ms": ("Milliseconds that the oldest of them has been ready. 0 if there is none.", COUNT),
    "Queue-Wait-Ms": ("Milliseconds that a job that comes now and is taken last will wait, estimated.", COUNT),
    "RateLimit": ("How much is left of a quota, and the seconds until it is whole.", TEXT),
    "RateLimit-Policy": ("The quota, and the seconds of its window.", TEXT),
    "Referrer-Policy": ("no-referrer: no other site learns the address of the page.", TEXT),
    "Retry-After": ("Seconds until the client asks again.", {"type": "integer", "minimum": 1}),
    "Retry-After-Ms": ("The same in milliseconds.", COUNT),
    "Server-Timing": ("Milliseconds that the job waited, and that it ran.", TEXT),
    "Sunset": ("The same as Expires (RFC 8594).", DATE),
    "Vary": ("The header fields of the request that the answer depends on.", TEXT),
    "Workers-Busy": ("Workers with an attempt.", COUNT),
    "WWW-Authenticate": ("Bearer: which scope a token needs, or that there is no such token (RFC 6750).", TEXT),
    "Workers-Wanted": ("How many workers bring the wait below queue.target_wait.", COUNT),
    "X-Accel-Buffering": ("no: a proxy passes events on as they come.", TEXT),
    "X-Content-Type-Options": ("nosniff: the media type is what Content-Type says.", TEXT),
}

# Fields that a page of another origin may send, besides those that are always allowed. The last
# stands for all others but Authorization: no route reads them, and proxies before us may.
ACCEPTED = ("Authorization", "Content-Type", *sorted(ASKED), "*")
