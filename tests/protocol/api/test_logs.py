"""``/jobs/{id}/log``: whole, by ranges, and as it grows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, wait_until
from tests.protocol.wire import Answer, request

LINES = b"".join(b"line %d\n" % number for number in range(1000))
TEXT = "text/plain; charset=utf-8"


def finished(server: Server, texts: list[str]) -> str:
    """Run a job that logs ``texts``, and return the path of its log."""
    return server.run("log_texts", {"texts": texts}) + "/log"


def logging(server: Server, gate: Gate, texts: list[str]) -> str:
    """Start a job that logs ``texts`` and more once the gate opens, and return the path of its log."""
    path = server.submit("log_texts", {"texts": texts, "path": gate.path, "more": ["more"]}) + "/log"
    length = sum(len(text) + 1 for text in texts)
    wait_until(lambda: int(server.head(path)["log-length"]), lambda found: found == length)
    return path


def waiting(server: Server, count: int) -> None:
    wait_until(lambda: server.stats()["waiting_clients"], lambda clients: clients == count)


def check_harmless(answer: Answer) -> None:
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["content-security-policy"] == "sandbox"


def test_the_whole_log(server: Server) -> None:
    path = finished(server, ["one", "two"])
    answer = server.get(path)
    assert (answer.status, answer.body) == (200, b"one\ntwo\n")
    assert answer.names == {
        *("job-state", "log-length", "accept-ranges", "content-type", "content-length"),
        *("x-content-type-options", "content-security-policy"),
    }
    assert (answer["content-type"], answer["job-state"], answer["log-length"]) == (TEXT, "succeeded", "8")
    assert answer["accept-ranges"] == "bytes"
    check_harmless(answer)
    head = server.head(path)
    assert head.headers | {"date": ""} == answer.headers | {"date": ""}


def test_a_job_that_logs_nothing_has_an_empty_log(server: Server) -> None:
    path = server.run("nothing") + "/log"
    answer = server.get(path)
    assert (answer.status, answer.body, answer["log-length"], answer["content-length"]) == (200, b"", "0", "0")


def test_the_log_of_a_failed_job(server: Server) -> None:
    path = server.submit("log_and_fail", retries=1)
    server.wait_for(path, "failed")
    answer = server.get(path + "/log")
    assert (answer.status, answer["job-state"]) == (200, "failed")
    assert answer.body == b"attempt 1\n--- attempt 2 ---\nattempt 2\n"


def test_head_of_the_log_of_an_expired_job_has_no_body(server: Server) -> None:
    path = server.run("give", 1, keep=0.01)
    server.wait_for(path, "expired")
    with server.wire() as wire:
        answer = wire.ask(request("HEAD", path + "/log"))
        assert (answer.status, answer["job-state"]) == (410, "expired")
        assert wire.still_serves()


def test_a_log_under_a_key(server: Server) -> None:
    headers = ("Content-Type: application/json",)
    body = json.dumps({"task": "log_texts", "payload": {"texts": ["keyed"]}}).encode()
    location = server.ask(request("PUT", "/jobs/log-of-a-key", *headers, body=body))["location"]
    server.wait_for(location, "succeeded")
    answer = server.get("/jobs/log-of-a-key/log")
    assert (answer.body, answer["content-location"]) == (b"keyed\n", location)


def test_no_such_job(server: Server) -> None:
    assert server.get("/jobs/nothing-here/log").status == 404
    assert server.get(f"/jobs/{'0' * 36}/log").status == 421


def test_a_job_that_has_expired(start: Start) -> None:
    server = start(retention__jobs=1)
    path = finished(server, ["one"])
    server.run("nothing")
    server.run("nothing")
    answer = server.get(path)
    assert (answer.status, answer["job-state"]) == (410, "expired")


def test_characters_stay_as_they_were_written(server: Server) -> None:
    texts = ["<script>alert(1)</script>", "\x1b[31mred\x00\x07", "Zoë 北京"]
    answer = server.get(finished(server, texts))
    assert answer.body == "<script>alert(1)</script>\n\x1b[31mred\x00\x07\nZoë 北京\n".encode()
    check_harmless(answer)


RANGES = [
    # Of b"0123456789\n", 11 bytes.
    ("bytes=0-3", 206, "bytes 0-3/11", b"0123"),
    ("bytes=4-", 206, "bytes 4-10/11", b"456789\n"),
    ("bytes=10-99", 206, "bytes 10-10/11", b"\n"),
    ("bytes=-3", 206, "bytes 8-10/11", b"89\n"),
    ("bytes=-99", 206, "bytes 0-10/11", b"0123456789\n"),
    ("BYTES = 4-4 ", 206, "bytes 4-4/11", b"4"),
    ("bytes=11-", 416, "bytes */11", None),
    ("bytes=11-20", 416, "bytes */11", None),
    ("bytes=999999999999999999-", 416, "bytes */11", None),
    ("bytes=-0", 416, "bytes */11", None),
]


@pytest.mark.parametrize(("asked", "code", "where", "body"), RANGES)
def test_a_range(server: Server, asked: str, code: int, where: str, body: bytes | None) -> None:
    path = finished(server, ["0123456789"])
    answer = server.get(path, f"Range: {asked}")
    assert (answer.status, answer["content-range"], answer["log-length"]) == (code, where, "11")
    assert answer["job-state"] == "succeeded"
    check_harmless(answer)
    if body is None:
        assert answer.json["type"] == "urn:headway:problem:range"
        assert answer.json["detail"] == "the job has finished, and has written 11 bytes"
    else:
        assert (answer.body, answer["content-type"]) == (body, TEXT)


@pytest.mark.parametrize(
    "lines",
    [
        ("Range: bytes=3-1",),
        ("Range: bytes=-",),
        ("Range: bytes=0-1,3-4",),
        ("Range: lines=0-1",),
        ("Range: bytes=a-b",),
        ("Range: bytes=9999999999999999999-",),
        ("Range:",),
        ("Range: bytes=0-1", 'If-Range: "tag"'),
    ],
)
def test_a_range_that_is_none_is_passed_over(server: Server, lines: tuple[str, ...]) -> None:
    answer = server.get(finished(server, ["0123456789"]), *lines)
    assert (answer.status, answer.body) == (200, b"0123456789\n")
    assert "content-range" not in answer.headers


def test_head_has_no_ranges(server: Server) -> None:
    path = finished(server, ["0123456789"])
    answer = server.head(path, "Range: bytes=0-1", "Prefer: wait=20")
    assert (answer.status, answer["content-length"]) == (200, "11")


def test_the_part_that_was_left_out(start: Start) -> None:
    server = start(results__log_bytes=2048)
    path = finished(server, ["x" * 999] * 10)
    whole = (b"x" * 999 + b"\n") * 10
    answer = server.get(path)
    assert answer.body == whole[:1024] + b"\n[... 7952 bytes left out ...]\n" + whole[-1024:]
    assert (answer["log-length"], int(answer["content-length"])) == ("10000", len(answer.body))
    for asked, where in (
        ("1000-", "1000-1023"),
        ("0-9999", "0-1023"),
        ("1024-", "8976-9999"),
        ("5000-8980", "8976-8980"),
        ("-2000", "8976-9999"),
        ("-1000", "9000-9999"),
    ):
        answer = server.get(path, f"Range: bytes={asked}")
        assert (answer.status, answer["content-range"]) == (206, f"bytes {where}/10000")
        first, last = map(int, where.split("-"))
        assert answer.body == whole[first : last + 1]
    answer = server.get(path, "Range: bytes=2000-3000")
    assert (answer.status, answer["content-range"]) == (416, "bytes */10000")
    assert answer.json["detail"] == "these bytes were left out: ask for those from 8976 on"


def test_a_range_that_was_left_out_is_not_waited_for(start: Start, gate: Gate) -> None:
    server = start(results__log_bytes=2048)
    path = logging(server, gate, ["x" * 999] * 10)
    began = time.monotonic()
    answer = server.get(path, "Range: bytes=2000-3000", "Prefer: wait=20")
    assert (answer.status, answer["job-state"], answer["content-range"]) == (416, "running", "bytes */10000")
    assert time.monotonic() - began < 5


def test_a_range_far_beyond_the_end_waits_until_the_text_comes_to_it(server: Server) -> None:
    path = server.submit("log_lines", {"count": 50, "pause": 0.01}) + "/log"
    answer = server.get(path, "Range: bytes=300-", "Prefer: wait=20")
    assert answer.status == 206
    assert answer["content-range"].startswith("bytes 300-")
    assert answer.body
    assert LINES[300:].startswith(answer.body)


def test_a_range_beyond_the_end_waits_for_more(server: Server, gate: Gate) -> None:
    path = logging(server, gate, ["begun"])
    with server.wire() as wire:
        wire.send(request("GET", path, "Range: bytes=6-", "Prefer: wait=20"))
        waiting(server, 1)
        gate.open()
        answer = wire.read("GET")
        assert (answer.status, answer.body, answer["content-range"]) == (206, b"more\n", "bytes 6-10/11")
        assert answer["preference-applied"] == "wait=20"
        assert wire.still_serves()
    waiting(server, 0)


def test_a_range_beyond_the_end_waits_for_the_end_of_the_job(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path) + "/log"
    with server.wire() as wire:
        wire.send(request("GET", path, "Range: bytes=0-", "Prefer: wait=20"))
        waiting(server, 1)
        gate.open()
        answer = wire.read("GET")
    assert (answer.status, answer["job-state"], answer["content-range"]) == (416, "succeeded", "bytes */0")


def test_a_range_beyond_the_end_waits_no_longer_than_it_says(server: Server, gate: Gate) -> None:
    path = logging(server, gate, ["begun"])
    began = time.monotonic()
    answer = server.get(path, "Range: bytes=6-", "Prefer: wait=1")
    assert (answer.status, answer["job-state"], answer["preference-applied"]) == (416, "running", "wait=1")
    assert answer.json["detail"] == "the job has written 6 bytes so far"
    assert 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize("lines", [(), ("Range: bytes=2-",), ("Range: bytes=-1",)])
def test_text_that_is_there_is_not_waited_for(server: Server, gate: Gate, lines: tuple[str, ...]) -> None:
    path = logging(server, gate, ["begun"])
    began = time.monotonic()
    answer = server.get(path, "Prefer: wait=20", *lines)
    assert answer.status == (206 if lines else 200)
    assert answer["job-state"] == "running"
    assert time.monotonic() - began < 5


def test_who_goes_waits_no_more(server: Server, gate: Gate) -> None:
    path = logging(server, gate, ["begun"])
    with server.wire() as wire:
        wire.send(request("GET", path, "Range: bytes=6-", "Prefer: wait=20"))
        waiting(server, 1)
    waiting(server, 0)
    assert server.get(path).body == b"begun\n"


def followed(server: Server, path: str) -> bytes:
    """Read a log to its end as ``curl -r N- -H 'Prefer: wait=20'`` does again and again."""
    text, at = b"", 0
    while True:
        answer = server.get(path, f"Range: bytes={at}-", "Prefer: wait=20")
        if answer.status == 416:
            if answer["job-state"] == "succeeded":
                return text
            continue
        begin, _, last = answer["content-range"].removeprefix("bytes ").partition("/")[0].partition("-")
        assert int(begin) == at
        text += answer.body
        at = int(last) + 1


def test_a_log_is_followed_to_its_end(server: Server) -> None:
    path = server.submit("log_lines", {"count": 1000, "pause": 0.0005}) + "/log"
    assert followed(server, path) == LINES


def test_the_output_of_a_process_is_followed_to_its_end(start: Start) -> None:
    server = start(tasks=["tests.end_to_end.tasks_that_print"])
    path = server.submit("print_lines", 1000) + "/log"
    assert followed(server, path) == LINES


@pytest.mark.parametrize(
    ("message", "header", "shown"),
    [
        ("page 12 of 30", "page 12 of 30", "page 12 of 30"),
        ("40% of Zoë", "40%25 of Zo%C3%AB", "40% of Zoë"),
        ("<b>\r\nJob-State: failed\x1b", "<b>  Job-State: failed", "<b>  Job-State: failed"),
        ("é" * 500, "%C3%A9" * 200, "é" * 200),
    ],
    ids=["plain", "percent", "control", "long"],
)
def test_a_message_of_a_running_job(server: Server, gate: Gate, message: str, header: str, shown: str) -> None:
    path = server.submit("report", {"percent": 40, "path": gate.path, "message": message})
    answer = server.wait_for(path, "running")
    with server.wire() as wire:
        # The same bytes again, which the loop of polls answers.
        for _ in range(3):
            answer = wire.ask(request("HEAD", path))
            assert (answer["job-progress"], answer["job-message"]) == ("40", header)
    assert server.get(path).json["message"] == shown
    gate.open()
    answer = server.wait_for(path, "succeeded")
    assert "job-message" not in answer.headers
    assert "message" not in server.get(path).json


def test_a_deploy_keeps_logs(start: Start, tmp_path: Path) -> None:
    server = start()
    path = finished(server, ["before"])
    server.deploy()
    answer = server.get(path)
    assert (answer.status, answer.body) == (200, b"before\n")
