"""The bodies: what GET says of a job, and what it returned."""

from __future__ import annotations

import re

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server
from tests.protocol.wire import Answer, request

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def check_status(answer: Answer, path: str, state: str, *more: str) -> dict[str, object]:
    """See that the answer is the status document of a job in ``state`` with these members, and return it."""
    assert answer["content-type"] == "application/json"
    document: dict[str, object] = answer.json
    assert (document["id"], document["state"], answer["job-state"]) == (path[6:], state, state)
    assert document.keys() == {"id", "state", "task", "attempt", "submitted", *more}
    for name in document.keys() & {"submitted", "started", "ended"}:
        assert TIME.fullmatch(str(document[name]))
    return document


def check_problem(answer: Answer, status: int, state: str) -> dict[str, object]:
    """See that the answer is the problem document of a job in ``state``, and return it."""
    assert answer.status == status
    assert answer["content-type"] == "application/problem+json"
    assert (answer.json["status"], answer.json["state"], answer["job-state"]) == (status, state, state)
    known = {"task", "submitted", "ended"} if state in ("failed", "cancelled") else set()
    assert {"type", "title", "detail", *known} <= answer.json.keys()
    times = [answer.json[name] for name in ("submitted", "started", "ended") if name in answer.json]
    assert all(TIME.fullmatch(time) for time in times)
    assert times == sorted(times)
    document: dict[str, object] = answer.json
    return document


def test_scheduled(one_worker: Server) -> None:
    path = one_worker.submit("nothing", delay=1000)
    document = check_status(one_worker.get(path), path, "scheduled", "position", "retry_after_ms")
    assert (document["task"], document["attempt"], document["position"]) == ("nothing", 0, 0)


def test_queued_and_running(one_worker: Server, gate: Gate) -> None:
    path = one_worker.submit("report", {"percent": 42, "path": gate.path})
    one_worker.wait_for(path, "running")
    behind = one_worker.submit("nothing")
    assert check_status(one_worker.get(behind), behind, "queued", "position", "retry_after_ms")["position"] == 0
    answer = one_worker.get(path)
    document = check_status(answer, path, "running", "started", "progress", "retry_after_ms", "attempts")
    assert (document["progress"], document["attempt"]) == (42, 1)
    assert answer["job-progress"] == "42"


def test_retrying(one_worker: Server) -> None:
    path = one_worker.submit("stubborn_failure", "x")
    one_worker.wait_for(path, "retrying")
    answer = one_worker.get(path)
    assert (answer.status, answer.json["state"], answer.json["attempt"]) == (202, "retrying", 1)
    assert answer.json["retry_after_ms"] > 10_000


def test_succeeded(server: Server) -> None:
    path = server.run("nothing")
    document = check_status(server.get(path), path, "succeeded", "started", "ended", "result", "attempts")
    assert document["result"] == path + "/result"
    assert str(document["submitted"]) <= str(document["started"]) <= str(document["ended"])


@pytest.mark.parametrize("suffix", ["", "/result"])
def test_failed(server: Server, suffix: str) -> None:
    path = server.run("fail", {"message": "no é"})
    document = check_problem(server.get(path + suffix), 424, "failed")
    assert (document["reason"], document["task"], document["attempt"]) == ("error", "fail", 1)
    assert "RuntimeError: no é" in str(document["detail"])


@pytest.mark.parametrize("suffix", ["", "/result"])
def test_timeout(server: Server, gate: Gate, suffix: str) -> None:
    path = server.run("until_file", gate.path, timeout=0.05)
    document = check_problem(server.get(path + suffix), 424, "failed")
    assert (document["reason"], "0.05" in str(document["detail"])) == ("timeout", True)


@pytest.mark.parametrize("suffix", ["", "/result"])
def test_cancelled(server: Server, suffix: str) -> None:
    path = server.submit("nothing", delay=1000)
    server.delete(path)
    check_problem(server.get(path + suffix), 410, "cancelled")
    check_problem(server.delete(path), 410, "cancelled")


