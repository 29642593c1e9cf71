"""JSON Schemas of the documents that clients send and read, by name.

Those that are decoded into a struct are made of the struct.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from headway.core.faults import member_types
from headway.core.hold import Switches
from headway.core.job import TAGS_MOST, Reason, Revision, State, Submission
from headway.core.status import COUNT_MOST
from headway.core.task import Lane
from headway.protocol.api.fields import BATCH_ID, COUNT, JOB_ID, TEXT, Schema

FINISHED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
UNFINISHED = (State.SCHEDULED, State.QUEUED, State.RUNNING, State.RETRYING)
TIME: Schema = {"type": "string", "format": "date-time"}
TYPE = "urn:headway:problem:"


# The structs of changes, and of all content that clients send, by the name of its schema.
CHANGES: dict[str, type[msgspec.Struct]] = {"Switches": Switches, "Revision": Revision}
CONTENTS: dict[str, type[msgspec.Struct]] = {"Submission": Submission, "Submissions": Submission} | CHANGES


def ref(name: str) -> Schema:
    """Return a reference to a schema of this file."""
    return {"$ref": f"#/components/schemas/{name}"}


def members_of(struct: type[msgspec.Struct]) -> dict[str, Schema]:
    """Return the schema of each member of a struct, with its default."""
    found: dict[str, Schema] = {}
    for field in msgspec.structs.fields(struct):
        kind = member_types(struct)[field.encode_name]
        schema: Schema = {} if kind is msgspec.Raw else msgspec.json.schema(kind)
        if not (field.required or field.default is msgspec.UNSET):
            schema["default"] = msgspec.json.decode(msgspec.json.encode(field.default))
        found[field.encode_name] = schema
    return found


def required_of(struct: type[msgspec.Struct]) -> list[str]:
    """Return the members that a struct must have."""
    return [field.encode_name for field in msgspec.structs.fields(struct) if field.required]


def _object(members: dict[str, Schema], *optional: str, description: str = "") -> Schema:
    """Return the schema of an object that has all of ``members`` but ``optional``, and no others."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": members,
        "required": [name for name in members if name not in optional],
        "additionalProperties": False,
    }
    return schema | ({"description": description} if description else {})


def _names(*states: State) -> Schema:
    return {"enum": [state.name.lower() for state in states]}


def _problem(members: dict[str, Schema], *optional: str, kinds: tuple[str, ...] = ()) -> Schema:
    """Return the schema of a problem document (RFC 9457) of one of ``kinds``, with more members."""
    kind: Schema = {"enum": [TYPE + name for name in kinds]} if kinds else {"type": "string", "pattern": f"^{TYPE}"}
    status: Schema = {"type": "integer", "minimum": 400, "maximum": 599}
    return _object({"type": kind, "title": TEXT, "status": status, "detail": TEXT, **members}, *optional)


