"""Events that come from the engine, for a reader at a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache

import msgspec
from headway.core.events import Event, Portion
from headway.core.interface import Feed

# ``Portion.missed`` after a restart of the engine.
NOBODY_KNOWS = -1
# Portions that several readers may get.
SHARED_PORTIONS = 16
# Bytes of the number of an event. It has more bits than a number in MessagePack.
NUMBER_BYTES = 10


class SentPortion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Events as they are sent: the number of each, and its other members."""

    events: list[tuple[bytes, bytes, str, int, int, int, tuple[str, ...], float]]
    missed: int
    number: bytes
    more: bool

    @classmethod
    def of(cls, portion: Portion) -> SentPortion:
        """Return ``portion`` as it is sent."""
        events = [(_bytes(event.number), *msgspec.structs.astuple(event)[1:]) for event in portion.events]
        return cls(events, portion.missed, _bytes(portion.place), portion.more)

    def portion(self) -> Portion:
        """Return it as it was taken."""
        events = [Event(int.from_bytes(one[0], "big"), *one[1:]) for one in self.events]
        return Portion(events, self.missed, int.from_bytes(self.number, "big"), self.more)


class SentFeed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of a feed: its place, and whether it goes on from the event that was asked for."""

    number: bytes
    resumed: bool
    # Of one that is resumed, the first events.
    first: SentPortion | None

    @classmethod
    def of(cls, feed: Feed) -> SentFeed:
        """Return ``feed`` as it is sent."""
        number = _bytes(feed.place)
        return cls(number, feed.resumed, SentPortion.of(feed.take()) if feed.resumed else None)

    @property
    def place(self) -> int:
        """The place."""
        return int.from_bytes(self.number, "big")


def _bytes(number: int) -> bytes:
    return number.to_bytes(NUMBER_BYTES, "big")


_decode = msgspec.msgpack.Decoder(SentPortion).decode


@lru_cache(maxsize=SHARED_PORTIONS)
def decode(message: bytes) -> Portion:
    """Return the portion in a frame. Readers at the same place share it."""
    return _decode(message).portion()


class SeenFeed(Feed):
    """A feed of the engine. It sends one portion, and the next once this one was taken."""

    __slots__ = ("_begins_at", "_close", "_place", "_portion", "_taken", "_wake", "is_open", "resumed")

    def __init__(self, place: int, *, resumed: bool) -> None:
        self._place = place
        self.resumed = resumed
        # Whether its reader is there.
        self.is_open = True
        self._taken: Callable[[], object] = int
        self._close: Callable[[], object] = int
        # What has come and was not taken.
        self._portion: Portion | None = None
        # The place in an engine that has started again, until the reader is told of it.
        self._begins_at: int | None = None
        self._wake: Callable[[], object] = int

    @property
    def place(self) -> int:
        """The number of the last event that the reader has taken, or that was none for it."""
        return self._place

    def come_from(self, taken: Callable[[], object], close: Callable[[], object]) -> None:
        """Have ``taken`` called when a portion was taken, and ``close`` when the reader has gone."""
        self._taken = taken
        self._close = close

    def when_more(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when there is something to take."""
        self._wake = wake
        if self._has_more:
            asyncio.get_running_loop().call_soon(self._wake_for_it)

    @property
    def _has_more(self) -> bool:
        return self._portion is not None or self._begins_at is not None

    def _wake_for_it(self) -> None:
        if self._has_more:
            self._wake()

    def take(self) -> Portion:
        """Return the portion that has come, an empty one if none has."""
        portion, self._portion = self._portion, None
        begins_at, self._begins_at = self._begins_at, None
        if portion is not None:
            # For what it has sent the engine waits, and for nothing else.
            self._taken()
        else:
            portion = Portion([], 0, self._place if begins_at is None else begins_at, more=False)
        if begins_at is not None:
            # A new one: others share the same, and have missed nothing.
            portion = Portion(portion.events, NOBODY_KNOWS, portion.place, portion.more)
        self._place = portion.place
        return portion

    def close(self) -> None:
        """The reader has gone."""
        self.is_open = False
        self._wake = int
        self._close()

    def put(self, portion: Portion) -> None:
        """Take a portion from the engine."""
        self._portion = portion
        self._wake()

    def begin_again(self, place: int) -> None:
        """Go on in the engine that has started again: events between are missed, with those that were not taken."""
        self._portion, self._begins_at = None, place
        self._wake()
