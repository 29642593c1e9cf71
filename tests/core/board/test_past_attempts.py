"""Failed attempts within a byte budget: which are given up, and how they are counted."""

from __future__ import annotations

from headway.core.board.board import Board
from headway.core.board.past_attempts import ATTEMPT_BYTES, ENTRY_BYTES, FIRST, LAST, SWEEP_S, PastAttempts, size_of
from headway.core.job import Reason, State
from headway.core.past_attempt import PastAttempt
from headway.core.retention import Retention


def attempt(number: int = 1, error: str = "", traceback: str = "") -> PastAttempt:
    return PastAttempt(number, 1.0, 2.0, "loop", Reason.ERROR, "", error, traceback)


def kept_by(most: int, board: Board | None = None) -> PastAttempts:
    return PastAttempts(board or Board(Retention.same(100, 100.0), 100), most)


def test_the_job_that_has_failed_longest_ago_is_given_up_first() -> None:
    past = kept_by(2 * ENTRY_BYTES + 4 * ATTEMPT_BYTES)
    past.add(1, attempt(1))
    past.add(2, attempt(1))
    # The first job fails again, so the other one is the oldest now.
    past.add(1, attempt(2))
    past.add(3, attempt(1))
    assert (past.evicted, list(past.all())) == (1, [1, 3])
    assert [one.number for one in past.get(1)] == [1, 2]
    assert past.used_bytes == 2 * ENTRY_BYTES + 3 * ATTEMPT_BYTES <= past.max_bytes


def test_texts_count_by_the_memory_that_they_may_take() -> None:
    assert size_of(attempt(error="x" * 1000)) == ATTEMPT_BYTES + 1000
    # A single character such as this makes Python keep each of the text in four bytes.
    assert size_of(attempt(traceback="x" * 999 + "\U0001f600")) == ATTEMPT_BYTES + 4000
    past = kept_by(3 * (ENTRY_BYTES + ATTEMPT_BYTES) + 10_000)
    for sequence in range(1, 4):
        past.add(sequence, attempt(error="\U0001f600" * 1000))
    assert (past.evicted, list(past.all())) == (1, [2, 3])
    assert past.used_bytes <= past.max_bytes


def test_attempts_that_are_left_out_cost_nothing() -> None:
    past = kept_by(1_000_000)
    for number in range(1, 100):
        past.add(1, attempt(number, error="x" * number))
    numbers = [*range(1, FIRST + 1), *range(100 - LAST, 100)]
    assert [one.number for one in past.get(1)] == numbers
    assert past.used_bytes == ENTRY_BYTES + ATTEMPT_BYTES * len(numbers) + sum(numbers)
    past.forget(1)
    assert (past.used_bytes, len(past)) == (0, 0)


def test_attempts_go_with_their_job_and_those_of_others_stay() -> None:
    board = Board(Retention.same(1, 1000.0), 100)
    past = kept_by(1_000_000, board)
    for number in range(1, 4):
        sequence = board.open(State.QUEUED, lambda _: 1, 0, 5, 1.0)
        board.move(sequence, State.RUNNING, 1.0)
        past.add(sequence, attempt())
        if number < 3:
            board.move(sequence, State.FAILED, 1.0, Reason.ERROR)
    for _ in past.trim(SWEEP_S + 1):
        pass
    # Only the last job that failed is kept, and one runs.
    assert list(past.all()) == [2, 3]
    assert past.used_bytes == 2 * (ENTRY_BYTES + ATTEMPT_BYTES)
