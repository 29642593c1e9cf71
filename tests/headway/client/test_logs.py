"""The log of a job, read and followed: every range that a server may answer with."""

from __future__ import annotations

import time

import pytest

from headway.client import HeadwayError, JobExpired, NotHeadway, NotIssued, TimedOut
from tests.headway.client.answered import ID, answer, field, problem, target
from tests.headway.client.both import Ask, both
from tests.headway.client.conftest import Serve

TEXT = "text/plain; charset=utf-8"


def whole(data: bytes, total: int, state: str = "running") -> bytes:
    return answer(200, data, f"Job-State: {state}", f"Log-Length: {total}", kind=TEXT)


def part(data: bytes, start: int, total: int | None = None, state: str = "running", *lines: str) -> bytes:
    end = start + len(data)
    said = f"Content-Range: bytes {start}-{end - 1}/{end if total is None else total}"
    return answer(206, data, f"Job-State: {state}", said, *lines, kind=TEXT)


def none(total: int, state: str = "running", *lines: str) -> bytes:
    """Return the answer to a range behind the end."""
    return problem(416, "range", f"Job-State: {state}", f"Content-Range: bytes */{total}", *lines)


@both
def test_a_log_is_text_that_knows_its_place(serve: Serve, ask: Ask) -> None:
    answers = [whole("ü\n[... 900 bytes left out ...]\nend\n".encode(), 907, "failed"), part(b"end\n", 903), none(907)]
    answers.append(part(b"d\n", 905))
    server, _ = serve(lambda _, number: answers[number])
    text = ask(server.port, lambda client: client.job(ID).log())
    assert (text, text.start, text.end, text.state) == ("ü\n[... 900 bytes left out ...]\nend\n", 0, 907, "failed")
    text = ask(server.port, lambda client: client.job(ID).log(100))
    assert (text, text.start, text.end) == ("end\n", 903, 907)
    text = ask(server.port, lambda client: client.job(ID).log(907))
    assert (text, text.start, text.end) == ("", 907, 907)
    assert ask(server.port, lambda client: client.job(ID).log(-2)) == "d\n"
    assert [field(request, "range") for request in server.seen] == [None, "bytes=100-", "bytes=907-", "bytes=-2"]
    assert {target(request) for request in server.seen} == {f"GET /jobs/{ID}/log"}


@both
def test_a_log_is_followed_to_the_end_of_its_job(serve: Serve, ask: Ask) -> None:
    """Half of a character, a wait without text, a restart, and an end with the last text."""
    snow = "☃".encode()
    answers = [
        part(b"a\n" + snow[:1], 0),
        None,
        none(3, "running", "Preference-Applied: wait=30", "Retry-After-Ms: 10"),
    ]
    answers += [part(snow[1:] + b"\n", 3), part(b"\xff", 6, 7, "failed")]
    server, _ = serve(lambda _, number: answers[number])
    texts = ask(server.port, lambda client: client.job(ID).follow_log())
    assert texts == ["a\n", "☃\n", "\ufffd"]
    assert [(text.start, text.end) for text in texts] == [(0, 3), (3, 6), (6, 7)]
    assert texts[-1].state == "failed"
    ranges = [field(request, "range") for request in server.seen]
    assert ranges == ["bytes=0-", "bytes=3-", "bytes=3-", "bytes=3-", "bytes=6-"]
    assert {field(request, "prefer") for request in server.seen} == {"wait=30"}


@both
def test_bytes_that_are_left_out_are_counted(serve: Serve, ask: Ask) -> None:
    answers = [part(b"a\xe2", 0, 5000), part(b"z\n", 4998, 5000, "succeeded")]
    server, _ = serve(lambda _, number: answers[number])
    texts = ask(server.port, lambda client: client.job(ID).follow_log())
    assert texts == ["a", "\ufffd\n[... 4996 bytes left out ...]\nz\n"]
    assert [(text.start, text.end) for text in texts] == [(0, 2), (2, 5000)]


@both
def test_a_job_that_has_written_nothing_has_an_end(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: none(0, "cancelled"))
    assert ask(server.port, lambda client: client.job(ID).follow_log()) == []


@both
def test_a_log_that_was_given_up_is_told(serve: Serve, ask: Ask) -> None:
    answers = [part(b"ab\xe2", 0), none(907, "succeeded")]
    server, _ = serve(lambda _, number: answers[min(number, 1)])
    texts = ask(server.port, lambda client: client.job(ID).follow_log())
    assert texts == ["ab", "\ufffd\n[... 904 bytes left out ...]\n"]
    assert (texts[-1].start, texts[-1].end) == (3, 907)
    texts = ask(server.port, lambda client: client.job(ID).follow_log())
    assert texts == ["[... 907 bytes left out ...]\n"]
    assert ask(server.port, lambda client: client.job(ID).follow_log(-10)) == []


@both
def test_a_follower_asks_again_until_all_text_has_come(serve: Serve, ask: Ask) -> None:
    """An end of the job that comes with a part of the text is not the end of the text."""
    answers = [part(b"a", 0, 3, "succeeded"), part(b"bc", 1, 3, "succeeded")]
    server, _ = serve(lambda _, number: answers[number])
    assert "".join(ask(server.port, lambda client: client.job(ID).follow_log())) == "abc"


@both
def test_a_log_that_a_crash_has_cut_goes_on(serve: Serve, ask: Ask) -> None:
    answers = [part(b"abcdef", 0), none(4), part(b"xy", 4, 6, "succeeded")]
    server, _ = serve(lambda _, number: answers[number])
    assert ask(server.port, lambda client: client.job(ID).follow_log()) == ["abcdef", "xy"]
    assert field(server.seen[2], "range") == "bytes=4-"


@both
def test_a_server_that_ignores_ranges_is_followed(serve: Serve, ask: Ask) -> None:
    answers = [whole(b"abc", 3), whole(b"abcdef", 6), whole(b"abcdef", 6, "succeeded")]
    server, _ = serve(lambda _, number: answers[number])
    assert ask(server.port, lambda client: client.job(ID).follow_log()) == ["abc", "def"]


def test_a_follower_does_not_ask_all_the_time(serve: Serve) -> None:
    """Neither while the log grows, nor of a server that does not wait."""
    times: list[float] = []
    answers = [part(b"a", 0), none(1, "running", "Retry-After-Ms: 300"), none(1, "succeeded")]

    def script(_: bytes, number: int) -> bytes:
        times.append(time.monotonic())
        return answers[number]

    _, client = serve(script)
    assert list(client.job(ID).follow_log()) == ["a"]
    assert times[1] - times[0] >= 0.15
    assert times[2] - times[1] >= 0.3


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (problem(410, "job-expired", "Job-State: expired"), JobExpired),
        (problem(404, "not-found"), NotIssued),
        (problem(421, "misdirected"), NotIssued),
        (answer(200, b"hello", kind=TEXT), NotHeadway),
        (answer(206, b"hello", "Job-State: running", kind=TEXT), NotHeadway),
        (answer(206, b"hello", "Job-State: running", "Content-Range: bytes 0-x/5", kind=TEXT), NotHeadway),
    ],
)
@pytest.mark.parametrize("call", ["log", "follow_log"])
@both
def test_each_answer_has_its_error(serve: Serve, ask: Ask, call: str, said: bytes, error: type[HeadwayError]) -> None:
    server, _ = serve(lambda *_: said)
    with pytest.raises(error):
        ask(server.port, lambda client: getattr(client.job(ID), call)())
    assert error is not TimedOut
