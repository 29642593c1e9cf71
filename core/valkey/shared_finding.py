"""Finding jobs of all nodes: a page of those that fit a filter, or all of them for an order.

The script ``find`` walks the numbers of a partition down, or those with a tag, and looks at LOOKS
jobs in one call. So a call takes a millisecond or two of the store, and others have their turn
between two. A text in the error is compared here, since Lua knows no case of letters beyond ASCII.

A number is ``n * P + p``, and the walks through several partitions are merged: a job is told once
all partitions were walked down to its number.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import msgspec
from headway.core.errors import UnknownTaskError
from headway.core.faults import printable
from headway.core.interface import Page, Soon
from headway.core.job import TERMINAL, State
from headway.core.job_filter import JobFilter, mentions
from headway.core.later import Read
from headway.core.status import Status
from headway.core.valkey.keys import Keys
from headway.core.valkey.link import Word
from headway.core.valkey.record import FIELDS, Facts, decode_result, read_facts
from headway.core.valkey.reply_error import StoreError
from headway.core.valkey.scripts import FIND
from headway.core.valkey.store import Store, raise_for_client

# Jobs that a call looks at.
LOOKS = 400
# Seconds for a page. Then it has the jobs found so far.
PAGE_S = 0.04
# The most jobs of a page.
PAGE_MOST = 250
# The fields of jobs whose status nobody wants.
BARE = (b"k",)

VISIBLE = frozenset(State) - {State.EMPTY, State.EXPIRED}


class Match(msgspec.Struct, gc=False):
    """A job that fits, with its fields."""

    sequence: int
    values: list[bytes | None]


class Walk(msgspec.Struct):
    """The search of one partition."""

    keys: Keys
    # All jobs from this number on were looked at. 0: all jobs.
    end: int
    found: list[Match] = msgspec.field(default_factory=list)


class SharedFinding:
    """Finds jobs. ``names`` returns the tasks that a job may have, and ``describe`` makes a status."""

    def __init__(
        self, store: Store, names: Callable[[], Collection[str]], describe: Callable[[int, Facts], Status]
    ) -> None:
        self._store = store
        self._names = names
        self._describe = describe

    def check(self, wanted: JobFilter) -> None:
        """Raise UnknownTaskError if no job can have the task of a filter."""
        names = self._names()
        if wanted.task is not None and wanted.task not in names:
            known = ", ".join(sorted(names)) or "none"
            raise UnknownTaskError([("task", f"{printable(repr(wanted.task))} is not one of: {known}")])

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return a page of jobs, as Engine says."""
        self.check(wanted)
        return Read(asyncio.ensure_future(self._page(wanted, after, min(limit, PAGE_MOST))))

    async def _page(self, wanted: JobFilter, after: int, limit: int) -> Page:
        search = Search(self._store, wanted, FIELDS, before=after)
        until = time.monotonic() + PAGE_S
        found: list[Match] = []
        try:
            while not search.is_over and len(found) < limit and time.monotonic() < until:
                await search.step(limit - len(found))
                found += search.take(limit - len(found))
        except StoreError as error:
            raise_for_client(error)
        jobs = []
        for match in found:
            facts = read_facts(match.values)
            if facts is not None:
                jobs.append(self._describe(match.sequence, facts))
        return Page(jobs, search.cursor(found[-1].sequence if len(found) == limit else 0))

    async def each(self, wanted: JobFilter, order: int, since_ms: int, keys: Keys) -> AsyncIterator[list[int]]:
        """Yield the numbers of all jobs of a partition that fit, newest first, some at a time.

        They are jobs of clients that came, and began or ended, no later than ``since_ms``, which is
        when the job ``order`` came.
        """
        before = order if order % len(self._store.keys) == keys.partition else 0
        search = Search(self._store, wanted, BARE, before=before, since_ms=since_ms, partitions=[keys])
        while not search.is_over:
            await search.step(LOOKS)
            found = search.take(LOOKS)
            if found:
                yield [match.sequence for match in found]

    async def count(self, wanted: JobFilter) -> dict[str, int]:
        """Return the number of jobs that fit, by the name of their task."""
        search = Search(self._store, wanted, BARE)
        counts: dict[str, int] = {}
        while not search.is_over:
            await search.step(LOOKS)
            for match in search.take(LOOKS):
                name = (match.values[0] or b"").decode()
                counts[name] = counts.get(name, 0) + 1
        return counts


