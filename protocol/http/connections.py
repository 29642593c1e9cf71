"""All connections of a server: the open ones, the counts of their requests, and their memory.

A client that comes to a full house takes the place of the connection that has been idle for
longest. A connection counts as idle if it was so at the last tick and still is. So one look at all
of them for each tick finds all that are idle, however many clients come, and a crowd of newcomers does not
close the connections of each other. Clients without a place are refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from operator import attrgetter
from typing import Protocol

from headway.core.config import Config
from headway.core.slices import in_slices
from headway.protocol.http.app import App
from headway.protocol.http.budget import Budget
from headway.protocol.http.clock import Clock
from headway.protocol.http.problems import Refusal, retry_after
from headway.protocol.http.round import LEAVE, Round, RoundClient

log = logging.getLogger(__name__)

# Reasons for which a connection is closed without an answer: nothing came for ``timeouts.idle``, a
# newcomer took its place, too little was read in ``timeouts.write``.
CLOSED = ("idle", "place", "write")
TICK_S = 1.0
# Seconds in which a client may end its side of a connection after its last answer.
LINGER_S = 2.0
# Connections that linger beside a full house. Of more than these the oldest ends at once.
LINGERING_MOST = 64
# Seconds between two looks at whether all connections have ended.
OPEN_LOOK_S = 0.01


class Member(RoundClient, Protocol):
    """A connection, as the others see it."""

    # When it has to have taken something, of time.monotonic. ``deadline`` is for sending.
    taking_until: float
    # The key of its address, empty if that is not counted.
    address: bytes

    def forget(self) -> None:
        """What was allowed before may no longer be: look at the next request as at the first."""

    def overdue(self, now: float) -> None:
        """One of its deadlines has passed."""

    def wind_down(self) -> None:
        """The next answer is the last."""

    def end(self) -> None:
        """The server ends."""

    def drop(self) -> None:
        """Others need the memory of its answers that it does not take, or its descriptor."""


class Connections:
    """The state that connections share. ``app`` answers their requests."""

    def __init__(self, config: Config, clock: Clock, app: App) -> None:
        self.config = config
        self.clock = clock
        self.app = app
        # Connections that have a place, in the order in which they came.
        self.open: dict[Member, None] = {}
        # The last that a connection learned: the bytes after the id in a HEAD. Its answer depends on
        # nothing else of the connection, so a crowd that comes back needs no parser. Heads with a token
        # are not shared: a client could measure how much of another's token it has guessed.
        self.known_rest: bytes | None = None
        # Connections that only wait for the client to end its side, the oldest first.
        self.lingering: dict[Member, None] = {}
        # Places taken by each address.
        self._of_address: dict[bytes, int] = {}
        # The rest of the connections that were idle at the last tick, the one that was idle for longest
        # first. None: nobody has looked.
        self._idle: Iterator[Member] | None = None
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
        # Connections closed by a limit on their clients.
        self.closed = dict.fromkeys(CLOSED, 0)
        self.counts_addresses = config.limits.connections_per_address > 0
        self.access_log = config.log.access
        # Connections that ended before a client was in, by the step at which they did.
        self.entries_failed = {"proxy": 0, "tls": 0, "room": 0}
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
        self._idle = None
        in_slices(self._look_for_overdue([*self.open, *self.lingering], now))

    def forget(self) -> None:
        """Have each connection look at its next request as at its first."""
        self.known_rest = None
        for connection in [*self.open]:
            connection.forget()

    def _look_for_overdue(self, connections: list[Member], now: float) -> Iterator[None]:
        for connection in connections:
            if connection.deadline < now or connection.taking_until < now:
                try:
                    connection.overdue(now)
                except Exception:
                    # Else no deadline of any other would come, nor the next tick.
                    log.exception("%r failed, and is ended", connection)
                    connection.transport.abort()
            yield

    def enter(self, client: Member) -> None:
        """Give ``client`` a place. Raises Refusal if there is none."""
        limits = self.config.limits
        if client.address and self._of_address.get(client.address, 0) >= limits.connections_per_address:
            raise self._full("connections-of-address", f"{limits.connections_per_address} clients of one address")
        while len(self.open) >= limits.connections:
            if not self.make_place():
                raise self._full("connections", f"{limits.connections} clients")
        self.come_back(client)

    def make_place(self) -> bool:
        """Close the connection that has been idle for longest. Return whether there was one."""
        if self._idle is None:
            # Without a call for each: a turn has to be short at 16,000 connections.
            bound = self.idle_deadline
            idle = [client for client in self.open if client.deadline < bound and client.free]
            self._idle = iter(sorted(idle, key=attrgetter("deadline")))
        for client in self._idle:
            if self.is_idle(client):
                # Its place is free at once. It ends after the reads before this one, and later bytes
                # stay in the kernel until then.
                self.leave(client)
                client.stop_reading()
                self.round.go_on_soon(client, LEAVE)
                return True
        return False

    def is_idle(self, client: Member) -> bool:
        """Whether a connection was idle at the last tick, and still is."""
        return client.free and client.deadline < self.idle_deadline

    def _full(self, reason: str, of: str) -> Refusal:
        return Refusal(reason, f"{of} are connected, which is the limit", fields=retry_after(self.app.retry_after_s()))

    def come_back(self, client: Member) -> None:
        """Give ``client`` a place, also if there is none: it was to leave, and is not idle any more."""
        self.open[client] = None
        if client.address:
            self._of_address[client.address] = self._of_address.get(client.address, 0) + 1

    def leave(self, client: Member) -> None:
        """Take the place of ``client``, if it has one."""
        if client not in self.open:
            return
        del self.open[client]
        if client.address:
            count = self._of_address[client.address] - 1
            if count:
                self._of_address[client.address] = count
            else:
                del self._of_address[client.address]

    def linger(self, client: Member) -> None:
        """Let ``client`` wait for the end of the other side, without a place."""
        self.leave(client)
        self.lingering[client] = None
        if len(self.open) + len(self.lingering) > self.config.limits.connections + LINGERING_MOST:
            oldest = next(iter(self.lingering))
            del self.lingering[oldest]
            oldest.drop()

    async def wind_down(self, seconds: float) -> None:
        """Let each connection end with its next answer. Wait for that, ``seconds`` at most."""
        self.winding_down = True
        there = set(self.open)
        for connection in there:
            connection.wind_down()
        patience = time.monotonic() + seconds
        while not there.isdisjoint(self.open | self.lingering) and time.monotonic() < patience:  # noqa: ASYNC110 — as below
            await asyncio.sleep(OPEN_LOOK_S)

    async def close(self, seconds: float = LINGER_S) -> None:
        """End all connections. Answers that wait may come within ``seconds``, in which clients take the last ones."""
        self.winding_down = True
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

    def not_entered(self, step: str) -> None:
        """Count a connection that ended at a step on its way in, or for want of "room" on it."""
        self.entries_failed[step] += 1
