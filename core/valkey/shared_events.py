"""Events of all nodes, for the readers of this one.

Scripts write an event into the stream of their partition in the same step as the change, while the
key ``watched`` is there. A node with readers sets that key again and again, and for KEPT_S after the
last one has gone. Its first reader waits until the node has all that the streams hold. So a client
that comes back goes on at any node, also after a restart.

Streams are read over the connection that all else is read over, when a push says that they have
grown. So a status that is read after an event is no older than it.

**Numbers.** With one partition the number of an event is the start of its stream and its place in
it. Of several streams none knows the places of the others. There it is its time, its partition and
the end of its place, and a client that comes back may get the events of AGAIN_MS twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import msgspec
from headway.core.config import EventsSection
from headway.core.errors import EngineAwayError, EngineFullError, HeadwayError, UnknownTaskError
from headway.core.events import Event, EventFilter
from headway.core.faults import not_one_of, printable
from headway.core.feeds.feeds import Feeds
from headway.core.interface import Feed, Soon
from headway.core.later import Opening, Read, known
from headway.core.link.reply_error import StoreError
from headway.core.store.keys import Keyspace
from headway.core.store.record import decode_tags
from headway.core.store.scripts import WATCH
from headway.core.store.store import Store

# Seconds after the last reader has gone in which events are still written, and ms in which they are
# without a word of a node.
KEPT_S = 60.0
LASTS_MS = 120_000
# Seconds between two words, between two looks without a push, and between two looks at least.
SAY_S, LOOK_S, PACE_S = 20.0, 1.0, 0.01
# Seconds until the streams are looked at again after the connection was lost.
AGAIN_S = 0.1
# Seconds after which the store is away for a client that wants to read.
AWAY_S = 3.0
# Entries that are read at once, and recorded in one turn of the loop.
READ_MOST, RECORDED_MOST = 1000, 250
# Bits of a place in a number.
PLACE_BITS = 38
# With several partitions: bits of the end of a place, and of the partition.
END_BITS, PARTITION_BITS = 20, 8
AGAIN_MS = 1000


class Followed:
    """The stream of one partition, as far as it was read."""

    __slots__ = ("keys", "place", "start")

    def __init__(self, keys: Keyspace) -> None:
        self.keys = keys
        # The first part of its ids, in ms. 0: it is not followed.
        self.start = 0
        # The place of the last entry that was read. -1: none.
        self.place = -1


class Entry(msgspec.Struct, order=True, gc=False):
    """An entry of a stream. Times in ms."""

    time: int
    partition: int
    start: int
    place: int
    facts: dict[bytes, bytes]


class SharedEvents:
    """The events of all nodes. ``names`` returns the tasks that an event may have."""

    def __init__(
        self,
        store: Store,
        most: EventsSection,
        names: Callable[[], Collection[str]],
        retry_after_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._kept = most.kept
        self._names = names
        self._feeds = Feeds(most, retry_after_s)
        self._streams = [Followed(keys) for keys in store.keys]
        # The task that reads events while there are readers. These wait for ``_begun``.
        self._task: asyncio.Task[None] | None = None
        self._begun: asyncio.Future[None] | None = None
        self._grown = asyncio.Event()
        # Those that wait for a look that begins after they came.
        self._behind: list[asyncio.Future[None]] = []
        # When the store heard last that there are readers, of time.monotonic.
        self._said_at = -inf
        # The number of the last event.
        self._number = 0

    def __len__(self) -> int:
        return len(self._feeds)

    def watch(self, wanted: EventFilter, after: int | None) -> Soon[Feed]:
        """Return the events that fit ``wanted``, as Engine says."""
        names = self._names()
        if wanted.task is not None and wanted.task not in names:
            raise UnknownTaskError([("task", not_one_of(printable(repr(wanted.task)), names))])
        self._feeds.check_room()
        loop = asyncio.get_running_loop()
        if self._task is None or self._begun is None:
            self._begun = loop.create_future()
            self._task = loop.create_task(self._follow(self._begun))
        # One whose reader has gone meanwhile is not opened.
        return Opening(Read(loop.create_task(self._catch_up(self._begun))), lambda _: self._open(wanted, after))

    async def _catch_up(self, begun: asyncio.Future[None]) -> None:
        """Wait until all events that were written before this call are here. Raises EngineAwayError."""
        # Others wait for it as well.
        await asyncio.shield(begun)
        caught_up = asyncio.get_running_loop().create_future()
        self._behind.append(caught_up)
        self._grown.set()
        try:
            async with asyncio.timeout(AWAY_S):
                await caught_up
        except TimeoutError:
            raise EngineAwayError from None

    def _open(self, wanted: EventFilter, after: int | None) -> Feed:
        if after is not None and len(self._streams) > 1:
            after = max(after - (AGAIN_MS << PARTITION_BITS + END_BITS), min(after, self._feeds.before))
        return self._feeds.open(wanted, after)

    def look(self) -> None:
        """Look for events soon: a stream may have grown."""
        self._grown.set()

    def up(self) -> None:
        """Look whether the store has lost any: the connection is there again, or somebody has emptied it."""
        self._said_at = -inf
        self._grown.set()

    def tick(self) -> None:
        """Do what has to be done now and then."""
        self._feeds.tick()

    async def stop(self) -> None:
        """Read no more events, and wake nobody. Those that are here can still be taken."""
        self._feeds.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # Following the streams.

    @property
    def _is_wanted(self) -> bool:
        is_kept = time.monotonic() - self._feeds.left_at < KEPT_S
        return is_kept or len(self._feeds) > 0 or len(self._behind) > 0

    async def _follow(self, begun: asyncio.Future[None]) -> None:
        """Read events until KEPT_S after the last reader has gone."""
        try:
            await self._begin()
            # It has not come yet.
            self._feeds.left_at = time.monotonic()
            begun.set_result(None)
            while self._is_wanted:
                try:
                    await self._read_on()
                except (StoreError, EngineAwayError, EngineFullError):
                    # Nothing is missed by that: the streams are read from the same places.
                    await asyncio.sleep(AGAIN_S)
        except HeadwayError as error:
            begun.set_exception(error)
            # Those who asked may have gone.
            begun.exception()
        finally:
            begun.cancel()
            self._task = None

    async def _begin(self) -> None:
        """Have events written, and take in those that the streams hold."""
        entries: list[Entry] = []
        before = 0
        for stream in self._streams:
            stream.start, _ = await self._say(stream)
            found = await self._held_by(stream)
            stream.place = found[-1].place if found else -1
            entries += found
            # Whatever was given up came before this number.
            before = max(before, self._natural(found[0]) - 1 if found else self._first(stream))
        entries.sort()
        self._feeds.begin(before)
        self._number = before
        for count, entry in enumerate(entries, 1):
            self._record(entry)
            if count % RECORDED_MOST == 0:
                await asyncio.sleep(0)

    async def _held_by(self, stream: Followed) -> list[Entry]:
        """Return the last entries of a stream."""
        words = b"XREVRANGE", stream.keys.events, b"+", b"-", b"COUNT", self._kept
        replies = await self._asked(stream, lambda: self._store.call(stream.keys, *words))
        return [_entry(stream, *reply) for reply in reversed(replies)]

    async def _read_on(self) -> None:
        """Say that there are readers, and record events until it is time to say it again."""
        self._said_at = time.monotonic()
        for stream in self._streams:
            start, last = await self._say(stream)
            if start != stream.start or last < stream.place:
                # The store has lost some, or nobody said it for too long.
                stream.start, stream.place = start, last
                self._feeds.begin(self._number, missed=1)
        while time.monotonic() - self._said_at < SAY_S and self._is_wanted:
            self._grown.clear()
            behind, self._behind = self._behind, []
            try:
                has_more = await self._read()
            except StoreError:
                self._behind += behind
                raise
            if has_more:
                self._behind += behind
                continue
            for caught_up in behind:
                if not caught_up.done():
                    caught_up.set_result(None)
                    # Its reader has not come yet.
                    self._feeds.left_at = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._grown.wait()
            if not self._behind:
                await asyncio.sleep(PACE_S)

    async def _say(self, stream: Followed) -> tuple[int, int]:
        """Say that there are readers. Return the start of the stream, and its last place."""
        words = self._kept, LASTS_MS
        start, last = await self._asked(stream, lambda: self._store.run(stream.keys, WATCH, *words))
        return int(start), int(last)

    async def _asked(self, stream: Followed, call: Callable[[], asyncio.Future[Any]]) -> Any:
        """Return a reply, also if the store restarts meanwhile. Raises EngineAwayError."""
        return await known(self._store.ask(stream.keys, call))

    async def _read(self) -> bool:
        """Record the next entries. Return whether there may be more already."""
        replies = await asyncio.gather(*map(self._next, self._streams))
        entries: list[Entry] = []
        for stream, found in zip(self._streams, replies, strict=True):
            some = [_entry(stream, *reply) for reply in found]
            if not some:
                continue
            if some[0].start != stream.start:
                self._feeds.begin(self._number, missed=1)
            elif some[0].place > stream.place + 1:
                self._feeds.begin(self._number, missed=some[0].place - stream.place - 1)
            stream.start, stream.place = some[-1].start, some[-1].place
            entries += some
        entries.sort()
        for entry in entries:
            self._record(entry)
        return any(len(found) == READ_MOST for found in replies)

    def _next(self, stream: Followed) -> asyncio.Future[Any]:
        key, begin = stream.keys.events, b"%d-%d" % (stream.start, stream.place + 1)
        words = b"XRANGE", key, begin, b"+", b"COUNT", READ_MOST
        return self._store.look(stream.keys, key, *words)

    # Events.

    def _first(self, stream: Followed) -> int:
        """Return the number before that of the first entry of a stream."""
        if len(self._streams) == 1:
            return stream.start << PLACE_BITS
        return stream.start << PARTITION_BITS + END_BITS

    def _natural(self, entry: Entry) -> int:
        """Return the number of an entry, as any node would."""
        if len(self._streams) == 1:
            return (entry.start << PLACE_BITS) + entry.place + 1
        return (entry.time << PARTITION_BITS | entry.partition) << END_BITS | entry.place & (1 << END_BITS) - 1

    def _record(self, entry: Entry) -> None:
        # Entries of several streams may come out of order.
        self._number = max(self._natural(entry), self._number + 1)
        facts, ids = entry.facts, self._store.ids
        sequence, tags = int(facts[b"s"]), facts.get(b"T")
        self._feeds.record(
            Event(
                number=self._number,
                job=ids.write(sequence, ids.tag(sequence)),
                task=facts[b"k"].decode(),
                state=int(facts[b"S"]),
                attempt=int(facts[b"a"]),
                reason=int(facts[b"r"]),
                tags=decode_tags(tags) if tags else (),
                time=entry.time / 1000,
            )
        )


def _entry(stream: Followed, name: bytes, values: Sequence[bytes]) -> Entry:
    facts = dict(zip(values[::2], values[1::2], strict=True))
    start, place = name.split(b"-")
    return Entry(int(facts[b"t"]), stream.keys.partition, int(start), int(place), facts)
