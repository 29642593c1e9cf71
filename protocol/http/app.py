"""The view that HTTP has of what it serves: requests in, answers out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from headway.protocol.http.request import Request
from headway.protocol.http.responses import Answer, Held
from headway.protocol.http.round import Read


class Bound(Protocol):
    """A route with the method and the id of a request; it answers any request that differs in its content only."""

    # Under which its answers are counted.
    name: str

    def __call__(self, request: Request) -> Answer | Held:
        """Answer. Raises Refusal or HeadwayError."""


class App(Protocol):
    """An application."""

    # Whether any answer may be held.
    holds: bool
    # Whether a request may be answered without being read: nobody counts or logs it for its client.
    may_repeat: bool

    def bind(self, request: Request) -> Bound:
        """Return the route of a request. Raises Refusal where there is none, or the client may ask no more now."""

    def expect(self, request: Request) -> None:
        """Raise Refusal or HeadwayError where the content of a request is not worth sending."""

    def poll_rest(self, request: Request, data: bytes) -> bytes | None:
        """Return the part of ``data`` behind the id, where ``request`` is a poll; None where it is none."""

    def answer_polls(self, reads: Iterator[Read], now: float) -> None:
        """Answer reads; leave some where the round is over. A read that is no poll goes to its client."""

    def retry_after_s(self) -> float:
        """Return in how many seconds a client comes back that cannot be served now."""

    def tick(self) -> None:
        """A second has passed."""
