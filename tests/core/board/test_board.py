"""The board and the queue against a model of plain dicts."""

from itertools import permutations
from math import inf
from random import Random

import msgspec
import pytest
from headway.core.board.batches import Batches
from headway.core.board.board import Board
from headway.core.board.outcomes import Outcomes, batch_number
from headway.core.board.rows import ANNEX_BYTES, PLACES_BYTES, ROW_BYTES, STATE_MASK, Record, Rows
from headway.core.board.search import Conditions, Search
from headway.core.board.tags import Tags
from headway.core.config import OutcomeSection, RetentionSection
from headway.core.errors import IllegalMoveError
from headway.core.ids import Ids
from headway.core.job import ACTIVE, MOVES, TERMINAL, State
from headway.core.queue.queue import Queue
from headway.core.queue.ready import Limit
from headway.core.retention import Retention
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.each import each

# How much is kept, at first and under other settings: jobs and seconds of each outcome.
FIRST, *OTHERS = (
    Retention.of(
        RetentionSection(
            succeeded=OutcomeSection(jobs=jobs[0], seconds=seconds[0]),
            failed=OutcomeSection(jobs=jobs[1], seconds=seconds[1]),
            cancelled=OutcomeSection(jobs=jobs[2], seconds=seconds[2]),
        )
    )
    for jobs, seconds in (
        ((3, 2, 1), (10.0, 20.0, 10.0)),
        ((3, 2, 1), (10.0, 20.0, 10.0)),
        ((3, 3, 3), (10.0, 10.0, 10.0)),
        ((0, 4, 1), (10.0, 2.0, 30.0)),
        ((1, 1, 0), (1.0, 20.0, 10.0)),
        ((9, 9, 9), (90.0, 90.0, 90.0)),
    )
)
QUEUE_SIZE = 4
WORKERS = 2


def records_of(board: Board) -> list[Record]:
    """All that ``board`` holds, in the order of its rows."""
    rows = [(row, board.sequence(row)) for row, word in enumerate(board.live) if word & STATE_MASK]
    return [
        Record(
            sequence,
            board.tag[row],
            board.state(sequence),
            board.task[row],
            board.priority[row],
            board.submitted[row],
            0.0 if board.state(sequence) in TERMINAL else board.due[row],
            board.started[row],
            board.ended[row],
            board.attempt(row),
            board.progress(row),
            board.place[row],
            board.kept_until[row] if board.state(sequence) in TERMINAL else 0.0,
            board.reason[row],
            board.has_result[row],
        )
        for row, sequence in rows
    ]


