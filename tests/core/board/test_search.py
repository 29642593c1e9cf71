"""A search of the board against a model that looks at each job."""

from __future__ import annotations

from math import inf
from random import Random

import msgspec
import pytest
from headway.core.board.board import Board
from headway.core.board.search import LOOKS, VISIBLE, Conditions, Search
from headway.core.board.tags import PASSED_MOST, SEGMENT, SEGMENT_BITS, Tags
from headway.core.job import TERMINAL, Reason, State
from headway.core.retention import Retention
from hypothesis import given, settings
from hypothesis import strategies as st

TASKS = (0, 1, 255, 256, 257, 511)
TAGS = ("a", "b", "c")
# How to bring a job into each state.
ROADS: dict[State, tuple[State, ...]] = {
    State.SCHEDULED: (),
    State.QUEUED: (),
    State.RUNNING: (State.RUNNING,),
    State.RETRYING: (State.RUNNING, State.RETRYING),
    State.SUCCEEDED: (State.RUNNING, State.SUCCEEDED),
    State.FAILED: (State.RUNNING, State.FAILED),
    State.CANCELLED: (State.CANCELLED,),
}


class Known(msgspec.Struct):
    """What the model knows of a job."""

    state: State
    task: int
    submitted: float
    ended: float
    reason: Reason
    tags: tuple[str, ...]


class World:
    """A small board with many jobs, some of which have expired or moved to the annex, and the model of it."""

    def __init__(self, seed: int, count: int, *, restored: bool) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.board = Board(
            Retention.same(self.random.choice((3, 50, 400)), 1000.0), count, rows=self.random.choice((7, 64, 500))
        )
        self.tags = Tags(self.board)
        self.jobs: dict[int, Known] = {}
        for number in range(count):
            if restored and number == count // 2:
                self.board.begin_stretch(self.board.next_sequence + self.random.choice((0, 100, 10_000)))
            self.submit()
        for _ in self.tags.trim(self.now):
            pass

    def submit(self) -> None:
        random, board = self.random, self.board
        self.now += random.choice((0.0, 0.5, 1.0))
        state, task = random.choice(list(ROADS)), random.choice(TASKS)
        begin = state if state in (State.SCHEDULED, State.QUEUED) else State.QUEUED
        sequence = board.open(begin, lambda number: number, task, 5, self.now)
        tags = tuple(tag for tag in TAGS if random.random() < 0.3)
        if tags:
            self.tags.put(sequence, tags)
        reason = random.choice((Reason.ERROR, Reason.TIMEOUT)) if state is State.FAILED else Reason.NONE
        ended = self.now if state in TERMINAL else inf
        for after in ROADS[state]:
            board.move(sequence, after, self.now, reason if after is State.FAILED else Reason.NONE)
        self.jobs[sequence] = Known(state, task, self.now, ended, reason, tags)

    def fits(self, sequence: int, wanted: Conditions) -> bool:
        job, row = self.jobs[sequence], self.board.row(sequence)
        return (
            row >= 0
            and self.board.readable(row, self.now)
            and job.state in wanted.states
            and wanted.task in (None, job.task)
            and (wanted.tag is None or wanted.tag in job.tags)
            and wanted.reason in (None, job.reason)
            and wanted.submitted[0] <= job.submitted < wanted.submitted[1]
            and (wanted.ended is None or (job.ended < inf and wanted.ended[0] <= job.ended < wanted.ended[1]))
        )


def search(world: World, wanted: Conditions) -> list[int]:
    found: list[int] = []
    looked = Search(world.board, world.tags, wanted, world.board.next_sequence)
    steps = 0
    while looked.end:
        before = looked.end
        found += looked.step(world.now)
        assert looked.end <= before
        steps += 1
        assert steps < 10_000
    return found


SPANS = st.tuples(st.sampled_from((-inf, 0.0, 10.0, 40.5, 90.0)), st.sampled_from((inf, 0.0, 10.5, 41.0, 200.0)))
CONDITIONS = st.builds(
    Conditions,
    states=st.one_of(st.just(VISIBLE), st.frozensets(st.sampled_from(sorted(State)), min_size=1)),
    task=st.sampled_from((None, *TASKS, 3)),
    tag=st.sampled_from((None, *TAGS, "none")),
    reason=st.sampled_from((None, Reason.ERROR, Reason.CRASHED)),
    submitted=st.one_of(st.just((-inf, inf)), SPANS),
    ended=st.one_of(st.none(), SPANS),
)


@pytest.mark.parametrize("restored", [False, True])
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from((1, 30, 300, 2500)), st.lists(CONDITIONS, min_size=1, max_size=8))
def test_a_search_finds_what_a_look_at_each_job_finds(
    restored: bool, seed: int, count: int, several: list[Conditions]
) -> None:
    world = World(seed, count, restored=restored)
    for wanted in several:
        assert search(world, wanted) == [s for s in sorted(world.jobs, reverse=True) if world.fits(s, wanted)]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 30), CONDITIONS)
