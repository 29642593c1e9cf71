"""How often each job was begun, in a mapped file beside the journal.

A job may be what the server dies of, in the very moment it begins; so that it is not begun for ever, its attempt has to
be counted before. A commit for that would hold up every job. A store into a mapped page costs 0.2 µs, needs no system
call, and the kernel keeps it through SIGKILL. A loss of power may undo the last stores: the counts in the journal,
which follow a moment later, are then what is known.

One 64-bit word for each row of the board:

    bits 63..24 sequence number, its low 40 bits   23..12 attempt   11..0 check

The check is the other bits, as a number, modulo a prime. A word whose check is wrong counts as none.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from headway.core.errors import JournalError

SEQUENCE_MASK = (1 << 40) - 1
ATTEMPT_BITS = 12
ATTEMPT_MASK = (1 << ATTEMPT_BITS) - 1
CHECK_BITS = 12
# The largest prime of CHECK_BITS bits: whatever bit of the number or the attempt is flipped, the check is another.
CHECK_PRIME = 4093
# Bytes that are looked at together when it is read.
STRETCH = 4096
_NOTHING = bytes(STRETCH)


def beside(path: Path) -> Path:
    """Return where the attempts of the journal at ``path`` are."""
    return path.with_name(f"{path.name}-attempts")


def word_of(sequence: int, attempt: int) -> int:
    """Return the word that says that ``attempt`` was begun."""
    value = (sequence & SEQUENCE_MASK) << ATTEMPT_BITS | min(attempt, ATTEMPT_MASK)
    return value << CHECK_BITS | value % CHECK_PRIME


class Attempts:
    """The attempts of the journal at ``path``. Raises JournalError where its file cannot be made."""

    def __init__(self, path: Path) -> None:
        self._path = beside(path)
        # Low bits of the sequence number to attempt, of those that the last process began.
        self.before = dict(self._read())
        # Empty until ``begin``.
        self._words = memoryview(b"").cast("Q")
        self._rows = 0

    def _read(self) -> list[tuple[int, int]]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"{self._path}: cannot be read: {error.strerror}") from None
        found = []
        for at in range(0, len(data), STRETCH):
            stretch = data[at : at + STRETCH]
            # Most of it is: only jobs that were begun since the last start stand here.
            if stretch == _NOTHING:
                continue
            for word in memoryview(stretch[: len(stretch) // 8 * 8]).cast("Q"):
                sequence, attempt = word >> ATTEMPT_BITS + CHECK_BITS, word >> CHECK_BITS & ATTEMPT_MASK
                if word and word == word_of(sequence, attempt):
                    found.append((sequence, attempt))
        return found

    def attempt(self, sequence: int) -> int:
        """Return the last attempt at a job that the last process began; 0 where it began none."""
        return self.before.get(sequence & SEQUENCE_MASK, 0)

    def begin(self, rows: int, kept: list[tuple[int, int]]) -> None:
        """Start a new file for a board of ``rows`` rows, with (sequence, attempt) of the jobs that are not over."""
        new = self._path.with_name(f"{self._path.name}-new")
        words = memoryview(bytearray(rows * 8)).cast("Q")
        for sequence, attempt in kept:
            words[sequence % rows] = word_of(sequence, attempt)
        try:
            # Written rather than made as a hole: a store for which there is no room later would be a SIGBUS.
            new.write_bytes(words)
            file = os.open(new, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._words = memoryview(mmap.mmap(file, rows * 8)).cast("Q")
            finally:
                os.close(file)
            new.rename(self._path)
        except OSError as error:
            raise JournalError(f"{new}: cannot be written: {error.strerror}") from None
        self._rows = rows
        self.before = {}

    def note(self, sequence: int, attempt: int) -> None:
        """Count an attempt that is about to begin."""
        # As in ``word_of``, whose call is what ``make bench-journal`` shows.
        value = (sequence & SEQUENCE_MASK) << ATTEMPT_BITS | min(attempt, ATTEMPT_MASK)
        self._words[sequence % self._rows] = value << CHECK_BITS | value % CHECK_PRIME
