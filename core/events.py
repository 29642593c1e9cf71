"""Changes of the states of jobs, as clients see them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from headway.core.job import State


class Event(msgspec.Struct, gc=False):
    """A job has come into a state."""

    # Its place among all events of this start of the server, and of no other start.
    number: int
    # The id of the job, ASCII.
    job: bytes
    task: str
    state: int
    # Attempts that have begun.
    attempt: int
    # A job.Reason.
    reason: int
    tags: tuple[str, ...]
    # Of time.time, in seconds.
    time: float


class EventFilter(msgspec.Struct, frozen=True):
    """An event is wanted if it fits all members. None, or no state, fits any event."""

    # The id of a job.
    job: bytes | None = None
    states: frozenset[State] = frozenset()
    task: str | None = None
    tag: str | None = None

    def fits(self, event: Event) -> bool:
        """Whether ``event`` is wanted."""
        return (
            (self.job is None or event.job == self.job)
            and (not self.states or event.state in self.states)
            and (self.task is None or event.task == self.task)
            and (self.tag is None or self.tag in event.tags)
        )


class Portion(msgspec.Struct, eq=False, gc=False):
    """Events that a reader takes at once. Readers that are at the same place share one of these."""

    # Oldest first.
    events: Sequence[Event]
    # Events of any kind that were given up before the reader took them. They come before ``events``.
    # Below 0: nobody knows how many.
    missed: int
    # The place of the reader from now on: the number of the last event it has taken or passed over.
    place: int
    # Whether there may be more already.
    more: bool
