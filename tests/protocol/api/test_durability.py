"""``Job-Durability``: what a 202 promises, and the submission that demands it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Server, wait_until
from tests.protocol.wire import Answer, post, request, submission

JSON = "Content-Type: application/json"
# How jobs are kept, by promise; ``path`` stands for a file of the test's own.
KEPT = {"memory": (False, "full"), "process": (True, "normal"), "disk": (True, "full")}


@pytest.fixture(params=KEPT)
def promising(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> tuple[Server, str]:
    """A server that gives this promise."""
    kept, sync = KEPT[request.param]
    path = str(tmp_path / "jobs") if kept else None
    return start(journal__path=path, journal__sync=sync), request.param


def test_each_202_to_a_submission_says_what_it_promises(promising: tuple[Server, str]) -> None:
    server, promised = promising
    failed = server.run("fail")
    batch = b"[%b]" % submission("nothing")
    answers = [
        server.ask(post(submission("nothing"))),
        server.ask(post(submission("nothing"), "Prefer: return=minimal")),
        server.ask(post(submission("nothing", delay=60), "Prefer: wait=0")),
        server.ask(post(submission("nothing", delay=60), "Idempotency-Key: kept")),
        server.ask(post(submission("nothing", delay=60), "Idempotency-Key: kept")),
        server.ask(request("PUT", "/jobs/by-key.1", JSON, body=submission("nothing", delay=60))),
        server.ask(request("POST", f"{failed}/retry", body=b"")),
        server.ask(request("POST", "/batches", JSON, body=batch)),
        server.ask(request("POST", "/batches", JSON, "Prefer: return=minimal", body=batch)),
    ]
    assert [(answer.status, answer.headers.get("job-durability")) for answer in answers] == [(202, promised)] * 9
    # It is said of the acceptance, so not by a poll.
    assert "job-durability" not in server.head(answers[3]["location"]).headers
    ready = wait_until(lambda: server.get("/readyz"), lambda answer: answer.status == 200)
    assert (ready.status, ready.body, ready["job-durability"]) == (200, b"ready\n", promised)
    for answer in answers:
        server.delete(answer["location"])
    (line,) = [line for line in server.said if "serving http" in line]
    assert f"durability {promised}: jobs " in line


def test_a_submission_may_demand_a_promise(promising: tuple[Server, str]) -> None:
    # What is refused comes first, and leaves nothing.
    for demanded in reversed(KEPT):
        demand(*promising, demanded)


def demand(server: Server, promised: str, demanded: str) -> None:
    """See that a server that gives one promise accepts the demand of another if it is not more."""
    by_key = f"/jobs/by-key.{demanded}"
    one = submission("nothing", durability=demanded)
    answers = [
        server.ask(post(one)),
        server.ask(request("PUT", by_key, JSON, body=one)),
        server.ask(request("POST", "/batches", JSON, body=b"[%b,%b]" % (submission("nothing"), one))),
        server.ask(request("POST", f"/tasks/nothing/jobs?durability={demanded}", JSON, body=b"1")),
    ]
    if list(KEPT).index(demanded) <= list(KEPT).index(promised):
        told = [(answer.status, answer["job-durability"]) for answer in answers]
        assert told == [(202, promised)] * 4
        return
    for answer in answers:
        refused(answer, demanded, promised)
    assert server.head(by_key).status == 404
    assert server.stats()["jobs"]["queued"] == server.stats()["jobs"]["succeeded"] == 0


def refused(answer: Answer, demanded: str, promised: str) -> None:
    assert (answer.status, answer.json["type"]) == (422, "urn:headway:problem:not-durable")
    assert f'demands durability "{demanded}". This server promises "{promised}": jobs ' in answer.json["detail"]


def test_a_payload_that_does_not_fit_is_told_before_a_promise(server: Server) -> None:
    one = submission("scan", 7, durability="disk")
    for sent in (
        post(one),
        request("PUT", "/jobs/by-key.3", JSON, body=one),
        request("POST", "/batches", JSON, body=b"[%b,%b]" % (submission("nothing", durability="disk"), one)),
        request("POST", "/tasks/scan/jobs?durability=disk", JSON, body=b"7"),
    ):
        answer = server.ask(sent)
        assert (answer.status, answer.json["type"]) == (422, "urn:headway:problem:invalid-payload")


def test_an_unknown_promise_is_refused(server: Server) -> None:
    answer = server.ask(post(submission("nothing", durability="tape")))
    assert (answer.status, answer.json["type"]) == (422, "urn:headway:problem:invalid")
    assert answer.json["detail"] == "durability: 'tape' is not allowed: expected one of disk, memory, process or null"
