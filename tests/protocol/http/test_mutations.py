"""Whatever bytes come: well-formed answers or the end, never a 500, and others are served."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.end_to_end.process import Server
from tests.protocol.wire import parse_head, post, request, submission

JSON = "Content-Type: application/json"
ISSUED = "/jobs/" + "0" * 28
VALID = [
    request("GET", "/healthz"),
    request("GET", "http://test/stats", "Connection: keep-alive", version="1.0"),
    request("GET", ISSUED + "/result", 'If-None-Match: "a", W/"b"'),
    request("DELETE", ISSUED),
    post(submission("give", {"a": [1, 2.5, None, "é"]}, priority=9, delay=0.001, timeout=3, retries=0)),
    post(submission("nothing"), "Expect: 100-continue", "Prefer: return=minimal"),
    request("POST", "/jobs", JSON, "Transfer-Encoding: chunked")
    + b'a;x=y\r\n{"task":"n\r\n8\r\nothing"}\r\n0\r\nT: u\r\n\r\n',
    request("POST", "/jobs", JSON, "Connection: Upgrade", "Upgrade: h2c", body=submission("nothing")),
]
# What HTTP and JSON give a meaning to, and what they forbid.
SPICE = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b'"',
    b"{",
    b"}",
    b"[",
    b"\xff",
    b"\\u",
    b"-1",
    b"1e999",
]
SPICE += [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"Connection: close\r\n"]
SPICE += [b"Expect: 100-continue\r\n", b"Upgrade: x\r\n", b"HTTP/1.1", b"0\r\n\r\n", b"99999999999999999999", b"HEAD "]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Some valid requests in a row, with pieces replaced, removed, doubled or put in."""
    data = b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        put = draw(st.sampled_from(SPICE) | st.binary(max_size=8) | st.just(data[at:end] * 2))
        data = data[:at] + put + data[end:]
    return data


def check_answers(raw: bytes) -> None:
    """See that ``raw`` is answers one behind the other, the last one whole, and none of them a 500."""
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        assert end, head
        status, headers = parse_head(head)
        assert status != 500, head
        # A mutation may have made it a HEAD, whose answer has a length and no body.
        if status not in {100, 204, 304} and not re.match(rb"HTTP/1\.1 \d", raw) and raw:
            length = int(headers["content-length"])
            assert len(raw) >= length, (head, raw)
            raw = raw[length:]


@settings(max_examples=150, deadline=None)
@given(data=mutated(), cut=st.integers(0, 400))
def test_mutated_requests(server: Server, data: bytes, cut: int) -> None:
    with server.wire() as wire:
        wire.send(data[:cut])
        wire.send(data[cut:])
        wire.finish()
        check_answers(wire.read_all())
    assert server.get("/healthz").body == b"ok\n"


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes(server: Server, data: bytes) -> None:
    with server.wire() as wire:
        wire.send(data)
        wire.finish()
        check_answers(wire.read_all())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner),
    max_leaves=5,
)
MEMBERS = st.sampled_from(["task", "payload", "priority", "delay", "timeout", "retries", "x", "\ud800", "Task"])


@settings(max_examples=120, deadline=None)
@given(members=st.dictionaries(MEMBERS, JSON_VALUES, max_size=7), named=st.booleans())
def test_random_submissions(server: Server, members: dict[str, object], named: bool) -> None:
    named_task = {"task": "nothing", "delay": 0} if named else {}
    answer = server.ask(post(json.dumps(members | named_task).encode()))
    assert answer.status in {202, 400, 422}, answer
    if answer.status == 422:
        assert answer.json["errors"]
