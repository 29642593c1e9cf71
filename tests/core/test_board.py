"""The board and the queue against a model of plain dicts."""

from math import inf
from random import Random

import msgspec
import pytest
from headway.core.batches import Batches
from headway.core.board import Board
from headway.core.errors import IllegalMoveError
from headway.core.ids import Ids, write, write_batch
from headway.core.job import ACTIVE, MOVES, TERMINAL, State
from headway.core.line import Limit
from headway.core.queue import Queue
from headway.core.rows import ROW_BYTES, Record, rows_for, rows_that_hold
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

KEPT_JOBS = 3
KEPT_SECONDS = 10.0
QUEUE_SIZE = 4
WORKERS = 2


def records_of(board: Board) -> list[Record]:
    """All that ``board`` holds, in the order of its rows."""
    rows = sorted((sequence % board.rows, sequence) for sequence in board.sequences())
    return [
        Record(
            sequence,
            board.tag[row],
            board.state(sequence),
            board.task[row],
            board.priority[row],
            board.submitted[row],
            board.due[row],
            board.started[row],
            board.ended[row],
            board.attempt(row),
            board.progress(row),
            board.place[row],
            board.reason[row],
            board.has_result[row],
        )
        for row, sequence in rows
    ]


class Jobs(RuleBasedStateMachine):
    """Submit, claim, end, retry, cancel and let time pass, on a board of 16 rows that wraps many times."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board(KEPT_JOBS, KEPT_SECONDS, QUEUE_SIZE + WORKERS)
        self.now = 1.0
        # Task 0 stands under no limit, of task 1 only one may run at once.
        self.limits: list[tuple[Limit, ...]] = [(), (Limit(1),)]
        self.queue = Queue(self.board, QUEUE_SIZE, QUEUE_SIZE + WORKERS, self.limits)
        self.task: dict[int, int] = {}
        # The model.
        self.state: dict[int, State] = {}
        self.priority: dict[int, int] = {}
        self.ready: list[int] = []
        self.due: dict[int, float] = {}
        # (sequence, when), in the order of their ends.
        self.ends: list[tuple[int, float]] = []
        self.batches: list[tuple[int, int, list[int]]] = []

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
        assert self.queue.room > 0
        self.take(priority, delay, task)

    @precondition(lambda self: self.waiting() < QUEUE_SIZE)
    @rule(data=st.data(), delay=st.sampled_from([0, 0, 3]))
    def submit_a_batch(self, data: st.DataObject, delay: int) -> None:
        count = data.draw(st.integers(1, self.queue.room))
        assert self.board.seek(count, self.board.rows, self.now)
        first = self.board.next_sequence
        members = [self.take(5, delay, 0) for _ in range(count)]
        assert members[0] == first
        assert members[-1] - first < self.board.rows
        self.batches.append((first, members[-1] - first + 1, members))

    def take(self, priority: int, delay: int, task: int) -> int:
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
        return sequence

    @precondition(lambda self: self.waiting() >= QUEUE_SIZE)
    @rule()
    def submit_to_a_full_queue(self) -> None:
        assert self.queue.room <= 0

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
        self.queue.release(self.task[sequence])
        self.move(sequence, after)

    @precondition(lambda self: self.of(State.RUNNING))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.of(State.RUNNING)))
        self.queue.release(self.task[sequence])
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

    @rule(order=st.randoms(use_true_random=False), more=st.integers(0, 20))
    def come_back_to_another_board(self, order: Random, more: int) -> None:
        before, records = self.board, records_of(self.board)
        order.shuffle(records)
        needed = [r.sequence for r in records if r.state in ACTIVE or r.sequence in self.kept()]
        rows = rows_that_hold(needed, rows_for(KEPT_JOBS, QUEUE_SIZE + WORKERS) + more, before.rows)
        self.board = Board(KEPT_JOBS, KEPT_SECONDS, QUEUE_SIZE + WORKERS, rows)
        for record in records:
            assert self.board.restore(record) or record.sequence not in needed
        assert self.board.next_sequence == before.next_sequence
        assert self.board.ended_total == before.ended_total
        # Jobs whose rows were used again have ended as well.
        for state in TERMINAL:
            assert self.board.count[state] == sum(record.state == state for record in records)
            self.board.count[state] = before.count[state]
        self.limits = [(), (Limit(1),)]
        self.limits[1][0].running = sum(self.task[sequence] == 1 for sequence in self.of(State.RUNNING))
        self.queue = Queue(self.board, QUEUE_SIZE, QUEUE_SIZE + WORKERS, self.limits)
        for sequence in self.ready:
            self.queue.push(sequence)
        for sequence, due in self.due.items():
            self.queue.delay(sequence, due)

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
    def batches_are_counted_as_their_jobs_are(self) -> None:
        kept = self.kept()
        keys = Ids(b"secret")
        batches = Batches(self.board, keys, lambda some, count, _: some[0] * 100 + count)
        for first, span, members in self.batches:
            states = [State.EXPIRED if s in self.of(*TERMINAL) and s not in kept else self.state[s] for s in members]
            shape = first, len(members), span
            status = batches.peek(write_batch(*shape, keys.batch_tag(*shape)), self.now)
            assert status is not None
            pending = [s for s, state in zip(members, states, strict=True) if state in ACTIVE]
            assert status.pending == len(pending)
            assert status.retry_after_ms == (pending[-1] * 100 + len(pending) if pending else 0)
            assert [status.succeeded, status.failed, status.cancelled, status.expired] == [
                states.count(state) for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED)
            ]
            assert batches.pending(status) == pending
            assert batches.jobs(status, self.now) == [
                (write(s, s + 1000), state) for s, state in zip(members, states, strict=True) if state != State.EXPIRED
            ]

    @invariant()
    def counts_and_positions_are_right(self) -> None:
        assert len(self.queue) == self.waiting()
        for state in State:
            if state not in (State.EMPTY, State.EXPIRED):
                assert self.board.count[state] == len(self.of(state))
        for task in (0, 1):
            line = [sequence for sequence in self.ready if self.task[sequence] == task]
            order = sorted(line, key=lambda s: (-self.priority[s], self.ready.index(s)))
            assert [self.queue.ahead(sequence % self.board.rows) for sequence in order] == list(range(len(order)))

    @invariant()
    def jobs_are_found_by_their_state(self) -> None:
        for state in State:
            if state not in (State.EMPTY, State.EXPIRED):
                found = list(self.board.in_state(state, 1, self.board.next_sequence))
                on_board = [sequence for sequence in self.of(state) if self.board.row(sequence) >= 0]
                assert found == sorted(on_board, reverse=True)
        assert self.queue.delayed.next == min(self.due.values(), default=inf)


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


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


@pytest.mark.parametrize("state", [s for s in State if s and s not in MOVES[State.EMPTY]], ids=lambda state: state.name)
def test_a_job_begins_as_the_table_says(state: State) -> None:
    with pytest.raises(IllegalMoveError):
        opened(Board(4, 60.0, 4), state)


def test_jobs_that_are_over_come_back_at_once_as_they_do_one_by_one() -> None:
    one_by_one, at_once = Board(8, 60.0, 2), Board(8, 60.0, 2)
    first = one_by_one.rows + 2
    records = [
        Record(
            first + n,
            100 + n,
            State.FAILED if n % 2 else State.SUCCEEDED,
            n,
            n,
            n + 0.5,
            0.0,
            n + 1.0,
            n + 2.0,
            n,
            None,
            n + 1,
            n % 2,
            n % 2,
        )
        for n in range(5)
    ]
    for record in records:
        one_by_one.restore(record)
    columns = list(zip(*map(msgspec.structs.astuple, records), strict=True))
    _, tag, state, task, priority, submitted, _, started, ended, attempt, _, place, reason, has_result = columns
    assert at_once.is_free(first, 5)
    at_once.restore_over(
        first, tag, state, attempt, place, submitted, started, ended, task, priority, reason, has_result
    )
    assert not at_once.is_free(first + 4, 1)
    assert not at_once.is_free(at_once.rows - 1, 2)
    assert records_of(at_once) == records_of(one_by_one) != []
    assert (at_once.count, at_once.ended_total, at_once.next_sequence) == (
        one_by_one.count,
        one_by_one.ended_total,
        one_by_one.next_sequence,
    )


def test_an_empty_row_is_seen_once_its_job_has_moved() -> None:
    board = Board(4, 60.0, 4)
    sequence = opened(board, State.EMPTY)
    assert board.row(sequence) == -1
    assert opened(board) == sequence + 1
    board.move(sequence, State.QUEUED, 1.0)
    assert board.row(sequence) >= 0
    assert board.count[State.QUEUED] == 2


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
        board.report(sequence, attempt, 40, 2.0)
        assert board.progress(row) == 40
        board.move(sequence, State.RETRYING, 2.0)
        board.report(sequence, attempt, 50, 2.0)
        assert board.progress(row) == 40
        board.move(sequence, State.QUEUED, 2.0)
    assert board.state(sequence) == State.QUEUED


def test_progress_tells_when_a_running_job_ends_if_it_goes_on_like_that() -> None:
    board = Board(4, 60.0, 4)
    sequence = opened(board, State.SCHEDULED)
    row = board.row(sequence)
    board.due[row] = 9.0
    board.move(sequence, State.QUEUED, 9.0)
    board.move(sequence, State.RUNNING, 10.0)
    for percent, when, ends in ((0, 10.0, 0.0), (25, 12.0, 18.0), (50, 15.0, 20.0), (100, 16.0, 16.0)):
        board.report(sequence, 1, percent, when)
        assert board.due[row] == ends


def test_an_attempt_that_is_over_cannot_report_for_the_next() -> None:
    board = Board(4, 60.0, 4)
    sequence = opened(board)
    for state in (State.RUNNING, State.RETRYING, State.QUEUED, State.RUNNING):
        board.move(sequence, state, 1.0)
    board.report(sequence, 1, 90, 2.0)
    assert board.progress(board.row(sequence)) is None


def record_of(sequence: int, state: State, place: int = 0) -> Record:
    return Record(sequence, sequence, state, 0, 5, 1.0, ended=float(place), place=place)


def test_a_row_comes_back_as_it_was() -> None:
    board = Board(4, 60.0, 4)
    for number, road in enumerate(ROADS.values()):
        sequence = board.open(State.QUEUED if road else State.SCHEDULED, lambda s: s + 7, number, number % 10, 1.0)
        row = board.row(sequence)
        for state in road:
            board.move(sequence, state, 2.0 + state)
            board.report(sequence, 1, 30 + number, 2.0)
        board.due[row] = 9.0
        if number % 2:
            board.reason[row] = board.has_result[row] = 1
    records = records_of(board)
    assert len(records) == len(ROADS)
    assert len({record.progress for record in records}) > 3
    other = Board(40, 60.0, 4)
    for record in records:
        assert other.restore(record)
    assert {record.sequence: record for record in records_of(other)} == {record.sequence: record for record in records}
    assert (other.count, other.ended_total) == (board.count, board.ended_total)
    assert other.next_sequence == board.next_sequence


def test_an_active_job_has_the_row_before_one_that_is_over_whichever_comes_first() -> None:
    for first, second in ((3, 3 + 17), (3 + 17, 3)):
        active, over = record_of(first, State.QUEUED), record_of(second, State.FAILED, place=9)
        for records in ((active, over), (over, active)):
            board = Board(4, 60.0, 6, rows=17)
            assert [board.restore(record) for record in records] == [True, records[1] is active]
            assert board.state(first) == State.QUEUED
            assert board.state(second) == State.EXPIRED
            assert (board.next_sequence, board.ended_total, board.count[State.FAILED]) == (21, 9, 1)


def test_of_two_that_are_over_the_one_that_ended_later_has_the_row() -> None:
    early, late = record_of(3 + 17, State.FAILED, place=8), record_of(3, State.SUCCEEDED, place=9)
    for records in ((early, late), (late, early)):
        board = Board(4, 60.0, 6, rows=17)
        assert [board.restore(record) for record in records] == [True, records[1] is late]
        assert (board.state(3), board.state(20)) == (State.SUCCEEDED, State.EXPIRED)
        assert (board.count[State.SUCCEEDED], board.count[State.FAILED]) == (1, 1)


def test_two_active_jobs_never_share_a_row() -> None:
    board = Board(4, 60.0, 6, rows=17)
    board.restore(record_of(3, State.RUNNING))
    with pytest.raises(IllegalMoveError):
        board.restore(record_of(20, State.QUEUED))
    assert board.state(3) == State.RUNNING
    assert board.count[State.QUEUED] == 0
    assert rows_that_hold([3, 20], 17, 18) == 18
    assert rows_that_hold([3, 20], 17, 10) == 20
    assert rows_that_hold([3, 19], 17, 10) == 17


@pytest.mark.parametrize("state", [State.EMPTY, State.EXPIRED], ids=lambda state: state.name)
def test_what_is_no_state_of_a_row_does_not_come_back(state: State) -> None:
    with pytest.raises(IllegalMoveError):
        Board(4, 60.0, 4).restore(msgspec.structs.replace(record_of(3, State.FAILED), state=state))


def test_the_memory_is_what_the_rows_take() -> None:
    board = Board(1000, 60.0, 100)
    assert board.size_bytes == board.rows * ROW_BYTES == 1201 * ROW_BYTES
    assert len(board.live) == len(board.reason) == board.rows


@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED])
def test_a_job_that_is_shown_is_as_if_it_had_been_opened_so(state: State) -> None:
    shown, opened = (Board(4, 10.0, 2) for _ in range(2))
    sequence = shown.open(State.EMPTY, lambda number: number, 1, 5, 7.0)
    assert shown.row(sequence) < 0
    shown.show(sequence, state)
    assert opened.open(state, lambda number: number, 1, 5, 7.0) == sequence
    row = shown.row(sequence)
    assert row == opened.row(sequence)
    assert (shown.live[row], shown.count) == (opened.live[row], opened.count)