def test_result_of_a_job_that_is_not_over(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    server.wait_for(path, "running")
    answer, head = server.get(path + "/result"), server.head(path + "/result")
    assert answer.status == head.status == 202
    assert answer.json["state"] == "running"
    assert head.names == {"job-state", "retry-after", "retry-after-ms", "job-attempt", "content-type"}


VALUES: list[object] = [None, True, 0, -1.5, "é", [], {}, {"a": [1, {"b": None}]}, "\u2028\x00", 2**63, "x" * 500_000]


@pytest.mark.parametrize("value", VALUES, ids=[str(value)[:12] for value in VALUES])
def test_json_result(server: Server, value: object) -> None:
    answer = server.get(server.run("give", value) + "/result")
    assert (answer.status, answer["content-type"]) == (200, "application/json")
    assert answer.json == value


def test_bytes_result(server: Server) -> None:
    answer = server.get(server.run("octets", 1000) + "/result")
    assert answer["content-type"] == "application/octet-stream"
    assert answer.body == b"\x00\xff" * 500


def test_large_result_on_a_kept_connection(server: Server) -> None:
    path = server.run("octets", 8 << 20)
    with server.wire() as wire:
        assert len(wire.ask(request("GET", path + "/result")).body) == 8 << 20
        assert wire.still_serves()


@pytest.mark.parametrize("media_type", ["text/csv; charset=utf-8", "image/svg+xml", "text/html"])
def test_result_with_a_media_type(server: Server, media_type: str) -> None:
    answer = server.get(server.run("text", {"text": "é,\n", "media_type": media_type}) + "/result")
    assert (answer["content-type"], answer.body) == (media_type, "é,\n".encode())


@pytest.mark.parametrize("media_type", ["text", "", "a/b\r\nX: y", "a/b\nX: y", "text/é", "a/b; c=\x00"])
def test_media_type_cannot_make_a_header(server: Server, media_type: str) -> None:
    path = server.run("text", {"text": "", "media_type": media_type})
    assert (server.head(path).status, server.head(path)["job-reason"]) == (424, "error")


def test_result_headers(server: Server) -> None:
    path = server.run("give", 1) + "/result"
    get, head = server.get(path), server.head(path)
    isolated = {"x-content-type-options", "content-security-policy"}
    told = {"date", "job-state", "etag", "cache-control", "content-type", "content-length"}
    assert get.headers.keys() == told | isolated
    # Until its status expires: config.yaml says an hour.
    private, seconds = get["cache-control"].split("max-age=")
    assert (private, 3590 < int(seconds) <= 3600) == ("private, ", True)
    varies = {"date": "", "cache-control": ""}
    assert get.headers | varies == head.headers | varies


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_result_that_the_client_has(server: Server, method: str) -> None:
    path = server.run("give", 1) + "/result"
    etag = server.get(path)["etag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = (server.get if method == "GET" else server.head)(path, f"If-None-Match: {sent}")
        assert (answer.status, answer["etag"], answer.body) == (304, etag, b"")
        assert answer["cache-control"].startswith("private, max-age=3")


def test_result_that_the_client_has_not(server: Server) -> None:
    paths = [server.run("give", 1) + "/result" for _ in range(2)]
    assert server.get(paths[0], f"If-None-Match: {server.get(paths[1])['etag']}").status == 200
    assert server.get(paths[0], "If-None-Match: " + server.get(paths[0])["etag"].strip('"')).status == 200


@pytest.mark.parametrize("task", ["nothing", "give"])
def test_deleted_result(server: Server, task: str) -> None:
    path = server.run(task, 1)
    etag = server.get(path + "/result")["etag"]
    server.delete(path)
    for lines in ([], [f"If-None-Match: {etag}"]):
        check_problem(server.get(path + "/result", *lines), 410, "succeeded")
    assert server.head(path + "/result").status == 410


def test_oldest_results_are_given_up(start: Start) -> None:
    server = start(results__max_bytes=3500, results__max_result_bytes=2000, journal__path=None)
    paths = [server.run("octets", 1000) for _ in range(5)]
    kept = server.stats()["results"]
    assert (kept["kept"] + kept["evicted"], kept["bytes"] <= 3500, kept["kept"] >= 2) == (5, True, True)
    codes = [server.get(path + "/result").status for path in paths]
    assert codes == [410] * kept["evicted"] + [200] * kept["kept"]
    check_problem(server.get(paths[0] + "/result"), 410, "succeeded")
    assert {server.head(path).status for path in paths} == {200}


def test_result_over_its_limit_fails_the_job(start: Start) -> None:
    server = start(results__max_result_bytes=2000)
    assert server.head(server.run("octets", 2000)).status == 200
    path = server.run("octets", 2002)
    assert server.head(path)["job-reason"] == "error"
    assert "max_result_bytes" in server.get(path).json["detail"]
