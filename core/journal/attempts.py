"""How often each job was begun, in a mapped file beside the journal.

A job may be the cause of the server's death, at the very moment it begins. Its attempt is counted
before, so that it is not begun for ever. A commit for that would hold up every job. A store into a
mapped page costs 0.3 µs, needs no system call, and the kernel keeps it through SIGKILL. A loss of
power may undo the last stores. The counts in the journal, which follow a moment later, are then the
last known.

The file has one 64-bit word for each job in hand, in any free slot. A job is in hand from its
beginning until the journal has its end or its next attempt:

    bits 63..24 sequence number, its low 40 bits   23..12 attempt   11..0 check

The check is the other bits, as a number, modulo a prime. A word with a wrong check counts as none.
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
# The largest prime of CHECK_BITS bits: if any bit of the number or the attempt flips, the check
# differs.
CHECK_PRIME = 4093


def beside(path: Path) -> Path:
    """Return the path of the attempts of the journal at ``path``."""
    return path.with_name(f"{path.name}-attempts")


def word_of(sequence: int, attempt: int) -> int:
    """Return the word that says that ``attempt`` was begun."""
    value = (sequence & SEQUENCE_MASK) << ATTEMPT_BITS | min(attempt, ATTEMPT_MASK)
    return value << CHECK_BITS | value % CHECK_PRIME


class Attempts:
    """The attempts of the journal at ``path``. Raises JournalError if its file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = beside(path)
        # Attempts that the last process began, by the low bits of the sequence number.
        self.before = self._read()
        # Empty until ``begin``.
        self._words = memoryview(b"").cast("Q")
        # The arguments of a ``begin`` that found no room.
        self._lacking: tuple[int, list[tuple[int, int]]] | None = None
        # Slots of the jobs in hand, and free slots. Without one there is no ``note`` of another job.
        self._slot_of: dict[int, int] = {}
        self.free: list[int] = []

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
                # A freed slot keeps its word until another job has it.
                found[sequence] = max(attempt, found.get(sequence, 0))
        return found

    def attempt(self, sequence: int) -> int:
        """Return the last attempt at a job that the last process began, or 0 if it began none."""
        return self.before.get(sequence & SEQUENCE_MASK, 0)

    def begin(self, most: int, kept: list[tuple[int, int]]) -> None:
        """Start a new file for ``most`` jobs in hand.

        ``kept`` has (sequence, attempt) of those that the last process had. Without room the old
        file stays, and no slot is ``free`` until ``make`` finds room. Raises JournalError if the file
        cannot be written for another cause.
        """
        self._lacking = most, kept
        self.make()

    def make(self) -> None:
        """Do the work of a ``begin`` that found no room. Raises JournalError as that does."""
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
                # Written, not made as a hole: a later store without room would be a SIGBUS.
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
        self.free = list(range(slots - 1, len(kept) - 1, -1))
        self.before = {}

    def note(self, sequence: int, attempt: int) -> None:
        """Count an attempt that is about to begin."""
        slot = self._slot_of.get(sequence)
        if slot is None:
            slot = self._slot_of[sequence] = self.free.pop()
        # As in ``word_of``. ``make bench-journal`` shows the cost of a call.
        value = (sequence & SEQUENCE_MASK) << ATTEMPT_BITS | min(attempt, ATTEMPT_MASK)
        self._words[slot] = value << CHECK_BITS | value % CHECK_PRIME

    def take_back(self, sequence: int) -> None:
        """Count the attempt of a job as if it had not begun. Call it before the journal gets that.

        The one before still counts: the journal may not have it yet.
        """
        slot = self._slot_of.get(sequence)
        if slot is not None:
            attempt = self._words[slot] >> CHECK_BITS & ATTEMPT_MASK
            self._words[slot] = word_of(sequence, attempt - 1) if attempt > 1 else 0

    def release(self, sequence: int) -> None:
        """Free the slot of a job: the journal has its attempt, or its end."""
        slot = self._slot_of.pop(sequence, None)
        if slot is not None:
            self.free.append(slot)


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
