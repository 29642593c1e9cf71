"""Answers as bytes, with status lines ready at import, and answers that have to wait.

``head`` in this file means the status line and header lines without the empty line after them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import msgspec
from headway.protocol.http.stream import Stream

STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
} | {
    # Names of RFC 9110 that Python 3.11 does not have yet.
    413: b"HTTP/1.1 413 Content Too Large\r\n",
    414: b"HTTP/1.1 414 URI Too Long\r\n",
    416: b"HTTP/1.1 416 Range Not Satisfiable\r\n",
    422: b"HTTP/1.1 422 Unprocessable Content\r\n",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"application/json"
PROBLEM = b"application/problem+json"
# Content whose type nobody has named (RFC 9110, 8.3), and that no client reads in a wrong way.
OCTETS = b"application/octet-stream"


class Long(msgspec.Struct, gc=False):
    """An answer with a long body, sent uncopied in pieces. ``head`` includes its empty line."""

    head: bytes
    body: bytes


# The answer of a route that can answer at once.
Answer = bytes | Long | Stream
# A longer body is not copied behind its head.
COPIED_BYTES = 64 * 1024


class Knowable(Protocol):
    """What an answer waits for. ``core.interface.Later`` is one."""

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called once, when the answer can be given."""

    def hurry(self) -> None:
        """Wake now, if that is possible: the client sends no more, and may have gone."""

    def cancel(self) -> None:
        """Do not wake: the client has gone."""


class Awaited(msgspec.Struct):
    """An answer that has to wait. Once ``unknown`` is known, ``then`` makes it or waits on."""

    unknown: Knowable
    then: Callable[[], Answer | Awaited]


class NextRound:
    """Delays an answer until the next turn of the loop, since this one has done enough."""

    __slots__ = ("_handle",)

    def __init__(self) -> None:
        self._handle: asyncio.Handle | None = None

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called in the next turn."""
        self._handle = asyncio.get_running_loop().call_soon(wake)

    def hurry(self) -> None:
        """Do nothing: it wakes in a moment."""

    def cancel(self) -> None:
        """Do not wake."""
        if self._handle is not None:
            self._handle.cancel()


def complete(head: bytes, media_type: bytes, body: bytes, bodiless: bool) -> bytes:
    """Return ``head`` with ``body``, or with its length alone if there is no body, as on HEAD."""
    fields = b"%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (head, media_type, len(body))
    return fields if bodiless else fields + body


def bodiless(head: bytes, media_type: bytes) -> bytes:
    """Return the answer to a HEAD without making its body, so without length (RFC 9110, 8.6)."""
    return b"%bContent-Type: %b\r\n\r\n" % (head, media_type)


def complete_shared(head: bytes, media_type: bytes, body: bytes, bodiless: bool) -> Answer:
    """Do the same as ``complete`` with a shared body. A long one is not copied."""
    if bodiless or len(body) <= COPIED_BYTES:
        return complete(head, media_type, body, bodiless)
    return Long(complete(head, media_type, body, bodiless=True), body)


def with_fields(answer: bytes, fields: bytes) -> bytes:
    """Put header lines after the status line."""
    return answer.replace(b"\r\n", b"\r\n" + fields, 1)


def with_connection(answer: bytes, close: bool) -> bytes:
    """Put a Connection line after the status line."""
    return with_fields(answer, b"Connection: close\r\n" if close else b"Connection: keep-alive\r\n")
