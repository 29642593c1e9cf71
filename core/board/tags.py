"""The tags of jobs, both ways: those of a job, and the jobs that bear one.

Only jobs with tags cost anything. They lie in segments, each for SEGMENT successive numbers, so no
change and no growth of a dict moves more than one segment: a million distinct tags never hold the
loop. A search for a rare tag asks each segment once.

A segment keeps the tags of jobs that have left the board until a quarter of its jobs have. Then it
is made anew. ``trim`` looks at the segments in turn, and at four for each that was added. So the
index follows the jobs that are kept, and there are at most a third more of the others.

A job with a tag takes about 200 bytes, and 150 for each tag more, if the tags are short.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence

from headway.core.board.board import Board

SEGMENT_BITS = 10
SEGMENT = 1 << SEGMENT_BITS
# No tag has a control character.
BETWEEN = "\0"
# Segments that a search passes over at once, each for up to 1 µs.
PASSED_MOST = 500
# Segments that a round of ``trim`` looks at, and more for each that was added since the last round.
LOOKS, LOOKS_PER_ADDED = 8, 4


class Segment:
    """The tags of jobs with neighbouring numbers."""

    __slots__ = ("by_number", "by_tag")

    def __init__(self) -> None:
        # The garbage collector has no business with texts and bytes: with a tuple for each of a
        # million jobs, or an array, a full run of it took 80 ms. The tags of a job as one text:
        self.by_number: dict[int, str] = {}
        # The last SEGMENT_BITS of each number, as two bytes, ascending.
        self.by_tag: dict[str, bytes] = {}

    def put(self, sequence: int, tags: tuple[str, ...]) -> None:
        """Add a job that is not here."""
        self.by_number[sequence] = BETWEEN.join(tags)
        for tag in tags:
            places = array("H", self.by_tag.get(tag, b""))
            insort(places, sequence % SEGMENT)
            self.by_tag[tag] = places.tobytes()

    def places(self, tag: str) -> Sequence[int]:
        """Return the last bits of the numbers of jobs with ``tag``, ascending."""
        return memoryview(self.by_tag.get(tag, b"")).cast("H")


class Tags:
    """The tags of the jobs on ``board``."""

    def __init__(self, board: Board) -> None:
        self._board = board
        # Empty while no job has tags. Never another dict.
        self.segments: dict[int, Segment] = {}
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
        segment = self.segments.get(name)
        if segment is None:
            segment = self.segments[name] = Segment()
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
        segment = self.segments.get(sequence >> SEGMENT_BITS)
        text = None if segment is None else segment.by_number.get(sequence)
        return () if text is None else tuple(text.split(BETWEEN))

    def last(self, tag: str, end: int) -> tuple[int, bool]:
        """Return the highest number below ``end`` of a job with ``tag``, and True.

        If PASSED_MOST segments have none, return the number from which on they have none, or 0 if
        there are no others, and False.
        """
        names, segments = self._names, self.segments
        after = bisect_left(names, -(-end >> SEGMENT_BITS))
        least = max(after - PASSED_MOST, 0)
        for at in range(after - 1, least - 1, -1):
            segment = segments[names[at]]
            if tag in segment.by_tag:
                places, first = segment.places(tag), names[at] << SEGMENT_BITS
                below = bisect_left(places, end - first)
                if below:
                    return first + places[below - 1], True
        return (names[least] << SEGMENT_BITS if least else 0), False

    def between(self, tag: str, begin: int, end: int) -> list[int]:
        """Return the numbers of jobs with ``tag`` from ``begin`` on and below ``end``, descending."""
        found: list[int] = []
        names = self._names
        since, after = bisect_left(names, begin >> SEGMENT_BITS), bisect_left(names, -(-end >> SEGMENT_BITS))
        for name in names[since:after][::-1]:
            places, first = self.segments[name].places(tag), name << SEGMENT_BITS
            some = places[bisect_left(places, begin - first) : bisect_left(places, end - first)]
            found += [first + place for place in reversed(some)]
        return found

    def items(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield (sequence, tags) of each job, the oldest segment first."""
        for name in self._names:
            for sequence, text in self.segments[name].by_number.items():
                yield sequence, tuple(text.split(BETWEEN))

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
        board, before = self._board, self.segments[name].by_number
        left = {
            sequence: text
            for sequence, text in before.items()
            if (row := board.row(sequence)) >= 0 and board.readable(row, now)
        }
        gone = len(before) - len(left)
        if left and gone < len(before) // 4 + 1:
            return
        self._count -= gone
        if left:
            self.segments[name] = _segment_of(left)
        else:
            del self.segments[name]
            del self._names[bisect_left(self._names, name)]


def _segment_of(texts: Mapping[int, str]) -> Segment:
    segment = Segment()
    for sequence, text in texts.items():
        segment.put(sequence, tuple(text.split(BETWEEN)))
    return segment
