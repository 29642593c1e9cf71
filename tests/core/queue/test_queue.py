"""The queue: who is next, who comes before whom, and how many can begin.

tests/core/board/test_board.py holds queue and board together against a model.
"""

from __future__ import annotations

from random import Random

import pytest
from headway.core.board.board import Board
from headway.core.job import State
from headway.core.queue.queue import FAIR_EVERY, RATE_WEIGHT, Queue
from headway.core.queue.ready import PRIORITIES, Limit
from headway.core.retention import Retention
from hypothesis import given
from hypothesis import strategies as st

SIZE, WORKERS = 50, 4
NOW = 1000.0


class Waiting:
    """A queue of tasks 0, 1, … that stand under ``limits``, and jobs for it."""

    def __init__(self, *limits: tuple[Limit, ...], size: int = SIZE) -> None:
        self.board = Board(Retention.same(5, 60.0), size + WORKERS)
        self.queue = Queue(self.board, size, size + WORKERS, limits or [()])

    def open(self, task: int = 0, priority: int = 5, submitted: float = NOW) -> int:
        """Give a job a row."""
        return self.board.open(State.QUEUED, lambda sequence: sequence, task, priority, submitted)

    def push(self, task: int = 0, priority: int = 5, submitted: float = NOW) -> int:
        """Have a job stand in line."""
        sequence = self.open(task, priority, submitted)
        self.queue.push(sequence)
        return sequence

    def row(self, sequence: int) -> int:
        return self.board.at(sequence)

    def run(self) -> int:
        """Claim a job and have it run."""
        sequence = self.queue.claim()
        if sequence:
            self.board.move(sequence, State.RUNNING, NOW)
        return sequence

    def end(self, sequence: int) -> None:
        """End a job that runs."""
        self.queue.release(self.board.task[self.row(sequence)])
        self.board.move(sequence, State.SUCCEEDED, NOW)


JOBS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, PRIORITIES - 1)), min_size=1, max_size=SIZE)


