"""The part of a run of Schemathesis that is ours: it reads this file in its own process."""

from __future__ import annotations

import os
import re
from itertools import count
from typing import Any

import schemathesis
from headway.protocol.api.fields import ASKED
from headway.protocol.api.filters import TEXT_LONGEST, TIMES

# The tasks that jobs may have: those of the tests do what nobody should ask for twice.
TASKS = os.environ["SCHEMATHESIS_TASKS"].split(",")
KEYS = str(ASKED["Idempotency-Key"][1]["pattern"])
# Requests that may wait for the end of a job, a second each.
WAITS_MOST = 3
# These answers have no end.
STREAMS = ("GET /events", "GET /jobs/{id}/events")
_numbers, _waits = count(), count()


@schemathesis.hook
def before_load_schema(_: Any, document: dict[str, Any]) -> None:
    """Leave out other tasks."""
    submission = document["components"]["schemas"]["Submission"]
    kept = [option for option in submission["anyOf"] if option["properties"]["task"]["const"] in TASKS]
    assert len(kept) == len(TASKS)
    submission["anyOf"] = kept


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any = None) -> None:
    """Leave out what is refused, and rightly so, although OpenAPI cannot say it."""
    headers, number = case.headers or {}, f"case-{os.getpid()}-{next(_numbers)}"
    # With other content a key is refused the second time.
    if _is_key(headers.get("Idempotency-Key")):
        headers["Idempotency-Key"] = number
    if case.operation.label == "PUT /jobs/{id}" and _is_key((case.path_parameters or {}).get("id")):
        case.path_parameters["id"] = number
    if case.operation.label == "POST /tasks/{name}/jobs":
        # It takes anything.
        case.path_parameters["name"] = "give"
    query = case.query or {}
    if isinstance(query.get("task"), str) and 1 <= len(query["task"]) <= TEXT_LONGEST:
        query["task"] = "give"
    for name in {*TIMES} & query.keys():
        # Not each month has 31 days.
        query[name] = re.sub(r"^[0-9]{4}-([0-9]{2})-[0-9]{2}", r"2026-\1-28", str(query[name]))
    prefer = str(headers.get("Prefer"))
    # OpenAPI has no words for content that the client has left out. test_description reads these answers.
    if prefer == "return=minimal" or (prefer.startswith("wait=") and next(_waits) >= WAITS_MOST):
        headers["Prefer"] = "respond-async"
    # In JSON Schema 5.0 is a whole number.
    for submission in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(submission, dict):
            for name in {"priority", "retries"} & submission.keys():
                submission[name] = _whole(submission[name])


@schemathesis.hook("before_call")
def look_at_the_head(_: Any, case: Any, __: Any = None) -> None:
    """Of a stream, look at the head alone. Of a refusal, look at everything."""
    if case.operation.label in STREAMS and case.method == "GET":
        case.method = "HEAD"
        if case.call().status_code != 200:
            case.method = "GET"


def _is_key(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(KEYS, text) is not None


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.check
def no_other_fields(_: Any, response: Any, case: Any) -> None:
    """See that an answer has no header field that the document does not have for it."""
    described = case.operation.schema.raw_schema["components"]["headers"]
    known = {name.lower() for name in described} | {"content-type", "content-length"}
    other = {name.lower() for name in response.headers} - known
    if other:
        raise AssertionError(f"fields that are not described: {', '.join(sorted(other))}")
