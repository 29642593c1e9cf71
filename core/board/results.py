"""Results within a byte budget, the oldest given up first.

Jobs end in the order in which their results come, so the first entry of the dict is always the
oldest and trimming is a walk from the front. A result that is dropped here is answered 410 for as
long as its job can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from headway.core.board.board import Board
from headway.core.board.oldest import Oldest
from headway.core.job import Job
from headway.core.tasks.result import Result

# The cost of an entry on top of its body, so that a flood of tiny results keeps the budget too.
ENTRY_BYTES = 300


class Kept(msgspec.Struct, gc=False):
    """Kept of a finished job: its result, or of a failed one its error and the job to resubmit."""

    result: Result
    job: Job | None

    @property
    def size_bytes(self) -> int:
        """Bytes that count towards the budget."""
        return ENTRY_BYTES + len(self.result.body) + (len(self.job.payload) if self.job else 0)


class Results:
    """The results of jobs that can still be read, by sequence number."""

    def __init__(self, board: Board, max_bytes: int) -> None:
        self._board = board
        self.max_bytes = max_bytes
        self.used_bytes = 0
        # Results given up to stay within the budget, before their job expired.
        self.evicted = 0
        self._kept: dict[int, Kept] = {}
        self._oldest = Oldest(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, sequence: int, result: Result, job: Job | None = None) -> None:
        """Keep the result of a job that has just ended. If not all fit, give up the oldest."""
        kept = self._kept[sequence] = Kept(result, job)
        self.used_bytes += kept.size_bytes
        while self.used_bytes > self.max_bytes:
            oldest = self._oldest.first()
            assert oldest is not None
            self.forget(oldest)
            self.evicted += 1

    def get(self, sequence: int) -> Kept | None:
        """Return the entry of a job, None if it was given up."""
        return self._kept.get(sequence)

    def items(self) -> Iterable[tuple[int, Kept]]:
        """Return (sequence, entry) of each job, the oldest first."""
        return self._kept.items()

    def forget(self, sequence: int) -> bool:
        """Drop the entry of one job. Return False if it has none."""
        kept = self._kept.pop(sequence, None)
        if kept is None:
            return False
        self.used_bytes -= kept.size_bytes
        return True

    def trim(self, now: float) -> Iterator[None]:
        """Drop the entries of jobs that can no longer be read, one a step."""
        while (sequence := self._oldest.first()) is not None:
            row = self._board.row(sequence)
            if row >= 0 and self._board.kept(row, now):
                return
            self.forget(sequence)
            yield
