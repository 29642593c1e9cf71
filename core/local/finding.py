"""Finding jobs: a page of those that fit a filter, or all of them for an order about many.

The conditions that rows answer are a search of the board. A text in the error is compared with the
errors in memory. With a journal the errors given up from memory are read from the disk, in the
reader's thread.

A search is done in slices, and the loop turns between two. All searches take turns, so however many
there are, a turn of the loop has one slice. A page takes a first short slice at once, and others for
PAGE_S in all. Then it has the jobs found so far, and the cursor to go on from.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from math import inf
from typing import TYPE_CHECKING

from headway.core.board.search import VISIBLE, Conditions, Search
from headway.core.errors import UnknownTaskError
from headway.core.faults import not_one_of, printable
from headway.core.interface import Page, Soon
from headway.core.job import State
from headway.core.job_filter import JobFilter, mentions
from headway.core.later import Read
from headway.core.local.active import Active
from headway.core.local.reading import Reading
from headway.core.slices import SLICE_S
from headway.core.status import Status

if TYPE_CHECKING:
    # 12 ms with the journal, which a server in memory mode does not import.
    from headway.core.journal.reader import Reader

# Seconds of the slice that a call takes at once, and of all slices of a page.
AT_ONCE_S = 0.0003
PAGE_S = 0.04
# The most jobs of a page. To describe more would hold the loop.
PAGE_MOST = 250
# Errors that are read from the disk at once.
READ_AT_ONCE = 100


class Finding:
    """Finds jobs of an engine. ``reader`` reads its journal, None if it has none."""

    def __init__(self, reading: Reading, active: Active, reader: Reader | None) -> None:
        self.reading = reading
        self.active = active
        self.reader = reader
        self._turn = asyncio.Lock()

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return a page of jobs, as Engine says."""
        begin = time.monotonic()
        hunt = self._hunt(wanted, after, min(limit, PAGE_MOST), describe=True)
        hunt.look(begin + AT_ONCE_S)
        if hunt.is_over and not hunt.unread:
            return hunt.page()
        return Read(asyncio.ensure_future(self._page(hunt, begin + PAGE_S)))

    async def _page(self, hunt: Hunt, until: float) -> Page:
        while True:
            await self._read(hunt)
            if hunt.is_over or time.monotonic() >= until:
                return hunt.page()
            await self._slice(hunt)

    def check(self, wanted: JobFilter) -> None:
        """Raise UnknownTaskError if no job can have the task of a filter."""
        self._columns(wanted)

    async def each(self, wanted: JobFilter, before: int = 0) -> AsyncIterator[list[int]]:
        """Yield the numbers of all jobs that fit, newest first, some at a time.

        They are below number ``before``, if that is given. No job that comes later is among them. A
        job is one of them if it fits when the search comes to it. Raises UnknownTaskError.
        """
        hunt = self._hunt(wanted, before, sys.maxsize, describe=False)
        while hunt.end:
            await self._slice(hunt)
            await self._read(hunt)
            if hunt.matches:
                yield hunt.take()

    async def count(self, wanted: JobFilter) -> dict[str, int]:
        """Return the number of jobs that fit, by the name of their task. Raises UnknownTaskError."""
        counts: dict[str, int] = {}
        async for sequences in self.each(wanted):
            for sequence in sequences:
                row = self.active.board.row(sequence)
                if row >= 0:
                    name = self.reading.names[self.active.board.task[row]]
                    counts[name] = counts.get(name, 0) + 1
        return counts

    async def _slice(self, hunt: Hunt) -> None:
        async with self._turn:
            await asyncio.sleep(0)
            hunt.look(time.monotonic() + SLICE_S)

    async def _read(self, hunt: Hunt) -> None:
        """Read the errors that are on the disk alone."""
        if hunt.unread:
            assert self.reader is not None
            hunt.have_read(await self.reader.mentioning(hunt.unread, hunt.text))

    def _hunt(self, wanted: JobFilter, after: int, limit: int, *, describe: bool) -> Hunt:
        board = self.active.board
        search = Search(board, self.active.tags, self._columns(wanted), after or board.next_sequence)
        return Hunt(self, search, (wanted.error or "").casefold(), limit, describe)

    def _columns(self, wanted: JobFilter) -> Conditions:
        """Return the conditions that rows answer. Raises UnknownTaskError."""
        wall, names = self.reading.wall, self.reading.names
        if wanted.task is not None and wanted.task not in names:
            raise UnknownTaskError([("task", not_one_of(printable(repr(wanted.task)), names))])
        states = wanted.states or VISIBLE
        if wanted.reason is not None or wanted.error is not None:
            states &= {State.FAILED}

        def span(since: float | None, until: float | None) -> tuple[float, float]:
            return (-inf if since is None else since - wall, inf if until is None else until - wall)

        any_end = wanted.ended_after is None and wanted.ended_before is None
        return Conditions(
            states=states,
            task=None if wanted.task is None else names.index(wanted.task),
            tag=wanted.tag,
            reason=wanted.reason,
            submitted=span(wanted.submitted_after, wanted.submitted_before),
            ended=None if any_end else span(wanted.ended_after, wanted.ended_before),
        )