def test_jobs_may_come_and_end_while_a_search_goes_on(seed: int, wanted: Conditions) -> None:
    world = World(seed, 400, restored=False)
    newest = world.board.next_sequence
    looked, found = Search(world.board, world.tags, wanted, newest), list[int]()
    before = {sequence for sequence in world.jobs if world.fits(sequence, wanted)}
    while looked.end:
        found += looked.step(world.now)
        for _ in range(3):
            world.submit()
    after = {sequence for sequence in before if world.fits(sequence, wanted)}
    assert found == sorted(found, reverse=True)
    assert after <= {*found} <= before


def test_a_span_has_its_begin_and_not_its_end() -> None:
    board = Board(Retention.same(100, 1000.0), 100)
    tags = Tags(board)
    jobs = [board.open(State.QUEUED, lambda number: number, 0, 5, float(n)) for n in range(6)]
    for n, job in enumerate(jobs[:5]):
        board.move(job, State.CANCELLED, 100.0 + n)

    def found(wanted: Conditions) -> list[int]:
        looked, numbers = Search(board, tags, wanted, board.next_sequence), list[int]()
        while looked.end:
            numbers += looked.step(200.0)
        return [jobs.index(number) for number in reversed(numbers)]

    assert found(Conditions(submitted=(1.0, 4.0))) == [1, 2, 3]
    assert found(Conditions(submitted=(-inf, 3.0))) == [0, 1, 2]
    assert found(Conditions(submitted=(3.0, inf))) == [3, 4, 5]
    # The last one has not ended.
    assert found(Conditions(ended=(101.0, 103.0))) == [1, 2]
    assert found(Conditions(ended=(-inf, 104.0))) == [0, 1, 2, 3]
    assert found(Conditions(ended=(103.0, inf))) == [3, 4]
    assert found(Conditions(submitted=(2.0, inf), ended=(-inf, 104.0))) == [2, 3]


def test_a_step_looks_at_a_bounded_number_of_jobs() -> None:
    board = Board(Retention.same(0, 1000.0), 1000, rows=4096)
    for count, state in ((2000, State.CANCELLED), (1000, State.QUEUED)):
        for _ in range(count):
            sequence = board.open(State.QUEUED, lambda number: number, 0, 5, 1.0)
            if state != State.QUEUED:
                board.move(sequence, state, 1.0)
    cancelled = Search(board, Tags(board), Conditions(states=frozenset({State.CANCELLED})), board.next_sequence)
    # Jobs in another state take no look, so the stretches are long where the cancelled ones begin.
    while cancelled.end > 2001:
        assert cancelled.step(2.0) == []
    while cancelled.end:
        before = cancelled.end
        assert cancelled.step(2.0) == []
        assert before - cancelled.end <= LOOKS


def test_tags_of_jobs_that_have_left_are_forgotten() -> None:
    board = Board(Retention.same(100, 1000.0), 10)
    tags = Tags(board)
    for number in range(20 * SEGMENT):
        sequence = board.open(State.QUEUED, lambda number: number, 0, 5, 1.0)
        board.move(sequence, State.CANCELLED, 1.0)
        tags.put(sequence, (f"only:{number}", "all"))
        if number % 1000 == 0:
            list(tags.trim(1.0))
    for _ in range(10):
        list(tags.trim(1.0))
    assert 100 <= len(tags) <= 200 + SEGMENT
    newest = board.next_sequence - 1
    assert tags.of(newest) == (f"only:{20 * SEGMENT - 1}", "all")
    assert tags.last("all", newest + 1) == (newest, True)
    assert tags.between("all", newest - 1, newest + 1) == [newest, newest - 1]
    for _ in range(10):
        list(tags.trim(2000.0))
    assert (len(tags), tags.of(newest), tags.last("all", newest + 1)) == (0, (), (0, False))


def test_the_tags_of_a_job_stay_as_they_were_put_first() -> None:
    board = Board(Retention.same(10, 10.0), 10)
    tags = Tags(board)
    numbers = [board.open(State.QUEUED, lambda number: number, 0, 5, 1.0) for _ in range(3)]
    for number in (numbers[2], numbers[0], numbers[0]):
        tags.put(number, ("x",))
    assert (len(tags), tags.between("x", 0, 100)) == (2, [numbers[2], numbers[0]])


def test_a_rare_tag_is_found_past_many_others() -> None:
    world = World(1, 1, restored=False)
    tags = Tags(world.board)
    for number in range(PASSED_MOST * 2 + 2):
        tags.put((number << SEGMENT_BITS) + 5, ("rare",) if number == 0 else ("usual",))
    end, steps = (PASSED_MOST * 2 + 2) << SEGMENT_BITS, 0
    found = False
    while not found:
        end, found = tags.last("rare", end)
        steps += 1
    assert (end, steps) == (5, 3)
    assert tags.last("rare", 5) == (0, False)
