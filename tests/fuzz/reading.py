"""The same bytes as h11 reads them: the requests of a client, and the answers of a server.

What a connection takes, h11 takes. The differences, each mended here before h11 reads:

- Empty lines before a request are ignored (RFC 9112, 2.2: a server SHOULD). llhttp takes any CR and LF
  there. They are part of no request, so nobody reads another one for them.
- More than one space may stand between the parts of a request line, since llhttp takes them (RFC 9112, 3:
  a server MAY).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import h11
from headway.protocol.http.request import KEPT
from headway.protocol.http.responses import CONTINUE

from tests.fuzz.mirror import Seen

# More than our own limits, which are told apart by the status of a refusal.
BUFFER_MOST = 1 << 20
_SPACES = re.compile(rb"\A([!-~]+) +([!-~]+) +(HTTP/1\.[01]\r\n)")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)")


def requests(data: bytes) -> Iterator[Seen]:
    """Return the requests of a client, for as long as h11 takes what it sends."""
    while data:
        server = h11.Connection(h11.SERVER, BUFFER_MOST)
        server.receive_data(_SPACES.sub(rb"\1 \2 \3", data.lstrip(b"\r\n"), count=1))
        found = _request(server)
        if found is None:
            return
        yield found
        data = server.trailing_data[0]


def _request(server: h11.Connection) -> Seen | None:
    """Return the next request, None if it is incomplete or refused."""
    body = bytearray()
    head: h11.Request | None = None
    while True:
        try:
            event = server.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Request):
            head = event
            if event.method == b"CONNECT":
                return None
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _seen(head, bytes(body))
        else:
            return None


def _seen(head: h11.Request, body: bytes) -> Seen:
    headers: dict[bytes, bytes] = {}
    for name, value in head.headers:
        if name in KEPT:
            headers[name] = headers[name] + b", " + value if name in headers else value
    absolute = _ABSOLUTE.match(head.target)
    if absolute:
        # Its host counts, and that of the field does not (RFC 9112, 3.2.2).
        headers[b"host"] = absolute[1]
    return Seen(head.method, _origin(head.target), head.http_version.decode(), tuple(sorted(headers.items())), body)


def _origin(target: bytes) -> bytes:
    """Return a target in origin form, with unreserved characters of the path decoded (RFC 3986, 6.2.2)."""
    absolute = _ABSOLUTE.match(target)
    if absolute:
        rest = target[absolute.end() :]
        target = rest if rest[:1] == b"/" else b"/" + rest
    path, mark, query = target.partition(b"?")
    parts = path.split(b"%")
    return b"".join([parts[0], *map(_decoded, parts[1:])]) + mark + query


def _decoded(part: bytes) -> bytes:
    byte = unquote_to_bytes(b"%" + part[:2])
    if len(byte) == 1 and (byte.isalnum() or byte in b"-._~"):
        return byte + part[2:]
    return b"%" + part[:2].upper() + part[2:]


class Answer(NamedTuple):
    """An answer as h11 reads it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def answers(raw: bytes, methods: list[bytes], may_be_head: bool) -> list[Answer]:
    """Return the final answers to requests with ``methods``, and one more to something that was no request.

    That one has no content if what was asked looks like a HEAD. Fails where h11 finds a fault.
    """
    found: list[Answer] = []
    # A client that was told to go on may send no more.
    raw = raw.removesuffix(CONTINUE)
    while raw:
        number = len(found)
        if number < len(methods):
            answer, raw = _answer(raw, methods[number])
        else:
            assert number == len(methods), f"more answers than requests: {raw!r}"
            try:
                answer, raw = _answer(raw, b"GET")
            except h11.RemoteProtocolError:
                assert may_be_head, raw
                answer, raw = _answer(raw, b"HEAD")
        found.append(answer)
        assert not raw or answer.headers.get(b"connection") != b"close", f"after the last answer: {raw!r}"
    return found


def _answer(raw: bytes, method: bytes) -> tuple[Answer, bytes]:
    client = h11.Connection(h11.CLIENT, BUFFER_MOST)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    # What h11 reads to the end of a connection has an end.
    client.receive_data(b"")
    body = bytearray()
    head: h11.Response | None = None
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            assert isinstance(event, h11.InformationalResponse), event
            assert event.status_code == 100, event
    assert head is not None
    headers = dict(head.headers)
    assert len(headers) == len(head.headers), head.headers
    return Answer(head.status_code, headers, bytes(body)), client.trailing_data[0]
