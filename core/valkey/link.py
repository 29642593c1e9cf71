"""A connection with a store that is made again whenever it is lost.

Calls are not repeated here: a call that was lost may have been carried out (``LinkLostError.sent``),
and only its caller knows whether it can be sent again. A call while the store is away fails at
once, so nothing is kept in memory for it.

**No storm.** Each try waits for a random part of a bound (full jitter): ``SOON_S`` for the first
tries, so that a restart of the store is over in a moment, later up to ``LATER_S``. A node has one or
two of these connections, so a thousand nodes are some hundred tries a second.

When a connection is lost, ``on_invalid(None)`` and ``on_lost()`` are called after the callbacks of
all calls that it had. ``on_up()`` is called when a new one is there, with its subscriptions made.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from headway.core.durability import Durability
from headway.core.errors import ConfigError
from headway.core.valkey.address import Address, Host
from headway.core.valkey.greeting import Greeting, NotPrimaryError, greet, inspect
from headway.core.valkey.reply_error import NOT_PRIMARY, LinkLostError, ReplyError, StoreError
from headway.core.valkey.script import Script
from headway.core.valkey.wire import Beside, Subscription, Waiting, Wire, fail, pack

log = logging.getLogger(__name__)

# The bound of the wait before a try, for the first SOON_TRIES and for those later on.
SOON_S, SOON_TRIES, LATER_S = 0.25, 8, 2.0
# A connection, with its greeting, is made in so many seconds or not at all.
CONNECT_S = 3.0
# A start waits so long for a store that is not there.
PATIENCE_S = 10.0
Word = bytes | str | int | float
# What may go wrong with a try.
FAILED = (OSError, StoreError, ConfigError)


class Link:
    """One connection at a time, for one loop. ``name`` is that of ``CLIENT LIST``.

    ``on_push`` gets messages as they are: ``[b"smessage", channel, data]``. ``on_invalid`` gets the
    keys of tracked reads that have changed, or None for all. ``redirect`` may take a refused call.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        on_push: Callable[[list[Any]], object] = list,
        on_invalid: Callable[[list[bytes] | None], object] = id,
        on_up: Callable[[], object] = int,
        on_lost: Callable[[], object] = int,
        redirect: Callable[[ReplyError, Waiting], bool] = lambda *_: False,
    ) -> None:
        self.address = address
        self.name = name
        # Why there is no connection. Empty while there is one.
        self.why = "not started"
        # What the store promises, after ``start``.
        self.durability: Durability = "process"
        self.greeting: Greeting | None = None
        # Connections made, ever.
        self.made = 0
        self._on_push = on_push
        self._on_invalid = on_invalid
        self._on_up = on_up
        self._on_lost = on_lost
        self._redirect = redirect
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._is_down = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._channels: set[bytes] = set()
        # The store's clock in milliseconds, less our monotonic one.
        self._ahead_ms = 0.0
        self._tls: ssl.SSLContext | None = None

    @property
    def is_up(self) -> bool:
        """Whether calls can be sent."""
        return self._wire is not None

    async def start(self, patience_s: float = PATIENCE_S) -> None:
        """Connect. Raises ConfigError if that can never work, or does not within ``patience_s``."""
        end = self._loop.time() + patience_s
        tries = 0
        while True:
            try:
                await self._connect()
                self.durability = await inspect(self.call, self.address)
                break
            except NotPrimaryError as error:
                raise ConfigError(f"engine: {error}") from None
            except (OSError, StoreError) as error:
                if self._loop.time() > end:
                    raise ConfigError(f"engine: {self.address} cannot be reached: {_line(error)}") from None
            tries += 1
            await asyncio.sleep(_pause_s(tries))
        self._keeper = self._loop.create_task(self._keep())

    async def close(self) -> None:
        """End the connection for good, after all calls have left. Those without a reply fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        wire, self._wire = self._wire, None
        self.why = "closed"
        if wire is not None:
            wire.close()
            await wire.ended.wait()

    def call(self, *words: Word) -> asyncio.Future[Any]:
        """Send a command. The reply raises ReplyError if it is refused, LinkLostError if it does not come."""
        return self._send(pack(words))

    def read(self, key: bytes, *fields: bytes) -> asyncio.Future[list[bytes | None]]:
        """Read fields of a hash, and have ``on_invalid`` called when it changes.

        An invalidation is told after the callbacks of the read. So a cache is filled in a callback
        of this future, not by a task that awaits it together with others.
        """
        return self._send(pack((b"HMGET", key, *fields)), key)

    def run(self, script: Script, keys: Sequence[bytes], *arguments: Word) -> asyncio.Future[Any]:
        """Run a script. A store that does not know it yet is given its text."""
        return self._send(pack((b"EVALSHA", script.digest, len(keys), *keys, *arguments)), script)

    def subscribe(self, channel: bytes) -> asyncio.Future[Any]:
        """Get the messages of a channel of SPUBLISH, also over later connections.

        The reply is for those who want to know when it begins. Raises ReplyError if it is forbidden.
        """
        self._channels.add(channel)
        return self._send(pack((b"SSUBSCRIBE", channel)), Subscription(channel))

    def unsubscribe(self, channel: bytes) -> None:
        """Get the messages of a channel no more."""
        self._channels.discard(channel)
        self._send(pack((b"SUNSUBSCRIBE", channel)), Subscription(channel))

    def server_ms(self) -> int:
        """Return the time of the store's clock, as well as it is known."""
        return int(time.monotonic() * 1000 + self._ahead_ms)

    def learn_time(self, server_ms: int) -> None:
        """Take the time that the store had a moment ago."""
        self._ahead_ms = server_ms - time.monotonic() * 1000

    def again(self, waiting: Waiting, before: bytes = b"") -> None:
        """Send a call that was refused elsewhere, with the command ``before`` it."""
        future, data, kind = waiting
        if self._wire is None:
            fail(future, LinkLostError(sent=False))
            return
        if before:
            self._wire.send(before, None)
        self._wire.send(data, future, kind)

    def _send(self, data: bytes, kind: Beside = None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._wire is None:
            fail(future, LinkLostError(sent=False))
        else:
            self._wire.send(data, future, kind)
        return future

    # Called by the connection.

    def pushed(self, push: list[Any]) -> None:
        """Take a push."""
        if push[0] == b"invalidate":
            self._on_invalid(push[1])
        else:
            self._on_push(push)

    def refused(self, error: ReplyError, waiting: Waiting) -> bool:
        """Take a refusal. Return whether the caller is answered later."""
        future, data, kind = waiting
        if error.code == "NOSCRIPT" and type(kind) is Script:
            self.again((future, _with_text(data, kind), None))
            return True
        if error.code in NOT_PRIMARY and self._wire is not None:
            self._wire.drop(error)
            return False
        return self._redirect(error, waiting)

    def lost(self, wire: Wire, error: Exception | None) -> None:
        """Take the end of a connection."""
        if wire is not self._wire:
            return
        self._wire = None
        self.why = _line(error or ConnectionError("the store ended the connection"))
        self._loop.call_soon(self._on_invalid, None)
        self._loop.call_soon(self._on_lost)
        self._is_down.set()

    async def _keep(self) -> None:
        """Connect whenever the connection is lost."""
        while True:
            await self._is_down.wait()
            self._is_down.clear()
            began = self._loop.time()
            log.warning("engine: the store %s is away: %s", self.address, self.why)
            tries = 0
            while not self.is_up:
                tries += 1
                await asyncio.sleep(_pause_s(tries))
                try:
                    await self._connect()
                except FAILED as error:
                    self.why = _line(error)
            log.info("engine: the store %s is back after %.1f s", self.address, self._loop.time() - began)

    async def _connect(self) -> None:
        """Make a connection with the first host that will do."""
        problem: Exception | None = None
        for host in self.address.hosts or (("", 0),):
            try:
                async with asyncio.timeout(CONNECT_S):
                    wire = await self._dial(host)
                    try:
                        greeting = await greet(wire, self.address, self.name)
                    except BaseException as error:
                        wire.drop(ConnectionError(str(error)))
                        raise
                if not wire.is_open:
                    raise LinkLostError(sent=False)
            except (*FAILED, TimeoutError) as error:
                # A store that refuses us says more than one that is away.
                if problem is None or isinstance(error, ConfigError):
                    problem = error
                continue
            self._begin(wire, greeting)
            return
        assert problem is not None
        raise problem

    def _begin(self, wire: Wire, greeting: Greeting) -> None:
        self._wire, self.greeting, self.why = wire, greeting, ""
        self.made += 1
        self.learn_time(greeting.time_ms)
        for channel in self._channels:
            wire.send(pack((b"SSUBSCRIBE", channel)), None, Subscription(channel))
        self._on_up()

    async def _dial(self, host: Host) -> Wire:
        address = self.address
        if address.path:
            _, wire = await self._loop.create_unix_connection(lambda: Wire(self), address.path)
            return wire
        try:
            tls = self._context() if address.tls else None
            _, wire = await self._loop.create_connection(lambda: Wire(self), *host, ssl=tls)
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(
                f"engine: the certificate of {address} is refused: {error.verify_message}. "
                "Name the file of who signed it: ?ca=/path/ca.pem"
            ) from None
        except ssl.SSLError as error:
            raise ConfigError(f"engine: {address} refuses TLS ({error.reason}). Without TLS it is valkey://") from None
        return wire

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            address = self.address
            try:
                self._tls = ssl.create_default_context(cafile=address.ca or None)
                if address.certificate:
                    self._tls.load_cert_chain(address.certificate, address.key)
            except (OSError, ssl.SSLError) as error:
                files = ", ".join(filter(None, (address.ca, address.certificate, address.key)))
                raise ConfigError(f"engine: the certificates cannot be read ({files}): {error}") from None
        return self._tls


def _with_text(data: bytes, script: Script) -> bytes:
    """Return the EVALSHA ``data`` as an EVAL, by which a store learns the script."""
    count, _, rest = data.partition(b"\r\n")
    arguments = rest[rest.index(script.digest) + len(script.digest) + 2 :]
    return b"%b\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n%b" % (count, len(script.text), script.text, arguments)


def _pause_s(tries: int) -> float:
    bound = SOON_S if tries <= SOON_TRIES else min(LATER_S, SOON_S * 2 ** (tries - SOON_TRIES))
    return random.uniform(0, bound)  # noqa: S311 — no secret


def _line(error: Exception) -> str:
    """Return an error in a line."""
    if type(error) is TimeoutError and not error.args:
        return f"no answer within {CONNECT_S:.0f} s"
    return " ".join((str(error) or type(error).__name__).split())