class Jobs(RuleBasedStateMachine):
    """Submit, claim, end, retry, cancel and let time pass, on a board of 7 rows that wraps many times."""

    def __init__(self) -> None:
        super().__init__()
        self.retention = FIRST
        self.board = Board(self.retention, QUEUE_SIZE + WORKERS, rows=7)
        self.outcomes = Outcomes(self.board)
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
        # By outcome: (sequence, until when it is kept), in the order of their ends.
        self.ends: dict[State, list[tuple[int, float]]] = {state: [] for state in TERMINAL}
        # Those that were not kept under earlier settings.
        self.gone: set[int] = set()
        self.batches: list[list[int]] = []
        self.batch_of: dict[int, int] = {}

    def waiting(self) -> int:
        return len(self.ready) + len(self.due)

    def of(self, *states: State) -> list[int]:
        return [sequence for sequence, state in self.state.items() if state in states]

    def move(self, sequence: int, after: State, keep_s: float | None = None) -> None:
        self.board.move(sequence, after, self.now, keep_s=keep_s)
        self.state[sequence] = after
        if after in TERMINAL:
            seconds = self.retention.seconds[after] if keep_s is None else keep_s
            self.ends[after].append((sequence, self.now + seconds))
            if sequence in self.batch_of:
                self.outcomes.add(self.batch_of[sequence], after, self.now)

    @precondition(lambda self: self.waiting() < QUEUE_SIZE)
    @rule(priority=st.integers(0, 9), delay=st.sampled_from([0, 0, 3]), task=st.sampled_from([0, 0, 1]))
    def submit(self, priority: int, delay: int, task: int) -> None:
        assert self.queue.room > 0
        self.take(priority, delay, task)

    @precondition(lambda self: self.waiting() < QUEUE_SIZE)
    @rule(data=st.data(), delay=st.sampled_from([0, 0, 3]))
    def submit_a_batch(self, data: st.DataObject, delay: int) -> None:
        count = data.draw(st.integers(1, self.queue.room))
        first = self.board.next_sequence
        members = list(range(first, first + count))
        state = State.SCHEDULED if delay else State.QUEUED
        tags = [sequence + 1000 for sequence in members]
        assert self.board.open_many([state] * count, tags, [0] * count, [5] * count, self.now) == first
        for sequence in members:
            self.let_wait(sequence, state, 5, delay, 0)
        self.batches.append(members)
        self.batch_of |= dict.fromkeys(members, batch_number(first, count))

    def take(self, priority: int, delay: int, task: int) -> int:
        state = State.SCHEDULED if delay else State.QUEUED
        sequence = self.board.open(state, lambda number: number + 1000, task, priority, self.now)
        self.let_wait(sequence, state, priority, delay, task)
        return sequence

    def let_wait(self, sequence: int, state: State, priority: int, delay: int, task: int) -> None:
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
        assert self.queue.room <= 0

    @precondition(lambda self: len(self.of(State.RUNNING)) < WORKERS)
    @rule()
    def claim(self) -> None:
        limited = any(self.task[sequence] == 1 for sequence in self.of(State.RUNNING))
        may_run = [sequence for sequence in self.ready if not (limited and self.task[sequence] == 1)]
        # Of two lines the job that was submitted first, within a line the one that was ready first.
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
    @rule(
        data=st.data(),
        after=st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED]),
        keep_s=st.sampled_from([None, None, 1.5, 40.0]),
    )
    def end(self, data: st.DataObject, after: State, keep_s: float | None) -> None:
        sequence = data.draw(st.sampled_from(self.of(State.RUNNING)))
        self.queue.release(self.task[sequence])
        self.move(sequence, after, keep_s)

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

    @rule(
        order=st.randoms(use_true_random=False),
        rows=st.sampled_from([5, 7, 8, 16, 40]),
        skip=st.sampled_from([0, 1, 9, 1000]),
        copied=st.booleans(),
        retention=st.sampled_from(OTHERS),
    )
    def come_back_to_another_board(
        self, order: Random, rows: int, skip: int, copied: bool, retention: Retention
    ) -> None:
        before = self.board
        self.gone = {sequence for ends in self.ends.values() for sequence, _ in ends} - self.kept()
        self.retention = retention
        before.forget_expired(self.now)
        before.keep(retention, QUEUE_SIZE + WORKERS)
        before.forget_expired(self.now)
        self.board = Board(retention, QUEUE_SIZE + WORKERS, rows=rows)
        if copied:
            self.board.copy(before)
        else:
            records = records_of(before)
            order.shuffle(records)
            for record in records:
                self.board.restore(record)
            # Jobs that have left the board have ended as well.
            for state in TERMINAL:
                assert self.board.count[state] == sum(record.state == state for record in records)
                self.board.count[state] = before.count[state]
            self.board.last_place = before.last_place[:]
            self.board.begin_stretch(before.next_sequence + skip)
        outcomes, self.outcomes = self.outcomes, Outcomes(self.board)
        for batch, counts in outcomes.items():
            self.outcomes.put(batch, *counts)
        self.limits = [(), (Limit(1),)]
        self.limits[1][0].running = sum(self.task[sequence] == 1 for sequence in self.of(State.RUNNING))
        self.queue = Queue(self.board, QUEUE_SIZE, QUEUE_SIZE + WORKERS, self.limits)
        for sequence in self.ready:
            self.queue.push(sequence)
        for sequence, due in self.due.items():
            self.queue.delay(sequence, due)

    def kept(self) -> set[int]:
        last = {state: ends[max(len(ends) - self.retention.jobs[state], 0) :] for state, ends in self.ends.items()}
        kept = {sequence for ends in last.values() for sequence, until in ends if self.now < until}
        return kept - self.gone

    @invariant()
    def every_active_job_is_on_the_board(self) -> None:
        for sequence in self.of(*ACTIVE):
            assert self.board.state(sequence) == self.state[sequence]
            assert self.board.tag[self.board.row(sequence)] == sequence + 1000

    @invariant()
    def exactly_the_last_of_each_outcome_are_kept(self) -> None:
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
        batches = Batches(self.board, self.outcomes, keys, lambda some, count, _: some[0] * 100 + count)
        for members in self.batches:
            known = [s for s in members if self.state[s] in ACTIVE or s in kept]
            status = batches.peek(keys.write_batch(members[0], len(members)), self.now)
            assert status is not None
            pending = [s for s in members if self.state[s] in ACTIVE]
            assert status.pending == len(pending)
            assert status.retry_after_ms == (pending[-1] * 100 + len(pending) if pending else 0)
            states = [self.state[s] for s in members] if known else []
            assert [status.succeeded, status.failed, status.cancelled] == [
                states.count(state) for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
            ]
            assert status.expired == len(members) - len(known)
            assert batches.pending(status) == pending
            assert batches.last_pending(members[0], len(members)) == max(pending, default=0)
            assert batches.jobs(status, self.now) == [(keys.write(s, s + 1000), self.state[s]) for s in known]

    @invariant()
    def counts_and_positions_are_right(self) -> None:
        assert len(self.queue) == self.waiting()
        for state in State:
            if state not in (State.EMPTY, State.EXPIRED):
                assert self.board.count[state] == len(self.of(state))
        for task in (0, 1):
            line = [sequence for sequence in self.ready if self.task[sequence] == task]
            order = sorted(line, key=lambda s: (-self.priority[s], self.ready.index(s)))
            rows = [self.board.row(sequence) for sequence in order]
            assert [self.queue.own(row) for row in rows] == list(range(len(order)))
            for own, (sequence, row) in enumerate(zip(order, rows, strict=True)):
                least, most = self.of_the_other_line_before(sequence)
                assert own + least <= self.queue.ahead(row) <= own + most
        for sequence in self.due:
            above = [s for s in self.ready if self.priority[s] >= self.priority[sequence]]
            assert self.queue.ahead(self.board.row(sequence), delayed=True) == len(above)

    def of_the_other_line_before(self, sequence: int) -> tuple[int, int]:
        """How many are claimed first: a span if numbers are out of order, for the search assumes it."""
        others = [s for s in self.ready if self.task[s] != self.task[sequence]]
        higher = sum(self.priority[s] > self.priority[sequence] for s in others)
        equal = [s for s in others if self.priority[s] == self.priority[sequence]]
        if equal == sorted(equal):
            before = higher + sum(s < sequence for s in equal)
            return before, before
        return higher, higher + len(equal)

    @invariant()
    def jobs_are_found_by_their_state(self) -> None:
        kept = self.kept()
        for state in State:
            if state not in (State.EMPTY, State.EXPIRED):
                readable = [s for s in self.of(state) if state in ACTIVE or s in kept]
                assert found(self.board, state, self.now) == sorted(readable, reverse=True)
        assert self.queue.delayed.next == min(self.due.values(), default=inf)