class Hunt:
    """A search for up to ``limit`` jobs, whose errors have ``text`` within them if it is not empty.

    It is casefolded. ``describe``: make the statuses, too.
    """

    def __init__(self, finding: Finding, search: Search, text: str, limit: int, describe: bool) -> None:
        self._finding = finding
        self._search = search
        self.text = text
        self._limit = limit
        self._describe = describe
        # The cursor: all jobs from this number on were looked at. 0: all jobs.
        self.end = search.end
        # Jobs whose rows fit and whose errors were not looked at.
        self._candidates: deque[int] = deque()
        # The numbers found, with those whose errors are still to be read. ``unread`` has these.
        self.matches: list[int] = []
        self.unread: list[int] = []
        self._statuses: dict[int, Status] = {}

    @property
    def is_over(self) -> bool:
        """Whether there are no more jobs, or enough were found."""
        return not self.end or len(self.matches) >= self._limit

    def look(self, until: float) -> None:
        """Look for jobs until the time ``until``, or until some errors have to be read."""
        # A job that the slice before has left may have changed since, and fit no more.
        left = len(self._candidates)
        while not self.is_over and len(self.unread) < READ_AT_ONCE:
            now = time.monotonic()
            if self._candidates:
                sequence = self._candidates.popleft()
                self.end = sequence if self._candidates else self._search.end
                if left <= 0 or self._search.still_fits(sequence, now):
                    self._consider(sequence, now)
                left -= 1
            else:
                self._candidates.extend(self._search.step(now))
                if not self._candidates:
                    self.end = self._search.end
            if now >= until:
                return

    def _consider(self, sequence: int, now: float) -> None:
        if self.text:
            kept = self._finding.active.results.get(sequence)
            if kept is None:
                if self._finding.reader is not None:
                    self.unread.append(sequence)
                    self.matches.append(sequence)
                return
            if not mentions(kept.result.body, self.text):
                return
        self.matches.append(sequence)
        self._tell(sequence, now)

    def have_read(self, found: set[int]) -> None:
        """Take in that of the unread errors those of the jobs in ``found`` have the text."""
        gone = {*self.unread} - found
        self.matches = [sequence for sequence in self.matches if sequence not in gone]
        for sequence in self.unread:
            if sequence in found:
                self._tell(sequence, time.monotonic())
        self.unread = []

    def _tell(self, sequence: int, now: float) -> None:
        if self._describe:
            board = self._finding.active.board
            row = board.row(sequence)
            if row >= 0 and board.readable(row, now):
                self._statuses[sequence] = self._finding.reading.status(row, now, promise=False)

    def take(self) -> list[int]:
        """Return the numbers found since this was called last."""
        found, self.matches = self.matches, []
        return found

    def page(self) -> Page:
        """Return the jobs found, and the cursor."""
        found = [self._statuses[sequence] for sequence in self.matches if sequence in self._statuses]
        return Page(found, self.end or None)
