"""The failed attempts at jobs, within a byte budget, the oldest given up first.

A job that succeeds at its first attempt has no entry. Of a job that fails again and again the first
FIRST and the last LAST attempts are kept. An entry goes with the last attempt that was added to it,
so a job that goes on failing outlasts those that failed before. Entries of jobs that can no longer
be read are dropped every SWEEP_S, so the budget goes to the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from headway.core.board.board import Board
from headway.core.board.oldest import Oldest
from headway.core.past_attempt import PastAttempt

# Attempts at a job that are kept: the first, and the last.
FIRST, LAST = 5, 20
# The cost of an entry, and of an attempt on top of its texts.
ENTRY_BYTES, ATTEMPT_BYTES = 200, 350
# Seconds between two looks for entries of jobs that can no longer be read.
SWEEP_S = 60.0


def left_out(number: int) -> int:
    """Return the number of the attempt that is no longer kept once attempt ``number`` is. 0: none."""
    return number - LAST if number > FIRST + LAST else 0


def size_of(attempt: PastAttempt) -> int:
    """Return the bytes of an attempt that count towards the budget."""
    # A character may take four bytes.
    texts = (attempt.error_type, attempt.error, attempt.traceback)
    return ATTEMPT_BYTES + sum(len(text) if text.isascii() else 4 * len(text) for text in texts)


class PastAttempts:
    """The failed attempts by the sequence number of their job, each in the order of the attempts."""

    def __init__(self, board: Board, max_bytes: int) -> None:
        self._board = board
        self.max_bytes = max_bytes
        self.used_bytes = 0
        # Entries given up to stay within the budget.
        self.evicted = 0
        self._kept: dict[int, list[PastAttempt]] = {}
        self._oldest = Oldest(self._kept)
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, sequence: int, attempt: PastAttempt) -> None:
        """Keep an attempt that has just failed. If not all fit, give up the oldest entries."""
        kept = self._kept.pop(sequence, None)
        if kept is None:
            kept = []
            self.used_bytes += ENTRY_BYTES
        if attempt.number > 1:
            # The job may have had an entry before.
            self._oldest.look_again()
        self._kept[sequence] = kept
        kept.append(attempt)
        self.used_bytes += size_of(attempt)
        if len(kept) > FIRST + LAST:
            self.used_bytes -= size_of(kept.pop(FIRST))
        while self.used_bytes > self.max_bytes:
            oldest = self._oldest.first()
            assert oldest is not None
            self.forget(oldest)
            self.evicted += 1

    def get(self, sequence: int) -> Sequence[PastAttempt]:
        """Return the failed attempts at a job that are kept."""
        return self._kept.get(sequence, ())

    def whole(self, sequence: int, failed: int) -> Sequence[PastAttempt] | None:
        """Return what is kept of ``failed`` attempts, None if there may be more on a disk."""
        kept = self._kept.get(sequence)
        whole = kept is not None and kept[0].number == 1 and kept[-1].number == failed
        return kept if whole else None

    def put(self, kept: Mapping[int, Sequence[PastAttempt]]) -> None:
        """Take over the entries of the previous process, the oldest first."""
        for sequence, attempts in kept.items():
            for attempt in attempts:
                self.add(sequence, attempt)

    def all(self) -> Mapping[int, Sequence[PastAttempt]]:
        """Return the attempts of each job that has any, the oldest entry first."""
        return self._kept

    def forget(self, sequence: int) -> None:
        """Drop the attempts at one job, if there are any."""
        kept = self._kept.pop(sequence, None)
        if kept is not None:
            self.used_bytes -= ENTRY_BYTES + sum(map(size_of, kept))

    def trim(self, now: float) -> Iterator[None]:
        """Drop the entries of jobs that can no longer be read, one a step, now and then."""
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        for sequence in list(self._kept):
            row = self._board.row(sequence)
            if row < 0 or not self._board.readable(row, now):
                self.forget(sequence)
            yield
