"""Changing a job that waits: ``PATCH /jobs/{id}``."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server
from tests.protocol.api.described import Description
from tests.protocol.wire import Answer, request, submission

JSON = "Content-Type: application/json"
JOB = "/jobs/{id}"


def change(server: Server, path: str, **members: object) -> Answer:
    return server.ask(request("PATCH", path, JSON, body=json.dumps(members).encode()))


def test_a_job_is_run_now(server: Server) -> None:
    path = server.submit("give", 1, delay=1000)
    answer = change(server, path, delay=0)
    assert answer.status == 200
    assert answer.json["id"] == path.rpartition("/")[2]
    assert answer["job-state"] == answer.json["state"] in {"queued", "running", "succeeded"}
    server.wait_for(path, "succeeded")


def test_answers_are_as_described(one_worker: Server, gate: Gate) -> None:
    described = Description(one_worker.get("/openapi.json").json)
    running = one_worker.submit("until_file", gate.path)
    one_worker.wait_for(running, "running")
    queued = one_worker.submit("nothing")
    answers = [
        change(one_worker, queued, priority=9),
        change(one_worker, queued, delay=100),
        change(one_worker, queued, priority=0, delay=0),
        change(one_worker, queued, priority=None, delay=0),
        change(one_worker, running, priority=1),
        change(one_worker, queued),
        change(one_worker, queued, priority=10),
        change(one_worker, "/jobs/none", priority=1),
        one_worker.ask(request("PATCH", queued, "Content-Type: text/plain", body=b"{}")),
        one_worker.ask(request("PATCH", queued, JSON, body=b"{")),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200, 422, 409, 422, 422, 404, 415, 400]
    assert [answer["job-state"] for answer in answers[:3]] == ["queued", "scheduled", "queued"]
    assert [fault for answer in answers for fault in described.faults("PATCH", JOB, answer)] == []
    one_worker.delete(queued)
    cancelled = change(one_worker, queued, priority=1)
    assert (cancelled.status, cancelled.json["type"]) == (409, "urn:headway:problem:not-waiting")
    assert cancelled.json["detail"] == "Only a job that waits can be changed. This one is cancelled."
    assert described.faults("PATCH", JOB, cancelled) == []


def test_a_job_is_changed_by_its_key(server: Server) -> None:
    server.ask(request("PUT", "/jobs/to-be-changed", JSON, body=submission("nothing", delay=1000)))
    answer = change(server, "/jobs/to-be-changed", priority=1)
    assert (answer.status, answer["job-state"]) == (200, "scheduled")
    assert answer["content-location"].startswith("/jobs/")
    server.delete("/jobs/to-be-changed")


def test_an_expired_job_is_410(start: Start) -> None:
    server = start(retention__jobs=1)
    described = Description(server.get("/openapi.json").json)
    path = server.run("nothing")
    server.run("nothing")
    answer = change(server, path, priority=1)
    assert (answer.status, answer["job-state"]) == (410, "expired")
    assert described.faults("PATCH", JOB, answer) == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{}", ": expected at least one of priority, delay"),
        (b"3", ": expected an object, got a number"),
        (b'{"priority": 10}', "priority: 10 is not allowed: expected a whole number from 0 to 9"),
        (b'{"priority": "9"}', "priority: '9' is not allowed: expected a whole number from 0 to 9"),
        (b'{"delay": -1}', "delay: -1 is not allowed: expected a number from 0 to 2592000"),
        (b'{"delay": 2592001}', "delay: 2592001 is not allowed: expected a number from 0 to 2592000"),
        (b'{"timeout": 5}', "timeout: unknown; allowed here: priority, delay"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(server: Server, body: bytes, detail: str) -> None:
    path = server.submit("nothing", delay=1000)
    answer = server.ask(request("PATCH", path, JSON, body=body))
    assert answer.status == 422
    assert detail in "; ".join(f"{fault['field']}: {fault['detail']}" for fault in answer.json["errors"])
    server.delete(path)
