"""Finding jobs of all nodes: a page of those that fit a filter, or all of them for an order.

The script ``find`` walks the numbers of a partition down, or those with a tag, and looks at
LOOKS_MOST jobs in one call. So a call takes a millisecond or two of the store, and others have
their turn between two. A text in the error is compared here: Lua knows the case of ASCII letters
alone.

A number is ``n * P + p``. Walks through several partitions are merged: a job is told once all of
them have come down to its number.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence

import msgspec
from headway.core.errors import UnknownTaskError
from headway.core.faults import not_one_of, printable
from headway.core.interface import Page, Soon
from headway.core.job import TERMINAL, State
from headway.core.job_filter import JobFilter, mentions
from headway.core.later import Read, known
from headway.core.status import Status
from headway.core.store.changes import LOOKS_MOST, find_arguments, read_found
from headway.core.store.keys import Keyspace
from headway.core.store.record import Facts, decode_result
from headway.core.store.scripts import FIND
from headway.core.store.store import Store
from headway.core.task import OWN_PREFIX

# Seconds for a page. Then it has the jobs found so far.
PAGE_S = 0.04
# The most jobs of a page, and those that fit which a call returns.
PAGE_MOST = 250
# No number reaches this, see core/ids.py.
BEYOND = 1 << 48

FoundJob = tuple[int, Facts]


class Walk(msgspec.Struct):
    """The search of one partition."""

    keys: Keyspace
    # All jobs from this number on were looked at. 0: all jobs.
    end: int
    found: list[FoundJob] = msgspec.field(default_factory=list)


class SharedFinding:
    """Finds jobs. ``names`` returns the tasks that a job may have, and ``describe`` makes a status."""

    def __init__(
        self,
        store: Store,
        names: Callable[[], Collection[str]],
        declared: Callable[[], Collection[str]],
        describe: Callable[[int, Facts], Status],
    ) -> None:
        self._store = store
        # The tasks that jobs may have, and those that a live node declares.
        self._names = names
        self._declared = declared
        self._describe = describe

    def knows(self, task: str) -> bool:
        """Whether a node declares a task."""
        return task in self._declared()

    def check(self, wanted: JobFilter) -> None:
        """Raise UnknownTaskError if no job can have the task of a filter."""
        names = self._names()
        if wanted.task is not None and wanted.task not in names:
            raise UnknownTaskError([("task", not_one_of(printable(repr(wanted.task)), names))])

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return a page of jobs, as Engine says."""
        self.check(wanted)
        return Read(asyncio.ensure_future(self._page(wanted, after, min(limit, PAGE_MOST))))

    async def _page(self, wanted: JobFilter, after: int, limit: int) -> Page:
        descent = Descent(self._store, wanted, self._store.keys, after)
        until = time.monotonic() + PAGE_S
        found: list[FoundJob] = []
        while not descent.is_over and len(found) < limit and time.monotonic() < until:
            await descent.step(limit - len(found))
            found += descent.take(limit - len(found))
        jobs = [self._describe(sequence, facts) for sequence, facts in found]
        return Page(jobs, descent.cursor)

    async def each(self, wanted: JobFilter, keys: Keyspace, order: int, since_ms: int) -> AsyncIterator[list[int]]:
        """Yield the numbers of all jobs of a partition that an order is about, newest first, some at a time.

        Those are jobs of clients that came, began and ended no later than the job ``order``, which came
        at ``since_ms``. Raises EngineAwayError.
        """
        is_own = order % len(self._store.keys) == keys.partition
        descent = Descent(self._store, wanted, [keys], order if is_own else 0)
        while not descent.is_over:
            await descent.step(PAGE_MOST)
            some = [
                sequence
                for sequence, facts in descent.take(PAGE_MOST)
                if not facts.task.startswith(OWN_PREFIX) and _last_change_ms(facts) <= since_ms
            ]
            if some:
                yield some

    async def count(self, wanted: JobFilter) -> dict[str, int]:
        """Return the number of jobs of clients that fit, by the name of their task."""
        descent = Descent(self._store, wanted, self._store.keys, 0)
        counts: dict[str, int] = {}
        while not descent.is_over:
            await descent.step(PAGE_MOST)
            for _, facts in descent.take(PAGE_MOST):
                if not facts.task.startswith(OWN_PREFIX):
                    counts[facts.task] = counts.get(facts.task, 0) + 1
        return counts


