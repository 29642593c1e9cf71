"""Tasks that a person holds or closes: ``PATCH /tasks/{name}``, and the jobs that wait for it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Server
from tests.protocol.api.described import Description
from tests.protocol.api.test_batches import batch, one
from tests.protocol.wire import Answer, post, request, submission

JSON = "Content-Type: application/json"


def switch(server: Server, task: str, **members: object) -> Answer:
    return server.ask(request("PATCH", f"/tasks/{task}", JSON, body=json.dumps(members).encode()))


def later(seconds: float) -> str:
    """A time to come, as a client writes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_held_task_says_so_and_its_jobs_do(start: Start) -> None:
    server = start()
    described = Description(server.get("/openapi.json").json)
    end = later(600)
    answer = switch(server, "nothing", dispatch="hold", until=end, reason="Druck läuft, 100% \x7f".strip("\x7f "))
    assert (answer.status, answer["content-type"]) == (200, "application/json")
    told = answer.json
    assert (told["name"], told["dispatch"], told["intake"]) == ("nothing", "hold", "open")
    assert told["reason"] == "Druck läuft, 100%"
    assert datetime.fromisoformat(told["until"]) - datetime.fromisoformat(end) < timedelta(seconds=0.01)
    assert server.get("/tasks/nothing").json == told
    assert described.faults("PATCH", "/tasks/{name}", answer) == []
    accepted = server.ask(post(submission("nothing")))
    path = accepted["location"]
    assert server.head(path).status == 202
    with server.wire() as wire:
        # The second poll and later ones go the fast road.
        polls = [wire.ask(request("HEAD", path)) for _ in range(3)]
    for answer in (accepted, server.get(path), *polls):
        assert (answer.status, answer["job-state"]) == (202, "queued")
        assert answer["job-held"] == "Druck l%C3%A4uft, 100%25"
        assert 598_000 < int(answer["retry-after-ms"]) < 640_000
    document = server.get(path)
    assert document.json["held"] == "Druck läuft, 100%"
    assert described.faults("GET", "/jobs/{id}", document) == []
    other = server.ask(post(submission("give", 1)))
    assert "job-held" not in other.headers
    server.wait_for(other["location"], "succeeded")
    assert switch(server, "nothing", dispatch="run").json["until"] is None
    done = server.wait_for(path, "succeeded")
    assert "job-held" not in done.headers


def test_without_a_reason_a_job_is_held(start: Start) -> None:
    server = start()
    switch(server, "nothing", dispatch="hold")
    path = server.submit("nothing", delay=100)
    head = server.head(path)
    assert (head["job-held"], head["job-state"]) == ("held", "scheduled")
    assert server.get(path).json["held"] == "held"
    assert int(head["retry-after"]) >= 100
    listed = server.get("/jobs?task=nothing").json["jobs"]
    assert [job["held"] for job in listed] == ["held"]
    server.delete(path)


def test_a_poll_of_a_job_is_told_of_the_hold_that_came_since(start: Start) -> None:
    server = start(workers=1)
    blocking = server.submit("sleep", {"seconds": 30})
    server.wait_for(blocking, "running")
    path = server.submit("nothing")
    with server.wire() as wire:
        for _ in range(3):
            assert "job-held" not in wire.ask(request("HEAD", path)).headers
        switch(server, "nothing", dispatch="hold")
        assert wire.ask(request("HEAD", path))["job-held"] == "held"
        assert int(wire.ask(request("HEAD", path))["retry-after"]) >= 60
        switch(server, "nothing", dispatch="run")
        said = wire.ask(request("HEAD", path))
        assert "job-held" not in said.headers
        assert int(said["retry-after"]) < 60
    server.delete(blocking)


def test_a_closed_task_is_503_until_it_is_open(start: Start) -> None:
    server = start()
    described = Description(server.get("/openapi.json").json)
    assert switch(server, "nothing", intake="closed", until=later(30), reason="moved").status == 200
    for sent, path in (
        (post(submission("nothing")), "/jobs"),
        (request("PUT", "/jobs/a-key", JSON, body=submission("nothing")), "/jobs/{id}"),
        (batch([one("give"), one("nothing")]), "/batches"),
        (request("POST", "/tasks/nothing/jobs", JSON, body=b"1"), "/tasks/{name}/jobs"),
    ):
        answer = server.ask(sent)
        assert (answer.status, answer.json["type"]) == (503, "urn:headway:problem:task-closed")
        assert "'nothing' accepts no jobs for now: moved" in answer.json["detail"]
        assert 28 < int(answer["retry-after"]) < 40
        assert described.faults(sent.partition(b" ")[0].decode(), path, answer) == []
    assert server.get("/jobs/a-key").status == 404
    assert server.ask(post(submission("give", 1))).status == 202
    assert switch(server, "nothing", intake="open").json["intake"] == "open"
    assert server.ask(post(submission("nothing"))).status == 202


