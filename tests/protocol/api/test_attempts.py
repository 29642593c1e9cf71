"""The attempts at a job in its documents."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server
from tests.protocol.wire import post, request, submission


def told(server: Server, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.ask(request("GET", path)).json["attempts"]
    return found


def test_a_job_that_has_not_begun_has_no_attempts(server: Server) -> None:
    path = server.submit("nothing", delay=60)
    assert "attempts" not in server.ask(request("GET", path)).json
    assert server.ask(request("DELETE", path)).status == 204


def test_one_that_runs_and_one_that_succeeded(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    server.wait_for(path, "running")
    (past,) = told(server, path)
    assert {**past, "started": None} == {"attempt": 1, "started": None, "place": "loop", "outcome": "running"}
    gate.open()
    server.wait_for(path, "succeeded")
    (past,) = told(server, path)
    assert set(past) == {"attempt", "started", "ended", "outcome"}
    assert past["outcome"] == "succeeded"
    assert datetime.fromisoformat(past["started"]) <= datetime.fromisoformat(past["ended"])


def test_one_that_failed(start: Start) -> None:
    server = start(jobs__backoff=0.01)
    path = server.run("stubborn_failure", "<b>\x1b[1m no", retries=1)
    answer = server.ask(request("GET", path))
    assert answer.status == 424
    first, second = answer.json["attempts"]
    assert (first["attempt"], first["place"], first["outcome"], first["reason"]) == (1, "loop", "failed", "error")
    assert {**first["error"], "traceback": ""} == {"type": "ValueError", "message": "<b>\x1b[1m no", "traceback": ""}
    assert "raise ValueError(payload)" in first["error"]["traceback"]
    assert (second["attempt"], second["error"]) == (2, first["error"])
    assert "attempts_left_out" not in answer.json
    # It is JSON for every client, so a terminal and a browser see no character that controls them.
    assert b"\x1b" not in answer.body
    line = json.loads(server.wait_for_line("attempt 2 at task"))
    fields = {"job": path.removeprefix("/jobs/"), "task": "stubborn_failure", "attempt": 2, "reason": "error"}
    assert line.items() >= fields.items()
    with server.wire() as wire:
        posted = wire.ask(post(submission("stubborn_failure", 1, retries=0), "Prefer: wait=20"))
    assert [past["attempt"] for past in posted.json["attempts"]] == [1]


def test_one_that_was_cancelled(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    server.wait_for(path, "running")
    assert server.ask(request("DELETE", path)).status == 202
    (past,) = told(server, path)
    assert (past["attempt"], past["outcome"], "reason" in past) == (1, "interrupted", False)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_those_that_are_left_out_are_counted(start: Start, method: str) -> None:
    server = start(jobs__backoff=0.0001, jobs__backoff_max=0.0001)
    path = server.run("stubborn_failure", "no", retries=29)
    answer = server.ask(request(method, path))
    assert answer["job-attempt"] == "30"
    if method == "GET":
        assert [past["attempt"] for past in answer.json["attempts"]] == [1, 2, 3, 4, 5, *range(11, 31)]
        assert answer.json["attempts_left_out"] == 5


def test_the_error_of_a_failed_job_that_was_deleted_is_not_said_to_be_given_up(server: Server) -> None:
    path = server.run("fail", "why")
    assert server.ask(request("DELETE", path)).status == 204
    detail = server.get(path).json["detail"]
    assert detail == "the job failed, and its error was deleted, or given up to stay within results.max_bytes"
