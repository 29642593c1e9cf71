"""The record of the board's moves as events, for those who read them.

Events are recorded while there is a reader, and KEPT_S after the last one has gone, so that it can
come back and go on. Otherwise a move on the board costs one look at an attribute.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping

from headway.core.board.rows import ATTEMPT_MAX, ATTEMPT_SHIFT, STATE_MASK
from headway.core.config import EventsSection
from headway.core.errors import UnknownTaskError
from headway.core.events import Event, EventFilter
from headway.core.faults import not_one_of, printable
from headway.core.feeds.feeds import Feeds
from headway.core.ids import Ids
from headway.core.interface import Feed
from headway.core.job import Job
from headway.core.local.reading import Reading

# Seconds after the last reader has gone in which events are still recorded.
KEPT_S = 60.0
# Numbers of a start begin with random bits, above as many bits as no count of events needs.
START_BITS = 32
COUNT_BITS = 48


class Recorder:
    """Records events of the board that ``reading`` reads. ``jobs`` has the active ones."""

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
        self._feeds = Feeds(most, retry_after_s)
        self._feeds.begin(secrets.randbits(START_BITS) << COUNT_BITS)
        # The number of the last event.
        self._last = self._feeds.last

    def __len__(self) -> int:
        return len(self._feeds)

    def watch(self, wanted: EventFilter, after: int | None) -> Feed:
        """Return the events that fit ``wanted``, as Engine says."""
        names = self._reading.names
        if wanted.task is not None and wanted.task not in names:
            raise UnknownTaskError([("task", not_one_of(printable(repr(wanted.task)), names))])
        feed = self._feeds.open(wanted, after)
        self._board.on_move = self._record
        return feed

    def tick(self, now: float) -> Iterable[object]:
        """Record no more events if nobody has read any for a while."""
        feeds = self._feeds
        feeds.tick()
        if self._board.on_move is not None and not len(feeds) and now - feeds.left_at > KEPT_S:
            self._board.on_move = None
            # The events from now on have no number: nobody can go on after the last one.
            self._last += 1
            feeds.begin(self._last)
        return ()

    def stop(self) -> None:
        """Record no more events, and wake nobody. Those that are recorded can still be taken."""
        self._board.on_move = None
        self._feeds.stop()

    def _record(self, sequence: int, row: int, now: float) -> None:
        board, reading = self._board, self._reading
        word, job = board.live[row], self._jobs.get(sequence)
        self._last += 1
        self._feeds.record(
            Event(
                number=self._last,
                job=self._ids.write(sequence, board.tag[row]),
                task=reading.names[board.task[row]],
                state=word & STATE_MASK,
                attempt=word >> ATTEMPT_SHIFT & ATTEMPT_MAX,
                reason=board.reason[row],
                tags=() if job is None else job.terms.tags,
                time=now + reading.wall,
            )
        )
