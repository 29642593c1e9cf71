"""The application as HTTP sees it: requests in, answers out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from headway.protocol.http.request import ContentLimit, Request
from headway.protocol.http.responses import Answer, Awaited
from headway.protocol.http.round import ClientRead


class Bound(Protocol):
    """A route with the method and id of a request. It answers requests of other content, too."""

    # The name under which its answers are counted.
    name: str

    def __call__(self, request: Request) -> Answer | Awaited:
        """Answer. Raises Refusal or HeadwayError."""


class App(Protocol):
    """An application."""

    # Whether a request may be answered without being read: nobody counts or logs it for its client.
    may_repeat: bool

    def bind(self, request: Request) -> Bound:
        """Return the route of a request. Raises Refusal for no route, or a client at its limit."""

    def content_limit(self, request: Request) -> ContentLimit:
        """Return the limit on the content of a request, whose head is known."""

    def fields(self, request: Request) -> bytes:
        """Return header lines of any answer to a request, also of one that has not come whole."""

    def expect(self, request: Request) -> None:
        """Raise Refusal or HeadwayError if the content of a request is not worth sending."""

    def poll_rest(self, request: Request, data: bytes) -> bytes | None:
        """Return the part of ``data`` after the id if ``request`` is a poll, else None."""

    def answer_polls(self, reads: Iterator[ClientRead], now: float) -> None:
        """Answer reads. Leave some if the round is over. Reads that are no polls go to the client."""

    def address(self, peer: str) -> bytes:
        """Return the key under which the connections of ``peer`` are counted, empty for none."""

    def retry_after_s(self) -> float:
        """Return in how many seconds a client that cannot be served now comes back."""

    def tick(self) -> None:
        """A second has passed."""
