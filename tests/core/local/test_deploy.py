"""What one image of the program leaves, and what the next makes of it with settings of its own."""

from __future__ import annotations

import ctypes
import os
import time
from collections import Counter
from io import BytesIO
from math import inf

import msgspec
import pytest
from headway.core import config as configured
from headway.core.audit import Act
from headway.core.board.board import Board
from headway.core.board.idempotency import Keyed
from headway.core.board.outcomes import batch_number
from headway.core.board.results import ENTRY_BYTES, Kept, Results
from headway.core.board.rows import LAYOUT, Rows, rows_for
from headway.core.board.search import Conditions, Search
from headway.core.board.tags import Tags
from headway.core.body import JSON
from headway.core.config import Config, IdempotencySection
from headway.core.ids import Ids
from headway.core.job import Job, Reason, State, Terms
from headway.core.local import deploy
from headway.core.local.active import Active
from headway.core.local.at_once import AtOnce
from headway.core.local.deploy import Carried
from headway.core.memfile import nameless_file
from headway.core.past_attempt import PastAttempt
from headway.core.retention import Retention
from headway.core.tasks.registry import Options, Registry
from headway.core.tasks.result import Result

KEPT_JOBS, KEPT_SECONDS, ACTIVE = 20, 3600.0, 5
BEGIN = time.monotonic()
IDS = Ids(b"secret")
ENDS = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def registry(*names: str) -> Registry:
    """Tasks of these names."""
    made = Registry()
    for name in names:
        made.add(lambda payload: payload, Options(name=name))
    return made


def ended(board: Board, state: State, task: int, ago: float = 0.0) -> int:
    """Put a job on the board that ended so long ago, and return its number."""
    sequence = board.open(State.QUEUED, lambda number: number + 1000, task, 5, BEGIN - ago)
    if state is not State.CANCELLED:
        board.move(sequence, State.RUNNING, BEGIN - ago)
    board.move(sequence, state, BEGIN - ago)
    return sequence


def active_of(tasks: Registry, board: Board, result_bytes: int = 10**6, keys: int = 9) -> Active:
    """What is kept besides the rows, within these bounds."""
    config = Config(
        results=configured.ResultsSection(max_bytes=result_bytes),
        idempotency=IdempotencySection(seconds=60.0, keys=keys),
    )
    active = Active(config, tasks, IDS, board)
    active.changes = AtOnce(active)
    return active


class Before:
    """An image that has come to its end: a board that has gone round, results, three tasks."""

    def __init__(self, jobs: int = 1100, long: bool = True) -> None:
        self.board = Board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, fd=nameless_file("test"))
        self.registry = registry("one", "two", "three")
        self.active = active_of(self.registry, self.board, keys=9)
        self.results, self.keys = self.active.results, self.active.keys
        self.board.count[State.FAILED] = 100
        # One that was active all the while ends late, and so is kept far from the others.
        late = self.board.open(State.QUEUED, lambda number: number + 1000, 1, 5, BEGIN) if long else 0
        for number in range(jobs):
            sequence = ended(self.board, ENDS[number % 3], number % 3, ago=3000.0 if number < jobs - 10 else 1.0)
            if number % 3 == 0:
                self.results.put(sequence, Result(b"%d" % sequence, JSON))
            elif number % 3 == 1:
                task = self.registry.tasks[number % 3]
                job = Job(sequence, task, b"[1]", Terms(5.0, 2), inf)
                self.results.put_error(sequence, Result("it went wrong"), job)
        if late:
            self.board.move(late, State.CANCELLED, BEGIN)

    def told(self, board: Board, names: list[str]) -> dict[int, tuple[int, str, int, int, object]]:
        """What ``board`` tells of each job that can be read."""
        told: dict[int, tuple[int, str, int, int, object]] = {}
        for sequence in range(1, self.board.next_sequence):
            row = board.row(sequence)
            if row >= 0 and board.kept(row, BEGIN):
                times = board.submitted[row], board.started[row], board.ended[row]
                told[sequence] = (
                    board.state(sequence),
                    names[board.task[row]],
                    board.tag[row],
                    board.place[row],
                    times,
                )
        return told

    def before(self) -> dict[int, tuple[int, str, int, int, object]]:
        """What this image told."""
        return self.told(self.board, [task.name for task in self.registry.tasks])

    def left(self) -> bytes:
        """What it leaves besides the rows."""
        file = BytesIO()
        deploy.write(file, IDS, [task.name for task in self.registry.tasks], self.active, [])
        return file.getvalue()

    def leave(self) -> Carried:
        """Leave all to another image."""
        return Carried(BytesIO(self.left()), os.dup(self.board.fd))


