"""The servers that a URL leads to: one, that of a name with Sentinel, or those of a cluster."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from headway.core.durability import Durability
from headway.core.errors import ConfigError
from headway.core.link.address import Address, Host
from headway.core.link.calls import Calls
from headway.core.link.cluster import Cluster
from headway.core.link.dial import Dial
from headway.core.link.kept_wire import PATIENCE_S
from headway.core.link.link import Link
from headway.core.link.reply_error import StoreError
from headway.core.link.sentinel import primary_of

log = logging.getLogger(__name__)

# Seconds between two questions to a Sentinel, about: a demoted primary is left after that.
SENTINEL_S = 2.0


class Links:
    """The links of a node, for one loop. What is called back is that of a Link."""

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        on_push: Callable[[list[Any]], object] = list,
        on_invalid: Callable[[list[bytes] | None], object] = id,
        on_up: Callable[[], object] = int,
        on_lost: Callable[[], object] = int,
    ) -> None:
        self.address = address
        self._dial = Dial(address)
        self._watch: asyncio.Task[None] | None = None
        self._to: Cluster | Link
        if address.cluster:
            self._to = Cluster(address, name, on_push=on_push, on_invalid=on_invalid, on_up=on_up, on_lost=on_lost)
        else:
            find = self._primary if address.sentinel else None
            self._to = Link(
                address, name, on_push=on_push, on_invalid=on_invalid, on_up=on_up, on_lost=on_lost, find=find
            )

    @property
    def is_up(self) -> bool:
        """Whether all keys can be reached."""
        return self._to.is_up

    @property
    def why(self) -> str:
        """Why some keys cannot be reached. Empty while all can."""
        return self._to.why

    @property
    def durability(self) -> Durability:
        """What an accepted job survives, after ``start``."""
        return self._to.durability

    @property
    def made(self) -> int:
        """Connections made, ever. Those of messages do not count."""
        return self._to.made

    @property
    def writes(self) -> int:
        """Turns whose calls were sent. Those of messages do not count."""
        return self._to.writes

    async def start(self, patience_s: float = PATIENCE_S) -> None:
        """Connect. Raises ConfigError if that can never work, UnreachableError if not within ``patience_s``."""
        await self._to.start(patience_s)
        if self.address.sentinel:
            self._watch = asyncio.create_task(self._watch_primary())

    async def close(self) -> None:
        """End all connections, after all calls have left."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self._to.close()

    def at(self, key: bytes) -> Calls:
        """Return the calls about a key, and about all keys of its slot."""
        return self._to.at(key) if isinstance(self._to, Cluster) else self._to

    def of(self, partition: int) -> Calls:
        """Return the calls about the keys of a partition."""
        return self.at(b"hw:{%d}:" % partition)

    async def _primary(self) -> Sequence[Host | None]:
        return (await primary_of(self._dial),)

    async def _watch_primary(self) -> None:
        """Leave a primary that Sentinel has replaced, though it still answers."""
        assert isinstance(self._to, Link)
        while True:
            await asyncio.sleep(random.uniform(0.75, 1.25) * SENTINEL_S)  # noqa: S311 — no secret
            try:
                host = await primary_of(self._dial)
            except (OSError, StoreError, ConfigError) as error:
                log.debug("engine: no Sentinel answers: %s", error)
                continue
            if self._to.is_up and host != self._to.host:
                self._to.drop("Sentinel names another primary")
