"""Answers as bytes: status lines are ready at import; what holds an answer back.

``head`` in this file means the status line and header lines without the empty line that ends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import msgspec

STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
} | {
    # Names of RFC 9110 that Python 3.11 does not have yet.
    413: b"HTTP/1.1 413 Content Too Large\r\n",
    414: b"HTTP/1.1 414 URI Too Long\r\n",
    422: b"HTTP/1.1 422 Unprocessable Content\r\n",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"application/json"
PROBLEM = b"application/problem+json"


class Long(msgspec.Struct, gc=False):
    """An answer whose body is sent as it is, uncopied, a piece at a time; ``head`` has the empty line that ends it."""

    head: bytes
    body: bytes


# What a route returns that can answer at once.
Answer = bytes | Long
# A body that is longer is not copied behind its head.
COPIED_BYTES = 64 * 1024


class Hold(Protocol):
    """What holds an answer back; ``core.interface.Later`` is one."""

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called once, when the answer can be given."""

    def hurry(self) -> None:
        """Wake now, if that can be: the client sends no more, and may have gone."""

    def cancel(self) -> None:
        """Do not wake: the client has gone."""


class Held(msgspec.Struct):
    """An answer that cannot be given yet: ``then`` makes it, or holds on, once ``hold`` has woken us."""

    hold: Hold
    then: Callable[[], Answer | Held]


class NextRound:
    """Holds an answer until the next turn of the loop, since this one has done enough."""

    __slots__ = ("_handle",)

    def __init__(self) -> None:
        self._handle: asyncio.Handle | None = None

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called in the next turn."""
        self._handle = asyncio.get_running_loop().call_soon(wake)

    def hurry(self) -> None:
        """Go on: it is woken in a moment."""

    def cancel(self) -> None:
        """Do not wake."""
        if self._handle is not None:
            self._handle.cancel()


def complete(head: bytes, media_type: bytes, body: bytes, bodiless: bool) -> bytes:
    """Return ``head`` with ``body``; with its length alone where the answer has no body, as on HEAD."""
    fields = b"%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (head, media_type, len(body))
    return fields if bodiless else fields + body


def bodiless(head: bytes, media_type: bytes) -> bytes:
    """Return the answer to a HEAD whose body is not made, so that its length is not known (RFC 9110, 8.6)."""
    return b"%bContent-Type: %b\r\n\r\n" % (head, media_type)


def complete_shared(head: bytes, media_type: bytes, body: bytes, bodiless: bool) -> Answer:
    """Do what ``complete`` does with a body that others are sent too: one that is long is not copied."""
    if bodiless or len(body) <= COPIED_BYTES:
        return complete(head, media_type, body, bodiless)
    return Long(complete(head, media_type, body, bodiless=True), body)


def with_connection(answer: bytes, close: bool) -> bytes:
    """Put a Connection line after the status line."""
    line = b"\r\nConnection: close\r\n" if close else b"\r\nConnection: keep-alive\r\n"
    return answer.replace(b"\r\n", line, 1)
