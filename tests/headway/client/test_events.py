"""Events: the lines of a stream, its restarts, and its end."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.client import HeadwayError, JobExpired, NotHeadway, NotIssued, Refused
from headway.client.stream import EventLines
from tests.headway.client.answered import ID, answer, field, problem, target
from tests.headway.client.both import Ask, both
from tests.headway.client.conftest import Serve
from tests.sim.scripted import Last

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(number: int, state: str, **members: object) -> bytes:
    data = {"id": ID, "task": "report", "state": state, "attempt": 1, "time": "2026-11-29T08:00:00.000Z", **members}
    return b"id: %d\nevent: state\ndata: %b\n\n" % (number, json.dumps(data).encode())


def chunked(*parts: bytes) -> bytes:
    return STREAM + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


@pytest.mark.long
@both
def test_events_go_on_behind_the_last_one_that_came(serve: Serve, ask: Ask) -> None:
    """A stream that breaks within an event, one that ends, and a server that is away for a moment."""
    broken = Last(chunked(b": hello\n\n", event(1, "queued", tags=["a"]), event(2, "running")[:30]))
    ended = chunked(event(2, "running"), b"event: other\ndata: {}\n\n", b"")
    reset = b'id: 9\nevent: reset\ndata: {"missed": 7, "detail": "too slow"}\n\n'
    answers = [
        broken,
        ended,
        None,
        Last(chunked(reset, event(10, "failed", reason="timeout"))),
    ]
    server, _ = serve(lambda _, number: answers[number])
    found = ask(server.port, lambda client: client.events(task="report", state=["queued", "failed"], tag="a,b"), most=4)
    assert [(event.kind, event.state, event.event_id) for event in found] == [
        ("state", "queued", "1"),
        ("state", "running", "2"),
        ("reset", None, "9"),
        ("state", "failed", "10"),
    ]
    assert (found[0].id, found[0].task, found[0].tags, found[0].attempt) == (ID, "report", ("a",), 1)
    assert found[0].time == datetime(2026, 11, 29, 8, tzinfo=UTC)
    assert [event.missed for event in found] == [None, None, 7, None]
    assert (found[3].reason, found[3].finished, found[2].finished) == ("timeout", True, False)
    assert [field(request, "last-event-id") for request in server.seen] == [None, "1", "2", "2"]
    assert target(server.seen[0]) == "GET /events?task=report&state=queued&state=failed&tag=a%2Cb"


@both
def test_events_begin_behind_the_one_that_is_named(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: Last(chunked(event(8, "queued"))))
    (found,) = ask(server.port, lambda client: client.events(after="7"), most=1)
    assert found.event_id == "8"
    assert target(server.seen[0]) == "GET /events"
    assert field(server.seen[0], "last-event-id") == "7"


@both
def test_a_stream_without_any_id_tells_that_it_cannot_go_on(serve: Serve, ask: Ask) -> None:
    answers = [Last(chunked(b": hello\n\n")), Last(chunked(event(8, "queued")))]
    server, _ = serve(lambda _, number: answers[number])
    found = ask(server.port, lambda client: client.events(), most=2)
    assert [event.kind for event in found] == ["reset", "state"]


@both
def test_events_of_a_job_end_with_it(serve: Serve, ask: Ask) -> None:
    streams = [Last(chunked(event(1, "running"))), Last(chunked(event(2, "succeeded"), event(3, "running")))]
    server, _ = serve(lambda _, number: streams[number])
    found = ask(server.port, lambda client: client.job(ID).events())
    assert [event.state for event in found] == ["running", "succeeded"]
    assert target(server.seen[0]) == f"GET /jobs/{ID}/events"


@both
def test_a_job_whose_end_was_told_has_no_events(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: b"HTTP/1.1 204 No Content\r\nJob-State: failed\r\n\r\n")
    assert ask(server.port, lambda client: client.job(ID).events(after="7")) == []


def test_a_stream_is_opened_again_when_the_server_says(serve: Serve) -> None:
    times: list[float] = []

    def script(*_: object) -> bytes:
        times.append(time.monotonic())
        return Last(chunked(b"retry: 200\n\n", event(len(times), "queued")))

    _, client = serve(script)
    assert len(list(islice(client.events(), 2))) == 2
    assert 0.2 <= times[1] - times[0] < 0.9


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (problem(410, "job-expired", "Job-State: expired"), JobExpired),
        (problem(404, "not-found"), NotIssued),
        (problem(422, "unknown-task"), Refused),
        (answer(200, b"<p>Hello</p>", kind="text/html"), NotHeadway),
    ],
)
@both
def test_an_answer_that_is_no_stream_has_its_error(
    serve: Serve, ask: Ask, said: bytes, error: type[HeadwayError]
) -> None:
    server, _ = serve(lambda *_: said)
    with pytest.raises(error):
        ask(server.port, lambda client: client.job(ID).events())


LINES = b"".join([b"id: 1\r\n", b": a comment\r\n\r\n", event(2, "queued"), b"data: [\n\n", event(3, "ümlaut")])


@given(st.lists(st.integers(0, len(LINES)), max_size=20))
def test_bytes_may_be_cut_anywhere(cuts: list[int]) -> None:
    lines = EventLines(None)
    places = [0, *sorted(cuts), len(LINES)]
    found = [event for begin, end in pairwise(places) for event in lines.feed(LINES[begin:end])]
    assert [(event.event_id, event.state) for event in found] == [("2", "queued"), ("3", "ümlaut")]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    lines = EventLines(None)
    list(lines.feed(data))
    lines.broken()
    assert [event.state for event in lines.feed(b"\n\n" + event(5, "queued"))][-1:] == ["queued"]


def test_a_line_without_end_takes_no_memory() -> None:
    lines = EventLines(None)
    for _ in range(40):
        assert list(lines.feed(b"x" * 100_000)) == []
    assert [event.state for event in lines.feed(b"\n\n" + event(5, "queued"))] == ["queued"]


@pytest.mark.parametrize("text", ["ü", "a\tb", "\0"])
@both
def test_an_id_that_no_header_can_have_is_none(serve: Serve, ask: Ask, text: str) -> None:
    """Neither from a caller, nor from a server."""
    server, _ = serve(lambda *_: Last(chunked(b"id: " + text.encode() + b"\n", event(1, "queued")[6:])))
    with pytest.raises(ValueError, match=r"after=.* is not allowed: expected the event_id of an event"):
        ask(server.port, lambda client: client.events(after=text), most=1)
    assert server.seen == []
    (found,) = ask(server.port, lambda client: client.events(), most=1)
    assert (found.event_id, found.state) == (None, "queued")
