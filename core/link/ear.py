"""Messages of a store, on a connection of their own.

A server ends a connection that hears messages as soon as 32 MB of replies wait on it
(``client-output-buffer-limit pubsub``). Payloads of a few claims are that much, so calls and
messages share no connection. Messages that come while it is lost are lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from headway.core.link.address import Address
from headway.core.link.kept_wire import Find, KeptWire
from headway.core.link.reply_error import LinkLostError
from headway.core.link.wire import Subscription, fail, pack


class Ear(KeptWire):
    """Hears channels, from ``begin`` on."""

    tells = False

    def __init__(self, address: Address, name: str, on_push: Callable[[list[Any]], object], find: Find) -> None:
        super().__init__(address, name, find)
        self._on_push = on_push
        # Channels, and those who want to know when they are heard.
        self._channels: dict[bytes, asyncio.Future[Any] | None] = {}

    def subscribe(self, channel: bytes) -> asyncio.Future[Any]:
        """Hear a channel. The reply comes when it is heard."""
        future: asyncio.Future[Any] = self.loop.create_future()
        if self.wire is None:
            fail(self._channels.pop(channel, None), LinkLostError(sent=False))
            self._channels[channel] = future
        else:
            self._channels[channel] = None
            self.wire.send(pack((b"SSUBSCRIBE", channel)), future, Subscription(channel))
        return future

    def unsubscribe(self, channel: bytes) -> None:
        """Hear a channel no more."""
        if channel in self._channels:
            fail(self._channels.pop(channel), LinkLostError(sent=False))
            if self.wire is not None:
                self.wire.send(pack((b"SUNSUBSCRIBE", channel)), None, Subscription(channel))

    def came(self) -> None:
        """Hear all channels again."""
        assert self.wire is not None
        for channel, future in self._channels.items():
            self._channels[channel] = None
            self.wire.send(pack((b"SSUBSCRIBE", channel)), future, Subscription(channel))

    def pushed(self, push: list[Any]) -> None:
        """Hand a message on, or the news that a channel has moved to another server of a cluster."""
        self._on_push(push)

    async def close(self) -> None:
        """Hear no more."""
        await super().close()
        for future in self._channels.values():
            fail(future, LinkLostError(sent=False))
        self._channels.clear()