_ID: Schema = {"type": "string", "pattern": JOB_ID}
_BATCH_ID: Schema = {"type": "string", "pattern": BATCH_ID}
_REASON: Schema = {"enum": [reason.text for reason in Reason if reason not in (Reason.NONE, Reason.INTERRUPTED)]}
_TAGS: Schema = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": TAGS_MOST}
_ATTEMPTS: dict[str, Schema] = {
    "attempts": {"type": "array", "items": ref("Attempt"), "description": "Those that failed, and the last."},
    "attempts_left_out": {**COUNT, "description": "Attempts that are no longer kept, or were never written down."},
}
_FAULT = _object({"field": TEXT, "detail": TEXT})
_BATCH: dict[str, Schema] = {
    "id": _BATCH_ID,
    **dict.fromkeys(("pending", "succeeded", "failed", "cancelled", "expired"), COUNT),
    "jobs": {
        "type": "array",
        "items": _object({"id": _ID, "state": _names(*UNFINISHED, *FINISHED)}),
        "description": "The jobs that are still kept.",
    },
}
_LISTED_BATCH = {name: schema for name, schema in _BATCH.items() if name != "jobs"} | {
    "state": _names(State.RUNNING, *FINISHED)
}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_LOAD: dict[str, Schema] = dict.fromkeys(
    ("queue_length", "queue_oldest_ms", "queue_wait_ms", "workers_busy", "workers_wanted"), COUNT
)
_COUNTS: Schema = {"type": "array", "items": COUNT}
_QUANTILES = _object({name: {"type": ["number", "null"], "minimum": 0} for name in ("p50", "p95", "p99")})
_SPAN = _object(
    {
        "begin": TIME,
        **dict.fromkeys(("succeeded", "failed", "cancelled", "retries", "waiting", "running"), COUNT),
        "wait": _QUANTILES,
        "run": _QUANTILES,
    },
    *("succeeded", "failed", "cancelled", "retries", "waiting", "running", "wait", "run"),
    description="Without counts: the server did not run. Quantiles are of attempts, null if there was none.",
)
_OR_NONE: Schema = {"type": ["string", "null"]}
_ENTRY = _object(
    {
        "number": {"type": "integer", "minimum": 1},
        "time": TIME,
        "who": {**_OR_NONE, "description": "The name of the token. null: there was none."},
        "address": {**_OR_NONE, "description": "Of the client. null: it came by a Unix socket."},
        "what": {"type": "string", "description": "The operationId, or reloadTokens."},
        "target": {**_OR_NONE, "description": "The id or the key of a job, the id of a batch, the name of a task."},
        "filter": {**_OR_NONE, "description": "Of an order, as the query of a URL."},
        "count": {"type": ["integer", "null"], "description": "Jobs of a batch that were cancelled."},
        "job": {**_OR_NONE, "description": "The id of the job that was made: its result has the counts of an order."},
        "code": {"type": ["integer", "null"], "description": "Of the answer. 202: the change went on after it."},
    }
)
_TASK: dict[str, Schema] = {
    "name": TEXT,
    "description": TEXT,
    "schema": {"type": "object", "description": "JSON Schema of the payloads. Empty: they may be anything."},
    "options": _object(
        {
            "timeout": _SECONDS,
            "deadline": {"type": ["number", "null"]},
            "retries": COUNT,
            "keep": {"type": ["number", "null"]},
            "max_concurrent": {"type": ["integer", "null"]},
            "run_in": {"enum": ["loop", "thread", "process"]},
        }
    ),
    "accepts": _object(
        {"json": {"type": "boolean"}, "content": {"type": "boolean"}, "body_bytes": COUNT},
        description="content: it takes what is no JSON, at POST /tasks/{name}/jobs.",
    ),
    "counts": _object(dict.fromkeys(("unfinished", "running", "succeeded", "failed", "cancelled"), COUNT)),
    "run_median_seconds": _SECONDS,
    "wait": {**_QUANTILES, "description": "Seconds for which attempts had been ready, since the process began."},
    "run": {**_QUANTILES, "description": "Seconds that attempts took, since the process began."},
    **_LOAD,
    "dispatch": {"enum": ["run", "hold"], "description": "hold: none of its jobs begins."},
    "intake": {"enum": ["open", "closed"], "description": "closed: no new job is accepted."},
    "until": {"type": ["string", "null"], "format": "date-time", "description": "When both return by themselves."},
    "reason": TEXT,
}

