"""How many jobs of a batch did not succeed, for as long as any job of the batch can be read.

A job's own status may expire before those of the rest. Without these counts a batch with a failed
job would then be answered as succeeded, or as gone. A batch has no entry if all its jobs succeed.
"""

from __future__ import annotations

from collections.abc import Iterable

from headway.core.board.board import Board
from headway.core.ids import COUNT_BITS, COUNT_MASK
from headway.core.job import State

# Whenever a further batch gets an entry, so many entries are looked at, to drop those of gone
# batches.
SWEEP = 2


def batch_number(first: int, count: int) -> int:
    """Return the number that stands for the batch of ``count`` jobs from ``first`` on."""
    return first << COUNT_BITS | count


class Outcomes:
    """[failed, cancelled] jobs by the number of their batch."""

    def __init__(self, board: Board) -> None:
        self._board = board
        # Those of batches with jobs before this number are not known, if the board was salvaged.
        self.known_from = 0
        self._of: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def add(self, batch: int, state: State, now: float) -> None:
        """Count a job that ended, unless it succeeded."""
        if state is State.SUCCEEDED:
            return
        counts = self._of.get(batch)
        if counts is None:
            self._sweep(now)
            counts = self._of[batch] = [0, 0]
        counts[state is State.CANCELLED] += 1

    def put(self, batch: int, failed: int, cancelled: int) -> None:
        """Take over the counts of the previous process."""
        self._of[batch] = [failed, cancelled]

    def get(self, batch: int) -> tuple[int, int]:
        """Return how many jobs failed, and how many were cancelled."""
        failed, cancelled = self._of.get(batch, (0, 0))
        return failed, cancelled

    def items(self) -> Iterable[tuple[int, list[int]]]:
        """Return (number, [failed, cancelled]) of each batch that has an entry."""
        return self._of.items()

    def _sweep(self, now: float) -> None:
        """Look at the entries not looked at for longest, and drop those of gone batches."""
        for _ in range(min(SWEEP, len(self._of))):
            batch = next(iter(self._of))
            counts = self._of.pop(batch)
            first, count = batch >> COUNT_BITS, batch & COUNT_MASK
            if any(self._is_readable(sequence, now) for sequence in range(first + count - 1, first - 1, -1)):
                self._of[batch] = counts

    def _is_readable(self, sequence: int, now: float) -> bool:
        row = self._board.row(sequence)
        return row >= 0 and self._board.readable(row, now)