def found(board: Board, state: State, now: float) -> list[int]:
    """All jobs in ``state``, newest first."""
    wanted, jobs = Conditions(states=frozenset({state})), list[int]()
    search = Search(board, Tags(board), wanted, board.next_sequence)
    while search.end:
        jobs += search.step(now)
    return jobs


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=20, stateful_step_count=60, deadline=None)


@pytest.mark.long
def test_many_jobs() -> None:
    run_state_machine_as_test(Jobs, settings=settings(max_examples=300, stateful_step_count=60, deadline=None))


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


@each("before", ROADS, ids=lambda state: state.name)
@each("after", [s for s in State if s is not State.EXPIRED], ids=lambda state: state.name)
def test_only_the_moves_of_the_table_are_made(before: State, after: State) -> None:
    board = Board(Retention.same(4, 60.0), 4)
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
        opened(Board(Retention.same(4, 60.0), 4), state)


def test_jobs_that_are_over_come_back_at_once_as_they_do_one_by_one() -> None:
    one_by_one, at_once = Board(Retention.same(8, 60.0), 2), Board(Retention.same(8, 60.0), 2)
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
            80.0 + n,
            n % 2,
            n % 2,
        )
        for n in range(5)
    ]
    for record in records:
        one_by_one.restore(record)
    columns = list(zip(*map(msgspec.structs.astuple, records), strict=True))
    _, tag, state, task, priority, submitted, _, started, ended, attempt, _, place, *last = columns
    kept_until, reason, has_result = last
    assert at_once.is_free(first, 5)
    at_once.restore_over(
        first,
        tags=tag,
        states=state,
        attempts=attempt,
        places=place,
        submitted=submitted,
        started=started,
        ended=ended,
        kept_until=kept_until,
        tasks=task,
        priorities=priority,
        reasons=reason,
        has_result=has_result,
    )
    assert not at_once.is_free(first + 4, 1)
    assert not at_once.is_free(at_once.rows - 1, 2)
    assert records_of(at_once) == records_of(one_by_one) != []
    assert (at_once.count, at_once.last_place, at_once.next_sequence) == (
        one_by_one.count,
        one_by_one.last_place,
        one_by_one.next_sequence,
    )


