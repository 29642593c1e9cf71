"""The servers of a cluster: a link to each primary, and the way of each key to one of them.

A server answers MOVED for a slot that another one has. The call goes there at once, and the map of
the slots is read again. So a failover or a slot that was moved costs one way more.

While a slot is being moved key by key, neither server has all of its keys, and a script could take
a job that has gone for one that never was. So a script is never sent to the receiving server before
it has the slot (ASK): it is tried again until the move is over, at most ``MOVING_S``. Reads of one
key follow ASK, and nothing of them is kept.

The map is also read each ``MAP_S``, so that a server that was cut off from the others is left.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from headway.core.durability import PROMISES, Durability
from headway.core.errors import ConfigError
from headway.core.link.address import Address, Host, host_of
from headway.core.link.calls import Calls
from headway.core.link.dial import Dial
from headway.core.link.kept_wire import PATIENCE_S, UnreachableError, line_of
from headway.core.link.link import Link
from headway.core.link.reply_error import LinkLostError, ReplyError, StoreError
from headway.core.link.script import Script
from headway.core.link.slots import SLOTS, primaries, slot_of
from headway.core.link.wire import Prompt, Subscription, Waiting, fail, pack

log = logging.getLogger(__name__)

ASKING = pack(("ASKING",))
# Seconds for which a call waits for a slot to be moved, and between two tries.
MOVING_S, TRY_S = 5.0, 0.05
# Seconds after which the map is read again, and the least between two reads.
MAP_S, PACE_S = 5.0, 0.25
FAILED = (OSError, StoreError, ConfigError)


class Slot(Calls):
    """Calls about keys of one slot, whichever server has it."""

    def __init__(self, cluster: Cluster, slot: int) -> None:
        self._cluster = cluster
        self.slot = slot

    @property
    def is_up(self) -> bool:
        """Whether calls can be sent."""
        return self._cluster.owner(self.slot).is_up

    @property
    def why(self) -> str:
        """Why no calls can be sent. Empty while they can."""
        return self._cluster.owner(self.slot).why

    def send(self, data: bytes, script: Script | None = None) -> asyncio.Future[Any]:
        """Send the bytes of a command at the end of this turn."""
        return self._cluster.owner(self.slot).send(data, script)

    def track(self, data: bytes, key: bytes) -> Prompt:
        """Send the bytes of a command that reads ``key``, as Calls says."""
        return self._cluster.owner(self.slot).track(data, key)

    def subscribe(self, channel: bytes) -> asyncio.Future[Any]:
        """Get the messages of a channel of this slot."""
        return self._cluster.subscribe(channel)

    def unsubscribe(self, channel: bytes) -> None:
        """Get the messages of a channel no more."""
        self._cluster.unsubscribe(channel)

    @property
    def run_id(self) -> str:
        """The process of the server that has the slot."""
        return self._cluster.owner(self.slot).run_id

    def server_ms(self) -> int:
        """Return the time of the clock of the server that has the slot."""
        return self._cluster.owner(self.slot).server_ms()

    def learn_time(self, server_ms: int) -> None:
        """Take the time that the server had a moment ago."""
        self._cluster.owner(self.slot).learn_time(server_ms)


class Cluster:
    """Links to the primaries of a cluster, for one loop. Its calls back are those of a Link."""

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
        self.name = name
        self._on_push = on_push
        self._on_invalid = on_invalid
        self._on_up = on_up
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._dial = Dial(address)
        self._links: dict[Host, Link] = {}
        # By slot.
        self._owners: list[Link] = []
        # Links that own nothing, as the last map has it.
        self._idle: set[Host] = set()
        # Links that are being closed.
        self._closing: set[asyncio.Task[None]] = set()
        # The channels, with the link that hears each.
        self._channels: dict[bytes, Link] = {}
        # When a call was first tried, of those that wait for a slot to be moved.
        self._since: dict[asyncio.Future[Any], float] = {}
        self._map_is_old = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        # Connections of links that were closed.
        self._made = 0
        self._writes = 0

    @property
    def links(self) -> list[Link]:
        """The links to primaries that have slots."""
        return [link for host, link in self._links.items() if host not in self._idle]

    @property
    def is_up(self) -> bool:
        """Whether all slots can be reached."""
        return all(link.is_up for link in self.links)

    @property
    def why(self) -> str:
        """Why some slots cannot be reached. Empty while all can."""
        return "; ".join(f"{link.address}: {link.why}" for link in self.links if not link.is_up)

    @property
    def made(self) -> int:
        """Connections made, ever."""
        return self._made + sum(link.made for link in self._links.values())

    @property
    def writes(self) -> int:
        """Turns whose calls were sent, of each link."""
        return self._writes + sum(link.writes for link in self._links.values())

    @property
    def durability(self) -> Durability:
        """The least that a server promises."""
        return min((link.durability for link in self.links), key=PROMISES.index, default="process")

    def owner(self, slot: int) -> Link:
        """Return the link to the server that has a slot, as far as that is known."""
        return self._owners[slot]

    def at(self, key: bytes) -> Slot:
        """Return the calls about a key, and about all keys of its slot."""
        return Slot(self, slot_of(key))

    async def start(self, patience_s: float = PATIENCE_S) -> None:
        """Connect with all primaries. Raises ConfigError if that can never work, or nobody answers.

        Primaries that are away do not hinder it: their slots are away.
        """
        end = self._loop.time() + patience_s
        while True:
            try:
                found = await self._ask_anyone()
                break
            except ConfigError:
                raise
            except (OSError, StoreError) as error:
                if self._loop.time() > end:
                    raise UnreachableError(f"engine: {self.address} cannot be reached: {line_of(error)}") from None
                await asyncio.sleep(PACE_S)
        self._links = {host: self._link(host) for host in found}
        self._settle(found)
        starts = [link.start(max(end - self._loop.time(), 0.0)) for link in self._links.values()]
        errors = await asyncio.gather(*starts, return_exceptions=True)
        refusals = [error for error in errors if error and not isinstance(error, UnreachableError)]
        if refusals or all(errors):
            await self.close()
            raise refusals[0] if refusals else errors[0]  # type: ignore[misc]
        for link, failed in zip([*self._links.values()], errors, strict=True):
            if failed:
                link.begin()
        self._watch = self._loop.create_task(self._keep_map())

    async def close(self) -> None:
        """End all connections, after all calls have left."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await asyncio.gather(*(link.close() for link in self._links.values()), *self._closing)

    def _link(self, host: Host) -> Link:
        def redirect(error: ReplyError, waiting: Waiting) -> bool:
            return self._redirect(link, error, waiting)

        link = Link(
            self.address.at(host),
            self.name,
            on_push=self._pushed,
            on_invalid=self._on_invalid,
            on_up=self._on_up,
            on_lost=self._lost,
            redirect=redirect,
        )
        return link

    def _lost(self) -> None:
        self._map_is_old.set()
        self._on_lost()

    # Refused calls.

    def _redirect(self, link: Link, error: ReplyError, waiting: Waiting) -> bool:
        """Send a call of ``link`` where it belongs, now or later. Return whether that is done."""
        future, data, kind = waiting
        if future is None or future.done() or isinstance(kind, Subscription):
            return False
        if error.code == "MOVED":
            return self._follow(error, waiting)
        if error.code == "ASK":
            there = self._reach(error)
            if type(kind) is not Script and there is not None and there.is_up:
                there.again((future, data, None), ASKING)
                if isinstance(kind, bytes):
                    future.add_done_callback(partial(self._forget, kind))
                return True
        if error.code in ("ASK", "TRYAGAIN"):
            return self._later(link, waiting)
        if error.code == "CLUSTERDOWN":
            self._map_is_old.set()
        return False

    def _follow(self, error: ReplyError, waiting: Waiting) -> bool:
        """Send a call to the server that has the slot now."""
        link = self._reach(error)
        self._map_is_old.set()
        if link is None:
            return False
        slot, _ = error.place
        if self._owners[slot] is not link:
            self._owners[slot] = link
            # A change of the slot's keys is told by its server alone.
            self._on_invalid(None)
        if not link.is_up:
            return self._later(link, waiting)
        link.again(waiting)
        return True

    def _reach(self, error: ReplyError) -> Link | None:
        """Return the link to the place of MOVED and ASK, which may be new."""
        try:
            host = host_of(error.place[1], 0)
        except ConfigError:
            # The server does not know the name of the other one.
            return None
        if host not in self._links:
            self._links[host] = self._link(host)
            self._links[host].begin()
        return self._links[host]

    def _forget(self, key: bytes, _: asyncio.Future[Any]) -> None:
        self._loop.call_soon(self._on_invalid, [key])

    def _later(self, link: Link, waiting: Waiting) -> bool:
        """Try a call again in a moment. Return False if that was done for long enough."""
        future = waiting[0]
        assert future is not None
        now = self._loop.time()
        if future not in self._since:
            self._since[future] = now
            future.add_done_callback(self._since.pop)
        if now - self._since[future] > MOVING_S:
            return False
        self._loop.call_later(random.uniform(TRY_S, 3 * TRY_S), self._try, link, waiting)  # noqa: S311 — no secret
        return True

    def _try(self, link: Link, waiting: Waiting) -> None:
        future = waiting[0]
        assert future is not None
        if not future.done() and (link.is_up or not self._later(link, waiting)):
            link.again(waiting)

    # The map.

    def _settle(self, found: dict[Host, list[range]]) -> None:
        """Take a map. Slots that nobody has stay where they were."""
        owners = self._owners or [next(iter(self._links.values()))] * SLOTS
        owners = owners.copy()
        for host, slots in found.items():
            for part in slots:
                owners[part.start : part.stop] = [self._links[host]] * len(part)
        changed, self._owners = owners != self._owners, owners
        if changed:
            self._on_invalid(None)
            self._hear_again()

    async def _ask_anyone(self) -> dict[Host, list[range]]:
        """Return the map of the first server that answers."""
        problem: Exception | None = None
        known = [host for host, link in self._links.items() if link.is_up]
        random.shuffle(known)
        for host in dict.fromkeys([*known, *self._links, *self.address.hosts]):
            try:
                if host in known:
                    async with asyncio.timeout(2):
                        reply = await self._links[host].call("CLUSTER", "SLOTS")
                else:
                    reply = await self._dial.ask(host, "CLUSTER", "SLOTS")
            except ReplyError as error:
                if "cluster support disabled" in error.text:
                    raise ConfigError(
                        f"engine: {self.address.at(host)} is no cluster. Leave cluster=true out"
                    ) from None
                problem = problem or error
            except FAILED as error:
                problem = problem or error
            else:
                found = primaries(reply, host)
                if found:
                    return found
                problem = problem or ConnectionError("no server of the cluster has slots: see CLUSTER ADDSLOTSRANGE")
        assert problem is not None
        raise problem

    async def _keep_map(self) -> None:
        while True:
            try:
                async with asyncio.timeout(MAP_S if self.is_up else PACE_S):
                    await self._map_is_old.wait()
            except TimeoutError:
                pass
            self._map_is_old.clear()
            try:
                self._take(await self._ask_anyone())
            except FAILED as error:
                log.debug("engine: the map of the cluster cannot be read: %s", error)
            await asyncio.sleep(random.uniform(PACE_S, 2 * PACE_S))  # noqa: S311 — no secret

    def _take(self, found: dict[Host, list[range]]) -> None:
        """Take a map while calls are under way."""
        for host in found.keys() - self._links.keys():
            self._links[host] = self._link(host)
            self._links[host].begin()
        self._settle(found)
        in_use = set(self._owners)
        idle = {host for host, link in self._links.items() if link not in in_use}
        # A server that has lost its slots still answers MOVED for a while.
        for host in idle & self._idle:
            link = self._links.pop(host)
            self._made += link.made
            self._writes += link.writes
            task = self._loop.create_task(link.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._idle = idle & self._links.keys()

    # Messages.

    def subscribe(self, channel: bytes) -> asyncio.Future[Any]:
        """Get the messages of a channel from the server that has its slot."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._hear(channel, future)
        return future

    def unsubscribe(self, channel: bytes) -> None:
        """Get the messages of a channel no more."""
        link = self._channels.pop(channel, None)
        if link is not None:
            link.unsubscribe(channel)

    def _hear(self, channel: bytes, future: asyncio.Future[Any] | None) -> None:
        link = self._owners[slot_of(channel)]
        before = self._channels.get(channel)
        if before is not None and before is not link:
            before.unsubscribe(channel)
        self._channels[channel] = link
        link.subscribe(channel).add_done_callback(partial(self._heard, channel, future))

    def _heard(self, channel: bytes, future: asyncio.Future[Any] | None, reply: asyncio.Future[Any]) -> None:
        error = None if reply.cancelled() else reply.exception()
        if isinstance(error, ReplyError) and error.code in ("MOVED", "CLUSTERDOWN"):
            link = self._reach(error) if error.code == "MOVED" else None
            if link is not None:
                self._owners[slot_of(channel)] = link
            self._map_is_old.set()
            self._loop.call_later(TRY_S, self._hear_moved, channel, future)
        elif future is None or future.done():
            return
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(None if reply.cancelled() else reply.result())

    def _hear_moved(self, channel: bytes, future: asyncio.Future[Any] | None) -> None:
        if channel in self._channels:
            self._hear(channel, future)
        else:
            fail(future, LinkLostError(sent=False))

    def _hear_again(self) -> None:
        """Hear each channel from the server that has it now."""
        for channel, link in [*self._channels.items()]:
            if self._owners[slot_of(channel)] is not link:
                self._hear(channel, None)

    def _pushed(self, push: list[Any]) -> None:
        if push[0] != b"sunsubscribe":
            self._on_push(push)
        elif push[1] in self._channels:
            # Its slot has moved.
            self._map_is_old.set()
            self._loop.call_later(TRY_S, self._hear_moved, push[1], None)