class Search:
    """A search for jobs below the number ``before``, 0 for the newest, with some of their ``fields``."""

    def __init__(
        self,
        store: Store,
        wanted: JobFilter,
        fields: tuple[bytes, ...],
        *,
        before: int = 0,
        since_ms: int | None = None,
        partitions: Collection[Keys] | None = None,
    ) -> None:
        self._store = store
        self._fields = fields
        self._text = (wanted.error or "").casefold()
        self._conditions = _conditions(wanted, since_ms)
        # 0 is the end of a walk, so the newest job is below a number that none reaches.
        before = before or BEYOND
        places = store.keys if partitions is None else partitions
        self._walks = [Walk(keys, before if self._conditions[0] else 0) for keys in places]

    @property
    def is_over(self) -> bool:
        """Whether all jobs were looked at, and taken."""
        return not any(walk.end or walk.found for walk in self._walks)

    def cursor(self, last: int) -> int | None:
        """Return from where the next page goes on. ``last`` is the last job taken, 0 if all that were found are."""
        if last:
            return None if self.is_over else last
        return max(walk.end for walk in self._walks) or None

    async def step(self, most: int) -> None:
        """Look at some jobs, up to as many as fit."""
        # Those that are behind hold up the others.
        top = max(walk.end for walk in self._walks)
        behind = [walk for walk in self._walks if walk.end and walk.end > top - LOOKS * len(self._walks)]
        await asyncio.gather(*(self._walk(walk, most) for walk in behind))

    async def _walk(self, walk: Walk, most: int) -> None:
        words: list[Word] = [len(self._store.keys), 0 if walk.end == BEYOND else walk.end, most, LOOKS]
        words += [*self._conditions, "1" if self._text else "", *self._fields]
        end, *found = await self._store.run(walk.keys, FIND, *words)
        walk.end = int(end)
        walk.found += [Match(int(one[0]), one[1]) for one in found if self._mentions(one)]

    def _mentions(self, one: list[Any]) -> bool:
        if not self._text:
            return True
        error = one[2] if len(one) > 2 else None
        return error is not None and mentions(decode_result(error).body, self._text)

    def take(self, most: int) -> list[Match]:
        """Return up to so many jobs that were found, newest first, and forget them."""
        down_to = max(walk.end for walk in self._walks)
        found = [match for walk in self._walks for match in walk.found if match.sequence >= down_to]
        found.sort(key=lambda match: match.sequence, reverse=True)
        del found[most:]
        last = found[-1].sequence if found else BEYOND
        for walk in self._walks:
            walk.found = [match for match in walk.found if match.sequence < last]
        return found


# No number reaches this, see core/ids.py.
BEYOND = 1 << 48


def _conditions(wanted: JobFilter, since_ms: int | None) -> list[Word]:
    """Return the arguments of ``find`` that say which jobs fit. Without a state none does."""
    states = (wanted.states or VISIBLE) & VISIBLE
    if wanted.reason is not None or wanted.error is not None:
        states &= {State.FAILED}
    if wanted.ended_after is not None or wanted.ended_before is not None:
        states &= TERMINAL
    times = (wanted.submitted_after, wanted.submitted_before, wanted.ended_after, wanted.ended_before)
    return [
        "".join(str(int(state)) for state in sorted(states)),
        wanted.task or "",
        wanted.tag or "",
        "" if wanted.reason is None else int(wanted.reason),
        *("" if moment is None else moment * 1000 for moment in times),
        "" if since_ms is None else since_ms,
    ]
