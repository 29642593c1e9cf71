"""The last events, and their readers. No job waits for a reader.

An engine records the events here, each with a number above that of the one before. A reader holds
its place among them, and no event. If it is so slow that its next events are given up, it hears how
many. Readers are woken in rounds, once each. A round takes up to SHARE of the loop's time: the next
one waits as long as that needs. So with many readers events come later, and more at a time.

A reader is woken only for events that may fit its filter: those of its job, else of its tag, else
of its task. It then looks at all events since the first of these.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import islice
from operator import attrgetter

from headway.core.config import EventsSection
from headway.core.errors import StreamsFullError
from headway.core.events import Event, EventFilter, Portion
from headway.core.interface import Feed

# The part of the loop's time that readers take at most, and the seconds that a write is counted
# for. It is made later, by the loop.
SHARE = 0.05
WRITE_S = 20e-6
# Seconds between two rounds at least, unless a reader has more to take already.
PACE_S = 0.05
# Seconds and readers of a round in one turn of the loop.
TURN_S = 0.001
TURN_MOST = 64
# Events that a reader takes at once, and looks at for that.
TAKEN_MOST = 256
LOOKS = 2048


class Feeds:
    """The last events within ``most``. ``retry_after_s`` says when a client that finds no room comes back."""

    def __init__(self, most: EventsSection, retry_after_s: Callable[[], float]) -> None:
        self._kept = most.kept
        self._streams_most = most.streams
        self._retry_after_s = retry_after_s
        # The events from place ``_first`` to ``_last``. Places count the events that were recorded
        # here. Their numbers need not.
        self._events: list[Event] = []
        self._first, self._last = 1, 0
        # The number of the last event before ``_first``.
        self.before = 0
        # Readers by the events that they are woken for: those of a job, a tag, a task, or all.
        self._groups: dict[str, Readers] = {}
        self._count = 0
        # When the last reader has gone, of time.monotonic.
        self.left_at = 0.0
        # The groups with events that their readers were not woken for, and the readers that have
        # more to take.
        self._fresh: list[Readers] = []
        self._behind: list[PlacedFeed] = []
        # What readers have taken in this round, by filter and place.
        self._taken: dict[tuple[EventFilter, int], Portion] = {}
        # The next round, or the next turn of this one.
        self._timer: asyncio.Handle | None = None
        # When the next round may begin, of time.monotonic.
        self._next_round = 0.0

    def __len__(self) -> int:
        return self._count

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._events[-1].number if self._events else self.before

    def check_room(self) -> None:
        """Raise StreamsFullError if there are as many readers as may be."""
        if self._count >= self._streams_most:
            raise StreamsFullError(self._streams_most, self._retry_after_s())

    def open(self, wanted: EventFilter, after: int | None) -> PlacedFeed:
        """Return the events that fit ``wanted``, as Engine says of ``watch``. Raises StreamsFullError."""
        self.check_room()
        self._count += 1
        if after is None or not self.before <= after <= self.last:
            return PlacedFeed(self, wanted, self._last, resumed=False)
        return PlacedFeed(self, wanted, self._first - 1 + self._index(after), resumed=True)

    def begin(self, number: int, missed: int = 0) -> None:
        """Go on without the events so far: those to come have numbers above ``number``.

        Readers hear that they missed those that they have not taken, and as many more as ``missed``.
        """
        self._events.clear()
        self._taken.clear()
        first_missed = self._last + 1
        self._last += missed
        self._first, self.before = self._last + 1, number
        for group in self._groups.values() if missed else ():
            if not group.first:
                group.first = first_missed
                self._fresh.append(group)
                self._begin_soon()

    def tick(self) -> None:
        """Forget what readers have taken, if no round follows. Call this now and then."""
        if self._timer is None:
            # Readers came back, each to its own place, and no round has followed.
            self._taken.clear()

    def stop(self) -> None:
        """Wake nobody. The events that are recorded can still be taken."""
        if self._timer is not None:
            self._timer.cancel()

    # For the readers.

    def add(self, feed: PlacedFeed) -> None:
        """Wake ``feed`` from now on."""
        feed.group = self._groups.setdefault(feed.key, Readers())
        feed.group.feeds.add(feed)
        if feed.at < self._last:
            self._wake_again(feed)

    def remove(self, feed: PlacedFeed) -> None:
        """Wake ``feed`` no more."""
        if feed.group is not None:
            feed.group.feeds.discard(feed)
            if not feed.group.feeds:
                del self._groups[feed.key]
        self._count -= 1
        self.left_at = time.monotonic()

    def take(self, feed: PlacedFeed) -> Portion:
        """Return the next events for ``feed``, and move it on."""
        at = feed.wanted, feed.at
        taken = self._taken.get(at)
        if taken is None:
            taken = self._taken[at] = self._look(*at)
        feed.move_to(self._first - 1 + self._index(taken.place), taken.place)
        feed.is_woken = False
        if feed.at < self._last and feed.group is not None:
            self._wake_again(feed)
        return taken

    def pass_over(self, feed: PlacedFeed) -> None:
        """Move ``feed`` on over the events that it was not woken for: they are none for it."""
        if not feed.is_woken and feed.group is not None:
            at = (feed.group.first or self._last + 1) - 1
            if at > feed.at:
                feed.move_to(at, self.number_at(at))

    def number_at(self, place: int) -> int:
        """Return the number of the event at a place, or of the last one that was given up."""
        return self._events[place - self._first].number if place >= self._first else self.before

    def _index(self, number: int) -> int:
        """Return how many of the events have a number up to ``number``."""
        return bisect_right(self._events, number, key=NUMBER)

    def _look(self, wanted: EventFilter, place: int) -> Portion:
        first = max(place + 1, self._first)
        at = first - self._first
        looked_at = self._events[at : at + LOOKS]
        events = list(filter(wanted.fits, looked_at))
        last = looked_at[-1].number if looked_at else self.number_at(first - 1)
        if len(events) > TAKEN_MOST:
            del events[TAKEN_MOST:]
            last = events[-1].number
        return Portion(events, missed=first - place - 1, place=last, more=last < self.last)

    def _wake_again(self, feed: PlacedFeed) -> None:
        feed.is_woken = True
        self._behind.append(feed)
        self._begin_soon()

    # Events.

    def record(self, event: Event) -> None:
        """Keep an event that follows all others, and have its readers woken."""
        groups, events = self._groups, self._events
        self._last += 1
        events.append(event)
        if len(events) > self._kept:
            # Some at once, since the others move up.
            given_up = 1 + self._kept // 8
            self.before = events[given_up - 1].number
            del events[:given_up]
            self._first += given_up
        for key in (ALL, event.job.decode(), f"task {event.task}", *(f"tag {tag}" for tag in event.tags)):
            group = groups.get(key)
            if group is not None and not group.first:
                group.first = self._last
                self._fresh.append(group)
                self._begin_soon()

    # Rounds.

    def _begin_soon(self) -> None:
        if self._timer is None:
            delay = self._next_round - time.monotonic()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_soon(self._begin) if delay <= 0 else loop.call_later(delay, self._begin)

    def _begin(self) -> None:
        behind, self._behind = self._behind, []
        fresh, self._fresh = self._fresh, []
        self._taken.clear()
        self._wake_some(self._due(behind, fresh), 0.0)

    def _due(self, behind: list[PlacedFeed], fresh: list[Readers]) -> Iterator[PlacedFeed]:
        """Yield the readers to be woken in a round."""
        yield from (feed for feed in behind if feed.is_open)
        for group in fresh:
            waiting = [feed for feed in group.feeds if not feed.is_woken]
            for feed in waiting:
                self.pass_over(feed)
                feed.is_woken = True
            group.first = 0
            yield from (feed for feed in waiting if feed.is_open)

    def _wake_some(self, due: Iterator[PlacedFeed], seconds: float) -> None:
        """Wake readers for a turn of the loop. The round has taken ``seconds`` so far."""
        begun, woken = time.monotonic(), 0
        for feed in islice(due, TURN_MOST):
            feed.wake()
            woken += 1
            if time.monotonic() - begun > TURN_S:
                break
        now = time.monotonic()
        seconds += now - begun + woken * WRITE_S
        if woken:
            self._timer = asyncio.get_running_loop().call_soon(self._wake_some, due, seconds)
            return
        self._timer = None
        self._next_round = now + max(seconds / SHARE - seconds, 0.0 if self._behind else PACE_S)
        if self._fresh or self._behind:
            self._begin_soon()


# The key of readers that are woken for all events.
ALL = ""
NUMBER = attrgetter("number")


class Readers:
    """Readers that are woken for the same events."""

    __slots__ = ("feeds", "first")

    def __init__(self) -> None:
        self.feeds: set[PlacedFeed] = set()
        # The place of the first event that they were not woken for, 0 for none.
        self.first = 0


class PlacedFeed(Feed):
    """The events for one reader, ``at`` a place among those of ``feeds``."""

    __slots__ = ("_feeds", "_number", "at", "group", "is_open", "is_woken", "resumed", "wake", "wanted")

    def __init__(self, feeds: Feeds, wanted: EventFilter, at: int, *, resumed: bool) -> None:
        self._feeds = feeds
        self.wanted = wanted
        # The place, and the number, of the last event that it has taken, or that does not fit.
        self.at, self._number = at, feeds.number_at(at)
        self.resumed = resumed
        # None until it is woken for any.
        self.group: Readers | None = None
        # Whether it was woken, or will be, and has not taken anything since.
        self.is_woken = False
        self.is_open = True
        self.wake: Callable[[], object] = int

    @property
    def key(self) -> str:
        """The events that it is woken for."""
        if self.wanted.job is not None:
            return self.wanted.job.decode()
        if self.wanted.tag is not None:
            return f"tag {self.wanted.tag}"
        return ALL if self.wanted.task is None else f"task {self.wanted.task}"

    @property
    def place(self) -> int:
        """The number of the last event that is not to come any more, as Feed says."""
        self._feeds.pass_over(self)
        return self._number

    def move_to(self, at: int, number: int) -> None:
        """Go on after the event at a place, which has ``number``."""
        self.at, self._number = at, number

    def when_more(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when there is something to take, as Feed says."""
        self.wake = wake
        self._feeds.add(self)

    def take(self) -> Portion:
        """Return the next events that are wanted, as Feed says."""
        return self._feeds.take(self)

    def close(self) -> None:
        """Do not wake any more, as Feed says."""
        if self.is_open:
            self.is_open = False
            self._feeds.remove(self)
