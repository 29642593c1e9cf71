"""Orders about many jobs: a filter, and the job that carries them out."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Server
from tests.protocol.api.described import Description
from tests.protocol.wire import Answer, request, submission

JSON = "Content-Type: application/json"


def order(server: Server, target: str, *lines: str) -> Answer:
    return server.ask(request("POST", target, *lines, body=b""))


def test_failed_jobs_are_retried_after_a_dry_run(start: Start) -> None:
    server = start()
    described = Description(server.get("/openapi.json").json)
    for n in range(12):
        server.run("fail", n, tags=["customer:42"])
    server.run("nothing", tags=["customer:42"])
    path = "/jobs/retry?state=failed&tag=customer:42&ended_after=1h"
    counted = order(server, f"{path}&dry-run=1")
    assert (counted.status, counted.json) == (200, {"matches": 12, "by_task": {"fail": 12}})
    assert server.get("/stats").json["jobs"]["failed"] == 12
    accepted = order(server, path, "Idempotency-Key: the-order")
    assert accepted.status == 202
    job = accepted["location"]
    assert accepted.json["id"] == job.rpartition("/")[2]
    # It may begin as soon as it is committed.
    assert accepted.json["state"] in {"queued", "running"}
    done = server.wait_for(job, "succeeded")
    assert server.get(f"{job}/result").json == {"matched": 12, "done": 12, "skipped": 0}
    document = server.get(job)
    assert document.json["task"] == "headway.retry"
    again = order(server, path, "Idempotency-Key: the-order")
    assert (again["idempotency-replayed"], again["location"]) == ("true", job)
    other = order(server, "/jobs/retry?state=failed", "Idempotency-Key: the-order")
    assert (other.status, other.json["type"]) == (422, "urn:headway:problem:key-reused")
    for answer in (counted, accepted, again, other):
        assert described.faults("POST", "/jobs/retry", answer) == []
    for answer in (done, document):
        assert described.faults("HEAD" if answer is done else "GET", "/jobs/{id}", answer) == []
    # Each once, and those that failed again are not retried.
    found = server.get("/jobs?tag=customer:42&task=fail&limit=100").json["jobs"]
    assert len(found) == 24
    assert server.get("/jobs?task=headway.retry").json["jobs"][0]["id"] == accepted.json["id"]


def test_jobs_are_cancelled_and_results_deleted(start: Start) -> None:
    server = start(workers=1)
    described = Description(server.get("/openapi.json").json)
    kept = server.run("give", 1)
    gone = server.run("give", 2, tags=["away"])
    running = server.submit("sleep", {"seconds": 60})
    server.wait_for(running, "running")
    waiting = [server.submit("sleep", {"seconds": 60}) for _ in range(40)]
    answer = order(server, "/jobs/cancel?task=sleep", "Prefer: wait=10")
    assert (answer.status, answer["job-state"]) == (200, "succeeded")
    assert described.faults("POST", "/jobs/cancel", answer) == []
    assert server.get(f"{answer['content-location']}/result").json == {"matched": 41, "done": 41, "skipped": 0}
    assert {server.head(path)["job-state"] for path in [running, *waiting]} == {"cancelled"}
    answer = order(server, "/jobs/delete?tag=away", "Prefer: wait=10")
    assert answer["job-state"] == "succeeded"
    assert server.get(f"{gone}/result").status == 410
    assert server.get(f"{kept}/result").json == 1
    assert order(server, "/jobs/delete?tag=nothing-has-it&dry-run=1").json == {"matches": 0, "by_task": {}}


@each(
    "target, detail",
    [
        ("/jobs/retry", ": expected at least one of state, task, tag, reason"),
        ("/jobs/retry?", ": expected at least one of state, task, tag, reason"),
        ("/jobs/delete?dry-run=1", ": expected at least one of state, task, tag, reason"),
        ("/jobs/retry?state=queued", "state: 'queued' is not allowed: to retry jobs, expected one or more of failed"),
        ("/jobs/cancel?state=failed", "state: 'failed' is not allowed: to cancel jobs, expected one or more of sched"),
        ("/jobs/delete?state=running", "state: 'running' is not allowed: to delete jobs, expected one or more of succ"),
        ("/jobs/delete?state=all", "state: "),
        ("/jobs/cancel?task=dubble", "task: 'dubble' is not one of: "),
        ("/jobs/cancel?task=nothing&dry-run=2", "dry-run: 2 is not allowed: expected one of 0, 1"),
        ("/jobs/cancel?task=nothing&dry-run=yes", "dry-run: 'yes' is not allowed: expected one of 0, 1"),
        ("/jobs/cancel?task=nothing&dry_run=1", "dry_run: unknown; allowed here: state, task"),
        ("/jobs/cancel?task=nothing&limit=1", "limit: unknown; allowed here: state, task"),
        ("/jobs/cancel?ended_after=soon", "ended_after: 'soon' is not allowed"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(server: Server, target: str, detail: str) -> None:
    described = Description(server.get("/openapi.json").json)
    before = server.get("/stats").json["jobs"]
    answer = order(server, target)
    assert answer.status == 422
    assert detail in "; ".join(f"{fault['field']}: {fault['detail']}" for fault in answer.json["errors"])
    assert described.faults("POST", target.partition("?")[0], answer) == []
    assert server.get("/stats").json["jobs"] == before


@pytest.mark.parametrize("target", ["/jobs/cancel?task=sleep", "/jobs/cancel?task=sleep&dry-run=1", "/jobs/cancel"])
def test_a_filter_in_the_content_is_refused_not_ignored(server: Server, target: str) -> None:
    described = Description(server.get("/openapi.json").json)
    before = server.get("/stats").json["jobs"]
    answer = server.ask(request("POST", target, JSON, body=b'{"tag": "customer:42"}'))
    fault = {"field": "", "detail": "expected no content: the filter of an order is its query"}
    assert (answer.status, answer.json["errors"]) == (422, [fault])
    assert described.faults("POST", target.partition("?")[0], answer) == []
    assert server.get("/stats").json["jobs"] == before


def test_a_wrong_key_is_refused_in_a_dry_run_too(server: Server) -> None:
    for target in ("/jobs/retry?state=failed&dry-run=1", "/jobs/retry?state=failed", "/jobs/retry"):
        answer = order(server, target, "Idempotency-Key: a b")
        assert (answer.status, answer.json["errors"][0]["field"]) == (422, "key")


def test_no_key_hides_an_order(server: Server) -> None:
    for name in ("retry", "cancel", "delete"):
        assert server.get(f"/jobs/{name}").status == 405
        answer = server.ask(request("POST", "/jobs", JSON, f"Idempotency-Key: {name}", body=submission("nothing")))
        assert (answer.status, answer.json["errors"][0]["detail"]) == (422, "is the name of a route; choose another")
        assert (
            server.ask(request("POST", "/jobs", JSON, body=json.dumps({"task": f"headway.{name}"}).encode())).status
            == 422
        )


@pytest.mark.parametrize("key", [".", ".."])
def test_no_key_is_taken_out_of_a_path(server: Server, key: str) -> None:
    for asked in (
        request("PUT", f"/jobs/{key}", JSON, body=submission("nothing")),
        request("POST", "/jobs", JSON, f"Idempotency-Key: {key}", body=submission("nothing")),
    ):
        answer = server.ask(asked)
        told = answer.json["errors"][0]["detail"]
        assert (answer.status, told) == (422, "is no name in a path; choose another")
