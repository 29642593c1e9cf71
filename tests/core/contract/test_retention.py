"""Which finished jobs are kept, and until when: by outcome, by task and by the wish of the job."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.status import Status
from headway.core.tasks.registry import Options

from tests.core.contract.client import (
    batch_finished,
    becomes,
    cancel,
    counts,
    finished,
    peek,
    peek_batch,
    states,
    submit,
    submit_batch,
    text_of,
    until,
)
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known

WEEK_S = 7 * 86_400.0
SUCCEEDED, FAILED, CANCELLED, EXPIRED = State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED


async def run(engine: Engine, task: str, count: int = 1, **members: Any) -> list[Status]:
    """Run jobs one after the other and return what was known of each at its end."""
    return [await finished(engine, await submit(engine, task, 1, **members)) for _ in range(count)]


async def give_up(engine: Engine, count: int = 1) -> list[Status]:
    """Cancel jobs and return what is known of them."""
    return [await cancel(engine, await submit(engine, "double", 1, delay=100.0)) for _ in range(count)]


async def test_a_flood_of_successes_evicts_no_failure_and_nothing_that_was_cancelled(start: Start) -> None:
    async with start(double, broken, retention={"jobs": 3}) as engine:
        failed, cancelled = await run(engine, "broken", 3), await give_up(engine, 3)
        succeeded = await run(engine, "double", 30)
        assert await states(engine, failed) == [FAILED] * 3
        assert [await text_of(engine, job) for job in failed] == ["ValueError: 1"] * 3
        assert await states(engine, cancelled) == [CANCELLED] * 3
        assert await states(engine, succeeded) == [EXPIRED] * 27 + [SUCCEEDED] * 3


async def test_each_outcome_is_bounded_by_its_own_number(start: Start) -> None:
    bounds = {"jobs": 3, "failed": {"jobs": 1}, "cancelled": {"jobs": 0}}
    async with start(double, broken, retention=bounds) as engine:
        failed, succeeded = await run(engine, "broken", 3), await run(engine, "double", 4)
        cancelled = [await submit(engine, "double", 1, delay=100.0)]
        await known(engine.cancel(cancelled[0]))
        assert await states(engine, failed) == [EXPIRED, EXPIRED, FAILED]
        assert await states(engine, succeeded) == [EXPIRED] + [SUCCEEDED] * 3
        assert await states(engine, cancelled) == [EXPIRED]


async def test_each_outcome_is_kept_for_its_own_time(start: Start) -> None:
    times = {"seconds": 0.3, "failed": {"seconds": 60}}
    async with start(double, broken, retention=times) as engine:
        [failed], [succeeded], [cancelled] = (
            await run(engine, "broken"),
            await run(engine, "double"),
            await give_up(engine),
        )
        for job in (succeeded, cancelled):
            await becomes(engine, job, EXPIRED)
        assert time.time() > max(succeeded.kept_until, cancelled.kept_until) - 0.1
        assert (await peek(engine, failed)).state == FAILED


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, (3600.0, WEEK_S, 3600.0), id="by default failures are kept for a week"),
        pytest.param({"seconds": 60}, (60.0, WEEK_S, 60.0), id="at least"),
        pytest.param({"seconds": 2 * WEEK_S}, (2 * WEEK_S, 2 * WEEK_S, 2 * WEEK_S), id="one for all"),
        pytest.param(
            {"seconds": 60, "failed": {"seconds": 5}, "cancelled": {"seconds": 9}}, (60.0, 5.0, 9.0), id="each its own"
        ),
    ],
)
async def test_a_finished_job_says_until_when_it_is_kept(
    start: Start, settings: dict[str, object], expected: tuple[float, float, float]
) -> None:
    async with start(double, broken, retention=settings) as engine:
        jobs = await run(engine, "double") + await run(engine, "broken") + await give_up(engine)
        assert [job.kept_until - job.ended for job in jobs] == pytest.approx(expected, abs=0.001)
        waiting = await submit(engine, "double", 1, delay=100.0)
        assert waiting.kept_until == 0.0


async def test_a_job_is_kept_as_long_as_it_asked_for_or_its_task(start: Start) -> None:
    tasks = (double, (broken, Options(keep=50)))
    async with start(*tasks, retention={"seconds": 0.3}) as engine:
        assert {task.name: task.keep_s for task in await known(engine.tasks())} == {"double": None, "broken": 50}
        [long], [short] = await run(engine, "double", keep=60.0), await run(engine, "broken", keep=0.2)
        [of_task], [default] = await run(engine, "broken"), await run(engine, "double")
        kept = [job.kept_until - job.ended for job in (long, short, of_task, default)]
        assert kept == pytest.approx([60.0, 0.2, 50.0, 0.3], abs=0.001)
        await becomes(engine, short, EXPIRED)
        await becomes(engine, default, EXPIRED)
        assert await states(engine, [long, of_task]) == [SUCCEEDED, FAILED]
        # A moment later all that is tidied up has been.
        await asyncio.sleep(1.2)
        assert (await text_of(engine, long), await text_of(engine, of_task)) == ("2", "ValueError: 1")


async def test_a_job_that_asks_for_long_is_still_one_of_so_many(start: Start) -> None:
    async with start(double, retention={"jobs": 2}) as engine:
        jobs = await run(engine, "double", 3, keep=1000.0)
        assert await states(engine, jobs) == [EXPIRED, SUCCEEDED, SUCCEEDED]


async def test_a_batch_is_known_for_as_long_as_the_longest_of_its_jobs(start: Start) -> None:
    tasks = ((double, Options(keep=0.3)), broken)
    async with start(*tasks) as engine:
        batch = await batch_finished(engine, await submit_batch(engine, "double", "broken"))
        assert (batch.succeeded, batch.failed, batch.expired) == (1, 1, 0)

        async def has_lost_one() -> bool:
            return (await peek_batch(engine, batch)).expired > 0

        await until(has_lost_one)
        batch = await peek_batch(engine, batch)
        assert (batch.state, batch.succeeded, batch.failed, batch.expired) == (FAILED, 1, 1, 1)


async def test_a_job_that_is_resubmitted_is_kept_as_long(start: Start) -> None:
    async with start(broken) as engine:
        [failed] = await run(engine, "broken", keep=70.0)
        again = await finished(engine, (await known(engine.retry(failed))).status)
        assert again.kept_until - again.ended == pytest.approx(70.0, abs=0.001)


async def test_a_restart_changes_no_time_until_which_a_job_is_kept(start: Start) -> None:
    bounds = {"seconds": 50.0, "failed": {"seconds": 90}, "cancelled": {"seconds": 30}}
    async with start(double, (broken, Options(keep=60.0)), retention=bounds) as engine:
        durable = engine.durability != "memory"
        jobs = await run(engine, "double") + await run(engine, "double", keep=70.0) + await run(engine, "broken")
        jobs += await run(engine, "broken", keep=80.0) + await give_up(engine)
        waiting = await submit(engine, "double", 1, delay=100.0, keep=40.0)
        jobs.append(await cancel(engine, waiting))
        kept = [50.0, 70.0, 60.0, 80.0, 30.0, 40.0]
        assert [job.kept_until - job.ended for job in jobs] == pytest.approx(kept, abs=0.001)
    if durable:
        async with start(double, broken, retention={"seconds": 1000}) as engine:
            again = [await peek(engine, job) for job in jobs]
            assert [job.state for job in again] == [job.state for job in jobs]
            assert [job.kept_until for job in again] == pytest.approx([job.kept_until for job in jobs], abs=0.1)


async def test_a_flood_of_results_gives_up_no_error(start: Start) -> None:
    async def large(_: object) -> str:
        return "x" * 10_000

    async with start(large, broken, results=dict.fromkeys(["max_bytes", "max_result_bytes"], 40_000)) as engine:
        failed = await run(engine, "broken", 20)
        await run(engine, "large", 10)
        assert [await text_of(engine, job) for job in failed] == ["ValueError: 1"] * 20
        assert (await counts(engine)).results_bytes <= 40_000


async def test_finished_jobs_are_counted_by_task_and_outcome_kept_or_not(start: Start) -> None:
    async with start(double, broken, forever, retention={"jobs": 1}) as engine:
        await run(engine, "double", 4)
        await run(engine, "broken", 3)
        await give_up(engine, 2)
        counted = (await counts(engine)).jobs
        assert [counted[state] for state in (SUCCEEDED, FAILED, CANCELLED)] == [4, 3, 2]
        tasks = {task.name: (task.succeeded, task.failed, task.cancelled) for task in await known(engine.tasks())}
        assert tasks == {"double": (4, 0, 2), "broken": (0, 3, 0), "forever": (0, 0, 0)}