Measures = tuple[int, float, int]


def measured(measures: Measures) -> tuple[Retention, int]:
    """The same measures for each outcome, as a board takes them."""
    return Retention.same(*measures[:2]), measures[2]


@pytest.mark.parametrize("long", [False, True], ids=["all-in-a-row", "one-far-off"])
@pytest.mark.parametrize(
    ("measures", "names"),
    [
        pytest.param((KEPT_JOBS, KEPT_SECONDS, ACTIVE), ["one", "two", "three"], id="the-same"),
        pytest.param((KEPT_JOBS, KEPT_SECONDS, ACTIVE), ["three", "new", "one", "two"], id="tasks-in-another-order"),
        pytest.param((KEPT_JOBS, KEPT_SECONDS, ACTIVE), ["new", "two"], id="tasks-gone"),
        pytest.param((KEPT_JOBS, KEPT_SECONDS, ACTIVE), [], id="no-tasks"),
        pytest.param((KEPT_JOBS, KEPT_SECONDS, ACTIVE + 1), ["one", "two", "three"], id="more-active"),
        pytest.param((KEPT_JOBS, KEPT_SECONDS, ACTIVE - 3), ["two", "three"], id="fewer-active"),
        pytest.param((KEPT_JOBS + 12, KEPT_SECONDS, ACTIVE), ["one", "two", "three"], id="more-kept"),
        pytest.param((KEPT_JOBS + 4, KEPT_SECONDS, ACTIVE - 2), ["one", "two"], id="more-kept-in-as-many-rows"),
        pytest.param((KEPT_JOBS, 10 * KEPT_SECONDS, ACTIVE), ["one", "two", "three"], id="kept-for-longer"),
        pytest.param((KEPT_JOBS - 13, KEPT_SECONDS, ACTIVE), ["one", "two", "three"], id="fewer-kept"),
        pytest.param((0, KEPT_SECONDS, 1), ["one"], id="none-kept"),
        pytest.param((KEPT_JOBS, 2000.0, ACTIVE + 9), ["one", "two", "three"], id="kept-less-long"),
        pytest.param((1000, KEPT_SECONDS, 100), ["three", "two"], id="many-more"),
    ],
)
def test_what_was_kept_is_told_as_before(measures: Measures, names: list[str], long: bool) -> None:
    left = Before(long=long)
    told = left.before()
    assert Counter(said[0] for said in told.values()) == dict.fromkeys(ENDS, KEPT_JOBS)
    # The one that is far off has moved.
    assert bool(left.board.annex_used) == long
    now = list(names)
    board = left.leave().board(*measured(measures), now)
    expected = {
        sequence: said
        for sequence, said in told.items()
        # The number holds at once. The seconds hold for jobs that end from now on.
        if left.board.last_place[said[0]] - said[3] < measures[0]
    }
    assert left.told(board, now) == expected
    assert now[: len(names)] == names
    assert (board.next_sequence, board.last_place) == (left.board.next_sequence, left.board.last_place)
    assert board.count == left.board.count
    assert board.count[State.FAILED] > 100
    assert board.rows == rows_for([measures[0]], measures[2])
    assert (board.kept_jobs, board.kept_seconds) == Retention.same(*measures[:2])
    # It goes on: as many rows as can be needed are free, and no number is given twice.
    for _ in range(3 * board.rows):
        assert ended(board, State.SUCCEEDED, 0) >= left.board.next_sequence


