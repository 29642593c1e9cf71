"""A search of the board: the jobs that fit all conditions, newest first, a bounded step at a time.

A step takes a stretch of neighbouring rows. It compares whole columns of it as bytes, 3 to 40 ns a
row, and looks at the jobs that may fit one by one, half a microsecond each. The columns only say
where to look: a job is found if its row fits now, wherever it lies. So jobs may end, move to the
annex or leave the board between two steps.

The stretch is doubled while few of its jobs may fit, and halved while many may. A step takes up to
0.3 ms, and a million rows without a match 10 to 50 ms.

``submitted`` ascends with the numbers, so the first and the last row of a stretch tell whether any
job of it came in the wanted time. A tag has its own index.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cache
from heapq import merge
from math import inf

import msgspec
from headway.core.board.board import Board
from headway.core.board.rows import GENERATION_SHIFT, STATE_MASK
from headway.core.board.tags import Tags
from headway.core.job import TERMINAL, Reason, State

# Rows of a stretch, and of one whose times of end are compared, each for 40 ns.
STRETCH_LEAST, STRETCH_MOST, TIMED_MOST = 256, 1 << 15, 1 << 12
# Jobs that a step looks at one by one.
LOOKS = 256
# Rows at the lower end of a stretch that may have no job of it, when its first job is wanted.
PROBES = 8
# Below this index a task is told by the low byte of its column alone.
BYTE = 256
# The place of the low byte in a number of two.
_LOW = 0 if sys.byteorder == "little" else 1

VISIBLE = frozenset(State) - {State.EMPTY, State.EXPIRED}
SUCCEEDED = int(State.SUCCEEDED)


class Conditions(msgspec.Struct, frozen=True):
    """The conditions, as rows keep them. Times are of time.monotonic: from one on, and before the other."""

    states: frozenset[State] = VISIBLE
    # By its index.
    task: int | None = None
    tag: str | None = None
    reason: Reason | None = None
    submitted: tuple[float, float] = (-inf, inf)
    # Of finished jobs. None: any, and unfinished jobs too.
    ended: tuple[float, float] | None = None


class Search:
    """A search of jobs below number ``before``."""

    def __init__(self, board: Board, tags: Tags, wanted: Conditions, before: int) -> None:
        self._board = board
        self._tags = tags
        # All jobs from this number on were looked at. 0: all jobs.
        self.end = min(before, board.next_sequence)
        self._size = STRETCH_LEAST
        states = wanted.states & VISIBLE
        since, until = wanted.submitted
        if wanted.ended is not None:
            states &= TERMINAL
            # No job ends before it came.
            until = min(until, wanted.ended[1])
        self._wanted = wanted
        self._since, self._until = since, until
        self._states = bytes(state in states for state in range(256))
        if not states:
            self.end = 0

    def step(self, now: float) -> list[int]:
        """Look at the next jobs, until ``end`` is 0. Return the numbers of those that fit, descending."""
        board, tag = self._board, self._wanted.tag
        if tag is not None:
            last, is_found = self._tags.last(tag, self.end)
            self.end = last + is_found
            if not is_found:
                return []
        most = self._size if self._wanted.ended is None else min(self._size, TIMED_MOST)
        begin, stop = board.below(self.end, most)
        if begin == self.end:
            self.end = 0
            return []
        if begin < stop and not self._may_be_in_time(begin, stop):
            return []
        return self._look(begin, stop, now)

    def still_fits(self, sequence: int, now: float) -> bool:
        """Whether a job that a step has found fits now: it may have changed since."""
        row = self._board.row(sequence)
        return row >= 0 and self._fits(sequence, row, now)

    def _may_be_in_time(self, begin: int, stop: int) -> bool:
        """Whether to look at the jobs of a stretch. If not, pass over it, or over those of half of it."""
        if self._until < inf and self._came(begin, min(begin + PROBES, stop)) >= self._until:
            self.end = begin
            self._size = min(2 * self._size, STRETCH_MOST)
            return False
        newest = self._came(stop - 1, stop)
        if -inf < newest < self._since:
            self.end = 0
            return False
        if newest >= self._until and stop - begin > STRETCH_LEAST:
            self._size = max((stop - begin) // 2, STRETCH_LEAST)
            return False
        return True

    def _came(self, begin: int, stop: int) -> float:
        """Return when the first job at its home among these numbers was submitted, -inf if there is none."""
        board = self._board
        for sequence in range(begin, stop):
            lap, row = divmod(sequence, board.rows)
            word = board.live[row]
            if word & STATE_MASK and word >> GENERATION_SHIFT == lap:
                return board.submitted[row]
        return -inf

    def _look(self, begin: int, stop: int, now: float) -> list[int]:
        """Look at the jobs from ``begin`` on that may fit. ``stop`` is the end of the homes."""
        found: list[int] = []
        looks = LOOKS
        for sequence in self._candidates(begin, stop):
            # The home may have another job by now, and its number comes twice.
            if sequence >= self.end:
                continue
            row = self._board.row(sequence)
            if row >= 0:
                if self._board.submitted[row] < self._since:
                    # All others came before it.
                    self.end = 0
                    return found
                if self._fits(sequence, row, now):
                    found.append(sequence)
            self.end = sequence
            looks -= 1
            if not looks:
                self._size = max(self._size // 2, STRETCH_LEAST)
                return found
        self.end = begin
        self._size = min(2 * self._size, STRETCH_MOST)
        return found

    def _fits(self, sequence: int, row: int, now: float) -> bool:
        board, wanted = self._board, self._wanted
        state = board.live[row] & STATE_MASK
        if (
            not self._states[state]
            or (state >= SUCCEEDED and not board.kept(row, now))
            or (wanted.task is not None and board.task[row] != wanted.task)
            or (wanted.reason is not None and board.reason[row] != wanted.reason)
            or board.submitted[row] >= self._until
        ):
            return False
        if wanted.ended is not None and not wanted.ended[0] <= board.ended[row] < wanted.ended[1]:
            return False
        return wanted.tag is None or wanted.tag in self._tags.of(sequence)

    def _candidates(self, begin: int, stop: int) -> Iterable[int]:
        """Return numbers from ``end`` down to ``begin``: all that may fit are among them."""
        masks = [] if begin == stop else list(self._masks(begin, stop))
        if self._wanted.tag is not None and masks:
            tagged = self._tags.between(self._wanted.tag, begin, self.end)
            if len(tagged) <= sum(mask.count(1) for _, mask in masks):
                return tagged
        moved = self._board.moved_between(begin, self.end)
        return merge(_numbers(masks), moved, reverse=True) if masks else moved

    def _masks(self, begin: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield (first number, a byte for each home: 1 if its job may fit), in descending order.

        There are two where the ring begins anew.
        """
        while stop > begin:
            last = stop - 1
            first = max(last - last % self._board.rows, begin)
            row = first % self._board.rows
            yield first, self._mask(row, row + stop - first)
            stop = first

    def _mask(self, row: int, end: int) -> bytes:
        """Return a byte for each row: 1 if its job may fit."""
        board, wanted = self._board, self._wanted
        mask = board.states_in(row, end).translate(self._states)
        if wanted.reason is not None:
            mask = _both(mask, bytes(board.reason[row:end]).translate(_only(wanted.reason)))
        if wanted.task is not None:
            tasks = bytes(board.task[row:end])
            mask = _both(mask, tasks[_LOW::2].translate(_only(wanted.task % BYTE)))
            if wanted.task >= BYTE:
                mask = _both(mask, tasks[1 - _LOW :: 2].translate(_only(wanted.task // BYTE)))
        if wanted.ended is not None and mask.count(1) > LOOKS // 4:
            since, until = wanted.ended
            mask = _both(mask, bytes([since <= ended < until for ended in board.ended[row:end].tolist()]))
        return mask


def _numbers(masks: Iterable[tuple[int, bytes]]) -> Iterator[int]:
    for first, mask in masks:
        at = len(mask)
        while (at := mask.rfind(1, 0, at)) >= 0:
            yield first + at


def _both(one: bytes, other: bytes) -> bytes:
    """Return 1 where both are. As whole numbers, since Python has no such operation of bytes: 1 ns a byte."""
    both = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")


@cache
def _only(value: int) -> bytes:
    """Return a table for bytes.translate: 1 for ``value`` alone."""
    return bytes(other == value for other in range(256))
