"""What is ambiguous or invalid: answered once and closed, never guessed at (RFC 9112, 11.2)."""

from __future__ import annotations

import pytest

from tests.end_to_end.process import Server
from tests.protocol.wire import post, request, submission

JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
NOTHING = submission("nothing")
LAST = b"0\r\n\r\n"
# What a request smuggled behind an ambiguous one would look like; it must never be answered.
SMUGGLED = request("GET", "/healthz")


def headed(*lines: bytes, start: bytes = b"GET /healthz HTTP/1.1") -> bytes:
    """Return a head of lines taken as they are."""
    return b"\r\n".join([start, *lines, b"", b""])


def chunked(*chunks: bytes) -> bytes:
    """Return a POST with chunks taken as they are."""
    return request("POST", "/jobs", JSON, CHUNKED) + b"".join(chunks)


INVALID = [
    # Where does the content end?
    pytest.param(request("POST", "/jobs", JSON, CHUNKED, "Content-Length: 5") + LAST, 400, id="both"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: 5", CHUNKED) + LAST, 400, id="both-other-order"),
    pytest.param(request("GET", "/healthz", "Content-Length: 0", CHUNKED) + LAST, 400, id="both-in-get"),
    pytest.param(post(NOTHING, "Content-Length: 5"), 400, id="differing-lengths"),
    pytest.param(post(NOTHING, f"Content-Length: {len(NOTHING)}"), 400, id="two-equal-lengths"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: 5, 5") + b"hello", 400, id="list-of-lengths"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: +5") + b"hello", 400, id="plus-length"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: -5") + b"hello", 400, id="negative-length"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: 0x5") + b"hello", 400, id="hex-length"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length: 5 5") + b"hello", 400, id="two-numbers"),
    pytest.param(request("POST", "/jobs", JSON, "Content-Length:") + b"hello", 400, id="empty-length"),
    pytest.param(request("POST", "/jobs", JSON, f"Content-Length: {2**64}"), 400, id="length-overflow"),
    # The last coding is not chunked: 400 is a MUST (RFC 9112, 6.3).
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding: chunked, gzip") + LAST, 400, id="chunked-not-last"),
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding: xchunked") + LAST, 400, id="xchunked"),
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding: chunkedx") + LAST, 400, id="chunkedx"),
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding: identity") + LAST, 400, id="identity"),
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding: chunked, chunked") + LAST, 400, id="chunked-twice"),
    pytest.param(request("POST", "/jobs", JSON, CHUNKED, CHUNKED) + LAST, 400, id="chunked-in-two-lines"),
    pytest.param(request("POST", "/jobs", JSON, "Transfer-Encoding:") + LAST, 400, id="empty-coding"),
    pytest.param(request("POST", "/jobs", JSON, CHUNKED, version="1.0") + LAST, 400, id="coding-in-1.0"),
    pytest.param(headed(CHUNKED.encode(), start=b"GET /healthz HTTP/1.0") + LAST, 400, id="coding-in-1.0-no-host"),
    # Content where there is none.
    pytest.param(request("HEAD", "/healthz", body=b"hello"), 400, id="head-with-content"),
    pytest.param(request("HEAD", "/healthz", CHUNKED) + LAST, 400, id="head-with-chunks"),
    pytest.param(headed(b"Content-Length: 5", start=b"HEAD /healthz HTTP/1.0") + b"hello", 400, id="head-in-1.0"),
    # Chunks.
    pytest.param(chunked(b"fffffffffffffffff\r\n"), 400, id="chunk-size-overflow"),
    pytest.param(chunked(b"-1\r\n"), 400, id="negative-chunk-size"),
    pytest.param(chunked(b"0x5\r\nhello\r\n", LAST), 400, id="hex-prefix"),
    pytest.param(chunked(b"5 \r\nhello\r\n", LAST), 400, id="space-after-chunk-size"),
    pytest.param(chunked(b"\r\nhello\r\n", LAST), 400, id="no-chunk-size"),
    pytest.param(chunked(b"5\nhello\r\n", LAST), 400, id="chunk-size-and-bare-lf"),
    pytest.param(chunked(b"5\r\nhello!\r\n", LAST), 400, id="chunk-longer-than-its-size"),
    pytest.param(chunked(b"5\r\nhello", LAST), 400, id="no-crlf-after-chunk"),
    pytest.param(chunked(b"5;a=\nb\r\nhello\r\n", LAST), 400, id="lf-in-extension"),
    pytest.param(chunked(b"0\r\nX : y\r\n\r\n"), 400, id="bad-trailer"),
    # Host.
    pytest.param(headed(), 400, id="no-host"),
    pytest.param(headed(b"Host: a", b"Host: a"), 400, id="two-hosts"),
    pytest.param(headed(b"Host: a, b"), 400, id="list-of-hosts"),
    pytest.param(headed(b"Host: a b"), 400, id="space-in-host"),
    pytest.param(headed(b"Host: a/b"), 400, id="path-in-host"),
    pytest.param(headed(b"Host: user@a"), 400, id="user-in-host"),
    pytest.param(headed(b"Host: a:b"), 400, id="port-not-a-number"),
    pytest.param(headed(b"Host: [::1"), 400, id="bracket-open"),
    pytest.param(headed(b"Host: \xff"), 400, id="host-not-ascii"),
    pytest.param(headed(start=b"GET http://a/healthz HTTP/1.1"), 400, id="absolute-form-no-host"),
    pytest.param(headed(b"Host: a", start=b"GET http:///healthz HTTP/1.1"), 400, id="absolute-form-empty-host"),
    # Lines.
    pytest.param(headed(b"Host : a"), 400, id="space-before-colon"),
    pytest.param(headed(b"Host: a", b"X\t: y"), 400, id="tab-before-colon"),
    pytest.param(headed(b"Host: a", b"X: y", b" z"), 400, id="obs-fold"),
    pytest.param(headed(b"Host: a", b"X: y", b"\tz"), 400, id="obs-fold-tab"),
    pytest.param(headed(b" Host: a"), 400, id="space-before-first-line"),
    pytest.param(headed(b"Host: a", b"X"), 400, id="no-colon"),
    pytest.param(headed(b"Host: a", b": x"), 400, id="no-name"),
    pytest.param(headed(b"Host: a", b"X(: y"), 400, id="name-not-a-token"),
    pytest.param(headed(b"Host: a", b"X\xff: y"), 400, id="name-not-ascii"),
    pytest.param(headed(b"Host: a", b"X: y\0z"), 400, id="nul-in-value"),
    pytest.param(headed(b"Host: a", b"X\0: y"), 400, id="nul-in-name"),
    pytest.param(headed(b"Host: a", b"X: y\rz"), 400, id="bare-cr"),
    pytest.param(headed(b"Host: a", b"X: \x07"), 400, id="control-byte"),
    pytest.param(headed(b"Host: a").replace(b"\r\n", b"\n"), 400, id="bare-lf"),
    pytest.param(headed(b"Host: a", b"X: y\nZ: z"), 400, id="bare-lf-in-one-line"),
    pytest.param(headed(b"Host: a")[:-2] + b"\n", 400, id="bare-lf-at-the-end-of-the-head"),
    # Request line.
    pytest.param(headed(b"Host: a", start=b" GET /healthz HTTP/1.1"), 400, id="space-first"),
    pytest.param(headed(b"Host: a", start=b"GET /healthz HTTP/1.1 "), 400, id="space-at-the-end"),
    pytest.param(headed(b"Host: a", start=b"GET\t/healthz\tHTTP/1.1"), 400, id="tabs"),
    pytest.param(headed(b"Host: a", start=b"GET /healthz http/1.1"), 400, id="lower-case-http"),
    pytest.param(headed(b"Host: a", start=b"GET /healthz HTTP/11"), 400, id="version-without-dot"),
    pytest.param(headed(b"Host: a", start=b"GET /healthz HTTP/1.1.1"), 400, id="version-with-two-dots"),
    pytest.param(headed(b"Host: a", start=b"GET /health\0z HTTP/1.1"), 400, id="nul-in-target"),
    pytest.param(headed(b"Host: a", start=b"GET /health\x7fz HTTP/1.1"), 400, id="del-in-target"),
    pytest.param(headed(b"Host: a", start=b"GET healthz HTTP/1.1"), 400, id="target-without-slash"),
    pytest.param(headed(b"Host: a", start=b"G\xc3\x8bT /healthz HTTP/1.1"), 400, id="method-not-ascii"),
    pytest.param(headed(b"Host: a", start=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"), 400, id="tls"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400, id="http-2-preface"),
    pytest.param(b"GET /healthz\r\n\r\n", 505, id="http-0.9"),
]


@pytest.mark.parametrize(("sent", "status"), INVALID)
def test_invalid_message_is_answered_once_and_closed(server: Server, sent: bytes, status: int) -> None:
    with server.wire() as wire:
        wire.send(sent + SMUGGLED)
        answer = wire.read("HEAD" if sent.startswith(b"HEAD") else "GET")
        assert answer.status == status, answer.raw
        assert answer["connection"] == "close"
        wire.read_end()


@pytest.mark.parametrize(("sent", "status"), INVALID)
def test_invalid_message_is_answered_in_its_turn(server: Server, sent: bytes, status: int) -> None:
    with server.wire() as wire:
        wire.send(SMUGGLED + sent)
        assert wire.read().body == b"ok\n"
        assert wire.read("HEAD" if sent.startswith(b"HEAD") else "GET").status == status
        wire.read_end()


def test_garbage_is_a_bad_request_wherever_it_comes(server: Server) -> None:
    with server.wire() as wire:
        wire.send(SMUGGLED + b"\x00\x01\x02 x")
        assert [wire.read().status for _ in range(2)] == [200, 400]
        wire.read_end()