def test_jobs_are_listed_after_each_of_several_deploys() -> None:
    left, names = Before(), ["one", "two", "three"]
    expected = {
        state: sorted((s for s, said in left.before().items() if said[0] == state), reverse=True) for state in ENDS
    }
    assert all(expected.values())
    board, active = left.board, left.active
    for more in (0, 1, 0, 7, 0):
        file = BytesIO()
        deploy.write(file, IDS, names, active, [])
        file.seek(0)
        board = Carried(file, os.dup(board.fd)).board(
            Retention.same(KEPT_JOBS, KEPT_SECONDS), board.active_most + more, list(names)
        )
        active = active_of(left.registry, board)
        for state, jobs in expected.items():
            wanted, found = Conditions(states=frozenset({state})), list[int]()
            search = Search(board, Tags(board), wanted, board.next_sequence)
            while search.end:
                found += search.step(BEGIN)
            assert found == jobs


def test_what_had_expired_does_not_come_back() -> None:
    left = Before()
    old = ended(left.board, State.SUCCEEDED, 0, ago=KEPT_SECONDS + 1)
    told = left.before()
    assert old not in told
    board = left.leave().board(Retention.same(KEPT_JOBS, 100 * KEPT_SECONDS), ACTIVE, ["one", "two", "three"])
    assert left.told(board, ["one", "two", "three"]) == told
    board = left.leave().board(Retention.same(10 * KEPT_JOBS, KEPT_SECONDS), ACTIVE, ["one", "two", "three"])
    assert left.told(board, ["one", "two", "three"]) == told


def test_a_ring_goes_over_into_one_of_far_fewer_rows() -> None:
    many, tasks = 4000, registry("one")
    board = Board(Retention.same(many, KEPT_SECONDS), ACTIVE, fd=nameless_file("test"))
    for _ in range(many):
        ended(board, State.SUCCEEDED, 0)
    file = BytesIO()
    deploy.write(file, IDS, ["one"], active_of(tasks, board), [])
    file.seek(0)
    other = Carried(file, os.dup(board.fd)).board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, ["one"])
    assert other.rows < many / 3
    assert [job for job in range(1, many + 1) if other.row(job) >= 0] == [*range(many - KEPT_JOBS + 1, many + 1)]


def test_rows_stay_where_they_are_unless_their_number_changes() -> None:
    left = Before()
    board = left.leave().board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, ["one", "two", "three"])
    sequence = ended(board, State.FAILED, 2)
    assert left.board.state(sequence) == State.FAILED


def test_the_name_of_a_task_goes_with_its_last_job() -> None:
    left, now = Before(), ["two"]
    board = left.leave().board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, now)
    assert now == ["two", "one", "three"]
    for number in range(3 * board.rows):
        ended(board, ENDS[number % 3], 0)
    file = BytesIO()
    deploy.write(file, IDS, now, active_of(left.registry, board), [])
    file.seek(0)
    again = ["two"]
    Carried(file, os.dup(board.fd)).board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, again)
    assert again == ["two"]


@pytest.mark.parametrize("other", [LAYOUT - 1, LAYOUT + 1])
def test_rows_of_another_layout_are_not_read(other: int) -> None:
    left = Before()
    came = left.leave()
    came.document.layout = other
    board = came.board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, [])
    assert left.told(board, []) == {}
    assert board.next_sequence == left.board.next_sequence
    assert board.count == left.board.count


def test_the_layout_is_the_one_that_has_this_number() -> None:
    """Whoever changes the columns of a row counts LAYOUT up, and then this."""
    board = Board(Retention.same(1, 1.0), 1)
    names = "live tag place submitted due started ended task priority reason has_result"
    columns = {name: getattr(board, name) for name in Rows.__slots__ if name[0] != "_"}
    # The second name of a column is not one more.
    columns = {name: value for name, value in columns.items() if is_column(value, board) and name not in SECOND_NAMES}
    assert (LAYOUT, names.split()) == (3, sorted(columns, key=lambda name: address(columns[name])))
    assert "".join(getattr(board, name).format for name in names.split()) == "QQQddddHBBB"


