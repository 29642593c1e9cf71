"""The history: what was done in each of the last minutes."""

from __future__ import annotations

import time
from typing import Any

from headway.core.history import MINUTE_S
from headway.core.interface import Engine
from headway.core.job import State

from tests.core.contract.client import becomes, finished, submit
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known


async def sums(engine: Engine, minutes: int = 2) -> dict[str, Any]:
    """Return the sums of the last minutes: one of them may end meanwhile."""
    found = await known(engine.history(minutes))
    tasks: dict[str, list[int]] = {}
    for minute in found:
        for name, (ended, failed) in minute.tasks.items():
            sums = tasks.setdefault(name, [0, 0])
            sums[0] += ended
            sums[1] += failed
    return {
        "succeeded": sum(minute.succeeded for minute in found),
        "failed": sum(minute.failed for minute in found),
        "cancelled": sum(minute.cancelled for minute in found),
        "waits": sum(sum(minute.wait) for minute in found),
        "runs": sum(sum(minute.run) for minute in found),
        "tasks": tasks,
    }


async def test_what_ended_is_counted_in_its_minute_by_outcome_and_by_task(start: Start) -> None:
    async with start(double, broken) as engine:
        for job in [await submit(engine, "double", 1) for _ in range(3)] + [await submit(engine, "broken")]:
            await finished(engine, job)
        assert await sums(engine) == {
            "succeeded": 3,
            "failed": 1,
            "cancelled": 0,
            "waits": 4,
            "runs": 4,
            "tasks": {"double": [3, 0], "broken": [1, 1]},
        }


async def test_the_last_minute_is_the_present_one_and_has_what_waits_and_runs(start: Start) -> None:
    async with start(forever, workers=1) as engine:
        job = await submit(engine, "forever")
        await submit(engine, "forever")
        await becomes(engine, job, State.RUNNING)
        minutes = await known(engine.history(60))
        assert (minutes[-1].waiting, minutes[-1].running) == (1, 1)
        assert abs(minutes[-1].number - time.time() / MINUTE_S) <= 1
        assert [minute.number for minute in minutes] == sorted({minute.number for minute in minutes})


async def test_a_restart_keeps_the_history_where_the_jobs_are_kept(start: Start) -> None:
    async with start(double) as engine:
        await finished(engine, await submit(engine, "double", 1))
        keeps = engine.durability != "memory"
    async with start(double) as engine:
        assert (await sums(engine))["succeeded"] == keeps
        await finished(engine, await submit(engine, "double", 1))
        assert (await sums(engine))["succeeded"] == keeps + 1