def _last_change_ms(facts: Facts) -> int:
    changed_ms = facts.ended_ms if facts.state >= State.SUCCEEDED else facts.started_ms
    return max(facts.submitted_ms, changed_ms)


class Descent:
    """A search of ``places`` for jobs below the number ``before``, 0 for the newest."""

    def __init__(self, store: Store, wanted: JobFilter, places: Sequence[Keyspace], before: int) -> None:
        self._store = store
        self._wanted = wanted
        self._text = (wanted.error or "").casefold()
        self._walks = [Walk(keys, (before or BEYOND) if _may_fit(wanted) else 0) for keys in places]
        # The last job that was taken while others were left.
        self._cut = 0

    @property
    def is_over(self) -> bool:
        """Whether all jobs were looked at, and taken."""
        return not any(walk.end or walk.found for walk in self._walks)

    @property
    def cursor(self) -> int | None:
        """The number below which another search goes on, None if this one is over."""
        if self.is_over:
            return None
        return self._cut or max(walk.end for walk in self._walks)

    async def step(self, most: int) -> None:
        """Look at some jobs, up to as many as fit."""
        # The walks that are ahead wait for the others.
        top = max(walk.end for walk in self._walks)
        behind = [walk for walk in self._walks if walk.end and walk.end > top - LOOKS_MOST]
        await asyncio.gather(*(self._walk(walk, most) for walk in behind))

    async def _walk(self, walk: Walk, most: int) -> None:
        store = self._store
        before = 0 if walk.end == BEYOND else walk.end
        words = find_arguments(b"", self._wanted, before, most, partitions=store.partitions)
        walk.end, found = read_found(await known(store.ask(walk.keys, lambda: store.run(walk.keys, FIND, *words[1:]))))
        walk.found += await self._with_text(walk.keys, found) if self._text and found else found

    async def _with_text(self, keys: Keyspace, found: list[FoundJob]) -> list[FoundJob]:
        """Return those of the failed jobs that have the text in their errors."""
        fits = await asyncio.gather(*(self._mentions(keys, sequence) for sequence, _ in found))
        return [one for one, has_text in zip(found, fits, strict=True) if has_text]

    async def _mentions(self, keys: Keyspace, sequence: int) -> bool:
        store = self._store
        error = await known(store.ask(keys, lambda: store.call(keys, b"GET", keys.result(sequence))))
        return isinstance(error, bytes) and mentions(decode_result(error).body, self._text)

    def take(self, most: int) -> list[FoundJob]:
        """Return up to so many jobs that were found, newest first. The others stay."""
        down_to = max(walk.end for walk in self._walks)
        ready = [one for walk in self._walks for one in walk.found if one[0] >= down_to]
        ready.sort(key=_number, reverse=True)
        taken = ready[:most]
        self._cut = taken[-1][0] if len(ready) > most else 0
        last = taken[-1][0] if taken else BEYOND
        for walk in self._walks:
            walk.found = [one for one in walk.found if one[0] < last]
        return taken


def _number(one: FoundJob) -> int:
    return one[0]


def _may_fit(wanted: JobFilter) -> bool:
    """Whether any job can fit: there is a state for it."""
    states = wanted.states or frozenset(State)
    if wanted.reason is not None or wanted.error is not None:
        states &= {State.FAILED}
    if wanted.ended_after is not None or wanted.ended_before is not None:
        states &= TERMINAL
    return bool(states - {State.EMPTY, State.EXPIRED})