SECOND_NAMES = {"ask_at", "expected_end", "kept_until", "ticket"}


def address(column: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(column))


def is_column(value: object, board: Board) -> bool:
    return isinstance(value, memoryview) and len(value) == board.rows + board.annex and value.contiguous


def entries(results: Results) -> dict[int, Kept]:
    return {sequence: one for share in (results.results, results.errors) for sequence, one, _ in share.items()}


def test_results_come_over_in_their_order() -> None:
    left = Before()
    kept = entries(left.results)
    assert len(kept) > 40
    now = registry("three", "two")
    active = active_of(now, left.board)
    results = active.results
    left.leave().give(active, now.by_name)
    came = entries(results)
    assert list(came) == list(kept)
    assert results.used_bytes == left.results.used_bytes
    for sequence, one in came.items():
        assert (one.result.body, one.result.media_type) == (
            kept[sequence].result.body,
            kept[sequence].result.media_type,
        )
        job = kept[sequence].job
        assert (one.job is None) == (job is None)
        if one.job is not None and job is not None:
            # The task of now, by its name.
            assert (one.job.task.name, one.job.task.index) == ("two", 1)
            assert msgspec.structs.astuple(one.job)[2:] == msgspec.structs.astuple(job)[2:]


def test_results_come_over_within_the_budget_of_now() -> None:
    left = Before()
    active = active_of(registry(), left.board, result_bytes=1000)
    results = active.results
    left.leave().give(active, {})
    assert 0 < results.used_bytes <= 1000
    assert next(reversed(entries(results))) == next(reversed(entries(left.results)))
    assert all(one.job is None for one in entries(results).values())


def test_results_that_cannot_be_read_are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    left = Before()
    active = active_of(registry(), left.board)
    results = active.results
    Carried(BytesIO(left.left()[:-3]), os.dup(left.board.fd)).give(active, {})
    assert len(results) == len(left.results) - 1
    assert "cannot read the previous process's results" in caplog.text


def test_idempotency_keys_come_over_in_their_order() -> None:
    left = Before(1)
    for number in range(12):
        left.keys.put(f"key {number}", Keyed(number, bytes(16), BEGIN))
    active = active_of(registry(), left.board, keys=5)
    left.leave().give(active, {})
    assert list(active.keys.items()) == list(left.keys.items())[-5:]


@pytest.mark.parametrize(
    ("measures", "sure"),
    [
        ((KEPT_JOBS, KEPT_SECONDS, ACTIVE), True),
        ((KEPT_JOBS + 50, KEPT_SECONDS, ACTIVE), False),
        ((KEPT_JOBS, KEPT_SECONDS * 9, ACTIVE), False),
        ((KEPT_JOBS, KEPT_SECONDS, ACTIVE - 1), False),
    ],
)
def test_batches_of_before_are_looked_at_one_by_one_where_settings_have_changed(measures: Measures, sure: bool) -> None:
    """What may have expired by now is not to be told from those of now."""
    left = Before(1, long=False)
    first = left.board.next_sequence
    ended(left.board, State.SUCCEEDED, 0)
    board = left.leave().board(*measured(measures), ["one", "two", "three"])
    assert board.none_expired(first, board.states(first, 1), BEGIN) == sure
    later = ended(board, State.SUCCEEDED, 0)
    assert board.none_expired(later, board.states(later, 1), BEGIN)


def test_a_batch_with_a_short_keep_is_looked_at_job_by_job_after_a_deploy_as_before() -> None:
    left = Before(1, long=False)
    first = left.board.next_sequence
    sequence = left.board.open(State.QUEUED, lambda number: number, 0, 5, BEGIN)
    left.board.move(sequence, State.CANCELLED, BEGIN, keep_s=2.0)
    board = left.leave().board(*measured((KEPT_JOBS, KEPT_SECONDS, ACTIVE)), ["one", "two", "three"])
    assert board.none_expired(first, board.states(first, 1), BEGIN + 1.0)
    assert not board.none_expired(first, board.states(first, 1), BEGIN + 3.0)


