"""Readers of events whose numbers have gaps, and a record that begins anew under them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from headway.core.config import EventsSection
from headway.core.events import Event, EventFilter
from headway.core.feeds.feeds import Feeds
from headway.core.job import State

EVERYTHING = EventFilter()


def event(number: int, task: str = "double") -> Event:
    return Event(
        number=number, job=b"%036x" % number, task=task, state=State.QUEUED, attempt=0, reason=0, tags=(), time=0.0
    )


def feeds_of(*numbers: int, kept: int = 100) -> Feeds:
    """Return a record that began at the number 1000 and has these events."""
    feeds = Feeds(msgspec.structs.replace(EventsSection(), kept=kept), lambda: 1.0)
    feeds.begin(1000)
    for number in numbers:
        feeds.record(event(number))
    return feeds


def numbers(events: Sequence[Event]) -> list[int]:
    return [found.number for found in events]


async def test_a_reader_goes_on_after_any_number_of_a_record_with_gaps() -> None:
    feeds = feeds_of(1010, 1020, 1500)
    for after, rest in ((1000, [1010, 1020, 1500]), (1010, [1020, 1500]), (1300, [1500]), (1500, [])):
        feed = feeds.open(EVERYTHING, after)
        assert feed.resumed
        taken = feed.take()
        assert (numbers(taken.events), taken.missed) == (rest, 0)
        assert feed.place == taken.place == 1500
    for after in (999, 1501):
        feed = feeds.open(EVERYTHING, after)
        assert (feed.resumed, feed.place, feed.take().events) == (False, 1500, [])


async def test_of_events_that_were_given_up_the_number_is_told_whatever_numbers_they_had() -> None:
    feeds = feeds_of(kept=8)
    feed = feeds.open(EVERYTHING, None)
    assert feed.place == 1000
    for number in range(2000, 3000, 100):
        feeds.record(event(number))
    taken = feed.take()
    assert taken.missed + len(taken.events) == 10
    assert taken.missed > 0
    assert numbers(taken.events) == list(range(2000, 3000, 100))[taken.missed :]
    assert not feeds.open(EVERYTHING, 1000).resumed
    assert feeds.open(EVERYTHING, 1900 + 100 * taken.missed).resumed


async def test_readers_are_woken_for_events_that_are_lost_and_hear_of_them() -> None:
    feeds = feeds_of(1010)
    all_of_them, other = feeds.open(EVERYTHING, 1000), feeds.open(EventFilter(task="other"), None)
    woken: list[str] = []
    all_of_them.when_more(lambda: woken.append("all"))
    other.when_more(lambda: woken.append("other"))
    feeds.begin(5000, missed=7)
    await asyncio.sleep(0.01)
    assert sorted(woken) == ["all", "other"]
    for feed, missed in ((all_of_them, 8), (other, 7)):
        taken = feed.take()
        assert (taken.events, taken.missed, taken.place, feed.place) == ([], missed, 5000, 5000)
        assert feed.take().missed == 0
    woken.clear()
    feeds.record(event(5001))
    while not woken:  # noqa: ASYNC110 — as a client sees it
        await asyncio.sleep(0.01)
    assert (woken, numbers(all_of_them.take().events)) == (["all"], [5001])
