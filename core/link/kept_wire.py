"""A connection that is made again whenever it is lost.

**No storm.** Each try waits for a random part of a bound (full jitter): ``SOON_S`` for the first
tries, so that a restart of the store is over in a moment, later up to ``LATER_S``. A node has two of
these connections, so a hundred nodes make some two hundred tries a second at a store that stays
away. A connection that was lost soon counts as a try, so one that never lasts is no storm either.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headway.core.durability import Durability
from headway.core.errors import ConfigError
from headway.core.link.address import Address, Host
from headway.core.link.dial import CONNECT_S, Dial, without_tls
from headway.core.link.greeting import Greeting, NotPrimaryError, greet, inspect
from headway.core.link.reply_error import NOT_PRIMARY, LinkLostError, ReplyError, StoreError
from headway.core.link.wire import Waiting, Wire, fail, pack

log = logging.getLogger(__name__)

# The bound of the wait before a try, for the first SOON_TRIES and for those later on.
SOON_S, SOON_TRIES, LATER_S = 0.25, 8, 2.0
# A connection that lasted so long was a good one.
LASTED_S = 2.0
# A start waits so long for a store that is not there.
PATIENCE_S = 10.0
# What may go wrong with a try.
FAILED = (OSError, StoreError, ConfigError)
# Hosts to try, None for a socket.
Find = Callable[[], Awaitable[Sequence[Host | None]]]


class UnreachableError(ConfigError):
    """Nobody answers at the address. That is a mistake in it, or the store is not started."""


class KeptWire:
    """One connection at a time, for one loop. ``name`` is that of ``CLIENT LIST``.

    ``find`` has the hosts to try, instead of those of the address.
    """

    # Whether a loss is told in the log.
    tells = True

    def __init__(self, address: Address, name: str, find: Find | None = None) -> None:
        self.address = address
        self.name = name
        # The host of the last connection. None for a socket.
        self.host: Host | None = None
        self._why = "not started"
        # What the store promises, after ``start``.
        self.durability: Durability = "process"
        self.greeting: Greeting | None = None
        # Connections made, ever.
        self.made = 0
        # Turns whose calls were sent.
        self.writes = 0
        self.loop = asyncio.get_running_loop()
        self.wire: Wire | None = None
        self._dial = Dial(address)
        self._find = find or self._named
        self._is_down = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        # When the last connection was made.
        self._since = 0.0

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self.wire is not None

    @property
    def why(self) -> str:
        """Why there is no connection. Empty while there is one."""
        return self._why

    async def hosts(self) -> Sequence[Host | None]:
        """Return the host of the connection, or those to try."""
        return (self.host,) if self.is_up else await self._find()

    async def _named(self) -> Sequence[Host | None]:
        return self.address.hosts or (None,)

    async def start(self, patience_s: float = PATIENCE_S) -> None:
        """Connect. Raises ConfigError if that can never work, UnreachableError if not within ``patience_s``.

        A store that reads its data is waited for as long as that takes.
        """
        end = self.loop.time() + patience_s
        tries = 0
        while True:
            try:
                await self._connect()
                self.durability = await inspect(self._say, self.address)
                break
            except ConfigError:
                await self.close()
                raise
            except (OSError, StoreError) as error:
                if isinstance(error, ReplyError) and error.code == "LOADING":
                    # It is there, and as soon as its data is, all is well.
                    end = self.loop.time() + patience_s
                    if not tries:
                        log.info("engine: the store %s reads its data", self.address)
                # Of several servers, one may be about to become the primary.
                is_alone = len(self.address.hosts) < 2 and not self.address.sentinel
                if self.loop.time() > end or (isinstance(error, NotPrimaryError) and is_alone):
                    await self.close()
                    raise self._unusable(error) from None
            tries += 1
            await asyncio.sleep(_pause_s(tries))
        self._keeper = self.loop.create_task(self._keep())

    def _unusable(self, error: Exception) -> ConfigError:
        if isinstance(error, NotPrimaryError):
            return ConfigError(f"engine: {error}")
        hint = without_tls(self.address) if isinstance(error, TimeoutError) else ""
        return UnreachableError(f"engine: {self.address} cannot be reached: {line_of(error)}{hint}")

    def begin(self) -> None:
        """Connect as soon as it can be done, and wait for nothing."""
        self._is_down.set()
        self._keeper = self.loop.create_task(self._keep())

    async def close(self) -> None:
        """End the connection for good, after all calls have left. Those without a reply fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        wire, self.wire = self.wire, None
        self._why = "closed"
        if wire is not None:
            wire.close()
            await wire.ended.wait()

    def drop(self, why: str) -> None:
        """End this connection. Another one is made."""
        if self.wire is not None:
            self.wire.drop(ConnectionError(why))

    def _say(self, *words: str) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.loop.create_future()
        if self.wire is None:
            fail(future, LinkLostError(sent=False))
        else:
            self.wire.send(pack(words), future)
        return future

    # Called by the connection, and here for what this is kept for.

    def came(self) -> None:
        """Take a new connection."""

    def gone(self) -> None:
        """Take the loss of the connection. All its calls have failed."""

    def pushed(self, push: list[Any]) -> None:
        """Take a push."""

    def wrote(self) -> None:
        """Count the calls of a turn."""
        self.writes += 1

    def refused(self, error: ReplyError, waiting: Waiting) -> bool:
        """Take a refusal. Return whether the caller is answered later."""
        del waiting
        if error.code in NOT_PRIMARY:
            self.drop(str(error))
        return False

    def lost(self, wire: Wire, error: Exception | None) -> None:
        """Take the end of a connection."""
        if wire is not self.wire:
            return
        self.wire = None
        self._why = line_of(error or ConnectionError("the store ended the connection"))
        self.gone()
        self._is_down.set()

    async def _keep(self) -> None:
        """Connect whenever the connection is lost."""
        tries = 0
        while True:
            await self._is_down.wait()
            self._is_down.clear()
            lost = self.loop.time()
            if lost - self._since > LASTED_S:
                tries = 0
            told = self.made > 0 and self._tell_loss()
            while not self.is_up:
                tries += 1
                await asyncio.sleep(_pause_s(tries))
                try:
                    await self._connect()
                except FAILED as error:
                    self._why = line_of(error)
                    told = told or self._tell_loss()
            if told:
                log.info("engine: the store %s is back after %.1f s", self.address, self.loop.time() - lost)
            await self._inspect_again()

    def _tell_loss(self) -> bool:
        if self.tells:
            log.warning("engine: the store %s is away: %s", self.address, self._why)
        return self.tells

    async def _inspect_again(self) -> None:
        """Notice a store that came back with another configuration."""
        if not self.tells:
            return
        try:
            self.durability = await inspect(self._say, self.address)
        except ConfigError as error:
            log.error("jobs may be lost: %s", error)
        except StoreError:
            # Lost again.
            return

    async def _connect(self) -> None:
        """Make a connection with the first host that will do."""
        problem: Exception | None = None
        for host in await self._find():
            try:
                async with asyncio.timeout(CONNECT_S):
                    wire = await self._dial.wire(self, host)
                    try:
                        greeting = await greet(wire, self.address, self.name)
                    except BaseException as error:
                        wire.drop(ConnectionError(str(error)))
                        raise
                if not wire.is_open:
                    raise LinkLostError(sent=False)
            except FAILED as error:
                # A store that refuses us says more than one that is away.
                if problem is None or isinstance(error, ConfigError):
                    problem = error
                continue
            self.wire, self.host, self.greeting, self._why = wire, host, greeting, ""
            self._since = self.loop.time()
            self.made += 1
            self.came()
            return
        assert problem is not None
        raise problem


def _pause_s(tries: int) -> float:
    bound = SOON_S if tries <= SOON_TRIES else min(LATER_S, SOON_S * 2 ** (tries - SOON_TRIES))
    return random.uniform(0, bound)  # noqa: S311 — no secret


def line_of(error: Exception) -> str:
    """Return an error in a line."""
    if isinstance(error, TimeoutError) and not error.args:
        return f"no answer within {CONNECT_S:.0f} s"
    return " ".join((str(error) or type(error).__name__).split())
