"""Run times known at the start of a server: of an earlier one, and of the first jobs to run."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest
from headway.core.job import State, Submission
from headway.core.journal.journal import Journal
from headway.core.local.engine import LocalEngine
from headway.core.retry_after.estimate import MARGIN_S, Estimate
from headway.core.retry_after.generation import GUESS, MEMBERS_MOST, Generation
from headway.core.tasks.registry import Options, Registry

from tests.core.engines import engine_with, known, now, over, peek, run, settings, submit, until

NOW = 1000.0
PLENTY = 1e9


def begun(workers: int, *tasks: int) -> Generation:
    made = Generation(workers)
    for sequence, task in enumerate(tasks, 1):
        made.begin(sequence, task, NOW)
    return made


def test_the_first_generation_is_as_many_as_there_are_workers_and_no_more_than_are_looked_at() -> None:
    made = begun(2, 0, 0, 0)
    assert list(made.running) == [1, 2]
    assert len(begun(10_000, *[0] * 1000).running) == MEMBERS_MOST


def test_it_is_over_when_all_of_it_is_or_many_others_are() -> None:
    made = begun(2, 0, 0)
    made.end(1, 0, 1.0)
    assert not made.over
    made.end(2, 0, 2.0)
    assert (made.over, made.learnt) == (True, [(0, 1.0), (0, 2.0)])
    made = begun(2, 0, 0)
    for number in range(4):
        assert not made.over
        made.end(100 + number, 0, 0.5)
    assert (made.over, made.learnt) == (True, [(0, 0.5)] * 4)


def test_who_was_cancelled_is_left_out() -> None:
    made = begun(2, 0, 0)
    made.leave_out(lambda sequence: sequence == 2)
    assert (list(made.running), made.over) == ([2], False)


def test_nothing_is_guessed_before_half_is_known() -> None:
    made = begun(4, 0, 0, 1, 1)
    assert made.guess({}, NOW + 1) == made.guess({1: 3.0}, NOW + 1) == {}
    made.end(3, 1, 0.5)
    assert made.guess({1: 3.0}, NOW + 1) == {0: [GUESS, 3.0], 1: [0.5, GUESS]}


def test_starts_are_late_while_all_have_just_begun_and_on_time_when_they_are_as_any() -> None:
    random.seed(1)
    runs = sorted(random.uniform(0.5, 5.0) for _ in range(2000))
    mean = sum(runs) / len(runs)
    met = sum(run * run for run in runs) / (2 * sum(runs))
    made = Generation(200)
    for sequence in range(1, 201):
        made.begin(sequence, 0, NOW)

    def rest(_: int, elapsed: float) -> float:
        longer = [run for run in runs if run > elapsed]
        return sum(longer) / len(longer) - elapsed

    assert made.lag(rest, met, NOW) == pytest.approx(mean - met)
    mixed = Generation(200)
    for sequence in range(1, 201):
        # A job met at any time is rather one of the long ones, and anywhere in its run.
        mixed.begin(sequence, 0, NOW - random.random() * random.choices(runs, runs)[0])
    assert abs(mixed.lag(rest, met, NOW)) < 0.15


def test_the_short_ones_that_end_first_are_not_taken_for_all() -> None:
    made = Estimate(100, 1, PLENTY)
    made.learn([(0, 0.5 + 4.5 * ((number * 7) % 100) / 100) for number in range(400)], NOW)
    before = made.mean
    made.first = Generation(100)
    takes = [0.5 + 4.5 * number / 100 for number in range(100)]
    for sequence in range(100):
        made.began(0, NOW, sequence + 1)
    for sequence in range(60):
        made.observe(0, takes[sequence], NOW + takes[sequence], sequence + 1)
    assert made.mean == before
    for sequence in range(60, 100):
        made.observe(0, takes[sequence], NOW + takes[sequence], sequence + 1)
    assert made.first is None
    assert made.mean == pytest.approx(before, rel=0.05)


def test_what_the_first_jobs_report_is_told_before_any_is_over() -> None:
    made = Estimate(4, 1, PLENTY)
    made.first = Generation(4)
    for sequence in range(1, 5):
        made.began(0, NOW, sequence)
    assert made.for_queued(8, 4, 0.0, 0, NOW) == 1.0
    made.foresee({1: 20.0}, NOW + 5)
    assert made.for_queued(8, 4, 5.0, 0, NOW + 5) == 1.0 + 5.0 / 4
    made.foresee({1: 20.0, 2: 20.0, 3: 20.0}, NOW + 5)
    # Two rounds of nearly 20 s, and a run.
    assert 50 < made.for_queued(8, 4, 5.0, 0, NOW + 5) < 65


def test_what_has_ended_is_told_as_the_mean_however_little_it_is() -> None:
    made = Estimate(4, 1, PLENTY)
    made.first = Generation(4)
    made.began(0, NOW, 1)
    assert made.mean_so_far == 0.0
    made.observe(0, 2.0, NOW + 2, 1)
    assert (made.mean, made.mean_so_far) == (0.0, 2.0)
    # Ten places, a worker of four each half a second.
    assert made.for_places(10, NOW) == pytest.approx(5.0)


def durable(path: Path, **changed: Any) -> LocalEngine:
    async def half(_: object) -> None:
        await asyncio.sleep(0.5)

    async def other(_: object) -> None:
        pass

    registry = Registry()
    # Another one first, and another index for each.
    if changed.pop("more", False):
        registry.add(other, Options())
    registry.add(half, Options())
    engine = LocalEngine(settings(workers=8, **changed), registry, Journal(path))
    engine.restore(lambda _: None)
    return engine


async def submitted(engine: LocalEngine, task: str) -> bytes:
    return (await known(engine.submit(Submission(task=task)))).status.id


@pytest.mark.parametrize("clean", [True, False])
def test_run_times_outlive_a_restart_with_a_journal(tmp_path: Path, clean: bool) -> None:
    async def first() -> None:
        engine = durable(tmp_path / "j")
        await engine.start(print)
        jobs = [await submitted(engine, "half") for _ in range(16)]
        await until(lambda: all(peek(engine, job).state == State.SUCCEEDED for job in jobs))
        if clean:
            await engine.stop()
        await engine.close()

    async def second() -> None:
        engine = durable(tmp_path / "j", more=True)
        assert engine.active.estimate.mean == pytest.approx(0.5, rel=0.2)
        await engine.start(print)
        # Before any has ended here.
        jobs = [await submitted(engine, "half") for _ in range(8)]
        await until(lambda: all(State.QUEUED <= peek(engine, job).state <= State.RUNNING for job in jobs))
        assert 0.3 < peek(engine, jobs[0]).retry_after_ms / 1000 < 0.7
        await engine.stop()
        await engine.close()

    run(first)
    run(second)


def test_a_job_of_a_first_generation_that_is_cancelled_is_not_waited_for() -> None:
    async def third(_: object) -> None:
        await asyncio.sleep(0.3)

    async def test() -> None:
        async with engine_with(third, workers=2) as engine:
            jobs = [submit(engine, "third") for _ in range(8)]
            await until(lambda: peek(engine, jobs[0]).state == State.RUNNING)
            now(engine.cancel(peek(engine, jobs[0])))
            for job in jobs[1:]:
                await over(engine, job)
            assert engine.active.estimate.mean == pytest.approx(0.3, rel=0.3)
            begun = time.monotonic()
            last = submit(engine, "third")
            told = peek(engine, last).retry_after_ms / 1000
            await over(engine, last)
            assert time.monotonic() - begun <= told + MARGIN_S + 0.1

    run(test)


def test_the_median_is_that_of_the_first_jobs_until_all_of_them_have_ended() -> None:
    made = Estimate(4, 2, 1000)
    made.first = Generation(4)
    for sequence, (task, seconds) in enumerate([(0, 3.0), (0, 1.0), (1, 9.0), (0, 2.0)], 1):
        made.began(task, NOW, sequence)
        made.observe(task, seconds, NOW + seconds, sequence)
        if sequence == 3:
            assert made.median(0) == 3.0
            assert made.median(1) == 9.0
    assert made.first is None
    assert made.median(0) == 2.0
