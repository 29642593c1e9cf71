"""The calls of one server.

Calls are not repeated here: a call that was lost may have been carried out (``LinkLostError.sent``),
and only its caller knows whether it can be sent again. A call while the store is away fails at
once, so nothing is kept in memory for it.

When the connection is lost, ``on_invalid(None)`` and ``on_lost()`` are called after the callbacks of
all calls that it had. ``on_up()`` is called when a new one is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from headway.core.link.address import Address
from headway.core.link.calls import Calls
from headway.core.link.ear import Ear
from headway.core.link.kept_wire import Find, KeptWire
from headway.core.link.reply_error import LinkLostError, ReplyError
from headway.core.link.script import Script
from headway.core.link.wire import Beside, Prompt, Waiting, fail


class Link(KeptWire, Calls):
    """Calls of one server, and with the first ``subscribe`` its messages.

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
        find: Find | None = None,
        redirect: Callable[[ReplyError, Waiting], bool] = lambda *_: False,
    ) -> None:
        super().__init__(address, name, find)
        self._on_push = on_push
        self._on_invalid = on_invalid
        self._on_up = on_up
        self._on_lost = on_lost
        self._redirect = redirect
        self._ear: Ear | None = None
        # The store's clock in milliseconds, less our monotonic one.
        self._ahead_ms = 0.0

    def send(self, data: bytes, script: Script | None = None) -> asyncio.Future[Any]:
        """Send the bytes of a command at the end of this turn."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self._send(data, future, script)
        return future

    def track(self, data: bytes, key: bytes) -> Prompt:
        """Send the bytes of a command that reads ``key``, as Calls says."""
        future = Prompt(loop=self.loop)
        self._send(data, future, key)
        return future

    def _send(self, data: bytes, future: asyncio.Future[Any] | None, kind: Beside) -> None:
        if self.wire is None:
            fail(future, LinkLostError(sent=False))
        else:
            self.wire.send(data, future, kind)

    def again(self, waiting: Waiting, before: bytes = b"") -> None:
        """Send a call that was refused, with the command ``before`` it."""
        future, data, kind = waiting
        if before and self.wire is not None:
            self.wire.send(before, None)
        self._send(data, future, kind)

    def subscribe(self, channel: bytes) -> asyncio.Future[Any]:
        """Get the messages of a channel of SPUBLISH, also over later connections."""
        if self._ear is None:
            self._ear = Ear(self.address, f"{self.name}:ear", self._on_push, self.hosts)
            self._ear.begin()
        return self._ear.subscribe(channel)

    def unsubscribe(self, channel: bytes) -> None:
        """Get the messages of a channel no more."""
        if self._ear is not None:
            self._ear.unsubscribe(channel)

    def server_ms(self) -> int:
        """Return the time of the store's clock, as well as it is known."""
        return int(time.monotonic() * 1000 + self._ahead_ms)

    def learn_time(self, server_ms: int) -> None:
        """Take the time that the store had a moment ago."""
        self._ahead_ms = server_ms - time.monotonic() * 1000

    async def close(self) -> None:
        """End the connections for good, after all calls have left. Those without a reply fail."""
        if self._ear is not None:
            await self._ear.close()
        await super().close()

    @property
    def run_id(self) -> str:
        """The process of the server, as that names itself. Empty: it is not known."""
        return "" if self.greeting is None else self.greeting.run_id

    # Called by the kept wire.

    def came(self) -> None:
        """Take a new connection."""
        assert self.greeting is not None
        self.learn_time(self.greeting.time_ms)
        if self._ear is not None and self._ear.host != self.host:
            self._ear.drop("another server is the primary")
        # Not called here: an error of it must not end the keeping.
        self.loop.call_soon(self._on_up)

    def gone(self) -> None:
        """Take the loss of the connection."""
        self.loop.call_soon(self._on_invalid, None)
        self.loop.call_soon(self._on_lost)

    def pushed(self, push: list[Any]) -> None:
        """Take an invalidation."""
        if push[0] == b"invalidate":
            self._on_invalid(push[1])

    def refused(self, error: ReplyError, waiting: Waiting) -> bool:
        """Take a refusal. Return whether the caller is answered later."""
        future, data, kind = waiting
        if error.code == "NOSCRIPT" and type(kind) is Script:
            self.again((future, _with_text(data, kind), kind))
            return True
        return super().refused(error, waiting) or self._redirect(error, waiting)


def _with_text(data: bytes, script: Script) -> bytes:
    """Return the EVALSHA ``data`` as an EVAL, by which a store learns the script."""
    count, _, rest = data.partition(b"\r\n")
    arguments = rest[rest.index(script.digest) + len(script.digest) + 2 :]
    return b"%b\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n%b" % (count, len(script.text), script.text, arguments)
