"""Conditions on changes: ``If-Match`` and ``If-None-Match``. A change whose condition is false is not made."""

from __future__ import annotations

import pytest

from tests.end_to_end.process import Gate, Server
from tests.protocol.wire import request, submission

JSON = "Content-Type: application/json"
FALSE = ['If-Match: "x"', 'If-Match: W/"x", "y"', "If-Match:", "If-None-Match: *"]
TRUE = ["If-Match: *", 'If-None-Match: "x"']


def refused(server: Server, method: str, target: str, line: str, body: bytes | None) -> None:
    lines = [JSON] if body else []
    answer = server.ask(request(method, target, *lines, line, body=body))
    assert (answer.status, answer.json["type"]) == (412, "urn:headway:problem:precondition"), (method, target)


@pytest.mark.parametrize("line", FALSE)
def test_a_change_whose_condition_is_false_is_not_made(server: Server, gate: Gate, line: str) -> None:
    key = f"/jobs/conditional-{FALSE.index(line)}"
    put = request("PUT", key, JSON, body=submission("until_file", gate.path))
    job, held = server.ask(put)["location"], server.get("/tasks/give").json["dispatch"]
    batch = server.ask(request("POST", "/batches", JSON, body=b"[%b]" % submission("until_file", gate.path)))[
        "location"
    ]
    newest = server.get("/jobs?limit=1").json["jobs"][0]["id"]
    for method, target, body in (
        ("POST", "/jobs", submission("give")),
        ("POST", "/batches", b"[%b]" % submission("give")),
        ("POST", "/tasks/give/jobs", b"1"),
        ("POST", "/jobs/cancel?task=until_file", b""),
        ("DELETE", job, None),
        ("DELETE", key, None),
        ("DELETE", batch, None),
        ("PATCH", job, b'{"priority":7}'),
        ("PATCH", "/tasks/give", b'{"dispatch":"hold"}'),
    ):
        refused(server, method, target, line, body)
    assert server.head(job).status == 202
    assert server.head(batch)["batch-pending"] == "1"
    assert server.get("/tasks/give").json["dispatch"] == held
    assert newest == server.get("/jobs?limit=1").json["jobs"][0]["id"]
    gate.open()


def test_a_put_may_ask_whether_its_key_is_known(server: Server) -> None:
    first, body = "/jobs/conditional-put", submission("give")
    refused(server, "PUT", first, "If-Match: *", body)
    refused(server, "PUT", first, 'If-Match: "x"', body)
    assert server.head(first).status == 404
    for line, status in (("If-None-Match: *", 202), ("If-Match: *", 200), ('If-None-Match: "x"', 200)):
        answer = server.ask(request("PUT", first, JSON, line, "Prefer: wait=10", body=body))
        assert answer.status in (200, status)
    refused(server, "PUT", first, "If-None-Match: *", body)


@pytest.mark.parametrize("line", TRUE)
def test_a_change_whose_condition_is_true_is_made(server: Server, line: str) -> None:
    answer = server.ask(request("POST", "/jobs", JSON, line, body=submission("give")))
    assert answer.status == 202
    server.wait_for(answer["location"], "succeeded")
    assert server.ask(request("DELETE", answer["location"], line)).status == 204


@pytest.mark.parametrize("line", FALSE)
def test_another_refusal_comes_first(server: Server, line: str) -> None:
    """RFC 9110, 13.2.1: of a request that would not succeed anyway the condition counts for nothing."""
    assert server.ask(request("POST", "/nowhere", line, body=b"")).status == 404
    assert server.ask(request("DELETE", "/stats", line)).status == 405


def test_a_condition_is_looked_at_before_the_content_is_sent(server: Server) -> None:
    with server.wire() as wire:
        wire.send(request("POST", "/jobs", JSON, 'If-Match: "x"', "Content-Length: 100000", "Expect: 100-continue"))
        assert wire.read().status == 412


def test_on_a_known_connection_a_condition_counts(server: Server) -> None:
    """The head of a POST that is known has none."""
    with server.wire() as wire:
        for _ in range(3):
            assert wire.ask(request("POST", "/jobs", JSON, body=submission("give"))).status == 202
        assert wire.ask(request("POST", "/jobs", JSON, 'If-Match: "x"', body=submission("give"))).status == 412