def test_until_passes_by_itself(start: Start) -> None:
    server = start()
    switch(server, "nothing", dispatch="hold", until=later(0.5))
    begun = time.monotonic()
    path = server.submit("nothing")
    assert server.head(path)["job-held"] == "held"
    server.wait_for(path, "succeeded")
    assert time.monotonic() - begun < 5
    assert server.get("/tasks/nothing").json["dispatch"] == "run"


@each(
    "body, status, detail",
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"{}", 422, ": expected at least one of dispatch, intake, until, reason"),
        (b"[]", 422, ": expected an object, got an array"),
        (b'{"dispatch": "stop"}', 422, "dispatch: 'stop' is not allowed: expected one of hold, run"),
        (b'{"dispatch": null}', 422, "dispatch: null is not allowed: expected one of hold, run"),
        (b'{"intake": true}', 422, "intake: true is not allowed: expected one of closed, open"),
        (b'{"hold": true}', 422, "hold: unknown; allowed here: dispatch, intake, until, reason"),
        (
            b'{"dispatch": "hold", "until": "tomorrow"}',
            422,
            "until: 'tomorrow' is not allowed: expected a time to come such as 2026-11-29T08:00:00Z or null",
        ),
        (b'{"dispatch": "hold", "until": "2036-01-01T00:00:00"}', 422, "until: '2036-01-01T00:00:00' is not allowed"),
        (b'{"dispatch": "hold", "until": 1}', 422, "until: 1 is not allowed"),
        (b'{"dispatch": "hold", "until": "2020-01-01T00:00:00Z"}', 422, "expected a time to come"),
        (b'{"dispatch": "hold", "until": "9999-12-31T23:59:59Z"}', 422, "expected a time within ten years"),
        (b'{"dispatch": "hold", "until": "9999-12-31T23:59:59-23:59"}', 422, "expected a time within ten years"),
        (b'{"dispatch": "hold", "until": "0001-01-01T00:00:00+23:59"}', 422, "expected a time to come"),
        (b'{"dispatch": "hold", "reason": "a\\nb"}', 422, "none of them a control character"),
        (b'{"dispatch": "hold", "reason": "\xe2\x80\xa8"}', 422, "none of them a control character"),
        (b'{"dispatch": "hold", "reason": "\xff"}', 400, "malformed"),
        (json.dumps({"dispatch": "hold", "reason": "x" * 201}).encode(), 422, "a text of up to 200 characters"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(server: Server, body: bytes, status: int, detail: str) -> None:
    answer = server.ask(request("PATCH", "/tasks/nothing", JSON, body=body))
    assert answer.status == status
    if status == 422:
        assert detail in "; ".join(f"{fault['field']}: {fault['detail']}" for fault in answer.json["errors"])
    else:
        assert answer.json["type"] == "urn:headway:problem:malformed-json"
    told = server.get("/tasks/nothing").json
    assert (told["dispatch"], told["intake"], told["until"], told["reason"]) == ("run", "open", None, "")


def test_other_faults_are_one_clear_line(server: Server) -> None:
    unknown = switch(server, "no-such-task", dispatch="hold")
    assert unknown.status == 404
    assert unknown.json["detail"] == "no module declares a task of this name: GET /tasks lists them"
    plain = server.ask(request("PATCH", "/tasks/nothing", "Content-Type: text/plain", body=b"{}"))
    assert (plain.status, plain["accept"]) == (415, "application/json")
    assert server.ask(request("PATCH", "/tasks/nothing", JSON)).status == 400
    assert server.ask(request("PATCH", "/tasks", JSON, body=b"{}")).status == 405
    site = server.ask(request("PATCH", "/tasks/nothing", JSON, "Sec-Fetch-Site: cross-site", body=b"{}"))
    assert site.status == 403
