"""The facts of jobs that this node has read, until the store says that they have changed.

All reads of one turn of the loop leave in one write. The store remembers each key that was read,
and pushes its name when it changes (CLIENT TRACKING, OPTIN), over the connection of the reads. So
between two changes a status costs the store nothing, however many clients ask.

**Nothing old is told.** A push comes after the reply to each read before the change, so it always
finds the facts that it makes old. With the connection the pushes are lost: then all facts are
dropped. Only those of finished jobs stay for clients that ask while the store is away, since they
do not change any more. They are read again when it is back.

**Waiting clients.** A client that waits for the end of a job registers first, and then the job is
read unless its facts are here. So its end is either read or pushed. A push for a job that is waited
for has it read again, and so does a connection that is there again.

A job that is not there has expired: its id is checked before. But somebody may have emptied the
store, so the marker of the ids is looked at, too. A reading answers only under the ids that it was
asked under: the store may be emptied, and have new ids, while it is under way.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from headway.core.errors import EngineAwayError, HeadwayError, MisdirectedError
from headway.core.interface import Later, Soon
from headway.core.job import State
from headway.core.store.keys import number_of
from headway.core.store.record import FIELDS, Facts, read_facts
from headway.core.store.store import Store
from headway.core.waiters import Waiters

# Jobs whose facts are kept here.
MOST = 50_000
# Plain ints: a member of an enum costs twice as much to compare.
RUNNING, SUCCEEDED = int(State.RUNNING), int(State.SUCCEEDED)


class Known:
    """The facts of a job that were read, None for one that has expired."""

    __slots__ = ("ask_at", "ends_at", "facts", "is_current")

    def __init__(self, facts: Facts | None, server_ms: int = 0) -> None:
        self.facts = facts
        # Whether the store tells us of a change.
        self.is_current = True
        # When a client was told to ask again, of time.monotonic. 0.0: none was told.
        self.ask_at = 0.0
        # When it ends if it goes on as it has reported, of time.monotonic. 0.0: it has not.
        self.ends_at = 0.0
        if facts is not None and facts.progress and facts.state == RUNNING:
            total_ms = (facts.progress_ms - facts.started_ms) * 100 / facts.progress
            self.ends_at = time.monotonic() + (facts.started_ms + total_ms - server_ms) / 1000


class FactsOnTheWay:
    """The facts of a job on their way."""

    __slots__ = ("error", "known", "marker", "sequence", "takers")

    def __init__(self, sequence: int, marker: bytes) -> None:
        self.sequence = sequence
        # Of the ids that the job was asked for under.
        self.marker = marker
        # Those that wait for it, called once.
        self.takers: dict[object, Callable[[], object]] = {}
        self.known: Known | None = None
        self.error: HeadwayError | None = None


class Coming(Later[Known]):
    """The facts of a job once they were read."""

    __slots__ = ("_reading",)

    def __init__(self, reading: FactsOnTheWay) -> None:
        self._reading = reading

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when they were read, or cannot be."""
        self._reading.takers[self] = wake

    def value(self) -> Known:
        """Return them. Raises HeadwayError if they cannot be read."""
        if self._reading.known is None:
            raise self._reading.error or EngineAwayError()
        return self._reading.known

    def cancel(self) -> None:
        """Do not wake."""
        self._reading.takers.pop(self, None)


