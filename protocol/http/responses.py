"""Answers as bytes: status lines are ready at import; what holds an answer back.

``head`` in this file means the status line and header lines without the empty line that ends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from headway.core.job import Reason, State

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

NAMES = [state.name.lower() for state in State]
REASONS = [reason.name.lower() for reason in Reason]


class Long(msgspec.Struct, gc=False):
    """An answer whose body is sent as it is, uncopied, a piece at a time; ``head`` has the empty line that ends it."""

    head: bytes
    body: bytes


# What a route returns that can answer at once.
Answer = bytes | Long
# A body that is longer is not copied behind its head.
COPIED_BYTES = 64 * 1024


class Hold(Protocol):
    """What holds an answer back."""

    def cancel(self) -> None:
        """Never wake: the client has gone."""

    def hurry(self) -> None:
        """Wake now, if that can be: the client sends no more, and may have gone."""


class Held(msgspec.Struct):
    """An answer that cannot be given yet: ``begin`` is given what to call once ``then`` can make it, or hold on."""

    begin: Callable[[Callable[[], None]], Hold]
    then: Callable[[], Answer | Held]


class Awaited:
    """Holds an answer until something was read from the disk."""

    __slots__ = ("_future", "_wake")

    def __init__(self, future: asyncio.Future[Any], wake: Callable[[], None]) -> None:
        self._future = future
        self._wake = wake
        future.add_done_callback(self._done)

    def _done(self, _: asyncio.Future[Any]) -> None:
        self._wake()

    def cancel(self) -> None:
        """Read no further."""
        self._future.remove_done_callback(self._done)
        self._future.cancel()

    def hurry(self) -> None:
        """Go on: it is read in a moment."""


class NextTurn:
    """Holds an answer until the next turn of the loop, since this one has done enough."""

    __slots__ = ("_handle",)

    def __init__(self, wake: Callable[[], None]) -> None:
        self._handle = asyncio.get_running_loop().call_soon(wake)

    def cancel(self) -> None:
        """Never wake: the client has gone."""
        self._handle.cancel()

    def hurry(self) -> None:
        """Go on: it is woken in a moment."""


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
