"""Attempts are counted before they begin, and survive the process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random

import pytest
from headway.core.errors import JournalError
from headway.core.journal.attempts import ATTEMPT_MASK, Attempts, beside

ROWS = 8


def test_what_was_noted_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "j"
    pid = os.fork()
    if not pid:
        attempts = Attempts(path)
        attempts.begin(ROWS, [(5, 2)])
        attempts.note(1, 1)
        attempts.note(1 << 47 | 2, ATTEMPT_MASK + 5)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    attempts = Attempts(path)
    assert [attempts.attempt(sequence) for sequence in (1, 2, 5, 9, 1 << 47 | 2)] == [
        1,
        ATTEMPT_MASK,
        2,
        0,
        ATTEMPT_MASK,
    ]


def test_a_slot_is_held_until_it_is_released(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "j")
    attempts.begin(2, [(7, 4)])
    for attempt in (1, 2, 3):
        attempts.note(1000, attempt)
    attempts.note(2000, 1)
    assert not attempts.free
    again = Attempts(tmp_path / "j")
    assert [again.attempt(sequence) for sequence in (7, 1000, 2000)] == [4, 3, 1]
    attempts.release(1000)
    attempts.release(1000)
    attempts.release(5)
    assert attempts.free
    attempts.note(3000, 1)
    assert not attempts.free
    again = Attempts(tmp_path / "j")
    assert [again.attempt(sequence) for sequence in (7, 1000, 2000, 3000)] == [4, 0, 1, 1]


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Attempts(tmp_path / "j").begin(ROWS, [])
    finally:
        os.umask(before)
    assert beside(tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_flipped_bit_counts_as_none(tmp_path: Path) -> None:
    path, random = tmp_path / "j", Random(1)
    wrong = 0
    for _ in range(200):
        attempts = Attempts(path)
        attempts.begin(ROWS, [(sequence, 1) for sequence in range(1, ROWS + 1)])
        data = bytearray(beside(path).read_bytes())
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        beside(path).write_bytes(data)
        found = Attempts(path)
        wrong += any(found.attempt(sequence) > 1 for sequence in range(1, ROWS + 1))
    assert wrong == 0


def test_a_file_cut_short_counts_as_none(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "j")
    attempts.begin(ROWS, [(1, 3)])
    beside(tmp_path / "j").write_bytes(b"short")
    assert Attempts(tmp_path / "j").attempt(1) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be written"):
        Attempts(tmp_path / "none" / "j").begin(ROWS, [])
