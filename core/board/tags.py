"""The tags of jobs, both ways: those of a job, and the jobs that bear one.

Only jobs with tags cost anything. They lie in segments, each for SEGMENT successive numbers, so no
change and no growth of a dict moves more than one segment: a million distinct tags never hold the
loop. A search for a rare tag asks each segment once, 0.1 µs each.

A segment keeps the tags of jobs that have left the board until a quarter of its jobs have. Then it
is made anew. ``trim`` looks at the segments in turn, and at four for each that was added. So the
index follows the jobs that are kept, and there are at most a third more of the others.

A job with one tag that no other has takes about 300 bytes. One whose tag is that of many takes
about 200.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence

from headway.core.board.board import Board

SEGMENT_BITS = 10
SEGMENT = 1 << SEGMENT_BITS
# Segments that a round of ``trim`` looks at, and more for each that was added since the last round.
LOOKS, LOOKS_PER_ADDED = 8, 4


class Segment:
    """The tags of jobs with neighbouring numbers."""

    __slots__ = ("by_number", "by_tag")

    def __init__(self) -> None:
        self.by_number: dict[int, tuple[str, ...]] = {}
        # Ascending.
        self.by_tag: dict[str, array[int]] = {}

    def put(self, sequence: int, tags: tuple[str, ...]) -> None:
        """Add a job that is not here."""
        self.by_number[sequence] = tags
        for tag in tags:
            numbers = self.by_tag.get(tag)
            if numbers is None:
                self.by_tag[tag] = array("Q", (sequence,))
            elif sequence > numbers[-1]:
                numbers.append(sequence)
            else:
                insort(numbers, sequence)


class Tags:
    """The tags of the jobs on ``board``."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._segments: dict[int, Segment] = {}
        # The names of the segments, ascending.
        self._names: list[int] = []
        # The segment that ``trim`` looked at last, and those added since then.
        self._looked_at = -1
        self._added = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, sequence: int, tags: tuple[str, ...]) -> None:
        """Keep the tags of a job. If it has some already, they stay."""
        name = sequence >> SEGMENT_BITS
        segment = self._segments.get(name)
        if segment is None:
            segment = self._segments[name] = Segment()
            self._added += 1
            if not self._names or name > self._names[-1]:
                self._names.append(name)
            else:
                insort(self._names, name)
        if sequence not in segment.by_number:
            segment.put(sequence, tags)
            self._count += 1

    def of(self, sequence: int) -> tuple[str, ...]:
        """Return the tags of a job."""
        segment = self._segments.get(sequence >> SEGMENT_BITS)
        return () if segment is None else segment.by_number.get(sequence, ())

    def last(self, tag: str, end: int) -> int:
        """Return the highest number below ``end`` of a job with ``tag``, 0 if there is none."""
        for numbers in self._below(tag, 0, end):
            at = bisect_left(numbers, end)
            if at:
                return numbers[at - 1]
        return 0

    def between(self, tag: str, begin: int, end: int) -> list[int]:
        """Return the numbers of jobs with ``tag`` from ``begin`` on and below ``end``, descending."""
        found: list[int] = []
        for numbers in self._below(tag, begin, end):
            found += numbers[bisect_left(numbers, begin) : bisect_left(numbers, end)][::-1]
        return found

    def _below(self, tag: str, begin: int, end: int) -> Iterator[Sequence[int]]:
        """Yield the numbers with ``tag`` of each segment that has numbers in a range, the last first."""
        names, segments = self._names, self._segments
        first, after = bisect_left(names, begin >> SEGMENT_BITS), bisect_left(names, -(-end >> SEGMENT_BITS))
        for at in range(after - 1, first - 1, -1):
            numbers = segments[names[at]].by_tag.get(tag)
            if numbers is not None:
                yield numbers

    def items(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield (sequence, tags) of each job, the oldest segment first."""
        for name in self._names:
            yield from self._segments[name].by_number.items()

    def trim(self, now: float) -> Iterator[None]:
        """Forget the tags of jobs that can no longer be read, a segment a step."""
        looks, self._added = LOOKS + LOOKS_PER_ADDED * self._added, 0
        for _ in range(min(looks, len(self._names))):
            at = bisect_left(self._names, self._looked_at + 1)
            name = self._looked_at = self._names[at if at < len(self._names) else 0]
            self._trim(name, now)
            yield
            if not self._names:
                return

    def _trim(self, name: int, now: float) -> None:
        board, before = self._board, self._segments[name].by_number
        left = {
            sequence: tags
            for sequence, tags in before.items()
            if (row := board.row(sequence)) >= 0 and board.readable(row, now)
        }
        gone = len(before) - len(left)
        if left and gone < len(before) // 4 + 1:
            return
        self._count -= gone
        if left:
            self._segments[name] = _segment_of(left)
        else:
            del self._segments[name]
            del self._names[bisect_left(self._names, name)]


def _segment_of(tags: Mapping[int, tuple[str, ...]]) -> Segment:
    segment = Segment()
    for sequence, some in tags.items():
        segment.put(sequence, some)
    return segment