@given(JOBS, st.randoms(use_true_random=False))
def test_the_highest_priority_is_claimed_and_of_it_who_came_first_of_all_lines(
    jobs: list[tuple[int, int]], random: Random
) -> None:
    """And whoever is told how many come before him is claimed after as many."""
    waiting = Waiting((), (Limit(SIZE),), (Limit(SIZE), Limit(SIZE)))
    queue = waiting.queue
    sequences = {waiting.push(task, priority): priority for task, priority in jobs}
    for sequence in random.sample([*sequences], len(sequences) // 3):
        queue.remove(sequence)
        del sequences[sequence]
    expected = sorted(sequences, key=lambda sequence: (-sequences[sequence], sequence))
    assert [queue.ahead(waiting.row(sequence)) for sequence in expected] == list(range(len(expected)))
    assert (len(queue), queue.ready, queue.room) == (len(expected), len(expected), SIZE - len(expected))
    # Fewer than FAIR_EVERY.
    assert [queue.claim() for _ in expected] == expected
    assert (queue.claim(), len(queue), queue.room) == (0, 0, SIZE)


def test_one_of_so_many_claims_goes_to_who_came_first_of_all() -> None:
    waiting = Waiting((), (Limit(1000),))
    low = [waiting.push(priority=0), waiting.push(task=1, priority=0)]
    claimed = []
    for number in range(3 * FAIR_EVERY):
        waiting.push(task=number % 2, priority=9)
        claimed.append(waiting.queue.claim())
    assert [number for number, sequence in enumerate(claimed, start=1) if sequence in low] == [
        FAIR_EVERY,
        2 * FAIR_EVERY,
    ]
    assert claimed[FAIR_EVERY - 1] == low[0]
    # Those of the high one go in their order all the while, and when there is no other the oldest is one of them.
    high = [sequence for sequence in claimed if sequence not in low]
    assert high == sorted(high)


def test_the_oldest_of_a_line_at_its_limit_is_passed_over() -> None:
    waiting = Waiting((), (Limit(1),))
    queue = waiting.queue
    held = [waiting.push(task=1, priority=0) for _ in range(2)]
    assert queue.claim() == held[0]
    for _ in range(2 * FAIR_EVERY):
        sequence = waiting.push(priority=9)
        assert queue.claim() == sequence
    assert queue.claim() == 0
    queue.release(1)
    assert queue.claim() == held[1]


def test_what_waits_is_bounded_whatever_it_waits_for() -> None:
    waiting = Waiting(size=4)
    queue = waiting.queue
    waiting.push()
    queue.delay(delayed := waiting.open(), NOW + 5)
    queue.reserved += 1
    assert (queue.room, len(queue), queue.ready) == (1, 2, 1)
    assert waiting.board.due[waiting.row(delayed)] == NOW + 5
    # Jobs that come back are let in past it.
    for _ in range(2):
        queue.delay(waiting.open(), NOW + 9)
    assert queue.room == -1
    queue.remove(delayed)
    assert (queue.room, queue.delayed.next) == (0, NOW + 9)
    assert queue.delayed.take(NOW + 5) == []
    assert repr(queue) == "<Queue 1 ready, 0 aside, 2 delayed, of 4>"
    assert queue.size_bytes == 2 * (4 + WORKERS) * 8 * PRIORITIES


def test_a_ring_that_has_no_slot_left_is_made_room_in() -> None:
    waiting = Waiting(size=4)
    queue = waiting.queue
    first, *others = [waiting.push() for _ in range(4)]
    # Each leaves a hole behind the first.
    for _ in range(100):
        queue.remove(others.pop(1))
        others.append(waiting.push())
        assert [queue.ahead(waiting.row(sequence)) for sequence in (first, *others)] == [0, 1, 2, 3]
    assert [queue.claim() for _ in range(4)] == [first, *others]


def test_a_delayed_job_comes_after_all_that_are_ready_of_its_priority_and_above() -> None:
    waiting = Waiting((), (Limit(1),))
    waiting.queue.delay(delayed := waiting.open(priority=5), NOW + 1)
    for task, priority in ((0, 9), (0, 5), (0, 4), (1, 5), (1, 0), (1, 6)):
        waiting.push(task, priority)
    assert waiting.queue.ahead(waiting.row(delayed), delayed=True) == 4


def test_the_own_line_and_the_others_are_told_apart() -> None:
    waiting = Waiting((), (Limit(1),), (Limit(2),))
    queue = waiting.queue
    assert queue.line_numbers == [0, 1, 2]
    waiting.push(1, 5)
    waiting.push(2, 5)
    waiting.push(2, 5)
    assert queue.is_alone(1) is False
    job = waiting.push(0, 5)
    waiting.push(0, 5)
    waiting.push(1, 9)
    row = waiting.row(job)
    assert (queue.own(row), queue.others(row), queue.ahead(row)) == (0, [(1, 2), (2, 2)], 4)
    # A line at its limit does not take the place that comes free next, and stands there all the same.
    assert waiting.run()
    assert (queue.own(row), queue.others(row), queue.ahead(row)) == (0, [(2, 2)], 3)
    assert queue.is_alone(0) is False


def test_a_line_that_nothing_waits_beside_is_alone() -> None:
    waiting = Waiting((), (Limit(1),))
    waiting.push(1)
    assert waiting.queue.is_alone(1)
    assert not waiting.queue.is_alone(0)
    waiting.push(0)
    assert not waiting.queue.is_alone(1)


def test_how_many_can_begin_and_run_at_once() -> None:
    shared = Limit(3)
    waiting = Waiting((), (Limit(2), shared), (shared,))
    queue = waiting.queue
    assert [queue.free(task, WORKERS) for task in range(3)] == [4, 2, 3]
    assert [queue.at_once(task, WORKERS) for task in range(3)] == [(4, 4), (2, 4), (3, 4)]
    for task in (1, 1, 2):
        waiting.push(task)
    first = waiting.run()
    assert [queue.free(task, WORKERS) for task in range(3)] == [3, 1, 2]
    waiting.run()
    waiting.run()
    assert [queue.free(task, WORKERS) for task in range(3)] == [1, 0, 0]
    # What a limit holds is no worker for others.
    assert queue.at_once(0, WORKERS) == (1, 1)
    assert queue.at_once(0, 3) == (1, 1)
    waiting.end(first)
    assert [queue.free(task, WORKERS) for task in range(3)] == [2, 1, 1]
    assert [queue.at_once(task, WORKERS) for task in range(3)] == [(4, 4), (2, 4), (3, 4)]


def test_the_rate_above_a_priority_follows_what_comes() -> None:
    waiting = Waiting(size=2000)
    queue = waiting.queue
    assert queue.rate_above(0, NOW) == 0.0
    for second in range(1, 40):
        for priority in (9, 9, 9, 5, 0):
            waiting.push(priority=priority)
        share = 1 - (1 - RATE_WEIGHT) ** second
        told = [queue.rate_above(priority, NOW + second) for priority in (9, 8, 5, 4, 0)]
        assert told == pytest.approx([0.0, 3 * share, 3 * share, 4 * share, 4 * share])
    # Within a second nothing is counted anew; then it counts, and however long nothing comes it is one step.
    waiting.push(priority=9)
    assert queue.rate_above(8, NOW + 39.9) == told[1]
    assert queue.rate_above(8, NOW + 40) == pytest.approx(told[1] + (1 - told[1]) * RATE_WEIGHT)
    assert queue.rate_above(0, NOW + 200) < 0.001


def test_the_oldest_job_of_a_task_is_the_one_that_has_been_ready_longest() -> None:
    waiting = Waiting((), (), (Limit(1),))
    queue = waiting.queue
    assert [(queue.length(task), queue.oldest(task)) for task in range(3)] == [(0, 0)] * 3
    first = waiting.push(0, 0)
    second = waiting.push(0, 9)
    other = waiting.push(1, 5)
    limited = [waiting.push(2, 5) for _ in range(3)]
    assert [(queue.length(task), queue.oldest(task)) for task in range(3)] == [(2, first), (1, other), (3, limited[0])]
    # One of a higher priority is taken first, and the other stays the oldest.
    assert queue.claim() == second
    assert (queue.length(0), queue.oldest(0)) == (1, first)
    queue.remove(first)
    queue.remove(limited[1])
    assert (queue.length(0), queue.oldest(0)) == (0, 0)
    assert {queue.claim(), queue.claim()} == {other, limited[0]}
    assert [(queue.length(task), queue.oldest(task)) for task in range(3)] == [(0, 0), (0, 0), (1, limited[2])]
