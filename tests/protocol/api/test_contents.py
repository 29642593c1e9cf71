"""Jobs whose payload is the content of the request, on the wire."""

from __future__ import annotations

import pytest

from tests.end_to_end.process import Server
from tests.protocol.wire import Answer, request

BYTES = bytes(range(256)) * 300


def give(server: Server, task: str, body: bytes, *lines: str) -> Answer:
    return server.ask(request("POST", f"/tasks/{task}/jobs", *lines, body=body))


@pytest.mark.parametrize("media_type", ["image/jpeg", "application/json", "text/plain ; charset=utf-8", "x*/y|z; a=~"])
def test_content_of_any_type_reaches_the_task_as_it_is(server: Server, media_type: str) -> None:
    answer = give(server, "content", BYTES, f"Content-Type: {media_type}", "Prefer: wait=20")
    assert (answer.status, answer["job-state"]) == (200, "succeeded")
    result = server.get(answer["content-location"] + "/result")
    assert (result["content-type"], result.body) == (media_type, BYTES)
    # A browser runs no script of it as a page of ours.
    assert (result["content-security-policy"], result["x-content-type-options"]) == ("sandbox", "nosniff")


def test_a_browser_runs_no_script_of_a_payload(server: Server) -> None:
    script = b"<script>alert(1)</script>"
    answer = server.ask(request("POST", "/tasks/content/jobs?delay=1000", "Content-Type: text/html", body=script))
    payload = server.get(answer["location"] + "/payload")
    server.delete(answer["location"])
    assert (payload["content-type"], payload.body) == ("text/html", script)
    assert (payload["content-security-policy"], payload["x-content-type-options"]) == ("sandbox", "nosniff")


def test_content_without_a_type_is_octets(server: Server) -> None:
    path = give(server, "content", b"x")["location"]
    server.wait_for(path, "succeeded")
    assert server.get(f"{path}/result")["content-type"] == "application/octet-stream"


def test_json_is_the_payload_alone(server: Server) -> None:
    answer = give(server, "echo", b'{"task": "no member"}', "Content-Type: application/json; charset=utf-8")
    assert answer.status == 202
    server.wait_for(answer["location"], "succeeded")
    assert server.get(answer["location"] + "/result").json == {"task": "no member"}
    path = server.ask(request("POST", "/tasks/echo/jobs", "Content-Length: 0"))["location"]
    server.wait_for(path, "succeeded")
    assert server.get(f"{path}/result").json is None


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "Input data was truncated"),
        (b" ", "Input data was truncated"),
        (b'"a\xff"', "byte 2 is no UTF-8"),
        (b"1e999", "a number is over 1.8e308, and no whole one of up to 4,300 digits"),
        (b"9" * 4301, "a number is over 1.8e308, and no whole one of up to 4,300 digits"),
        (rb'"\ud800"', r"a text has half of a surrogate pair, such as \ud800, which is no character"),
        (b"[" * 5000 + b"]" * 5000, "arrays and objects stand in each other over 900 deep"),
    ],
    ids=["cut", "empty", "octets", "far", "digits", "half", "deep"],
)
def test_json_that_is_none_is_400(server: Server, body: bytes, detail: str) -> None:
    answer = give(server, "echo", body, "Content-Type: application/json")
    assert (answer.status, answer.json["type"]) == (400, "urn:headway:problem:malformed-json")
    assert answer.json["detail"] == detail


def test_options_are_members_of_the_query(server: Server) -> None:
    answer = server.ask(request("POST", "/tasks/content/jobs?delay=30&priority=7&timeout=1.5&retries=2", body=b"x"))
    assert (answer.status, answer["job-state"]) == (202, "scheduled")
    server.delete(answer["location"])
    wrong = server.ask(request("POST", "/tasks/content/jobs?delay=x&payload=1&priority=10", body=b"x"))
    assert wrong.status == 422
    assert [fault["field"] for fault in wrong.json["errors"]] == ["delay", "payload", "priority"]


def test_an_option_is_given_once(server: Server) -> None:
    answer = server.ask(request("POST", "/tasks/content/jobs?priority=7&priority=8", body=b"x"))
    assert answer.json["errors"] == [{"field": "priority", "detail": "is given more than once"}]
    assert server.get("/jobs?state=queued&state=failed").status == 200


