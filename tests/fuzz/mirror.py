"""An application that answers with what it was asked, so that an answer shows what HTTP has made of bytes.

The beginning of a target chooses the kind of answer: at once, long, one that waits, a stream, a refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from headway.core.config import Config
from headway.protocol.http.clock import Clock
from headway.protocol.http.connections import Connections
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import ContentLimit, Request
from headway.protocol.http.responses import STATUS_LINES, Answer, Awaited, Long, complete
from headway.protocol.http.round import ClientRead, Round
from headway.protocol.http.stream import Stream

# A long answer has so many bytes, and so many follow it at once.
LONG = b"long" * 50_000


class Seen(NamedTuple):
    """A request as the application got it."""

    method: bytes
    target: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, request: Request) -> Seen:
        """Return what there is of ``request``."""
        headers = tuple(sorted(request.headers.items()))
        return cls(request.method, request.target, request.version, headers, request.body)

    @property
    def digest(self) -> bytes:
        """A few bytes that stand for all of it."""
        return blake2b(repr(self).encode(), digest_size=8).hexdigest().encode()


class Gate:
    """Holds answers until it is opened, once."""

    def __init__(self) -> None:
        self._wakes: list[Callable[[], object]] = []

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the gate is opened."""
        self._wakes.append(wake)

    def open(self) -> None:
        """Let all answers be given."""
        wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    @property
    def waiting(self) -> int:
        """How many answers it holds."""
        return len(self._wakes)

    def hurry(self) -> None:
        """Let them be given: the client sends no more."""
        self.open()

    def cancel(self) -> None:
        """Forget them: the client has gone."""
        self._wakes.clear()


class Pieces:
    """A stream of a few pieces, one each time that it is asked."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.ended = False

    def when_more(self, wake: Callable[[], object]) -> None:
        """Never wake by itself: a sign of life takes a piece, too."""

    def take(self) -> bytes:
        """Return the next piece."""
        self._left -= 1
        self.ended = self._left <= 0
        return b"piece\n"

    def beat(self) -> bytes:
        """Return the next piece as a sign of life."""
        return b":\n"

    def close(self) -> None:
        """End."""
        self.ended = True


class Mirror:
    """The application. ``seen`` has the requests that it got, in their order."""

    name = "mirror"
    may_repeat = True

    def __init__(self, config: Config) -> None:
        self.seen: list[Seen] = []
        self.gate = Gate()
        self.connections = Connections(config, Clock(), self)

    @classmethod
    async def opened(cls, config: Config, *, is_busy: bool) -> Mirror:
        """Return one on the running loop. If it is busy, each turn has time for one read."""
        asyncio.get_running_loop()
        found = cls(config)
        if is_busy:
            most = config.limits.unanswered_bytes
            found.connections.round = Round(found.answer_polls, most, round_s=0.0, small_bytes=0)
        return found

    def address(self, peer: str) -> bytes:
        """Return the key of a client. All are one."""
        return peer.encode()

    def bind(self, request: Request) -> Mirror:
        """Return itself: it has one route."""
        return self

    def __call__(self, request: Request) -> Answer | Awaited:
        """Answer with a digest of the request, and with the number of those before it."""
        seen = Seen.of(request)
        number = len(self.seen)
        self.seen.append(seen)
        kind = seen.target[1:2]
        if kind == b"n":
            raise Refusal("not-found", seen.digest.decode())
        if kind == b"w":
            return Awaited(self.gate, lambda: self._told(seen, number))
        return self._told(seen, number)

    def _told(self, seen: Seen, number: int) -> Answer:
        head = STATUS_LINES[200] + b"Seen: %d %b\r\n" % (number, seen.digest)
        bodiless = seen.method == b"HEAD"
        match seen.target[1:2]:
            case b"l" if not bodiless:
                return Long(complete(head, b"text/plain", LONG, bodiless=True), LONG)
            case b"s" if not bodiless:
                return Stream(head + b"Content-Type: text/plain\r\n\r\n", b"first\n", Pieces(3))
            case _:
                return complete(head, b"text/plain", seen.digest, bodiless)

    def content_limit(self, request: Request) -> ContentLimit:
        """Return the usual limit."""
        return request.limit

    def fields(self, request: Request) -> bytes:
        """Return none."""
        return b""

    def expect(self, request: Request) -> None:
        """Refuse content for one target."""
        if request.target[1:2] == b"n":
            raise Refusal("not-found", "not worth sending")

    def poll_rest(self, request: Request, data: bytes) -> bytes | None:
        """Return None: there are no polls here."""
        return None

    def answer_polls(self, reads: Iterator[ClientRead], now: float) -> None:
        """Have each client read, as long as there is time."""
        turn = self.connections.round
        for client, data in reads:
            if client.to_flush:
                turn.write()
            client.read(data)
            if turn.is_over():
                return

    def retry_after_s(self) -> float:
        """Return a second."""
        return 1.0

    def tick(self) -> None:
        """Do nothing."""
