"""A client that hides nothing: bytes are sent as they are, and answers are read to the letter of RFC 9112."""

from __future__ import annotations

import json
import re
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any

PATIENCE_S = 20.0
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) ([ -~]+)")
_HEADER_LINE = re.compile(rb"([A-Za-z0-9-]+): ([!-~](?:[ -~]*[!-~])?)")
_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


@dataclass(frozen=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)

    @property
    def names(self) -> set[str]:
        """The header names besides those that every answer about a job has."""
        assert self.headers["cache-control"] == "no-store"
        return set(self.headers) - {"date", "cache-control"}

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


def request(method: str, target: str, *lines: str, body: bytes | None = None, version: str = "1.1") -> bytes:
    """Return a valid request; Host, and Content-Length where there is a body, come by themselves."""
    head = [f"{method} {target} HTTP/{version}", "Host: localhost", *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")


def post(body: bytes, *lines: str, version: str = "1.1") -> bytes:
    """Return a POST /jobs of ``body`` as JSON."""
    return request("POST", "/jobs", "Content-Type: application/json", *lines, body=body, version=version)


def submission(task: str, payload: object = None, **members: object) -> bytes:
    """Return the body that submits a job."""
    return json.dumps({"task": task, "payload": payload, **members}).encode()


def parse_head(raw: bytes) -> tuple[int, dict[str, str]]:
    """Read status line and header lines, without the empty line; whatever RFC 9112 does not allow fails."""
    status_line, *lines = raw.split(b"\r\n")
    matched = _STATUS_LINE.fullmatch(status_line)
    assert matched, status_line
    headers: dict[str, str] = {}
    for line in lines:
        field = _HEADER_LINE.fullmatch(line)
        assert field, line
        name = field[1].decode().lower()
        assert name not in headers, f"twice in one answer: {name}"
        headers[name] = field[2].decode()
    status = int(matched[1])
    _check_fields(status, headers)
    return status, headers


def _check_fields(status: int, headers: dict[str, str]) -> None:
    """What holds for each answer of the server."""
    if status >= 200:
        assert _DATE.fullmatch(headers["date"]), headers
        if "transfer-encoding" in headers:
            # Only of a stream.
            assert headers["transfer-encoding"] == "chunked"
            assert headers["content-type"] == "text/event-stream"
            assert "content-length" not in headers
    if status < 200 or status == 204:
        assert "content-length" not in headers
    if "retry-after-ms" in headers:
        assert int(headers["retry-after"]) == max(1, -(-int(headers["retry-after-ms"]) // 1000))
    if status in {429, 503}:
        assert int(headers["retry-after"]) >= 1


class Wire:
    """One connection."""

    def __init__(
        self,
        port: int = 0,
        patience_s: float = PATIENCE_S,
        *,
        address: str = "",
        connected: socket.socket | None = None,
    ) -> None:
        if connected is None:
            source = (address, 0) if address else None
            connected = socket.create_connection(("127.0.0.1", port), timeout=patience_s, source_address=source)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected
        self._buffer = b""

    @classmethod
    def over(cls, connected: socket.socket) -> Wire:
        """Return a client on a connection that is there: of TLS, of a Unix socket, behind a header."""
        connected.settimeout(PATIENCE_S)
        return cls(connected=connected)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def close(self) -> None:
        """End the connection as most clients do, with a FIN."""
        self.socket.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def finish(self) -> None:
        """Send no more, but go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def read(self, method: str = "GET") -> Answer:
        """Read one answer, to a request with ``method``."""
        head = self._until(b"\r\n\r\n")
        status, headers = parse_head(head[:-4])
        bodiless = method == "HEAD" or status < 200 or status in {204, 304}
        body = b"" if bodiless else self._exactly(int(headers["content-length"]))
        return Answer(status, headers, body, head + body)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer, and leave its content."""
        return parse_head(self._until(b"\r\n\r\n")[:-4])

    def read_chunk(self) -> bytes:
        """Read one chunk (RFC 9112, 7.1), empty if it is the last."""
        size = self._until(b"\r\n")[:-2]
        assert re.fullmatch(rb"0|[1-9a-f][0-9a-f]*", size), size
        chunk = self._exactly(int(size, 16))
        assert self._exactly(2) == b"\r\n"
        return chunk

    def read_some(self) -> bytes:
        """Read what has come, at least something. Empty if the server has closed."""
        piece, self._buffer = self._buffer or self.socket.recv(1 << 20), b""
        return piece

    def ask(self, data: bytes) -> Answer:
        """Send one request and read its answer."""
        self.send(data)
        return self.read(data.partition(b" ")[0].decode("latin-1"))

    def read_end(self) -> None:
        """See that the server has closed, and sent nothing more before."""
        rest = self._buffer + self.read_all()
        assert rest == b"", rest

    def read_all(self) -> bytes:
        """Read until the server closes."""
        pieces = [self._buffer]
        self._buffer = b""
        while piece := self.socket.recv(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def still_serves(self) -> bool:
        """See that the connection is neither closed nor out of step."""
        return self.ask(request("GET", "/healthz")).body == b"ok\n" and not self._buffer

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(end)
        return head + end

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _more(self) -> None:
        piece = self.socket.recv(1 << 20)
        assert piece, f"the server closed after {self._buffer!r}"
        self._buffer += piece
