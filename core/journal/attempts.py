"""How often each job was begun, in a mapped file beside the journal.

A job may be what the server dies of, in the very moment it begins; so that it is not begun for ever, its attempt has to
be counted before. A commit for that would hold up every job. A store into a mapped page costs 0.3 µs, needs no system
call, and the kernel keeps it through SIGKILL. A loss of power may undo the last stores: the counts in the journal,
which follow a moment later, are then what is known.

One 64-bit word for each job that is in hand, begun and its end or its next attempt not yet in the journal, in whatever
slot is free:

    bits 63..24 sequence number, its low 40 bits   23..12 attempt   11..0 check

The check is the other bits, as a number, modulo a prime. A word whose check is wrong counts as none.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from headway.core.errors import JournalError
from headway.core.journal.room import NO_ROOM

SEQUENCE_MASK = (1 << 40) - 1
ATTEMPT_BITS = 12
ATTEMPT_MASK = (1 << ATTEMPT_BITS) - 1
CHECK_BITS = 12
# The largest prime of CHECK_BITS bits: whatever bit of the number or the attempt is flipped, the check is another.
CHECK_PRIME = 4093


def beside(path: Path) -> Path:
    """Return where the attempts of the journal at ``path`` are."""
    return path.with_name(f"{path.name}-attempts")


def word_of(sequence: int, attempt: int) -> int:
    """Return the word that says that ``attempt`` was begun."""
    value = (sequence & SEQUENCE_MASK) << ATTEMPT_BITS | min(attempt, ATTEMPT_MASK)
    return value << CHECK_BITS | value % CHECK_PRIME


class Attempts:
    """The attempts of the journal at ``path``. Raises JournalError where its file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = beside(path)
        # Low bits of the sequence number to attempt, of those that the last process began.
        self.before = self._read()
        # Empty until ``begin``.
        self._words = memoryview(b"").cast("Q")
        # What ``begin`` was asked for and there was no room for.
        self._lacking: tuple[int, list[tuple[int, int]]] | None = None
        # Of the jobs in hand; and those that are free.
        self._slot_of: dict[int, int] = {}
        self._free: list[int] = []

    def _read(self) -> dict[int, int]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise JournalError(f"{self._path}: cannot be read: {error.strerror}") from None
        found: dict[int, int] = {}
        for word in memoryview(data[: len(data) // 8 * 8]).cast("Q"):
            sequence, attempt = word >> ATTEMPT_BITS + CHECK_BITS, word >> CHECK_BITS & ATTEMPT_MASK
            if word and word == word_of(sequence, attempt):
                # A slot that came free keeps its word until another job has it.
                found[sequence] = max(attempt, found.get(sequence, 0))
        return found

    def attempt(self, sequence: int) -> int:
        """Return the last attempt at a job that the last process began; 0 where it began none."""
        return self.before.get(sequence & SEQUENCE_MASK, 0)

    def begin(self, most: int, kept: list[tuple[int, int]]) -> None:
        """Start a new file for ``most`` jobs in hand, with (sequence, attempt) of those that the last process had.

        Where there is no room for it the old one stays, and it is ``full`` until ``make`` finds room. Raises
        JournalError where it cannot be written for another cause.
        """
        self._lacking = most, kept
        self.make()

    def make(self) -> None:
        """Do what ``begin`` was asked for and could not; raises JournalError as that does."""
        if self._lacking is None:
            return
        most, kept = self._lacking
        new = self._path.with_name(f"{self._path.name}-new")
        slots = most + len(kept)
        words = memoryview(bytearray(slots * 8)).cast("Q")
        for slot, (sequence, attempt) in enumerate(kept):
            words[slot] = word_of(sequence, attempt)
        try:
            new.unlink(missing_ok=True)
            file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                # Written rather than made as a hole: a store for which there is no room later would be a SIGBUS.
                _write(file, memoryview(words).cast("B"))
                self._words = memoryview(mmap.mmap(file, slots * 8)).cast("Q")
            finally:
                os.close(file)
            new.rename(self._path)
        except OSError as error:
            new.unlink(missing_ok=True)
            if error.errno in NO_ROOM:
                return
            raise JournalError(f"{new}: cannot be written: {error.strerror}") from None
        self._lacking = None
        self._slot_of = {sequence: slot for slot, (sequence, _) in enumerate(kept)}
        self._free = list(range(slots - 1, len(kept) - 1, -1))
        self.before = {}

    def note(self, sequence: int, attempt: int) -> None:
        """Count an attempt that is about to begin."""
        slot = self._slot_of.get(sequence)
        if slot is None:
            slot = self._slot_of[sequence] = self._free.pop()
        # As in ``word_of``, whose call is what ``make bench-journal`` shows.
        value = (sequence & SEQUENCE_MASK) << ATTEMPT_BITS | min(attempt, ATTEMPT_MASK)
        self._words[slot] = value << CHECK_BITS | value % CHECK_PRIME

    @property
    def full(self) -> bool:
        """Whether ``note`` has no slot for another job."""
        return not self._free

    def release(self, sequence: int) -> None:
        """The journal has the attempt, or the end, of a job."""
        slot = self._slot_of.pop(sequence, None)
        if slot is not None:
            self._free.append(slot)


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
