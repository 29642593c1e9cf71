"""The last events, and their readers. No job waits for a reader.

Events are recorded while there is a reader, and KEPT_S after the last one has gone, so that it can
come back and go on. Otherwise a move on the board costs one look at an attribute.

A reader holds its place, and no event. If it is so slow that its next events are given up, it hears
how many. Readers are woken in rounds, once each. A round takes up to SHARE of the loop's time: the
next one waits as long as that needs. So with many readers events come later, and more at a time.

A reader is woken only for events that may fit its filter: those of its job, else of its tag, else
of its task. It then looks at all events since the first of these.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from headway.core.board.rows import ATTEMPT_MAX, ATTEMPT_SHIFT, STATE_MASK
from headway.core.config import EventsSection
from headway.core.errors import StreamsFullError, UnknownTaskError
from headway.core.events import Event, EventFilter, Portion
from headway.core.faults import printable
from headway.core.ids import Ids
from headway.core.interface import Feed
from headway.core.job import Job
from headway.core.local.reading import Reading

# Seconds after the last reader has gone in which events are still recorded.
KEPT_S = 60.0
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
# Numbers of a start begin with random bits, above as many bits as no count of events needs.
START_BITS = 32
COUNT_BITS = 48


class Feeds:
    """Records events of the board that ``reading`` reads, within ``most``. ``jobs`` has the active ones.

    ``retry_after_s`` says when a client that finds no room comes back.
    """

    def __init__(
        self,
        reading: Reading,
        ids: Ids,
        jobs: Mapping[int, Job],
        most: EventsSection,
        retry_after_s: Callable[[], float],
    ) -> None:
        self._reading = reading
        self._board = reading.board
        self._ids = ids
        self._jobs = jobs
        self._kept = most.kept
        self._streams_most = most.streams
        self._retry_after_s = retry_after_s
        # The events from number ``_first`` to ``_last``.
        self._events: list[Event] = []
        self._last = secrets.randbits(START_BITS) << COUNT_BITS
        self._first = self._last + 1
        # Readers by the events that they are woken for: those of a job, a tag, a task, or all.
        self._groups: dict[str, Group] = {}
        self._count = 0
        # When the last reader has gone, of time.monotonic.
        self._left_at = 0.0
        # The groups with events that their readers were not woken for, and the readers that have
        # more to take.
        self._fresh: list[Group] = []
        self._behind: list[LocalFeed] = []
        # What readers have taken in this round, by filter and place.
        self._taken: dict[tuple[EventFilter, int], Portion] = {}
        # The next round, or the next turn of this one.
        self._timer: asyncio.Handle | None = None
        # When the next round may begin, of time.monotonic.
        self._next_round = 0.0

    def __len__(self) -> int:
        return self._count

    def watch(self, wanted: EventFilter, after: int | None) -> LocalFeed:
        """Return the events that fit ``wanted``, as Engine says."""
        names = self._reading.names
        if wanted.task is not None and wanted.task not in names:
            known = ", ".join(sorted(names)) or "none"
            raise UnknownTaskError([("task", f"{printable(repr(wanted.task))} is not one of: {known}")])
        if self._count >= self._streams_most:
            raise StreamsFullError(self._streams_most, self._retry_after_s())
        self._board.on_move = self._record
        self._count += 1
        if after is None or not self._first - 1 <= after <= self._last:
            return LocalFeed(self, wanted, self._last, resumed=False)
        return LocalFeed(self, wanted, after, resumed=True)

    def tick(self, now: float) -> Iterable[object]:
        """Record no more events if nobody has read any for a while."""
        if self._timer is None:
            # Readers came back, each to its own place, and no round has followed.
            self._taken.clear()
        if self._board.on_move is not None and not self._count and now - self._left_at > KEPT_S:
            self._board.on_move = None
            self._events.clear()
            self._taken.clear()
            # The events from now on have no number: nobody can go on after the last one.
            self._last += 1
            self._first = self._last + 1
        return ()

    def stop(self) -> None:
        """Record no more events, and wake nobody. Those that are recorded can still be taken."""
        self._board.on_move = None
        if self._timer is not None:
            self._timer.cancel()

    # For the readers.

    def add(self, feed: LocalFeed) -> None:
        """Wake ``feed`` from now on."""
        feed.group = self._groups.setdefault(feed.key, Group())
        feed.group.feeds.add(feed)
        if feed.at < self._last:
            self._wake_again(feed)

    def remove(self, feed: LocalFeed) -> None:
        """Wake ``feed`` no more."""
        if feed.group is not None:
            feed.group.feeds.discard(feed)
            if not feed.group.feeds:
                del self._groups[feed.key]
        self._count -= 1
        self._left_at = time.monotonic()

    def take(self, feed: LocalFeed) -> Portion:
        """Return the next events for ``feed``, and move it on."""
        at = feed.wanted, feed.at
        taken = self._taken.get(at)
        if taken is None:
            taken = self._taken[at] = self._look(*at)
        feed.at = taken.place
        feed.is_woken = False
        if feed.at < self._last and feed.group is not None:
            self._wake_again(feed)
        return taken

    def pass_over(self, feed: LocalFeed) -> None:
        """Move ``feed`` on over the events that it was not woken for: they are none for it."""
        if not feed.is_woken and feed.group is not None:
            feed.at = max(feed.at, (feed.group.first or self._last + 1) - 1)

    def _look(self, wanted: EventFilter, place: int) -> Portion:
        first = max(place + 1, self._first)
        at = first - self._first
        looked_at = self._events[at : at + LOOKS]
        events = list(filter(wanted.fits, looked_at))
        last = first + len(looked_at) - 1
        if len(events) > TAKEN_MOST:
            del events[TAKEN_MOST:]
            last = events[-1].number
        return Portion(events, missed=first - place - 1, place=last, more=last < self._last)

    def _wake_again(self, feed: LocalFeed) -> None:
        feed.is_woken = True
        self._behind.append(feed)
        self._begin_soon()

    # Events.

    def _record(self, sequence: int, row: int, now: float) -> None:
        board, reading, groups = self._board, self._reading, self._groups
        word, job = board.live[row], self._jobs.get(sequence)
        self._last += 1
        event = Event(
            number=self._last,
            job=self._ids.write(sequence, board.tag[row]),
            task=reading.names[board.task[row]],
            state=word & STATE_MASK,
            attempt=word >> ATTEMPT_SHIFT & ATTEMPT_MAX,
            reason=board.reason[row],
            tags=() if job is None else job.terms.tags,
            time=now + reading.wall,
        )
        events = self._events
        events.append(event)
        if len(events) > self._kept:
            # Some at once, since the others move up.
            given_up = 1 + self._kept // 8
            del events[:given_up]
            self._first += given_up
        for key in (ALL, event.job.decode(), f"task {event.task}", *(f"tag {tag}" for tag in event.tags)):
            group = groups.get(key)
            if group is not None and not group.first:
                group.first = event.number
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

    def _due(self, behind: list[LocalFeed], fresh: list[Group]) -> Iterator[LocalFeed]:
        """Yield the readers to be woken in a round."""
        yield from (feed for feed in behind if feed.is_open)
        for group in fresh:
            waiting = [feed for feed in group.feeds if not feed.is_woken]
            for feed in waiting:
                self.pass_over(feed)
                feed.is_woken = True
            group.first = 0
            yield from (feed for feed in waiting if feed.is_open)

    def _wake_some(self, due: Iterator[LocalFeed], seconds: float) -> None:
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


class Group:
    """Readers that are woken for the same events."""

    __slots__ = ("feeds", "first")

    def __init__(self) -> None:
        self.feeds: set[LocalFeed] = set()
        # The number of the first event that they were not woken for, 0 for none.
        self.first = 0


class LocalFeed(Feed):
    """The events for one reader, ``at`` a place among those of ``feeds``."""

    __slots__ = ("_feeds", "at", "group", "is_open", "is_woken", "resumed", "wake", "wanted")

    def __init__(self, feeds: Feeds, wanted: EventFilter, at: int, *, resumed: bool) -> None:
        self._feeds = feeds
        self.wanted = wanted
        # The number of the last event that it has taken, or that does not fit.
        self.at = at
        self.resumed = resumed
        # None until it is woken for any.
        self.group: Group | None = None
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
        return self.at

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
