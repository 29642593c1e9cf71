"""The part of a run of Schemathesis that is ours: it reads this file in its own process."""

from __future__ import annotations

import os
import re
from itertools import count
from typing import Any

import schemathesis
from headway.protocol.api.fields import ASKED
from headway.protocol.api.filters import STATES, TEXT_LONGEST, TIMES

# The tasks that jobs may have: those of the tests do what nobody should ask for twice.
TASKS = os.environ["SCHEMATHESIS_TASKS"].split(",")
KEYS = str(ASKED["Idempotency-Key"][1]["pattern"])
# Requests that may wait for the end of a job, a second each.
WAITS_MOST = 3
# These answers have no end.
STREAMS = ("GET /events", "GET /jobs/{id}/events")
# Orders about many jobs, each with a state of jobs that it is about.
ORDERS = {"POST /jobs/retry": "failed", "POST /jobs/cancel": "queued", "POST /jobs/delete": "succeeded"}
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
    _act(case)
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


@schemathesis.hook("before_call")
def set_no_condition(_: Any, case: Any, __: Any = None) -> None:
    """Leave out conditions of a PUT. One that does not hold comes before all that is wrong with the content."""
    for name in ("If-Match", "If-None-Match") if case.method == "PUT" and case.headers else ():
        case.headers.pop(name, None)


def _act(case: Any) -> None:
    """Have an order, or a change of a task, be one that is accepted, unless it is wrong in itself."""
    if case.operation.label in ORDERS:
        case.query = _of_order(case.query or {}, ORDERS[case.operation.label])
    if case.operation.label == "PATCH /tasks/{name}":
        # No job of the tests waits for it.
        case.path_parameters["name"] = "until_file"
        _to_come(case.body)


def _of_order(query: dict[str, Any], state: str) -> dict[str, Any]:
    """Return a query with a filter, without which nothing is done, of jobs in states that the order is about."""
    if not query.keys() - {"dry-run"}:
        query = query | {"task": "give"}
    if isinstance(query.get("state"), list) and all(one in STATES for one in query["state"]):
        query["state"] = [state]
    return query


def _to_come(switches: object) -> None:
    """Have a time come, and something return then. A text that is no time stays so."""
    if isinstance(switches, dict) and isinstance(switches.get("until"), str):
        switches["until"] = re.sub(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?=T)", "2035-01-28", switches["until"])
        if switches.get("dispatch", "run") == "run":
            switches["dispatch"] = "hold"


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