SCHEMAS: dict[str, Schema] = {
    "Anything": {},
    "Text": TEXT,
    "Submissions": {"type": "array", "items": ref("Submission"), "minItems": 1, "maxItems": COUNT_MOST},
    "Accepted": _object({"id": _ID, "state": _names(*UNFINISHED)}),
    "AcceptedBatch": _object({"id": _BATCH_ID, "jobs": {"type": "array", "items": _ID}}),
    "Job": _object(
        {
            "id": _ID,
            "state": _names(*UNFINISHED, *FINISHED),
            "task": TEXT,
            "attempt": COUNT,
            "submitted": TIME,
            "tags": _TAGS,
            "started": TIME,
            "ended": TIME,
            "progress": {"type": "integer", "minimum": 0, "maximum": 100, "description": "Per cent."},
            "message": {"type": "string", "maxLength": 200, "description": "Of the running attempt."},
            "position": COUNT,
            "held": {"type": "string", "description": "Why its task is held, if the job waits for that."},
            "retry_after_ms": COUNT,
            "result": {"type": "string", "description": "The URL of the result."},
            "reason": _REASON,
            "error": {"type": ["string", "null"]},
            **_ATTEMPTS,
        },
        *("tags", "started", "ended", "progress", "message", "position", "held", "retry_after_ms", "result"),
        *("reason", "error", *_ATTEMPTS),
    ),
    "Attempt": _object(
        {
            "attempt": COUNT,
            "started": TIME,
            "ended": TIME,
            "place": {"enum": [lane.value for lane in Lane]},
            "outcome": {"enum": ["running", "succeeded", "failed", "interrupted"]},
            "reason": _REASON,
            "error": _object({"type": TEXT, "message": TEXT, "traceback": TEXT}),
        },
        *("started", "ended", "place", "reason", "error"),
    ),
    "EndedJob": _problem(
        {
            "id": _ID,
            "state": _names(State.FAILED, State.CANCELLED, State.EXPIRED),
            "task": TEXT,
            "submitted": TIME,
            "started": TIME,
            "ended": TIME,
            "reason": _REASON,
            "attempt": COUNT,
            "tags": _TAGS,
            **_ATTEMPTS,
        },
        *("task", "submitted", "started", "ended", "reason", "attempt", "tags", *_ATTEMPTS),
        kinds=("job-failed", "job-cancelled", "job-expired"),
    ),
    "GoneResult": _problem({"id": _ID, "state": _names(State.SUCCEEDED)}, kinds=("result-gone",)),
    "Jobs": _object(
        {
            "jobs": {"type": "array", "items": ref("Job")},
            "next": {"type": ["string", "null"], "description": "The URL of the next page."},
        }
    ),
    "Batch": _object(_BATCH),
    "Batches": _object({"batches": {"type": "array", "items": _object(_LISTED_BATCH)}}),
    "EndedBatch": _problem(_BATCH, kinds=("batch-failed", "batch-cancelled", "batch-expired")),
    "Task": _object(_TASK),
    "Tasks": _object({"tasks": {"type": "array", "items": ref("Task")}}),
    "Matches": _object({"matches": COUNT, "by_task": {"type": "object", "additionalProperties": COUNT}}),
    "Problem": _problem({}),
    "Faults": _problem(
        {"errors": {"type": "array", "items": _FAULT, "description": "What is wrong, member by member."}}
    ),
    "Index": _object(
        {
            "server": {"const": "headway"},
            "version": TEXT,
            "contract": {"type": "integer", "minimum": 1},
            "routes": {"type": "object", "additionalProperties": {"type": "array", "items": TEXT}},
        }
    ),
    "History": _object(
        {
            "seconds": {"type": "integer", "description": "Of a span."},
            "spans": {"type": "array", "items": _SPAN, "description": "Oldest first. The last one has not ended."},
            "tasks": {
                "type": "object",
                "description": "By task: jobs that ended, and those of them that failed, span by span.",
                "additionalProperties": _object({"ended": _COUNTS, "failed": _COUNTS}),
            },
        }
    ),
    "Audit": _object(
        {
            "entries": {"type": "array", "items": _ENTRY, "description": "Newest first."},
            "next": {"type": ["string", "null"], "description": "The URL of the next page."},
        }
    ),
    "Stats": {
        "type": "object",
        "description": "Counts. Times in seconds unless the name ends in ms, sizes in bytes.",
        "properties": _LOAD,
        "required": list(_LOAD),
    },
}


def submission(payloads: dict[str, str], needed: Iterable[str]) -> Schema:
    """Return the schema of a submission.

    ``payloads`` has the name of the schema of its payloads for each task. Those of the tasks in
    ``needed`` cannot be left out.
    """
    schema = _object(members_of(Submission))
    schema["required"] = required_of(Submission)
    if payloads:
        must = {task: ["payload"] for task in needed}
        schema["anyOf"] = [
            {"properties": {"task": {"const": task}, "payload": ref(name)}, "required": ["task", *must.get(task, [])]}
            for task, name in payloads.items()
        ]
    return schema


def changing(struct: type[msgspec.Struct]) -> Schema:
    """Return the schema of a change, which has at least one of the members of ``struct``."""
    return _object(members_of(struct), *struct.__struct_fields__) | {"minProperties": 1}


def allows_null(schema: Schema) -> bool:
    """Whether null fits a schema, as far as it can be told from the outside."""
    options = schema.get("anyOf")
    if isinstance(options, list):
        return any(allows_null(option) for option in options)
    kinds = schema.get("type")
    return not schema or "$comment" in schema or kinds == "null" or (isinstance(kinds, list) and "null" in kinds)