def test_tags_are_given_more_than_once_or_with_commas(server: Server) -> None:
    query = "tags=a,b&tags=c%2Cd&tags=42&tags=x+y%2B%C3%BC"
    path = server.ask(request("POST", f"/tasks/content/jobs?{query}", body=b"x"))["location"]
    server.wait_for(path, "succeeded")
    assert server.get(path).json["tags"] == ["a", "b", "c,d", "42", "x y+ü"]
    for wrong in ("tags=", "tags=a,,b", "tags=a%0A", "tags=" + ",".join("abcdefghi")):
        answer = server.ask(request("POST", f"/tasks/content/jobs?{wrong}", body=b"x"))
        assert (answer.status, [fault["field"] for fault in answer.json["errors"]]) == (422, ["tags"])
        assert "at most 8 texts of 1 to 100 characters" in answer.json["detail"]


def test_a_query_of_many_members_is_refused_at_once(server: Server) -> None:
    many = "&".join(f"a{number}" for number in range(1500))
    for path in (f"/jobs?{many}", f"/jobs?{'state=queued&' * 65}"):
        assert "at most 64 members" in server.get(path).json["detail"]


def test_the_media_type_is_no_member_of_a_submission(server: Server) -> None:
    for value in (b'"a/b"', b"null", b"5"):
        one = b'{"task":"nothing","media_type":%b}' % value
        answers = [
            server.ask(request("POST", "/jobs", "Content-Type: application/json", body=one)),
            server.ask(request("PUT", "/jobs/a-typed-key", "Content-Type: application/json", body=one)),
            server.ask(request("POST", "/batches", "Content-Type: application/json", body=b"[%b]" % one)),
        ]
        for answer in answers:
            assert (answer.status, answer.json["type"]) == (422, "urn:headway:problem:invalid")
            assert "media_type" not in answer.json["errors"][0]["detail"].partition("allowed here")[2]


def test_a_key_has_one_job_of_one_content_and_one_type(server: Server) -> None:
    first = give(server, "content", b"x", "Content-Type: a/b", "Idempotency-Key: content-1")
    again = give(server, "content", b"x", "Content-Type: a/b", "Idempotency-Key: content-1")
    assert (again["location"], again["idempotency-replayed"]) == (first["location"], "true")
    for body, media_type, query in ((b"y", "a/b", ""), (b"x", "a/c", ""), (b"x", "a/b", "?priority=1")):
        line = f"Content-Type: {media_type}"
        other = server.ask(
            request("POST", f"/tasks/content/jobs{query}", line, "Idempotency-Key: content-1", body=body)
        )
        assert other.json["type"] == "urn:headway:problem:key-reused"


def test_a_task_of_json_takes_no_other_content(server: Server) -> None:
    answer = give(server, "scan", b"x", "Content-Type: image/jpeg")
    assert (answer.status, answer["accept"]) == (415, "application/json")
    assert "'scan' takes JSON" in answer.json["detail"]
    assert give(server, "scan", b'{"pages": 1}', "Content-Type: application/json").status == 422


def test_content_that_is_encoded_or_has_no_media_type_is_415(server: Server) -> None:
    assert give(server, "content", b"x", "Content-Encoding: gzip")["accept-encoding"] == "identity"
    for odd in ("image", "a/b/c", "a/b c", "é/b", "a/" + "b" * 200):
        assert give(server, "content", b"x", f"Content-Type: {odd}").status == 415


def test_a_task_has_a_limit_of_its_own(server: Server) -> None:
    for query in ("", "?priority=1"):
        answer = server.ask(request("POST", f"/tasks/content/jobs{query}", body=bytes(100_001)))
        assert (answer.status, answer["connection"]) == (413, "close")
        assert "100000 bytes here (body_bytes of the task 'content')" in answer.json["detail"]
    assert give(server, "content", bytes(100_000), "Content-Type: a/b").status == 202
    chunks = b"%x\r\n%b\r\n" % (60_000, bytes(60_000)) * 2 + b"0\r\n\r\n"
    head = b"POST /tasks/content/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert server.ask(head + chunks).status == 413


def test_an_unknown_task_is_404(server: Server) -> None:
    answer = give(server, "nowhere", b"x")
    assert (answer.status, answer.json["type"]) == (404, "urn:headway:problem:not-found")
    assert server.get("/tasks/content/jobs").status == 405
    assert server.get("/tasks/content/nowhere").status == 404


def test_a_task_is_named_by_its_segment(server: Server) -> None:
    assert give(server, "with%20%2F%20and%20%C3%A9", b"x", "Content-Type: a/b").status == 202


def test_an_expectation_is_checked_before_content_is_sent(server: Server) -> None:
    for task, status in (("scan", 415), ("nowhere", 404), ("content", 100)):
        lines = ("Content-Type: a/b", "Content-Length: 3", "Expect: 100-continue")
        with server.wire() as wire:
            wire.send(request("POST", f"/tasks/{task}/jobs", *lines))
            assert wire.read().status == status
