"""Where TCP cuts the bytes must not change an answer, nor how many there are.

Each transcript is sent whole, cut in two at every position, and a byte at a time. Many connections go in step: all
send their next piece, then ``settle`` sees that the server has read it, so each piece is a read of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import cast

import pytest

from tests.each import each
from tests.end_to_end.process import Server
from tests.protocol.wire import Wire, post, request, submission

AT_ONCE = 200
# With a delay, since with a journal another job may have begun when the client is told of it.
NOTHING = submission("nothing", delay=1)
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
UPGRADE = ("Connection: Upgrade", "Upgrade: h2c")
CHUNKS = b"%x;x=y\r\n%b\r\n1\r\n \r\n0\r\nX: y\r\n\r\n" % (len(NOTHING), NOTHING)
HEALTHZ = request("GET", "/healthz")
VARIES = re.compile(
    rb"(?<=^Date: )[^\r]*|(?<=^Expires: )[^\r]*|(?<=^Server-Timing: )[^\r]*|(?<=/jobs/)[0-9a-f]{36}"
    rb'|(?<="id":")[0-9a-f]{36}|(?<=^Retry-After: )\d+|(?<=^Retry-After-Ms: )\d+|(?<=^Job-Position: )\d+',
    re.MULTILINE,
)

TRANSCRIPTS = [
    pytest.param(HEALTHZ + post(NOTHING) + request("HEAD", "/jobs/" + "0" * 28), id="pipelined"),
    pytest.param(b"\r\n" + HEALTHZ + b"\r\n" + HEALTHZ, id="empty-lines"),
    pytest.param(request("POST", "/jobs", JSON, CHUNKED) + CHUNKS + HEALTHZ, id="chunked"),
    pytest.param(post(NOTHING, "Expect: 100-continue") + HEALTHZ, id="expect"),
    pytest.param(post(NOTHING, "Prefer: return=minimal", "Prefer: x"), id="prefer"),
    pytest.param(post(NOTHING, *UPGRADE) + HEALTHZ, id="upgrade"),
    pytest.param(request("POST", "/jobs", JSON, CHUNKED, *UPGRADE) + CHUNKS + HEALTHZ, id="upgrade-chunked"),
    pytest.param(request("POST", "/jobs", *UPGRADE) + HEALTHZ, id="upgrade-no-length"),
    pytest.param(request("GET", "http://a/healthz", "Connection: keep-alive", version="1.0") + HEALTHZ, id="1.0"),
    pytest.param(request("GET", "/healthz", "Connection: close") + HEALTHZ, id="close"),
    pytest.param(request("GET", "/healthz", version="1.0") + HEALTHZ, id="1.0-close"),
    pytest.param(request("GET", "/nowhere") + post(b"{") + post(b"{}"), id="refused"),
    pytest.param(request("POST", "/jobs", body=b"x") + request("PUT", "/jobs", body=b"x") + HEALTHZ, id="415-405"),
    pytest.param(request("POST", "/jobs", JSON) + HEALTHZ, id="411"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: 9999999") + HEALTHZ, id="413"),
    pytest.param(post(NOTHING, "Expect: 9") + HEALTHZ, id="417"),
    pytest.param(HEALTHZ + request("BREW", "/healthz") + HEALTHZ, id="unknown-method"),
    pytest.param(HEALTHZ + request("get", "/healthz") + HEALTHZ, id="lower-case-method"),
    pytest.param(HEALTHZ + request("GETT", "/healthz") + HEALTHZ, id="longer-method"),
    pytest.param(HEALTHZ + b"\x16\x03\x01\x02 rubbish\r\n\r\n", id="rubbish"),
    pytest.param(request("GET", "/healthz", version="2.0") + HEALTHZ, id="505"),
    pytest.param(request("GET", "/healthz", version="3.0") + HEALTHZ, id="505-unknown"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2-preface"),
    pytest.param(b"GET /healthz\r\n\r\n", id="http-0.9"),
    pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n" + HEALTHZ, id="no-host"),
    pytest.param(request("GET", "/healthz", "Host: b") + HEALTHZ, id="two-hosts"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: 2", CHUNKED) + b"{}" + HEALTHZ, id="both-lengths"),
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding: xchunked") + CHUNKS, id="xchunked"),
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding: gzip, chunked") + CHUNKS, id="gzip"),
    pytest.param(request("POST", "/jobs", JSON, CHUNKED) + b"fffffffffffffffff\r\n", id="chunk-overflow"),
    pytest.param(request("POST", "/jobs", JSON, CHUNKED) + b"2\r\n{}x\r\n0\r\n\r\n", id="chunk-too-long"),
    pytest.param(request("HEAD", "/healthz", body=b"x") + HEALTHZ, id="head-with-content"),
    pytest.param(request("GET", "/healthz", "X : y") + HEALTHZ, id="space-before-colon"),
    pytest.param(request("GET", "/healthz", "X: y", " z") + HEALTHZ, id="obs-fold"),
    pytest.param(request("GET", "/healthz", "X: \0") + HEALTHZ, id="nul"),
    pytest.param(HEALTHZ.replace(b"\r\n", b"\n") + HEALTHZ, id="bare-lf"),
]


def settle(wire: Wire) -> None:
    """Wait until the server has read what was sent on other connections; a turn of its loop may be under way."""
    for _ in range(3):
        assert wire.ask(HEALTHZ).status == 200


class Replay:
    """One connection that sends a list of pieces, reading what has come before each."""

    def __init__(self, server: Server, pieces: Sequence[bytes]) -> None:
        self.wire = server.wire()
        self.pieces = list(pieces)
        self.answers = b""
        self.over = False

    def step(self) -> None:
        """Send the next piece, unless the server has closed."""
        self._read()
        if not self.over and self.pieces:
            self.wire.send(self.pieces.pop(0))

    def end(self) -> bytes:
        """Send no more; return all that came, with what varies masked."""
        self._read()
        if not self.over:
            self.wire.finish()
            self.answers += self.wire.read_all()
        return VARIES.sub(b"?", self.answers)

    def _read(self) -> None:
        self.wire.socket.settimeout(0)
        try:
            while not self.over and (piece := self.wire.socket.recv(1 << 16)):
                self.answers += piece
            self.over = True
        except BlockingIOError:
            pass
        finally:
            self.wire.socket.settimeout(20)


def replay(server: Server, ways: Iterable[Sequence[bytes]]) -> list[bytes]:
    """Send each list of pieces on a connection of its own, all in step; return what came back."""
    with ExitStack() as stack:
        wire = stack.enter_context(server.wire())
        replays = [Replay(server, pieces) for pieces in ways]
        for each in replays:
            stack.enter_context(each.wire)
        settle(wire)
        for _ in range(max(len(each.pieces) for each in replays)):
            for each in replays:
                each.step()
            settle(wire)
        return [each.end() for each in replays]


def check(sent: bytes, whole: bytes, cuts: Sequence[Sequence[bytes]], found: Sequence[bytes]) -> None:
    """See that each way of cutting was answered as the whole was."""
    wrong = {b"|".join(cut): answers for cut, answers in zip(cuts, found, strict=True) if answers != whole}
    first = next(iter(wrong.items()), None)
    assert not wrong, f"{len(wrong)} of {len(cuts)} cuts of {sent!r} give not {whole!r} but {first}"


@each("sent", TRANSCRIPTS)
def test_cut_in_two_anywhere(server: Server, sent: bytes) -> None:
    whole = replay(server, [[sent]])[0]
    assert whole.startswith(b"HTTP/1.1 ")
    cuts = [(sent[:at], sent[at:]) for at in range(1, len(sent))]
    for begin in range(0, len(cuts), AT_ONCE):
        part = cuts[begin : begin + AT_ONCE]
        check(sent, whole, part, replay(server, part))


def test_a_byte_at_a_time(server: Server) -> None:
    transcripts = [cast(bytes, parameter.values[0]) for parameter in TRANSCRIPTS]
    whole = replay(server, [[sent] for sent in transcripts])
    bytewise = [[sent[at : at + 1] for at in range(len(sent))] for sent in transcripts]
    found = replay(server, bytewise)
    wrong = [sent for sent, one, other in zip(transcripts, whole, found, strict=True) if one != other]
    assert wrong == []


LARGE = [
    pytest.param(request("GET", "/" + "x" * 8191), id="longest-target"),
    pytest.param(request("GET", "/" + "x" * 8192), id="too-long-target"),
    pytest.param(request("GET", "/healthz", *["X: y"] * 99), id="most-headers"),
    pytest.param(request("GET", "/healthz", *["X: y"] * 5000), id="too-many-headers"),
    pytest.param(request("GET", "/healthz", "X:" + " " * 30000 + "y"), id="much-white-space"),
    pytest.param(request("GET", "/" + "x" * 8100, "X: " + "y" * 16300), id="both-near-their-limits"),
    pytest.param(request("GET", "/healthz", "X: " + "y" * 40000), id="long-header"),
    pytest.param(post(submission("nothing", "x" * 100_000)), id="large-body"),
]


@pytest.mark.parametrize("sent", LARGE)
def test_large_requests_cut_anywhere(server: Server, sent: bytes) -> None:
    ends = [1, 8, 16, 20, 100, 5000, 8200, 8300, 16390, 25000, 39990, len(sent) - 3, len(sent) - 1]
    pieces = [(sent + HEALTHZ)[at : at + 997] for at in range(0, len(sent + HEALTHZ), 997)]
    cuts = [(sent + HEALTHZ,), *((sent[:at], sent[at:] + HEALTHZ) for at in ends if at < len(sent)), pieces]
    codes = [re.findall(rb"HTTP/1\.1 (\d+)", answers) for answers in replay(server, cuts)]
    assert codes == [codes[0]] * len(cuts)