def test_an_empty_row_is_seen_once_its_job_has_moved() -> None:
    board = Board(Retention.same(4, 60.0), 4)
    sequence = opened(board, State.EMPTY)
    assert board.row(sequence) == -1
    assert opened(board) == sequence + 1
    board.move(sequence, State.QUEUED, 1.0)
    assert board.row(sequence) >= 0
    assert board.count[State.QUEUED] == 2


@pytest.mark.parametrize("count", [1, 3, 7, 12])
def test_jobs_that_are_opened_together_are_as_if_one_by_one(count: int) -> None:
    """Also where the ring comes round, over jobs that stay and jobs that go."""
    states = [State.SCHEDULED if n % 3 else State.QUEUED for n in range(count)]
    tags, tasks, priorities = [10 * n + 7 for n in range(count)], list(range(count)), [n % 10 for n in range(count)]
    one_by_one, together = (Board(Retention.same(2, 60.0), 20, rows=5) for _ in range(2))
    for board in (one_by_one, together):
        for number in range(4):
            opened(board)
            if number % 2:
                board.move(opened(board), State.CANCELLED, 1.0)
    first = one_by_one.next_sequence
    for fields in zip(states, tags, tasks, priorities, strict=True):
        state, tag, task, priority = fields
        one_by_one.open(state, {one_by_one.next_sequence: tag}.__getitem__, task, priority, 3.0)
    assert together.open_many(states, tags, tasks, priorities, 3.0) == first
    for name in Rows.__slots__:
        if not name.startswith("_"):
            ours, theirs = getattr(together, name), getattr(one_by_one, name)
            assert ours == theirs, name


def test_jobs_cannot_be_opened_together_where_one_cannot_begin_so() -> None:
    board = Board(Retention.same(2, 60.0), 20)
    with pytest.raises(IllegalMoveError):
        board.open_many([State.QUEUED, State.RUNNING], [1, 2], [0, 0], [5, 5], 1.0)
    assert (board.next_sequence, board.count) == (1, [0] * len(State))


