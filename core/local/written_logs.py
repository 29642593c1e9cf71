"""The logs of jobs with a journal: clients see only text that is on disk.

Text waits in memory until it is written, at most once every WRITE_S for each job that logs, and at
the end of the job in the same commit. Each piece is written once. Reads come from the disk, so
after a kill everything that was shown is shown again.

A job has one note under way: while the disk is full, its text waits here, and of that no more is
kept than a log keeps. If the text of all jobs is more than the budget, a job gives up as much of
its own as it adds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context as Variables

from headway.core.board.logs import ENTRY_BYTES
from headway.core.interface import Later
from headway.core.job_log import JobLog
from headway.core.journal.journal import Journal
from headway.core.journal.notes import Kind
from headway.core.later import Read
from headway.core.log_text import LogText

# Seconds between two notes of a job that goes on logging.
WRITE_S = 1.0


class _Unwritten:
    """The log of an unfinished job."""

    __slots__ = ("is_due", "note", "shown", "text", "written_at")

    def __init__(self, text: LogText) -> None:
        # The text that no note has.
        self.text = text
        # The place after the text that is on disk.
        self.shown = text.begin
        # The number of the last note while it is not committed, otherwise 0.
        self.note = 0
        self.written_at = 0.0
        # Whether the next note is about to be made.
        self.is_due = False


class WrittenLogs:
    """The logs of jobs, each of ``log_bytes`` at most. ``grown`` is called with the number of a job."""

    def __init__(self, journal: Journal, log_bytes: int, max_bytes: int, grown: Callable[[int], object]) -> None:
        self._journal = journal
        self._log_bytes = log_bytes
        self.max_bytes = max_bytes
        # Of text that is not on disk.
        self.used_bytes = 0
        self._grown = grown
        # Those of unfinished jobs that have logged.
        self.open: dict[int, _Unwritten] = {}
        # Of notes that are not committed: number, job, place after its text, bytes.
        self._notes: deque[tuple[int, int, int, int]] = deque()
        # Of unfinished jobs that have not logged in this process: the place after their text, and
        # whether that ends a line.
        self.before: Mapping[int, tuple[int, bool]] = {}

    def add(self, sequence: int, attempt: int, text: bytes, skipped: int = 0) -> None:
        """Add text of an attempt at a running job, after ``skipped`` bytes that were not kept."""
        log = self.open.get(sequence)
        if log is None:
            log = self.open[sequence] = _Unwritten(LogText(self._log_bytes, *self.before.get(sequence, (0, True))))
            self.used_bytes += ENTRY_BYTES
        before = len(log.text)
        log.text.skip(skipped)
        log.text.add(attempt, text)
        self.used_bytes += len(log.text) - before
        if self.used_bytes > self.max_bytes:
            before = len(log.text)
            log.text.cut(self.used_bytes - self.max_bytes)
            self.used_bytes += len(log.text) - before
        if not (log.is_due or log.note):
            self._set_timer(sequence, log)

    def ending(self, sequence: int) -> None:
        """Write down the rest: the end of the job is written next."""
        log = self.open.get(sequence)
        if log is not None:
            self._write(sequence, log)

    def write_all(self) -> None:
        """Write down all text: the process is about to end."""
        for sequence, log in self.open.items():
            self._write(sequence, log)

    def ended(self, sequence: int) -> None:
        """Forget a job that clients see as finished. Its log is on disk."""
        log = self.open.pop(sequence, None)
        if log is not None:
            self.used_bytes -= ENTRY_BYTES + len(log.text)

    def read(self, sequence: int) -> Later[JobLog]:
        """Return the log of a job as it is on disk."""
        return Read(asyncio.ensure_future(self._journal.reader.log(sequence, self._log_bytes // 2)))

    def total(self, sequence: int) -> int:
        """Return how many bytes of an unfinished job's log are on disk, or were left out."""
        log = self.open.get(sequence)
        return self.before.get(sequence, (0, True))[0] if log is None else log.shown

    def committed(self, changes: int) -> Iterator[None]:
        """Note that all changes up to number ``changes`` are on disk, a job a step."""
        while self._notes and self._notes[0][0] <= changes:
            number, sequence, end, size = self._notes.popleft()
            self.used_bytes -= size
            log = self.open.get(sequence)
            if log is not None:
                log.shown = max(end, log.shown)
                if log.note == number:
                    log.note = 0
                    if log.text.total > end and not log.is_due:
                        self._set_timer(sequence, log)
                self._grown(sequence)
            yield

    def forget(self, sequence: int) -> None:
        """Do nothing: the journal deletes the log with the result."""

    def trim(self, now: float) -> Iterator[None]:
        """Do nothing: no text of a finished job is here."""
        yield from ()

    def _set_timer(self, sequence: int, log: _Unwritten) -> None:
        log.is_due = True
        delay = max(log.written_at + WRITE_S - time.monotonic(), 0.0)
        # Not in the context of a job, which the timer would keep.
        asyncio.get_running_loop().call_later(delay, self._ring, sequence, log, context=Variables())

    def _ring(self, sequence: int, log: _Unwritten) -> None:
        log.is_due = False
        if self.open.get(sequence) is log and not log.note:
            self._write(sequence, log)

    def _write(self, sequence: int, log: _Unwritten) -> None:
        if log.text.begin == log.text.total:
            return
        log.written_at = time.monotonic()
        half = self._log_bytes // 2
        for place, text in log.text.take():
            log.note = self._journal.note((Kind.LOG, sequence, place, text, half))
            self._notes.append((log.note, sequence, place + len(text), len(text)))
