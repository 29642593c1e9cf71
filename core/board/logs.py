"""The logs of jobs in memory, within a byte budget.

Only a job that logs costs anything. If not all fit, the logs of finished jobs are given up, the
oldest first. If those of unfinished jobs alone are more than the budget, a job that logs gives up
as much of its own text as it adds. Bytes that are given up are counted: places stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from headway.core.board.board import Board
from headway.core.board.oldest import Oldest
from headway.core.job_log import JobLog
from headway.core.log_text import LogText

# The cost of a log on top of its text, so that a flood of tiny logs keeps the budget too.
ENTRY_BYTES = 600
# The cost of the length of a log whose text was given up.
LENGTH_BYTES = 120


class Logs:
    """The logs of jobs that can still be read, by sequence number, each of ``log_bytes`` at most.

    ``grown`` is called with the number of a job that has logged.
    """

    def __init__(self, board: Board, log_bytes: int, max_bytes: int, grown: Callable[[int], object]) -> None:
        self._board = board
        self._log_bytes = log_bytes
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._grown = grown
        # Those of unfinished jobs that have logged, and of finished ones in the order of their ends.
        self.open: dict[int, LogText] = {}
        self._kept: dict[int, JobLog] = {}
        self._oldest = Oldest(self._kept)
        # The lengths of logs that were given up before their job expired.
        self._lengths: dict[int, int] = {}
        self._oldest_length = Oldest(self._lengths)

    def __len__(self) -> int:
        return len(self.open) + len(self._kept) + len(self._lengths)

    def add(self, sequence: int, attempt: int, text: bytes, skipped: int = 0) -> None:
        """Add text of an attempt at a running job, after ``skipped`` bytes that were not kept."""
        log = self.open.get(sequence)
        if log is None:
            log = self.open[sequence] = LogText(self._log_bytes)
            self.used_bytes += ENTRY_BYTES
        before = len(log)
        log.skip(skipped)
        log.add(attempt, text)
        self.used_bytes += len(log) - before
        self._keep_to_budget()
        if self.used_bytes > self.max_bytes:
            before = len(log)
            log.cut(self.used_bytes - self.max_bytes)
            self.used_bytes += len(log) - before
        self._grown(sequence)

    def ending(self, sequence: int) -> None:
        """Do nothing: all text is here."""

    def ended(self, sequence: int) -> None:
        """Note that clients see a job as finished."""
        log = self.open.pop(sequence, None)
        if log is not None:
            self._kept[sequence] = log.read()

    def read(self, sequence: int) -> JobLog:
        """Return the log of a job. It is empty if the job has none. If it was given up, all of it is left out."""
        log = self.open.get(sequence)
        if log is not None:
            return log.read()
        return self._kept.get(sequence) or JobLog(total=self._lengths.get(sequence, 0))

    def total(self, sequence: int) -> int:
        """Return how many bytes a job has logged."""
        log = self.open.get(sequence)
        return self.read(sequence).total if log is None else log.total

    def items(self) -> Iterator[tuple[int, JobLog]]:
        """Yield (sequence, log) of each finished job, the oldest first."""
        for sequence, total in self._lengths.items():
            yield sequence, JobLog(total=total)
        yield from self._kept.items()

    def put(self, sequence: int, log: JobLog) -> None:
        """Keep the log of a job that ended after all others here."""
        self._kept[sequence] = log
        self.used_bytes += ENTRY_BYTES + len(log.head) + len(log.tail)
        self._keep_to_budget()

    def put_open(self, sequence: int, log: JobLog) -> None:
        """Keep the log of a job that has not finished, and go on with it."""
        self.open[sequence] = LogText.going_on(self._log_bytes, log)
        self.used_bytes += ENTRY_BYTES + len(log.head) + len(log.tail)
        self._keep_to_budget()

    def forget(self, sequence: int) -> None:
        """Drop the log of a finished job, if it has one."""
        log = self._kept.pop(sequence, None)
        if log is not None:
            self.used_bytes -= ENTRY_BYTES + len(log.head) + len(log.tail)
        elif self._lengths.pop(sequence, None) is not None:
            self.used_bytes -= LENGTH_BYTES

    def trim(self, now: float) -> Iterator[None]:
        """Drop the logs of jobs that can no longer be read, one a step."""
        for oldest in (self._oldest, self._oldest_length):
            while (sequence := oldest.first()) is not None:
                row = self._board.row(sequence)
                if row >= 0 and self._board.kept(row, now):
                    break
                if sequence in self._kept:
                    self._give_up(sequence)
                del self._lengths[sequence]
                self.used_bytes -= LENGTH_BYTES
                yield

    def _keep_to_budget(self) -> None:
        while self.used_bytes > self.max_bytes and (oldest := self._oldest.first()) is not None:
            self._give_up(oldest)

    def _give_up(self, sequence: int) -> None:
        """Keep no more of a log than its length."""
        log = self._kept.pop(sequence)
        self._lengths[sequence] = log.total
        self.used_bytes -= ENTRY_BYTES + len(log.head) + len(log.tail) - LENGTH_BYTES