def test_a_job_that_left_the_board_cannot_be_moved() -> None:
    board = Board(Retention.same(0, 60.0), 1)
    first = opened(board)
    board.move(first, State.CANCELLED, 1.0)
    for _ in range(board.rows):
        board.move(opened(board), State.CANCELLED, 1.0)
    assert board.row(first) == -1
    assert board.state(first) == State.EXPIRED
    with pytest.raises(IllegalMoveError):
        board.move(first, State.RUNNING, 1.0)


def test_an_active_job_stays_when_the_ring_comes_round() -> None:
    board = Board(Retention.same(0, 60.0), 2, rows=5)
    long = opened(board)
    board.priority[board.row(long)] = 7
    others = [opened(board)]
    for _ in range(5 * board.rows):
        board.move(others.pop(), State.CANCELLED, 1.0)
        others.append(opened(board))
        assert others[-1] == board.next_sequence - 1
        assert board.state(long) == State.QUEUED
        assert (board.tag[board.row(long)], board.priority[board.row(long)]) == (long, 7)
    board.move(long, State.CANCELLED, 2.0)
    assert board.state(long) == State.CANCELLED


def test_rows_of_the_annex_are_used_again() -> None:
    board = Board(Retention.same(3, 60.0), 6, rows=4)
    waiting: list[int] = []
    for _ in range(200 * board.rows):
        waiting.append(opened(board))
        if len(waiting) == 6:
            board.move(waiting.pop(0), State.CANCELLED, 1.0)
        assert all(board.state(sequence) == State.QUEUED for sequence in waiting)
    assert board.annex_used <= board.annex


def test_numbers_after_a_kill_leave_the_jobs_of_before_where_they_are() -> None:
    board = Board(Retention.same(10, 60.0), 4)
    for _ in range(3):
        opened(board)
    for _ in range(20):
        board.begin_stretch(board.next_sequence + (1 << 20))
        opened(board)
    assert len(found(board, State.QUEUED, 1.0)) == 23
    assert board.annex_used == 0


def test_each_attempt_is_counted_and_starts_without_progress() -> None:
    board = Board(Retention.same(4, 60.0), 4)
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
    board = Board(Retention.same(4, 60.0), 4)
    sequence = opened(board, State.SCHEDULED)
    row = board.row(sequence)
    board.due[row] = 9.0
    board.move(sequence, State.QUEUED, 9.0)
    board.move(sequence, State.RUNNING, 10.0)
    for percent, when, ends in ((0, 10.0, 0.0), (25, 12.0, 18.0), (50, 15.0, 20.0), (100, 16.0, 16.0)):
        board.report(sequence, 1, percent, when)
        assert board.due[row] == ends


def test_an_attempt_that_is_over_cannot_report_for_the_next() -> None:
    board = Board(Retention.same(4, 60.0), 4)
    sequence = opened(board)
    for state in (State.RUNNING, State.RETRYING, State.QUEUED, State.RUNNING):
        board.move(sequence, state, 1.0)
    board.report(sequence, 1, 90, 2.0)
    assert board.progress(board.row(sequence)) is None


def record_of(sequence: int, state: State, place: int = 0) -> Record:
    return Record(sequence, sequence, state, 0, 5, 1.0, ended=float(place), place=place)


def test_a_row_comes_back_as_it_was() -> None:
    board = Board(Retention.same(4, 60.0), 4)
    for number, road in enumerate(ROADS.values()):
        sequence = board.open(State.QUEUED if road else State.SCHEDULED, lambda s: s + 7, number, number % 10, 1.0)
        row = board.row(sequence)
        for state in road:
            board.move(sequence, state, 2.0 + state)
            board.report(sequence, 1, 30 + number, 2.0)
        if board.state(sequence) not in TERMINAL:
            board.due[row] = 9.0
        if number % 2:
            board.reason[row] = board.has_result[row] = 1
    records = records_of(board)
    assert len(records) == len(ROADS)
    assert len({record.progress for record in records}) > 3
    other = Board(Retention.same(40, 60.0), 4)
    for record in records:
        other.restore(record)
    assert {record.sequence: record for record in records_of(other)} == {record.sequence: record for record in records}
    assert (other.count, other.last_place) == (board.count, board.last_place)
    assert other.next_sequence == board.next_sequence