class Cache:
    """The facts of up to ``most`` jobs."""

    def __init__(self, store: Store, most: int = MOST) -> None:
        self._store = store
        self._most = most
        # Those read last at the end.
        self._known: OrderedDict[int, Known] = OrderedDict()
        self._readings: dict[int, FactsOnTheWay] = {}
        # Clients that wait for the end of a job.
        self.waiters = Waiters()
        # Statuses that were answered from here, and those that were read.
        self.hits = self.misses = 0
        # Called with the facts of each job that was read and has ended.
        self.on_end: Callable[[Facts], object] = id

    def __len__(self) -> int:
        return len(self._known)

    def get(self, sequence: int) -> Soon[Known]:
        """Return the facts of a job that was issued. Raises EngineAwayError."""
        known, store = self._known.get(sequence), self._store
        if known is not None and (known.is_current or not store.is_up_at(sequence % store.partitions)):
            facts = known.facts
            if facts is None or not facts.kept_until_ms or facts.kept_until_ms > store.server_ms():
                self.hits += 1
                self._known.move_to_end(sequence)
                return known
        self.misses += 1
        return Coming(self._read(sequence))

    def look(self, sequence: int) -> None:
        """Read a job that is waited for, unless its facts are here. Wake its clients if it has ended."""
        known = self._known.get(sequence)
        if known is None or not known.is_current:
            with suppress(EngineAwayError):
                # It is looked at again when the store is there.
                self._read(sequence)
        elif _is_over(known):
            self.waiters.ended(sequence)

    def forget(self, sequence: int) -> None:
        """Read a job anew before it is told of: this node has changed it."""
        self._known.pop(sequence, None)

    def forget_hints(self, task: str) -> None:
        """Forget when clients ask again for jobs of a task, whose switches have changed."""
        for known in self._known.values():
            if known.facts is not None and known.facts.task == task:
                known.ask_at = 0.0

    def invalid(self, keys: list[bytes] | None) -> None:
        """Drop the facts of these keys, which have changed. None: all."""
        if keys is None:
            self._drop_all()
            return
        for key in keys:
            sequence = number_of(key, b"j")
            self._known.pop(sequence, None)
            if sequence in self.waiters:
                self.look(sequence)

    def up(self) -> None:
        """Look at the jobs that are waited for: the connection is there again."""
        for sequence in self.waiters.jobs():
            self.look(sequence)

    def renew(self) -> None:
        """Forget all: the store was emptied."""
        self._known.clear()
        self.waiters.release()

    def _drop_all(self) -> None:
        # Those that do not change any more stay. They are told while the store is away.
        self._known = OrderedDict(
            (sequence, known) for sequence, known in self._known.items() if known.facts is not None and _is_over(known)
        )
        for known in self._known.values():
            known.is_current = False
        if self._store.is_up:
            for sequence in self.waiters.jobs():
                self.look(sequence)

    # Readings.

    def _read(self, sequence: int) -> FactsOnTheWay:
        reading = self._readings.get(sequence)
        marker = self._store.ids.marker
        if reading is None or reading.marker != marker:
            keys = self._store.keys_of(sequence)
            asked = self._store.ask(keys, lambda: self._store.read(keys, keys.job(sequence), *FIELDS))
            reading = self._readings[sequence] = FactsOnTheWay(sequence, marker)
            asked.when_known(lambda: self._came(reading, asked))
        return reading

    def _came(self, reading: FactsOnTheWay, asked: Later[Any]) -> None:
        try:
            facts = read_facts(asked.value())
            if reading.marker != self._store.ids.marker:
                raise MisdirectedError
            if facts is not None:
                self._end(reading, Known(facts, self._store.server_ms()))
                return
            keys = self._store.keys_of(reading.sequence)
            marked = self._store.ask(keys, lambda: self._store.call(keys, "GET", keys.marker))
        except HeadwayError as error:
            self._fail(reading, error)
            return
        marked.when_known(lambda: self._came_marker(reading, marked))

    def _came_marker(self, reading: FactsOnTheWay, asked: Later[Any]) -> None:
        try:
            marker = asked.value()
        except HeadwayError as error:
            self._fail(reading, error)
            return
        if marker == reading.marker == self._store.ids.marker:
            self._end(reading, Known(None))
            return
        if marker != self._store.ids.marker:
            self._store.renew()
        # All ids that were issued before are none of this store any more.
        self._fail(reading, MisdirectedError())

    def _fail(self, reading: FactsOnTheWay, error: HeadwayError) -> None:
        reading.error = error
        self._end(reading, None)

    def _end(self, reading: FactsOnTheWay, known: Known | None) -> None:
        sequence = reading.sequence
        if self._readings.get(sequence) is reading:
            del self._readings[sequence]
        reading.known = known
        if known is not None:
            self._known[sequence] = known
            if len(self._known) > self._most:
                self._known.popitem(last=False)
            if known.facts is not None and known.facts.state >= SUCCEEDED:
                self.on_end(known.facts)
            if _is_over(known) and sequence in self.waiters:
                self.waiters.ended(sequence)
        takers, reading.takers = reading.takers, {}
        for wake in takers.values():
            wake()


def _is_over(known: Known) -> bool:
    return known.facts is None or known.facts.state >= SUCCEEDED
