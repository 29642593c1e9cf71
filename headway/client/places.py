"""The jobs that are waited for, and the next step of each.

A wait that the server holds back (``Prefer: wait``) takes a connection, and its end is known at
once. So the places with a connection, the slots, are for the jobs that are expected to end first:
the line is in the order of their hints (Retry-After-Ms). While others are in the line, a slot is
kept for ROTATE_S at most, then its job gets back into the line at its new hint.

The jobs in the line are looked at together. The document of a batch tells the states of all its
jobs, and a page of ``GET /jobs?state=succeeded`` those of many others. The first in the line does
this for all. The interval is LOOK_S while it tells something new. If it tells nothing it grows:
the slots suffice then, or nothing moves. A job that no look covers, or that none has told of for
long after its hint, is asked for by itself.

Several threads may call. Nothing here waits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import count
from math import inf
from threading import Lock

from headway.client.errors import HeadwayError
from headway.client.exchange import Event
from headway.client.status import FINISHED, Status

# Seconds that the server is asked to wait, alone and while others are in the line.
HOLD_S = 30
ROTATE_S = 10
# Seconds from one look to the next: while they find something, while they find nothing, and while they cost
# too many requests.
LOOK_S = 0.35
LOOK_IDLE_S = 0.6
LOOK_THRIFTY_S = 3.0
GROWTH = 1.5
# Requests of looks for each job that has ended, beside the first few.
LOOK_SHARE = 0.5
LOOK_FREE = 40
# After so many quiet seconds the interval may be a second, and up to LOOK_QUIET_S.
QUIET = 8
LOOK_QUIET_S = 10.0
# A look at a batch is worth it from so many of its jobs in the line, one at the lists from so many.
BATCH_FROM = 4
LISTS_FROM = 16
# Pages of a list in one look, and the seconds without lists after more would have been needed.
PAGES_MOST = 16
WITHOUT_LISTS_S = 30.0
# Seconds between two requests for the first in the line, if the lists cover it.
ASK_S = 3.0


class Kind(Enum):
    """The next step of a wait."""

    # Ask, and have the server wait.
    HOLD = 1
    # Ask for many.
    LOOK = 2
    # Ask for this job alone.
    ASK = 3
    # Do nothing for some seconds.
    REST = 4


class Place:
    """A wait for one job."""

    __slots__ = ("asked", "batch_id", "due", "ended", "error", "event", "item", "job_id", "slot")

    def __init__(self, job_id: str, batch_id: str | None, due: float, event: Event) -> None:
        self.job_id = job_id
        self.batch_id = batch_id
        # The time of the hint, of time.monotonic, and whether it is later than that of the submission.
        self.due = due
        self.asked = False
        self.event = event
        # A look tells the one or the other.
        self.ended: Status | None = None
        self.error: HeadwayError | None = None
        # Its entry in the line, None while it is not there.
        self.item: tuple[float, int, Place] | None = None
        self.slot = False


class Places:
    """All waits of a client. Times are of time.monotonic, in seconds."""

    def __init__(self, slots: int) -> None:
        self._lock = Lock()
        self._free = slots
        self._line: list[tuple[float, int, Place]] = []
        self._numbers = count()
        self._by_id: dict[str, list[Place]] = {}
        # How many are in the line, by batch. Those of no batch are at None.
        self._in_line: Counter[str | None] = Counter()
        # The last job that was told to be queued, and its hint.
        self._queued_id, self._queued_due = "", 0.0
        self._looking = False
        self._looked = 0.0
        self._asked = 0.0
        self._interval_s = LOOK_S
        # Since the line was empty: the last end of a job, how many have ended, the requests of looks.
        self._news = 0.0
        self._ended = 0
        self._spent = 0
        self._without_lists_until = 0.0

    def enter(self, place: Place, now: float) -> None:
        """Begin a wait."""
        with self._lock:
            self._by_id.setdefault(place.job_id, []).append(place)
            self._queue(place, now)

    def leave(self, place: Place) -> None:
        """End a wait."""
        with self._lock:
            same = self._by_id[place.job_id]
            same.remove(place)
            if not same:
                del self._by_id[place.job_id]
            self._release(place)

    def step(self, place: Place, now: float) -> tuple[Kind, float]:
        """Return the next step of a place in the line, and its seconds for HOLD and REST."""
        with self._lock:
            first = self._first() is place
            if first and self._free:
                self._free -= 1
                place.slot = True
                self._unqueue(place)
                self._nudge()
                return Kind.HOLD, ROTATE_S if self._first() else HOLD_S
            alarm = self._alarm(place, now, first)
            if now >= alarm:
                self._asked = now
                return Kind.ASK, 0.0
            if not first or self._looking or not self._worth_a_look(now):
                return Kind.REST, alarm - now
            look = self._looked + self._interval_s
            if now < look:
                return Kind.REST, min(look, alarm) - now
            self._looking = True
            self._looked = now
            return Kind.LOOK, 0.0

    def told(self, place: Place, now: float, hint_s: float, *, queued: bool = False) -> None:
        """Take a place back into the line: its job has not finished, and has a new hint."""
        with self._lock:
            self._release(place)
            place.due, place.asked = now + hint_s, True
            self._queue(place, now)
            if queued:
                self._queued_id, self._queued_due = place.job_id, place.due
                self._nudge(but=place)

    def away(self, place: Place) -> None:
        """Take a place out of the line or its slot until ``told``."""
        with self._lock:
            self._release(place)

    def news(self, now: float) -> None:
        """A job has ended."""
        with self._lock:
            self._news = now
            self._ended += 1

    def batches(self) -> list[str]:
        """Return the batches that are worth a look."""
        with self._lock:
            return [name for name, number in self._in_line.items() if name is not None and number >= BATCH_FROM]

    def oldest(self, now: float) -> str | None:
        """Return the lowest id that the lists have to reach, None if they are not worth a look."""
        with self._lock:
            if not self._lists(now):
                return None
            return min((item[2].job_id for item in self._line if self._single(item)), default=None)

    def seen(self, states: Mapping[str, str], now: float) -> int:
        """Take the states that a look told. Return how many places in the line are over by that."""
        with self._lock:
            ended = [
                (place, state)
                for job_id, state in states.items()
                if state in FINISHED
                for place in self._by_id.get(job_id, ())
                if place.item is not None
            ]
            for place, state in ended:
                place.ended = Status(place.job_id, state)
                self._unqueue(place)
                place.event.set()
            if ended:
                self._nudge()
                self._news = now
                self._ended += len(ended)
            return len(ended)

    def gone(self, batch_id: str) -> None:
        """A batch tells nothing: ask for its jobs one by one."""
        with self._lock:
            for place in [item[2] for item in self._line if item[2].item is item and item[2].batch_id == batch_id]:
                self._unqueue(place)
                place.batch_id = None
                self._push(place)
                place.event.set()

    def without_lists(self, until: float) -> None:
        """Do without lists until then: they tell too little, or the server refuses them."""
        self._without_lists_until = until

    def looked(self, now: float, found: int, requests: int) -> None:
        """End a look."""
        with self._lock:
            self._looking = False
            self._spent += requests
            thrifty = self._spent > LOOK_SHARE * self._ended + LOOK_FREE
            if found and not thrifty:
                self._interval_s = LOOK_S
            else:
                quiet_s = min((now - self._news) / QUIET, LOOK_QUIET_S)
                most = max(LOOK_THRIFTY_S if thrifty else LOOK_IDLE_S, quiet_s)
                self._interval_s = min(self._interval_s * GROWTH, most)
            self._nudge()

    def give_up(self, error: HeadwayError) -> None:
        """End all waits in the line with an error."""
        with self._lock:
            for place in self._waiting():
                place.error = error
                place.event.set()

    # With the lock held.

    def _waiting(self) -> Iterable[Place]:
        return [item[2] for item in self._line if item[2].item is item]

    def _queue(self, place: Place, now: float) -> None:
        if self._first() is None:
            self._looked = self._news = self._asked = now
            self._interval_s = LOOK_S
            self._ended = self._spent = 0
        self._push(place)
        self._nudge(but=place)

    def _push(self, place: Place) -> None:
        place.item = (place.due, next(self._numbers), place)
        heapq.heappush(self._line, place.item)
        self._in_line[place.batch_id] += 1

    def _unqueue(self, place: Place) -> None:
        if place.item is None:
            return
        place.item = None
        self._in_line[place.batch_id] -= 1
        if not self._in_line[place.batch_id]:
            del self._in_line[place.batch_id]

    def _release(self, place: Place) -> None:
        self._unqueue(place)
        if place.slot:
            place.slot = False
            self._free += 1
        self._nudge(but=place)

    def _first(self) -> Place | None:
        while self._line:
            item = self._line[0]
            place = item[2]
            if place.item is not item:
                heapq.heappop(self._line)
            elif not place.asked and place.due < self._queued_due and place.job_id > self._queued_id:
                place.due = self._queued_due
                place.item = (place.due, next(self._numbers), place)
                heapq.heapreplace(self._line, place.item)
            else:
                return place
        return None

    def _nudge(self, but: Place | None = None) -> None:
        """Wake the first in the line, whose next step may be another one now."""
        first = self._first()
        if first is not None and first is not but:
            first.event.set()

    def _alarm(self, place: Place, now: float, first: bool) -> float:
        """Return when a place asks for itself."""
        if place.batch_id is not None and self._in_line[place.batch_id] >= BATCH_FROM:
            return inf
        if not self._lists(now):
            return place.due
        return max(place.due, self._asked + ASK_S) if first else inf

    def _single(self, item: tuple[float, int, Place]) -> bool:
        place = item[2]
        return place.item is item and (place.batch_id is None or self._in_line[place.batch_id] < BATCH_FROM)

    def _lists(self, now: float) -> bool:
        """Whether the lists are worth a look."""
        return now >= self._without_lists_until and self._singles() >= LISTS_FROM

    def _singles(self) -> int:
        return sum(number for name, number in self._in_line.items() if name is None or number < BATCH_FROM)

    def _worth_a_look(self, now: float) -> bool:
        return self._lists(now) or any(
            name is not None and number >= BATCH_FROM for name, number in self._in_line.items()
        )