def test_of_jobs_that_share_a_row_each_comes_back_in_any_order() -> None:
    records = [record_of(3, State.QUEUED), record_of(20, State.FAILED, place=9), record_of(37, State.RUNNING)]
    for order in permutations(records):
        board = Board(Retention.same(4, 60.0), 6, rows=17)
        for record in order:
            board.restore(record)
        assert [board.state(record.sequence) for record in records] == [State.QUEUED, State.FAILED, State.RUNNING]
        assert (board.next_sequence, board.last_place[State.FAILED], board.count[State.FAILED]) == (38, 9, 1)
        assert {record.sequence: record for record in records_of(board)} == {r.sequence: r for r in records}


def test_a_job_comes_back_once() -> None:
    board = Board(Retention.same(4, 60.0), 6, rows=17)
    for sequence in (3, 20):
        board.restore(record_of(sequence, State.RUNNING))
        with pytest.raises(IllegalMoveError):
            board.restore(record_of(sequence, State.QUEUED))
        assert board.state(sequence) == State.RUNNING
    assert board.count[State.QUEUED] == 0


@pytest.mark.parametrize("state", [State.EMPTY, State.EXPIRED], ids=lambda state: state.name)
def test_what_is_no_state_of_a_row_does_not_come_back(state: State) -> None:
    with pytest.raises(IllegalMoveError):
        Board(Retention.same(4, 60.0), 4).restore(msgspec.structs.replace(record_of(3, State.FAILED), state=state))


def test_the_memory_is_what_the_rows_take() -> None:
    board = Board(Retention.same(1000, 60.0), 100)
    # The jobs of two outcomes may outlast the ring.
    assert (board.rows, board.annex) == (1101, 3100 + 3100 // 7 + 8)
    columns = 1101 * ROW_BYTES + board.annex * ANNEX_BYTES + PLACES_BYTES
    # Behind them is an aligned word.
    assert 8 <= board.size_bytes - columns < 16
    assert board.size_bytes % 8 == 0
    assert len(board.live) == len(board.reason) == board.rows + board.annex


@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED])
def test_a_job_that_is_shown_is_as_if_it_had_been_opened_so(state: State) -> None:
    shown, opened = (Board(Retention.same(4, 10.0), 2) for _ in range(2))
    sequence = shown.open(State.EMPTY, lambda number: number, 1, 5, 7.0)
    assert shown.row(sequence) < 0
    shown.show(sequence, state)
    assert opened.open(state, lambda number: number, 1, 5, 7.0) == sequence
    row = shown.row(sequence)
    assert row == opened.row(sequence)
    assert (shown.live[row], shown.count) == (opened.live[row], opened.count)


def test_a_job_that_waits_is_revised_as_a_whole() -> None:
    board = Board(Retention.same(4, 10.0), 2)
    sequence = opened(board)
    row = board.row(sequence)
    for state, priority, due in ((State.SCHEDULED, 9, 30.0), (State.SCHEDULED, 1, 40.0), (State.QUEUED, 1, 2.0)):
        board.ask_at[row] = 8.0
        board.revise(sequence, state, priority, due, 2.0)
        assert (board.state(sequence), board.priority[row], board.due[row]) == (state, priority, due)
        # The last promise does not hold any more.
        assert board.ask_at[row] == 0.0
    assert (board.count[State.QUEUED], board.count[State.SCHEDULED]) == (1, 0)
    board.move(sequence, State.RUNNING, 3.0)
    with pytest.raises(IllegalMoveError):
        board.revise(sequence, State.QUEUED, 9, 0.0, 4.0)
    assert board.priority[row] == 1
