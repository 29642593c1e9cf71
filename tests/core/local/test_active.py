"""The active jobs, by a clock that jumps: each ends once, at its time, and leaves nothing behind but its row."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import msgspec
import pytest
from headway.core.board.board import Board
from headway.core.board.outcomes import batch_number
from headway.core.body import JSON
from headway.core.config import Config
from headway.core.ids import Ids
from headway.core.job import TERMINAL, Job, Reason, State, Terms
from headway.core.key import Key
from headway.core.local.active import Active
from headway.core.local.at_once import AtOnce
from headway.core.retention import Retention
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options, Registry
from headway.core.tasks.retry import Retry
from headway.core.work.verdict import PAST_DEADLINE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core import virtual_time
from tests.core.engines import settings as small
from tests.core.virtual_time import Jumping


@pytest.fixture(autouse=True)
def _failures_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "headway.core.work.outcome")


class Engine:
    """The least that jobs need: a board, and who gives them their rows."""

    def __init__(self, clock: Jumping, registry: Registry, config: Config) -> None:
        self.clock = clock
        self.registry = registry
        self.ids = Ids(b"secret")
        self.board = Board(
            Retention.same(config.retention.jobs, config.retention.seconds), config.queue.size + config.workers
        )
        self.active = Active(config, registry, self.ids, self.board)
        self.active.changes = AtOnce(self.active)

    def begin(
        self,
        task: str,
        payload: object = None,
        delay: float = 0.0,
        deadline_s: float | None = None,
        timeout_s: float = 50.0,
        retries: int = 0,
        priority: int = 5,
        key: Key | None = None,
        batch: int = 0,
    ) -> int:
        """Take a job, as the engine does."""
        kind, now = self.registry.by_name[task], self.clock.now
        state = State.SCHEDULED if delay else State.QUEUED
        sequence = self.board.open(state, self.ids.tag, kind.index, priority, now)
        terms = Terms(timeout_s, retries, deadline_s)
        job = Job(sequence, kind, msgspec.json.encode(payload), terms, terms.end(now), batch)
        self.active.queue.payload_bytes += len(job.payload)
        self.active.changes.begin(job, delay, now, key)
        return sequence

    def state(self, sequence: int) -> State:
        return State(self.board.state(sequence))

    def ended(self, sequence: int) -> float:
        """Return when a job ended, in seconds of the test."""
        return self.board.ended[self.board.at(sequence)] - virtual_time.BEGIN_S

    def said(self, sequence: int) -> object:
        """Return what is kept of a job."""
        kept = self.active.results.get(sequence)
        return None if kept is None else kept.result.body

    async def ends(self, *sequences: int) -> None:
        """Wait until these jobs are over."""
        for sequence in sequences:
            ended = asyncio.Event()
            if sequence in self.active.jobs:
                self.active.waiters.add(sequence, 1e6, ended.set)
                await ended.wait()

    def check_nothing_is_left(self) -> None:
        """Of jobs that are over there is a row, perhaps a result, and nothing else."""
        active = self.active
        assert (len(active), active.jobs) == (0, {})
        assert (len(active.queue), active.queue.payload_bytes, len(active.deadlines)) == (0, 0, 0)
        assert (len(active.waiters), active.workers.idle) == (0, active.workers.count)
        assert all(limit.running == 0 for line in active.queue.lines for limit in line.limits)


@asynccontextmanager
async def engine_of(
    clock: Jumping, *tasks: Callable[..., Any] | tuple[Callable[..., Any], Options], **changed: Any
) -> AsyncIterator[Engine]:
    registry = Registry()
    for task in tasks:
        registry.add(*task if isinstance(task, tuple) else (task, Options()))
    engine = Engine(clock, registry, small(**changed))
    engine.active.start(lambda _: None)
    try:
        yield engine
    finally:
        await engine.active.stop()


async def nap(seconds: Any) -> Any:
    await asyncio.sleep(seconds)
    return seconds


async def fail(seconds: Any) -> None:
    await asyncio.sleep(seconds)
    raise ValueError(seconds)


async def ask_again(seconds: Any) -> None:
    raise Retry(seconds)


def test_a_job_that_ends_leaves_its_row_and_its_result() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap) as engine:
            sequence = engine.begin("nap", 3)
            assert (engine.state(sequence), len(engine.active)) == (State.QUEUED, 1)
            assert engine.active.queue.payload_bytes == 1
            await engine.ends(sequence)
            row = engine.board.at(sequence)
            assert (engine.state(sequence), engine.said(sequence)) == (State.SUCCEEDED, b"3")
            assert engine.board.ended[row] - engine.board.started[row] == pytest.approx(3.0)
            assert sum(engine.active.stats.wait[0].buckets) == 1
            assert engine.active.stats.run[0].sum == pytest.approx(3.0)
            engine.check_nothing_is_left()

    virtual_time.run(test)


def test_delayed_jobs_begin_at_their_time_in_the_order_of_it() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap, workers=9) as engine:
            delays = [90.0, 2.5, 60.0, 0.001, 2.5]
            jobs = [engine.begin("nap", 0, delay=delay) for delay in delays]
            assert {engine.state(job) for job in jobs} == {State.SCHEDULED}
            await engine.ends(*jobs)
            assert [engine.ended(job) for job in jobs] == pytest.approx(delays, abs=1e-6)
            # They are counted as waiting from then on.
            assert engine.active.stats.wait[0].sum < 1e-6
            engine.check_nothing_is_left()

    virtual_time.run(test)


def test_an_earlier_time_is_kept_beside_a_later_one_and_a_cancelled_one_is_not_waited_for() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap) as engine:
            late = engine.begin("nap", 0, delay=10)
            soon = engine.begin("nap", 0, delay=5)
            gone = engine.begin("nap", 0, delay=1)
            engine.active.changes.cancel(gone, engine.clock.now)
            assert engine.state(gone) == State.CANCELLED
            await engine.ends(soon)
            assert engine.ended(soon) == pytest.approx(5)
            await engine.ends(late)
            assert engine.ended(late) == pytest.approx(10)
            engine.check_nothing_is_left()

    virtual_time.run(test)


@pytest.mark.parametrize("where", ["scheduled", "queued", "retrying", "running"])
def test_a_deadline_ends_a_job_at_its_moment_wherever_it_stands(where: str) -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap, ask_again, workers=1) as engine:
            if where == "queued":
                engine.begin("nap", 30, priority=9)
            if where == "retrying":
                # The next attempt is due before the deadline, and does not begin: another has the worker.
                sequence = engine.begin("ask_again", 6, deadline_s=7, retries=1)
                other = engine.begin("nap", 30)
            else:
                sequence = engine.begin("nap", 30, delay=20 if where == "scheduled" else 0, deadline_s=7)
            await asyncio.sleep(1)
            assert engine.state(sequence) == State[where.upper()]
            await engine.ends(sequence)
            assert engine.ended(sequence) == pytest.approx(7, abs=1e-3)
            assert engine.state(sequence) == State.FAILED
            assert engine.board.reason[engine.board.at(sequence)] == Reason.DEADLINE
            expected = "was still running at its deadline" if where == "running" else PAST_DEADLINE
            assert engine.said(sequence) == expected.encode()
            if where == "retrying":
                await engine.ends(other)
            await engine.active.changes.finish(inf)
            engine.check_nothing_is_left()

    virtual_time.run(test)


@pytest.mark.parametrize(("backoff", "most"), [(1.0, 60.0), (2.0, 2.0)])
def test_the_backoff_doubles_up_to_its_most_less_up_to_half(backoff: float, most: float) -> None:
    """Of 150 waits for each attempt the least and the longest are near the ends of what is promised."""
    begun: dict[int, list[float]] = {}

    async def test(clock: Jumping) -> None:
        async def failing(number: int) -> None:
            begun.setdefault(number, []).append(clock.now)
            raise ValueError("again")

        jobs = {"backoff": backoff, "backoff_max": most}
        async with engine_of(clock, failing, jobs=jobs, workers=150, queue={"size": 150}) as engine:
            for number in range(150):
                engine.begin("failing", number, retries=3)
            assert await engine.active.changes.finish(1000.0) == 0
            assert engine.active.stats.retries == 150 * 3
            engine.check_nothing_is_left()

    virtual_time.run(test)
    assert {len(times) for times in begun.values()} == {4}
    for attempt in range(1, 4):
        waits = [times[attempt] - times[attempt - 1] for times in begun.values()]
        longest = min(backoff * 2 ** (attempt - 1), most)
        assert 0.5 * longest <= min(waits) < 0.55 * longest
        assert 0.95 * longest < max(waits) <= longest * 1.0001


def test_a_task_that_asks_for_another_attempt_says_when() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, ask_again) as engine:
            sequence = engine.begin("ask_again", 7, retries=2)
            await engine.ends(sequence)
            assert engine.ended(sequence) == pytest.approx(14)
            assert engine.board.attempt(engine.board.at(sequence)) == 3
            # Where there is no time left for it, it is not waited for.
            sequence = engine.begin("ask_again", 7, retries=2, deadline_s=6.9)
            await engine.ends(sequence)
            assert engine.ended(sequence) == pytest.approx(14)
            assert engine.board.reason[engine.board.at(sequence)] == Reason.DEADLINE
            engine.check_nothing_is_left()

    virtual_time.run(test)


def test_a_failed_job_is_kept_as_it_came_and_a_cancelled_one_is_not() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, fail, nap) as engine:
            failed, cancelled, queued = engine.begin("fail", 0), engine.begin("nap", 9), engine.begin("nap", 9)
            await engine.ends(failed)
            kept = engine.active.results.get(failed)
            assert kept is not None
            assert kept.job is not None
            assert (kept.job.payload, kept.result.body) == (b"0", b"ValueError: 0")
            for job in (cancelled, queued):
                engine.active.changes.cancel(job, engine.clock.now)
                assert (engine.state(job), engine.active.results.get(job)) == (State.CANCELLED, None)
            await asyncio.sleep(0)
            engine.check_nothing_is_left()
            # What is forgotten is not taken for nothing: it is gone.
            engine.active.changes.forget(failed)
            assert engine.active.results.get(failed) is None
            assert engine.board.has_result[engine.board.at(failed)]

    virtual_time.run(test)


def test_a_key_stands_for_its_job_and_a_batch_for_how_many_did_not_succeed() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap, fail) as engine:
            batch = batch_number(1, 3)
            key = Key.of("key", b"content")
            for task in ("nap", "fail", "fail"):
                engine.begin(task, 0, key=key, batch=batch)
                key = None  # type: ignore[assignment]
            engine.active.changes.cancel(3, engine.clock.now)
            assert await engine.active.changes.finish(9.0) == 0
            assert engine.active.outcomes.get(batch) == (1, 1)
            keyed = engine.active.keys.get("key", clock.now)
            assert keyed is not None
            assert (keyed.sequence, keyed.batch, keyed.submitted) == (1, 3, virtual_time.BEGIN_S)

    virtual_time.run(test)


def test_a_finish_waits_for_all_as_long_as_it_may() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap, workers=1) as engine:
            assert await engine.active.changes.finish(5.0) == 0
            assert clock.now == virtual_time.BEGIN_S
            for seconds in (2, 3, 4):
                engine.begin("nap", seconds, delay=1)
            assert await engine.active.changes.finish(4.5) == 2
            assert clock.now == pytest.approx(virtual_time.BEGIN_S + 4.5)
            assert await engine.active.changes.finish(60.0) == 0
            assert clock.now == pytest.approx(virtual_time.BEGIN_S + 10)
            engine.check_nothing_is_left()

    virtual_time.run(test)


def test_what_one_reports_late_is_not_taken_for_the_next_attempt() -> None:
    async def test(clock: Jumping) -> None:
        contexts: list[Context] = []

        async def reporting(_: object, context: Context) -> None:
            contexts.append(context)
            context.progress(30 * context.attempt)
            await asyncio.sleep(1)
            raise Retry(0)

        async with engine_of(clock, reporting) as engine:
            sequence = engine.begin("reporting", retries=1)
            row = engine.board.at(sequence)
            await asyncio.sleep(0.5)
            assert engine.board.progress(row) == 30
            await asyncio.sleep(1)
            assert (engine.board.progress(row), engine.board.attempt(row)) == (60, 2)
            contexts[0].progress(99)
            assert engine.board.progress(row) == 60
            assert contexts[0].id == contexts[1].id == engine.ids.write(sequence, engine.board.tag[row]).decode()
            await engine.ends(sequence)

    virtual_time.run(test)


def test_in_memory_nothing_is_uncommitted_and_there_is_always_room() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap) as engine:
            with engine.active.changes.together():
                jobs = [engine.begin("nap", 1), engine.begin("nap", 2)]
            assert engine.active.changes.uncommitted(jobs[0]) is None
            assert engine.active.changes.last_uncommitted(jobs) is None
            assert not engine.active.changes.full
            assert list(engine.active.changes.expire(clock.now)) == []
            engine.active.changes.resume()
            await engine.ends(*jobs)
            await engine.active.changes.close()
            engine.check_nothing_is_left()

    virtual_time.run(test)


JOBS = st.tuples(
    st.sampled_from(["nap", "nap", "fail", "ask_again", "alone"]),
    # Its payload, delay, deadline, timeout and retries.
    st.sampled_from([0, 1, 4]),
    st.sampled_from([0, 0, 0, 2, 9]),
    st.sampled_from([None, None, 3, 8]),
    st.sampled_from([2, 50]),
    st.integers(0, 2),
)
STEPS = st.lists(st.one_of(JOBS, st.integers(0, 20), st.sampled_from([0.0, 0.5, 3.0])), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_every_job_ends_once_whatever_becomes_of_it(steps: list[Any]) -> None:
    """A tuple is a job, a whole number cancels one, and any other number is time that passes."""

    async def test(clock: Jumping) -> None:
        ends: Counter[int] = Counter()
        tasks = (nap, fail, ask_again, (nap, Options(name="alone", max_concurrent=1)))
        jobs = {"backoff": 1.0, "backoff_max": 4.0}
        async with engine_of(clock, *tasks, workers=3, queue={"size": 50}, jobs=jobs) as engine:
            begun: dict[int, tuple[Any, ...]] = {}
            for step in steps:
                if isinstance(step, tuple):
                    task, payload, delay, deadline_s, timeout_s, retries = step
                    sequence = engine.begin(task, payload, delay, deadline_s, timeout_s, retries)
                    engine.active.waiters.add(sequence, 1e6, lambda sequence=sequence: ends.update([sequence]))  # type: ignore[misc]
                    begun[sequence] = step
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                elif engine.active.jobs:
                    engine.active.changes.cancel(
                        sorted(engine.active.jobs)[step % len(engine.active.jobs)], engine.clock.now
                    )
                active = engine.active
                assert sum(engine.board.count[state] for state in State if state not in TERMINAL) == len(active)
                assert active.queue.payload_bytes == sum(len(job.payload) for job in active.jobs.values())
                assert engine.board.count[State.RUNNING] <= 3
            assert await engine.active.changes.finish(1000.0) == 0
            await asyncio.sleep(0)
            engine.check_nothing_is_left()
            assert ends == dict.fromkeys(begun, 1)
            for sequence, (_, _, _, deadline_s, _, retries) in begun.items():
                row = engine.board.at(sequence)
                assert engine.state(sequence) in TERMINAL
                assert engine.board.attempt(row) <= retries + 1
                if deadline_s is not None:
                    assert engine.board.ended[row] - engine.board.submitted[row] <= deadline_s + 0.01

    virtual_time.run(test)


def test_the_result_is_put_before_the_end_is_seen() -> None:
    async def test(clock: Jumping) -> None:
        async with engine_of(clock, nap) as engine:
            sequence, seen = engine.begin("nap", 2), list[object]()
            engine.active.waiters.add(sequence, 9.0, lambda: seen.append(engine.active.results.get(sequence)))
            await engine.active.changes.finish(9.0)
            kept = engine.active.results.get(sequence)
            assert kept is not None
            assert (seen, kept.result.body, kept.result.media_type) == ([kept], b"2", JSON)

    virtual_time.run(test)
