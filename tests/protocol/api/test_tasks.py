"""Declared tasks on the wire, and payloads that do not fit them."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.process import Server
from tests.protocol.api.test_batches import batch, one
from tests.protocol.wire import Answer, post, request, submission

JSON = "Content-Type: application/json"
WRONG = {"pages": [{"size": 1}, {"size": 2}, {"size": 3}, {"size": "x", "colour": 1}]}
FAULTS = {
    "payload.pages[3].size": "Expected `int`, got `str`",
    "payload.pages[3].colour": "unknown; allowed here: size",
}


def check(answer: Answer, prefix: str = "") -> None:
    assert (answer.status, answer["content-type"]) == (422, "application/problem+json")
    assert answer.json["type"] == "urn:headway:problem:invalid-payload"
    assert {fault["field"]: fault["detail"] for fault in answer.json["errors"]} == {
        prefix + place: text for place, text in FAULTS.items()
    }


def test_a_payload_that_does_not_fit_is_refused_with_the_place_of_each_fault(server: Server) -> None:
    check(server.ask(post(submission("scan", WRONG))))
    check(server.ask(request("PUT", "/jobs/a-scan", JSON, body=submission("scan", WRONG))))
    assert server.get("/jobs/a-scan").status == 404
    check(server.ask(batch([one("nothing"), one("scan", {"pages": []}), one("scan", WRONG)])), "[2].")
    assert server.ask(post(b'{"task":"scan"}')).json["errors"] == [
        {"field": "payload", "detail": "Expected `object`, got `null`"}
    ]
    # The whole content was spoilt before anything was found to be wrong with the payload.
    assert server.ask(post(b'{"task":"scan","payload":{"pages":[{"size":01}]}}')).status == 400


def test_a_payload_that_fits_arrives_as_its_type(server: Server) -> None:
    path = server.run("scan", {"pages": [{"size": 1}, {"size": 2}]})
    assert server.get(f"{path}/result").json == [{"size": 2}, {"size": 3}]


def test_a_task_is_described(server: Server) -> None:
    server.run("scan", {"pages": []})
    answer = server.get("/tasks/scan")
    assert (answer.status, answer["content-type"]) == (200, "application/json")
    task = answer.json
    assert task["description"] == "Return the pages, a size larger."
    assert task["schema"]["$defs"]["Page"]["required"] == ["size"]
    assert task["options"] == {
        "timeout": 300.0,
        "deadline": None,
        "retries": 0,
        "keep": None,
        "max_concurrent": 7,
        "run_in": "loop",
    }
    assert server.get("/tasks/kept_short").json["options"]["keep"] == 50
    assert set(task["counts"]) == {"unfinished", "running", "succeeded", "failed", "cancelled"}
    assert task["counts"]["succeeded"] >= 1
    assert 0 < task["run_median_seconds"] < 1
    head = server.head("/tasks/scan")
    assert (head.status, head["content-type"]) == (200, "application/json")
    assert server.get("/tasks/nothing").json["schema"] == {}


def test_all_tasks_are_listed(server: Server) -> None:
    tasks = server.get("/tasks").json["tasks"]
    names = [task["name"] for task in tasks]
    assert {"scan", "nothing", "with / and é"} <= set(names)
    assert tasks[names.index("nothing")].keys() == server.get("/tasks/nothing").json.keys()
    assert server.head("/tasks").status == 200


@pytest.mark.parametrize("target", ["/tasks/with%20%2F%20and%20%C3%A9", "/tasks/with%20%2f%20and%20%c3%A9"])
def test_a_name_of_any_characters_is_escaped(server: Server, target: str) -> None:
    assert server.get(target).json["name"] == "with / and é"


@pytest.mark.parametrize("target", ["/tasks/", "/tasks/no-such-task", "/tasks/scan/", "/tasks/%FF", "/tasks/scan/more"])
def test_an_unknown_task_is_404(server: Server, target: str) -> None:
    answer = server.get(target)
    assert (answer.status, answer["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("target", "allowed"), [("/tasks", "GET, HEAD, OPTIONS"), ("/tasks/scan", "GET, HEAD, OPTIONS, PATCH")]
)
def test_other_methods_are_refused(server: Server, target: str, allowed: str) -> None:
    answer = server.ask(post(json.dumps({}).encode()).replace(b"/jobs", target.encode(), 1))
    assert (answer.status, answer["allow"]) == (405, allowed)
