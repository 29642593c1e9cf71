"""All connections of a server: the open ones, the counts of their requests, and their memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Protocol

from headway.core.config import Config
from headway.core.slices import in_slices
from headway.protocol.http.app import App
from headway.protocol.http.budget import Budget
from headway.protocol.http.clock import Clock
from headway.protocol.http.round import Round

TICK_S = 1.0
# Seconds in which a client may end its side of a connection after its last answer.
LINGER_S = 2.0
# Seconds between two looks at whether all connections have ended.
OPEN_LOOK_S = 0.01


class Member(Protocol):
    """A connection, as the others see it."""

    # When it has to have sent something, and to have taken something, of time.monotonic.
    deadline: float
    taking_until: float

    def forget(self) -> None:
        """What was allowed before may no longer be: look at the next request as at the first."""

    def overdue(self, now: float) -> None:
        """One of its deadlines has passed."""

    def wind_down(self) -> None:
        """The next answer is the last."""

    def end(self) -> None:
        """The server ends."""

    def give_way(self) -> None:
        """Others need the memory of its requests that are not answered yet."""

    def drop(self) -> None:
        """Others need the memory of its answers that it does not take."""


class Connections:
    """The state that connections share. ``app`` answers their requests."""

    def __init__(self, config: Config, clock: Clock, app: App) -> None:
        self.config = config
        self.clock = clock
        self.app = app
        self.open: set[Member] = set()
        # Connections that only wait for the client to end its side.
        self.lingering: set[Member] = set()
        self.round = Round(app.answer_polls, config.limits.unanswered_bytes)
        # Memory taken by clients.
        self.unanswered = Budget[Member](config.limits.unanswered_bytes, lambda client: client.give_way())
        self.untaken = Budget[Member](config.limits.untaken_bytes, lambda client: client.drop())
        # When a connection that is idle from now on has to be closed, of time.monotonic.
        self.idle_deadline = 0.0
        # Requests by (method and route, status code as sent).
        self.requests: dict[tuple[str, bytes], int] = {}
        # Requests refused, by the reason of their error.
        self.rejections: dict[str, int] = {}
        self.access_log = config.log.access
        # Each answer from now on is the last of its connection.
        self.winding_down = False
        self.tick()

    def tick(self) -> None:
        """Once a second: read the clock, and end the connections that are overdue."""
        self.clock.tick()
        self.app.tick()
        now = self.clock.now
        # A tick may be a second away when the wait begins.
        self.idle_deadline = now + TICK_S + self.config.timeouts.idle
        in_slices(self._look_for_overdue([*self.open, *self.lingering], now))

    def forget(self) -> None:
        """Have each connection look at its next request as at its first."""
        for connection in [*self.open]:
            connection.forget()

    def _look_for_overdue(self, connections: list[Member], now: float) -> Iterator[None]:
        for connection in connections:
            if connection.deadline < now or connection.taking_until < now:
                connection.overdue(now)
            yield

    async def wind_down(self, seconds: float) -> None:
        """Let each connection end with its next answer. Wait for that, ``seconds`` at most."""
        self.winding_down = True
        there = set(self.open)
        for connection in there:
            connection.wind_down()
        patience = time.monotonic() + seconds
        while there & (self.open | self.lingering) and time.monotonic() < patience:  # noqa: ASYNC110 — as below
            await asyncio.sleep(OPEN_LOOK_S)

    async def close(self, seconds: float = LINGER_S) -> None:
        """End all connections. Clients have ``seconds`` to take the last answers."""
        for connection in list(self.open):
            connection.end()
        patience = time.monotonic() + seconds
        while (self.open or self.lingering) and time.monotonic() < patience:  # noqa: ASYNC110 — once, at the end
            await asyncio.sleep(OPEN_LOOK_S)

    def count(self, name: str, answer: bytes) -> None:
        """Count an answer to a request of a method and route."""
        key = name, answer[9:12]
        self.requests[key] = self.requests.get(key, 0) + 1

    def reject(self, reason: str) -> None:
        """Count a request that was refused."""
        self.rejections[reason] = self.rejections.get(reason, 0) + 1