def test_of_each_outcome_as_many_are_kept_as_the_next_settings_say() -> None:
    left = Before()
    jobs = [0] * len(State)
    jobs[State.SUCCEEDED], jobs[State.FAILED], jobs[State.CANCELLED] = 3, 40, 0
    board = left.leave().board(Retention(tuple(jobs), Retention.same(0, 9.0).seconds), ACTIVE, ["one", "two", "three"])
    told = Counter(said[0] for said in left.told(board, ["one", "two", "three"]).values())
    # None that was not kept before comes back.
    assert told == {State.SUCCEEDED: 3, State.FAILED: KEPT_JOBS}


def test_counts_of_tasks_come_over_by_name() -> None:
    left = Before(1)
    left.active.stats.ended[1][State.FAILED] = 7
    now = registry("three", "two")
    active = active_of(now, left.board)
    left.leave().give(active, now.by_name)
    assert [ended[State.FAILED] for ended in active.stats.ended][:2] == [0, 7]


def test_errors_come_over_into_their_own_share() -> None:
    left = Before()
    active = active_of(registry(), left.board, result_bytes=20 * (ENTRY_BYTES + 13))
    left.leave().give(active, {})
    of = Counter(left.board.state(sequence) for sequence in entries(active.results))
    assert min(of[State.SUCCEEDED], of[State.FAILED]) >= 9


def test_outcomes_of_batches_come_over() -> None:
    left = Before(1)
    left.active.outcomes.put(batch_number(5, 3), 2, 1)
    active = active_of(registry(), left.board)
    left.leave().give(active, {})
    assert active.outcomes.get(batch_number(5, 3)) == (2, 1)


def test_tags_come_over() -> None:
    left = Before(10)
    told = {1: ("a", "b"), 5: ("a",), 7: ("ü \U0001f600",)}
    for sequence, tags in told.items():
        left.active.tags.put(sequence, tags)
    active = active_of(registry(), left.board)
    left.leave().give(active, {})
    assert dict(active.tags.items()) == told
    assert active.tags.between("a", 0, 100) == [5, 1]


def test_failed_attempts_come_over_in_their_order() -> None:
    left = Before(10)
    told = {
        sequence: [PastAttempt(number, 1.0, 2.0, "loop", Reason.ERROR, "ValueError", "ü", "where") for number in (1, 2)]
        for sequence in (7, 1, 5)
    }
    left.active.past.put(told)
    active = active_of(registry(), left.board)
    left.leave().give(active, {})
    assert list(active.past.all().items()) == list(told.items())
    assert active.past.used_bytes == left.active.past.used_bytes > 0


def test_the_audit_log_comes_over_and_goes_on() -> None:
    left = Before(1)
    for what in ("cancelJob", "switchTask"):
        left.active.trail.add(5.0, Act(what))
    active = active_of(registry(), left.board)
    left.leave().give(active, {})
    active.trail.add(6.0, Act("changeJob"))
    told = [(3, "changeJob"), (2, "switchTask"), (1, "cancelJob")]
    assert [(entry.number, entry.act.what) for entry in active.trail.read(0, 9)] == told


def test_members_that_one_of_the_two_does_not_know_are_passed_over() -> None:
    left = Before()
    document = msgspec.structs.asdict(left.leave().document) | {"a_member_of_later": [1, 2]}
    data = msgspec.msgpack.encode(document)
    came = Carried(BytesIO(deploy.LENGTH.pack(len(data)) + data), os.dup(left.board.fd))
    assert came.document.next_sequence == left.board.next_sequence


def test_a_nameless_file_where_there_is_no_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    fd = nameless_file("test")
    assert os.fstat(fd).st_nlink == 0
    assert not os.get_inheritable(fd)
    board = Board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, fd=fd)
    board.next_sequence = 5
    assert ended(board, State.SUCCEEDED, 0) == 5
    again = Board(Retention.same(KEPT_JOBS, KEPT_SECONDS), ACTIVE, rows=board.rows, annex=board.annex, fd=os.dup(fd))
    assert again.state(5) == State.SUCCEEDED
