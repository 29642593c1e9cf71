"""The readers of events at a gateway: what becomes of them when the engine has started again."""

from __future__ import annotations

import asyncio

from headway.core.errors import HeadwayError, StreamsFullError
from headway.core.events import EventFilter, Portion
from headway.core.gateway import wire
from headway.core.gateway.calls import OpenCalls
from headway.core.gateway.feeds import NOBODY_KNOWS, SentFeed, SentPortion
from headway.core.gateway.readers import SeenReaders
from headway.core.gateway.wire import SentFault
from headway.core.interface import Feed, Later

from tests.core.engines import known, until
from tests.core.gateway.test_calls import Sent

BEGUN = wire.encode(SentFeed(bytes(10), resumed=False, first=None))


def portion(place: int) -> bytes:
    return wire.encode(SentPortion.of(Portion([], 0, place, more=False)))


class Engines:
    """Calls and readers, and one engine after the other."""

    def __init__(self) -> None:
        self.calls = OpenCalls()
        self.readers = SeenReaders(self.calls, again_s=0.01)
        self.link = Sent()
        self.calls.open(self.link)

    async def watch(self) -> tuple[Feed, int]:
        """A feed, and the number of its call."""
        coming = self.readers.watch(EventFilter(), None)
        number = self.link.calls[-1]
        asyncio.get_running_loop().call_soon(self.calls.answered, number, BEGUN)
        return await known(coming), number

    def next(self) -> None:
        """The engine ends without a word, and another one comes."""
        self.calls.lost()
        self.link = Sent()
        self.calls.open(self.link)
        self.readers.again()


def fault(error: HeadwayError) -> bytes:
    return wire.encode(SentFault.of(error))


async def test_a_reader_goes_on_in_the_next_engine_and_is_told_that_nobody_knows_what_it_missed() -> None:
    engines = Engines()
    feed, _ = await engines.watch()
    engines.next()
    engines.calls.answered(engines.link.calls[-1], BEGUN)
    assert feed.take().missed == NOBODY_KNOWS
    engines.readers.put(engines.link.calls[-1], portion(7))
    assert feed.take().place == 7


async def test_a_reader_without_a_place_in_the_next_engine_is_asked_for_again() -> None:
    engines = Engines()
    feed, _ = await engines.watch()
    engines.next()
    (first,) = engines.link.calls
    engines.calls.refused(first, fault(StreamsFullError(1, 1.0)))
    await until(lambda: len(engines.link.calls) == 2)
    engines.calls.answered(engines.link.calls[-1], BEGUN)
    assert feed.take().missed == NOBODY_KNOWS


async def test_a_reader_that_has_gone_is_asked_for_no_more() -> None:
    engines = Engines()
    feed, number = await engines.watch()
    feed.close()
    assert engines.link.frames[-1] == (wire.CANCEL, number)
    engines.next()
    assert engines.link.calls == []


async def test_a_reader_that_goes_while_it_is_asked_for_leaves_no_place_taken() -> None:
    engines = Engines()
    feed, _ = await engines.watch()
    engines.next()
    (again,) = engines.link.calls
    feed.close()
    engines.calls.answered(again, BEGUN)
    assert engines.link.frames[-1] == (wire.CANCEL, again)


async def test_a_reader_that_goes_before_it_has_taken_its_events_leaves_no_place_taken() -> None:
    engines = Engines()
    coming = engines.readers.watch(EventFilter(), None)
    assert isinstance(coming, Later)
    coming.when_known(int)
    (number,) = engines.link.calls
    engines.calls.answered(number, BEGUN)
    # Its connection has ended in the turn of the answer, or it takes no other answers.
    coming.cancel()
    assert engines.link.frames[-1] == (wire.CANCEL, number)
    engines.next()
    assert engines.link.calls == []


async def test_a_reader_that_is_slow_is_told_of_the_next_engine_before_what_comes_from_it() -> None:
    engines = Engines()
    feed, _ = await engines.watch()
    engines.next()
    (again,) = engines.link.calls
    engines.calls.answered(again, BEGUN)
    engines.readers.put(again, portion(7))
    taken = feed.take()
    assert (taken.missed, taken.place) == (NOBODY_KNOWS, 7)
    assert feed.take().missed == 0


async def test_an_engine_hears_that_a_reader_has_taken_what_it_has_sent_and_nothing_else() -> None:
    engines = Engines()
    feed, _ = await engines.watch()
    engines.next()
    (again,) = engines.link.calls
    engines.calls.answered(again, BEGUN)
    feed.take()
    assert (wire.TAKEN, again) not in engines.link.frames
    engines.readers.put(again, portion(7))
    feed.take()
    assert engines.link.frames[-1] == (wire.TAKEN, again)
