"""Header lines with texts of tasks and clients: no text ends its line, begins another, or splits an answer."""

from __future__ import annotations

import json
from urllib.parse import quote, unquote

import pytest
from headway.core.body import MEDIA_TYPE_LONGEST, is_media_type
from headway.core.tasks.result import Result, ResultError, encode
from headway.protocol.api.filters import FilterQuery, written
from headway.protocol.api.headers import content_type, held_field, message_field
from hypothesis import example, given
from hypothesis import strategies as st

from tests.each import each
from tests.end_to_end.process import Gate, Server, wait_until
from tests.protocol.wire import Answer, parse_head, post, request, submission

JSON = "Content-Type: application/json"

# Of any characters, those that could end a line more often than others.
ENDS = "\r\n\0\x85\u2028\x7f:%\t \ud800é"
TEXTS = st.text(st.one_of(st.sampled_from(ENDS), st.characters()), max_size=60)
ATTACKS = [
    "a\r\nEvil: 1",
    "a\nEvil: 1",
    "\r\n\r\nHTTP/1.1 200 OK\r\nEvil: 1\r\n\r\n",
    "a\0b",
    "a\x7fb",
    "a\x85b",
    "日本",
]


def line_of(data: bytes) -> tuple[str, str]:
    """Return name and value of data that must be one header line."""
    assert data.endswith(b"\r\n")
    _, headers = parse_head(b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 14:00:00 GMT\r\n" + data[:-2])
    (field,) = ((name, value) for name, value in headers.items() if name != "date")
    return field


@given(text=TEXTS.filter(lambda text: bool(text.strip())))
@example("a\r\nEvil: 1")
@example("\ud800")
@example("100% \x85")
def test_a_message_and_a_reason_are_one_line(text: str) -> None:
    wanted = text.strip().encode(errors="replace").decode()
    for make, name in ((message_field, "job-message"), (held_field, "job-held")):
        found, value = line_of(make(text))
        assert (found, unquote(value)) == (name, wanted)


@given(text=st.one_of(TEXTS, TEXTS.map("a/b;{}".format), TEXTS.map("{}/b".format), st.just("a/" + "b" * 300)))
@example("text/plain\r\nEvil: 1")
@example("text/plain\n")
@example("text/plain; charset=é")
def test_a_media_type_is_one_line_or_replaced(text: str) -> None:
    # A tab is white space of a header (RFC 9110, 5.5).
    name, value = line_of(b"Content-Type: %b\r\n" % content_type(text).replace(b"\t", b" "))
    assert name == "content-type"
    assert value in {text.strip().replace("\t", " "), "application/octet-stream"}
    assert len(value) <= MEDIA_TYPE_LONGEST


@given(task=TEXTS, tag=TEXTS, error=TEXTS)
def test_a_filter_in_a_link_is_one_line(task: str, tag: str, error: str) -> None:
    clean = [text.encode(errors="replace").decode() for text in (task, tag, error)]
    query = FilterQuery(task=clean[0], tag=clean[1], error=clean[2])
    _, value = line_of(b"Link: </jobs?%blimit=1>\r\n" % written(query).encode())
    assert value.isascii()
    assert not set(value[1:-1]) & set('<>" ')


def test_a_result_that_its_task_has_changed_is_checked_again() -> None:
    result = Result(b"x", "image/png")
    result.media_type = "image/png\r\nEvil: 1"
    with pytest.raises(ResultError, match="media type"):
        encode(result, 100)
    assert not is_media_type(result.media_type)


def sound(answer: Answer) -> Answer:
    """Return an answer, whose head the reader has held to the letter. Nothing of the attack is a line of it."""
    assert "evil" not in answer.headers
    return answer


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_a_client_or_a_task_splits_an_answer(server: Server, gate: Gate, attack: str) -> None:
    coded = quote(attack, safe="")
    with server.wire() as wire:
        payload = {"percent": 5, "message": attack, "path": gate.path}
        report = server.submit("report", payload)
        hold = json.dumps({"dispatch": "hold", "reason": attack}).encode()
        assert sound(wire.ask(request("PATCH", "/tasks/nothing", JSON, body=hold))).status in {200, 422}
        held = sound(wire.ask(post(submission("nothing", tags=[attack]))))
        assert held.status in {202, 422}
        if held.status == 202:
            sound(wire.ask(request("HEAD", held["location"])))
            server.posted.append(held["location"])
        for target in (
            f"/jobs?task={coded}&error={coded}&limit=1",
            f"/jobs?tag={coded}&limit=1",
            f"/jobs/{coded}",
            f"/jobs/{coded}/log",
            f"/tasks/{coded}",
            f"/{coded}",
            f"/events?task={coded}&state={coded}",
        ):
            sound(wire.ask(request("GET", target)))
        sound(wire.ask(request("PUT", f"/jobs/{coded}", JSON, body=submission("nothing"))))
        content = request("POST", "/tasks/content_in_thread/jobs", f"Content-Type: a/b; c={coded}", body=b"x")
        sound(wire.ask(content))
        told = wait_until(lambda: sound(wire.ask(request("HEAD", report))), lambda told: "job-message" in told.headers)
        assert unquote(told["job-message"]).isprintable()
        gate.open()
        body = json.dumps({"dispatch": "run"}).encode()
        assert sound(wire.ask(request("PATCH", "/tasks/nothing", JSON, body=body))).status == 200
        assert wire.still_serves()
    server.clear()


@each("name", ["Idempotency-Key", "Traceparent", "Prefer", "Origin", "Last-Event-ID", "If-None-Match"])
@each("value", [b"a\x85b", b"\xff\xfe", b'a";Evil: 1', b"a\tEvil: 1", b"a\rEvil: 1", b"a\0"])
def test_no_header_of_a_client_splits_an_answer(server: Server, name: str, value: bytes) -> None:
    body = submission("nothing")
    head = b"POST /jobs HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    with server.wire() as wire:
        wire.send(head + name.encode() + b": " + value + b"\r\n\r\n" + body)
        assert sound(wire.read()).status in {202, 400, 403, 422}


def test_a_traceparent_has_no_line_end(server: Server) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    assert server.ask(post(submission("nothing", traceparent=trace))).status == 202
    assert server.ask(post(submission("nothing", traceparent=f"{trace}\n"))).status == 422
