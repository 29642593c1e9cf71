"""The board and the queue against a model of plain dicts."""

from math import inf

import pytest
from headway.core.board import ROW_BYTES, Board
from headway.core.errors import IllegalMoveError
from headway.core.job import ACTIVE, MOVES, TERMINAL, State
from headway.core.line import Limit
from headway.core.queue import Queue
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

KEPT_JOBS = 3
KEPT_SECONDS = 10.0
QUEUE_SIZE = 4
WORKERS = 2


class Jobs(RuleBasedStateMachine):
    """Submit, claim, end, retry, cancel and let time pass, on a board of 16 rows that wraps many times."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board(KEPT_JOBS, KEPT_SECONDS, QUEUE_SIZE + WORKERS)
        self.now = 1.0
        # Task 0 stands under no limit, of task 1 only one may run at once.
        self.limits: list[tuple[Limit, ...]] = [(), (Limit(1),)]
        self.queue = Queue(self.board, QUEUE_SIZE, WORKERS, self.limits)
        self.task: dict[int, int] = {}
        # The model.
        self.state: dict[int, State] = {}
        self.priority: dict[int, int] = {}
        self.ready: list[int] = []
        self.due: dict[int, float] = {}
        # (sequence, when), in the order of their ends.
        self.ends: list[tuple[int, float]] = []

    def waiting(self) -> int:
        return len(self.ready) + len(self.due)

    def of(self, *states: State) -> list[int]:
        return [sequence for sequence, state in self.state.items() if state in states]

    def move(self, sequence: int, after: State) -> None:
        self.board.move(sequence, after, self.now)
        self.state[sequence] = after
        if after in TERMINAL:
            self.ends.append((sequence, self.now))

    @precondition(lambda self: self.waiting() < QUEUE_SIZE)
    @rule(priority=st.integers(0, 9), delay=st.sampled_from([0, 0, 3]), task=st.sampled_from([0, 0, 1]))
    def submit(self, priority: int, delay: int, task: int) -> None:
        assert not self.queue.full
        state = State.SCHEDULED if delay else State.QUEUED
        sequence = self.board.open(state, lambda number: number + 1000, task, priority, self.now)
        assert sequence not in self.state, "a sequence number was given twice"
        self.state[sequence], self.priority[sequence], self.task[sequence] = state, priority, task
        if delay:
            self.queue.delay(sequence, self.now + delay)
            self.due[sequence] = self.now + delay
        else:
            self.queue.push(sequence)
            self.ready.append(sequence)

    @precondition(lambda self: self.waiting() >= QUEUE_SIZE)
    @rule()
    def submit_to_a_full_queue(self) -> None:
        assert self.queue.full

    @precondition(lambda self: len(self.of(State.RUNNING)) < WORKERS)
    @rule()
    def claim(self) -> None:
        limited = any(self.task[sequence] == 1 for sequence in self.of(State.RUNNING))
        may_run = [sequence for sequence in self.ready if not (limited and self.task[sequence] == 1)]
        # Of two lines the job that was submitted first; within a line the one that was ready first.
        firsts = [
            min(line, key=lambda s: (-self.priority[s], self.ready.index(s)))
            for task in (0, 1)
            if (line := [sequence for sequence in may_run if self.task[sequence] == task])
        ]
        expected = min(firsts, key=lambda s: (-self.priority[s], s), default=0)
        assert self.queue.claim() == expected
        if expected:
            self.ready.remove(expected)
            self.move(expected, State.RUNNING)

    @precondition(lambda self: self.of(State.RUNNING))
    @rule(data=st.data(), after=st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED]))
    def end(self, data: st.DataObject, after: State) -> None:
        sequence = data.draw(st.sampled_from(self.of(State.RUNNING)))
        self.queue.release(sequence)
        self.move(sequence, after)

    @precondition(lambda self: self.of(State.RUNNING))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.of(State.RUNNING)))
        self.queue.release(sequence)
        self.move(sequence, State.RETRYING)
        self.queue.delay(sequence, self.now + 2)
        self.due[sequence] = self.now + 2

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from([*self.ready, *self.due]))
        self.queue.remove(sequence)
        if self.due.pop(sequence, None) is None:
            self.ready.remove(sequence)
        self.move(sequence, State.CANCELLED)

    @rule(seconds=st.sampled_from([1, 2, 11]))
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds
        due = [sequence for sequence, when in self.due.items() if when <= self.now]
        taken = self.queue.delayed.take(self.now)
        assert sorted(taken) == sorted(due)
        for sequence in taken:
            del self.due[sequence]
            self.move(sequence, State.QUEUED)
            self.queue.push(sequence)
            self.ready.append(sequence)

    def kept(self) -> set[int]:
        return {sequence for sequence, when in self.ends[-KEPT_JOBS:] if self.now - when < KEPT_SECONDS}

    @invariant()
    def every_active_job_is_on_the_board(self) -> None:
        for sequence in self.of(*ACTIVE):
            assert self.board.state(sequence) == self.state[sequence]
            assert self.board.tag[self.board.row(sequence)] == sequence + 1000

    @invariant()
    def exactly_the_last_that_ended_are_kept(self) -> None:
        kept = self.kept()
        for sequence in self.of(*TERMINAL):
            row = self.board.row(sequence)
            on_board = row >= 0 and self.board.kept(row, self.now)
            assert on_board == (sequence in kept)
            if on_board:
                assert self.board.state(sequence) == self.state[sequence]

    @invariant()
    def counts_and_positions_are_right(self) -> None:
        assert len(self.queue) == self.waiting()
        for state in State:
            if state not in (State.EMPTY, State.EXPIRED):
                assert self.board.count[state] == len(self.of(state))
        for task in (0, 1):
            line = [sequence for sequence in self.ready if self.task[sequence] == task]
            order = sorted(line, key=lambda s: (-self.priority[s], self.ready.index(s)))
            assert [self.queue.ahead(sequence) for sequence in order] == list(range(len(order)))

    @invariant()
    def jobs_are_found_by_their_state(self) -> None:
        for state in State:
            if state not in (State.EMPTY, State.EXPIRED):
                found = list(self.board.in_state(state, 1, self.board.next_sequence))
                on_board = [sequence for sequence in self.of(state) if self.board.row(sequence) >= 0]
                assert found == sorted(on_board, reverse=True)
        assert self.queue.delayed.next == min(self.due.values(), default=inf)


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def opened(board: Board, state: State = State.QUEUED) -> int:
    return board.open(state, lambda sequence: sequence, 0, 5, 1.0)


# How to bring a job into each state.
ROADS = {
    State.SCHEDULED: [],
    State.QUEUED: [],
    State.RUNNING: [State.RUNNING],
    State.RETRYING: [State.RUNNING, State.RETRYING],
    State.SUCCEEDED: [State.RUNNING, State.SUCCEEDED],
    State.FAILED: [State.RUNNING, State.FAILED],
    State.CANCELLED: [State.CANCELLED],
}


@pytest.mark.parametrize("before", ROADS, ids=lambda state: state.name)
@pytest.mark.parametrize("after", [s for s in State if s is not State.EXPIRED], ids=lambda state: state.name)
def test_only_the_moves_of_the_table_are_made(before: State, after: State) -> None:
    board = Board(4, 60.0, 4)
    sequence = opened(board, State.SCHEDULED if before is State.SCHEDULED else State.QUEUED)
    for state in ROADS[before]:
        board.move(sequence, state, 2.0)
    if after in MOVES[before]:
        board.move(sequence, after, 3.0)
        assert board.state(sequence) == after
    else:
        with pytest.raises(IllegalMoveError):
            board.move(sequence, after, 3.0)
        assert board.state(sequence) == before


@pytest.mark.parametrize("state", [s for s in State if s not in MOVES[State.EMPTY]], ids=lambda state: state.name)
def test_a_job_begins_as_the_table_says(state: State) -> None:
    with pytest.raises(IllegalMoveError):
        opened(Board(4, 60.0, 4), state)


def test_a_job_that_left_the_board_cannot_be_moved() -> None:
    board = Board(0, 60.0, 1)
    first = opened(board)
    board.move(first, State.CANCELLED, 1.0)
    for _ in range(board.rows):
        board.move(opened(board), State.CANCELLED, 1.0)
    assert board.row(first) == -1
    assert board.state(first) == State.EXPIRED
    with pytest.raises(IllegalMoveError):
        board.move(first, State.RUNNING, 1.0)


def test_the_rows_of_active_jobs_are_skipped() -> None:
    board = Board(0, 60.0, 2)
    long = opened(board)
    others = [opened(board) for _ in range(1)]
    for _ in range(5 * board.rows):
        board.move(others.pop(), State.CANCELLED, 1.0)
        others.append(opened(board))
        assert board.state(long) == State.QUEUED
        assert others[-1] % board.rows != long % board.rows


def test_each_attempt_is_counted_and_starts_without_progress() -> None:
    board = Board(4, 60.0, 4)
    sequence = opened(board)
    row = board.row(sequence)
    for attempt in (1, 2):
        board.move(sequence, State.RUNNING, 1.0)
        assert board.attempt(row) == attempt
        assert board.progress(row) is None
        board.report(sequence, attempt, 40)
        assert board.progress(row) == 40
        board.move(sequence, State.RETRYING, 2.0)
        board.report(sequence, attempt, 50)
        assert board.progress(row) == 40
        board.move(sequence, State.QUEUED, 2.0)
    assert board.state(sequence) == State.QUEUED


def test_an_attempt_that_is_over_cannot_report_for_the_next() -> None:
    board = Board(4, 60.0, 4)
    sequence = opened(board)
    for state in (State.RUNNING, State.RETRYING, State.QUEUED, State.RUNNING):
        board.move(sequence, state, 1.0)
    board.report(sequence, 1, 90)
    assert board.progress(board.row(sequence)) is None


def test_the_memory_is_what_the_rows_take() -> None:
    board = Board(1000, 60.0, 100)
    assert board.size_bytes == board.rows * ROW_BYTES == 1201 * ROW_BYTES
    assert len(board.live) == len(board.reason) == board.rows
