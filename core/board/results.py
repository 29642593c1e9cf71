"""Results and errors within a byte budget, the oldest given up first.

*Shares.* Results and errors have half of the budget each, for sure. One may take more while the other
takes less. So a flood of results gives up no error that is within its half. An entry that is given
up is answered 410, or read from the journal, for as long as its job can be read.

*Order.* Jobs end in the order in which their entries come. So of jobs that are kept equally long the
first entry of a dict is the one to go first, and trimming is a walk from the front. Jobs with a
``keep`` of their own have a dict for each *term*: all lengths within a quarter of an octave. There
an entry may outlive its job by a fifth of that time.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

import msgspec
from headway.core.board.board import Board
from headway.core.board.oldest import Oldest
from headway.core.job import Job
from headway.core.tasks.result import Result

# The cost of an entry on top of its body, so that a flood of tiny results keeps the budget too.
ENTRY_BYTES = 300
# Terms in which the length doubles.
TERMS_PER_OCTAVE = 4


class Kept(msgspec.Struct, gc=False):
    """Kept of a finished job: its result, or of a failed one its error and the job to resubmit."""

    result: Result
    job: Job | None

    @property
    def size_bytes(self) -> int:
        """Bytes that count towards the budget."""
        return ENTRY_BYTES + len(self.result.body) + (len(self.job.payload) if self.job else 0)


class Share:
    """The results, or the errors: entries by sequence number, for each term."""

    def __init__(self) -> None:
        self.used_bytes = 0
        # None: the term of jobs without a ``keep`` of their own.
        self.terms: dict[int | None, dict[int, Kept]] = {}
        self.oldest: dict[int | None, Oldest[int]] = {}

    def put(self, sequence: int, kept: Kept, keep_s: float | None) -> None:
        """Add the entry of a job that has just ended."""
        term = None if keep_s is None else round(TERMS_PER_OCTAVE * log2(keep_s))
        entries = self.terms.get(term)
        if entries is None:
            entries = self.terms[term] = {}
            self.oldest[term] = Oldest(entries)
        entries[sequence] = kept
        self.used_bytes += kept.size_bytes

    def pop(self, sequence: int) -> bool:
        """Take out an entry. Return False if it is not here."""
        for entries in self.terms.values():
            kept = entries.pop(sequence, None)
            if kept is not None:
                self.used_bytes -= kept.size_bytes
                return True
        return False

    def pop_first(self) -> None:
        """Take out the oldest entry. Of several terms: that of the job that came first."""
        firsts = [first for oldest in self.oldest.values() if (first := oldest.first()) is not None]
        self.pop(min(firsts))

    def items(self) -> Iterator[tuple[int, Kept, float | None]]:
        """Yield (sequence, entry, seconds) of each job, the oldest of each term first.

        The seconds are the job's own wish as far as its term tells it.
        """
        for term, entries in self.terms.items():
            keep_s = None if term is None else 2.0 ** (term / TERMS_PER_OCTAVE)
            for sequence, kept in entries.items():
                yield sequence, kept, keep_s

    def drop_empty(self) -> None:
        """Forget the terms without an entry."""
        for term in [term for term, entries in self.terms.items() if not entries]:
            del self.terms[term], self.oldest[term]


class Results:
    """The results and errors of jobs that can still be read, by sequence number."""

    def __init__(self, board: Board, max_bytes: int) -> None:
        self._board = board
        self.max_bytes = max_bytes
        # Entries given up to stay within the budget, before their job expired.
        self.evicted = 0
        self.results, self.errors = Share(), Share()
        self._shares = self.results, self.errors

    def __len__(self) -> int:
        return sum(len(entries) for share in self._shares for entries in share.terms.values())

    @property
    def used_bytes(self) -> int:
        """Bytes of all entries."""
        return self.results.used_bytes + self.errors.used_bytes

    def put(self, sequence: int, result: Result, keep_s: float | None = None) -> None:
        """Keep the result of a job that has just ended. ``keep_s`` is the job's own wish.

        If not all fit, the oldest of the larger share are given up.
        """
        self.results.put(sequence, Kept(result, None), keep_s)
        if self.results.used_bytes + self.errors.used_bytes > self.max_bytes:
            self._give_up()

    def put_error(self, sequence: int, error: Result, job: Job | None, keep_s: float | None = None) -> None:
        """Keep the error of a job that has just failed, and the job, to resubmit. Otherwise as ``put``."""
        self.errors.put(sequence, Kept(error, job), keep_s)
        if self.used_bytes > self.max_bytes:
            self._give_up()

    def _give_up(self) -> None:
        results, errors = self._shares
        while self.used_bytes > self.max_bytes:
            (results if results.used_bytes > errors.used_bytes else errors).pop_first()
            self.evicted += 1

    def get(self, sequence: int) -> Kept | None:
        """Return the entry of a job, None if it was given up."""
        for share in self._shares:
            for entries in share.terms.values():
                kept = entries.get(sequence)
                if kept is not None:
                    return kept
        return None

    def forget(self, sequence: int) -> bool:
        """Drop the entry of one job. Return False if it has none."""
        return self.results.pop(sequence) or self.errors.pop(sequence)

    def trim(self, now: float) -> Iterator[None]:
        """Drop the entries of jobs that can no longer be read, one a step."""
        board = self._board
        for share in self._shares:
            for oldest in list(share.oldest.values()):
                while (sequence := oldest.first()) is not None:
                    row = board.row(sequence)
                    if row >= 0 and board.kept(row, now):
                        break
                    share.pop(sequence)
                    yield
            share.drop_empty()
