"""The two switches of a task: whether its jobs begin, and whether new ones are accepted."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
from headway.core.errors import InvalidError, QueueFullError, TaskClosedError
from headway.core.hold import NO_HOLD, OPEN_END_S, Switches, TaskHold
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.key import Key
from headway.core.status import TaskStatus

from tests.core.contract.client import (
    asked_for,
    becomes,
    cancel,
    counts,
    finished,
    peek,
    states,
    submit,
    submit_batch,
    until,
)
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known

HOLD, RUN = Switches(dispatch="hold"), Switches(dispatch="run", intake="open")


def at(seconds: float) -> datetime:
    """Return the time of day in some seconds."""
    return datetime.fromtimestamp(time.time() + seconds, UTC)


async def switch(engine: Engine, task: str, switches: Switches) -> TaskStatus:
    """Change the switches of a task that is declared."""
    status = await known(engine.switch(task, switches))
    assert status is not None
    assert status.name == task
    return status


async def hold_of(engine: Engine, name: str) -> TaskHold:
    """Return the switches as the list of tasks has them."""
    return next(task.hold for task in await known(engine.tasks()) if task.name == name)


async def test_jobs_of_a_held_task_wait_and_others_run(start: Start) -> None:
    async with start(double, broken, workers=2) as engine:
        told = await switch(engine, "double", Switches(dispatch="hold", reason="the printer burns"))
        assert told.hold == await hold_of(engine, "double") == TaskHold("hold", "open", None, "the printer burns")
        held = [await submit(engine, "double", n, priority=n) for n in range(5)]
        assert [job.held for job in held] == ["the printer burns"] * 5
        for n in range(70):
            assert (await finished(engine, await submit(engine, "broken", n))).held is None
        assert await states(engine, held) == [State.QUEUED] * 5
        assert (await hold_of(engine, "broken")) == NO_HOLD
        assert ((await counts(engine)).held, (await counts(engine)).waiting) == (5, 5)
        assert (await switch(engine, "double", Switches(dispatch="run"))).hold == NO_HOLD
        ended = [await finished(engine, job) for job in held]
        assert [job.state for job in ended] == [State.SUCCEEDED] * 5
        assert ((await counts(engine)).held, (await counts(engine)).waiting) == (0, 0)


async def test_jobs_that_waited_before_the_hold_wait_and_keep_their_order(start: Start) -> None:
    begun: list[int] = []

    async def note(payload: int) -> None:
        begun.append(payload)

    async with start(note, forever, double, workers=1) as engine:
        blocking = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        jobs = [await submit(engine, "note", n) for n in range(4)]
        await switch(engine, "note", HOLD)
        jobs += [await submit(engine, "note", n) for n in range(4, 6)]
        urgent = await submit(engine, "note", 99, priority=9)
        other = await submit(engine, "double", 1)
        assert (await peek(engine, other)).position == 0
        await cancel(engine, jobs.pop(2))
        await cancel(engine, blocking)
        await finished(engine, other)
        assert begun == []
        await switch(engine, "note", RUN)
        jobs.append(await submit(engine, "note", 6))
        for job in [*jobs, urgent]:
            await finished(engine, job)
        assert begun == [99, 0, 1, 3, 4, 5, 6]


async def test_what_runs_goes_on_and_its_retry_waits(start: Start) -> None:
    go = asyncio.Event()

    async def fails_late(_: object) -> None:
        await go.wait()
        raise ValueError("late")

    async with start(fails_late, double) as engine:
        job = await becomes(engine, await submit(engine, "fails_late", retries=1), State.RUNNING)
        await switch(engine, "fails_late", HOLD)
        assert (await peek(engine, job)).held is None
        go.set()
        waiting = await becomes(engine, job, State.QUEUED)
        assert (waiting.held, waiting.attempt) == ("", 1)
        await finished(engine, await submit(engine, "double", 1))
        assert (await peek(engine, job)).state == State.QUEUED
        await switch(engine, "fails_late", RUN)
        assert (await finished(engine, job)).attempt == 2


async def test_a_hold_ends_by_itself(start: Start) -> None:
    async with start(double, double_too) as engine:
        # The clock of Retry-After is that of the hold.
        await switch(engine, "double", Switches(dispatch="hold", intake="closed", until=at(0.3)))
        with pytest.raises(TaskClosedError):
            await known(engine.submit(asked_for("double", 1)))
        await switch(engine, "double", Switches(intake="open"))
        job = await submit(engine, "double", 1)
        assert 0 < job.retry_after_ms < 5000
        assert (await finished(engine, job)).state == State.SUCCEEDED
        assert await hold_of(engine, "double") == NO_HOLD


async def double_too(payload: int) -> int:
    return 2 * payload


async def test_the_hint_of_a_held_job_is_honest(engine: Engine) -> None:
    waited = await submit(engine, "double", 1, delay=20)
    soon = waited.retry_after_ms
    try:
        await switch(engine, "double", Switches(dispatch="hold", until=at(300)))
        job, late = await submit(engine, "double", 1), await submit(engine, "double", 1, delay=400)
        assert 300_000 <= job.retry_after_ms < 305_000
        assert 400_000 <= late.retry_after_ms < 405_000
        # Asked for before its task was held.
        assert soon < 25_000 < 299_000 < (await peek(engine, waited)).retry_after_ms < 305_000
        await switch(engine, "double", Switches(until=None))
        assert OPEN_END_S * 1000 <= (await peek(engine, job)).retry_after_ms < OPEN_END_S * 1000 + 5000
    finally:
        await switch(engine, "double", RUN)
    assert (await finished(engine, job)).state == State.SUCCEEDED
    assert (await peek(engine, waited)).retry_after_ms < 25_000


async def test_a_closed_task_accepts_nothing(start: Start) -> None:
    async with start(double, broken) as engine:
        failed = await finished(engine, await submit(engine, "broken", 1))
        key = Key.of("once", b"content")
        before = await submit(engine, "broken", 1, key)
        await switch(engine, "broken", Switches(intake="closed", until=at(100), reason="moved"))
        with pytest.raises(TaskClosedError, match="'broken' accepts no jobs for now: moved"):
            await known(engine.submit(asked_for("broken", 1)))
        with pytest.raises(TaskClosedError, match="'broken' accepts no jobs for now: moved"):
            await known(engine.submit_batch([asked_for("double", 1), asked_for("broken", 1)]))
        with pytest.raises(TaskClosedError) as caught:
            await known(engine.retry(failed))
        assert 99 < caught.value.retry_after_s < 105
        assert (await known(engine.submit(asked_for("broken", 1), key))).status.id == before.id
        assert (await finished(engine, await submit(engine, "double", 1))).state == State.SUCCEEDED
        # What it has goes on.
        assert (await finished(engine, before)).state == State.FAILED
        await switch(engine, "broken", Switches(intake="open"))
        assert (await finished(engine, await submit(engine, "broken", 1))).state == State.FAILED


async def test_a_change_leaves_the_other_switch(engine: Engine) -> None:
    end = at(1000)
    try:
        await switch(engine, "broken", Switches(dispatch="hold", until=end, reason="why"))
        assert (await switch(engine, "broken", Switches(intake="closed"))).hold == TaskHold(
            "hold", "closed", end.timestamp(), "why"
        )
        assert (await switch(engine, "broken", Switches(dispatch="run"))).hold == TaskHold(
            "run", "closed", end.timestamp(), "why"
        )
        assert (await switch(engine, "broken", Switches(until=None, reason="other"))).hold == TaskHold(
            "run", "closed", None, "other"
        )
    finally:
        assert (await switch(engine, "broken", RUN)).hold == NO_HOLD


@pytest.mark.parametrize(
    ("switches", "field", "fault"),
    [
        (Switches(), "", "expected at least one of dispatch, intake, until, reason"),
        (Switches(dispatch="hold", until=at(-1)), "until", "expected a time to come"),
        (Switches(dispatch="hold", until=at(20 * 366 * 86_400)), "until", "expected a time within ten years"),
        (Switches(until=at(86_400)), "until", 'ends nothing: send dispatch "hold" or intake "closed" with it'),
    ],
)
async def test_a_wrong_change_changes_nothing(engine: Engine, switches: Switches, field: str, fault: str) -> None:
    with pytest.raises(InvalidError) as caught:
        await known(engine.switch("double", switches))
    assert [name for name, _ in caught.value.faults] == [field]
    assert caught.value.faults[0][1].endswith(fault)
    assert await hold_of(engine, "double") == NO_HOLD


async def test_an_unknown_task_has_no_switches(engine: Engine) -> None:
    assert await known(engine.switch("dubble", HOLD)) is None


async def test_two_changes_at_once_are_both_made(engine: Engine) -> None:
    try:
        both = await asyncio.gather(
            *(known(engine.switch("double", one)) for one in (HOLD, Switches(intake="closed"), Switches(reason="both")))
        )
        assert all(both)
        assert await hold_of(engine, "double") == TaskHold("hold", "closed", None, "both")
    finally:
        await switch(engine, "double", RUN)


async def test_jobs_of_a_held_task_end_at_their_deadline_and_by_a_client(start: Start) -> None:
    async with start(double) as engine:
        await switch(engine, "double", HOLD)
        late, batch = await submit(engine, "double", 1, deadline=0.05), await submit_batch(engine, "double", "double")
        given_up = await submit(engine, "double", 2)
        assert (await cancel(engine, given_up)).state == State.CANCELLED
        assert (await finished(engine, late)).state == State.FAILED
        assert (await known(engine.cancel_batch(batch))).status.cancelled == 2
        assert ((await counts(engine)).held, (await counts(engine)).waiting) == (0, 0)


async def test_jobs_of_a_held_task_take_their_room_in_the_queue(start: Start) -> None:
    async with start(double, forever, workers=1, queue={"size": 3}) as engine:
        running = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        jobs = [await submit(engine, "double", 1)]
        await switch(engine, "double", HOLD)
        jobs += [await submit(engine, "double", n) for n in range(2)]
        for task in ("double", "forever"):
            with pytest.raises(QueueFullError):
                await known(engine.submit(asked_for(task, 1)))
        await switch(engine, "double", RUN)
        with pytest.raises(QueueFullError):
            await known(engine.submit(asked_for("double", 1)))
        await cancel(engine, running)
        assert [(await finished(engine, job)).state for job in jobs] == [State.SUCCEEDED] * 3
        assert (await finished(engine, await submit(engine, "double", 1))).state == State.SUCCEEDED


async def test_holding_and_running_in_turn_loses_no_job(start: Start) -> None:
    async with start(double, broken, workers=2) as engine:
        jobs = []
        for n in range(60):
            jobs.append(await submit(engine, ("double", "broken")[n % 2], n))
            await switch(engine, "double", HOLD if n % 3 else RUN)
        await switch(engine, "double", RUN)
        ended = [(await finished(engine, job)).state for job in jobs]
        assert ended == [State.SUCCEEDED, State.FAILED] * 30

        async def none() -> bool:
            return (await counts(engine)).waiting == 0

        await until(none)


async def test_a_restart_keeps_the_switches(start: Start) -> None:
    end = at(1000)
    async with start(double, broken) as engine:
        durable = engine.durability != "memory"
        await switch(engine, "double", Switches(dispatch="hold", reason="ünïcode", until=end))
        await switch(engine, "broken", Switches(intake="closed"))
        await switch(engine, "broken", RUN)
        job = await submit(engine, "double", 1)
    if durable:
        async with start(double, broken) as engine:
            assert await hold_of(engine, "double") == TaskHold("hold", "open", end.timestamp(), "ünïcode")
            assert await hold_of(engine, "broken") == NO_HOLD
            await finished(engine, await submit(engine, "broken", 1))
            assert (await peek(engine, job)).held == "ünïcode"
            await switch(engine, "double", RUN)
            assert (await finished(engine, job)).state == State.SUCCEEDED


async def test_each_of_several_holds_ends_at_its_own_time(start: Start) -> None:
    async with start(double, double_too, broken) as engine:
        durable = engine.durability != "memory"
        await switch(engine, "double_too", Switches(dispatch="hold", until=at(1000)))
        await switch(engine, "double", Switches(dispatch="hold", until=at(0.2)))
        await switch(engine, "broken", Switches(dispatch="hold"))
        first, second, last = [await submit(engine, task, 1) for task in ("double", "double_too", "broken")]
        assert (await finished(engine, first)).state == State.SUCCEEDED
        assert await states(engine, [second, last]) == [State.QUEUED] * 2
        await switch(engine, "double", Switches(dispatch="hold", until=at(0.7)))
        first = await submit(engine, "double", 1)
    if durable:
        # Also over a restart.
        async with start(double, double_too, broken) as engine:
            assert (await finished(engine, first)).state == State.SUCCEEDED
            assert await states(engine, [second, last]) == [State.QUEUED] * 2


async def test_a_drain_waits_for_a_hold_that_ends_in_time(start: Start) -> None:
    async with start(double, broken) as engine:
        await switch(engine, "double", Switches(dispatch="hold", until=at(0.2)))
        await switch(engine, "broken", HOLD)
        soon, never = await submit(engine, "double", 1), await submit(engine, "broken", 1)
        left = await engine.drain(5)
        if engine.durability == "memory":
            assert left == 1
            assert await states(engine, [soon, never]) == [State.SUCCEEDED, State.QUEUED]


async def test_a_hold_whose_time_passed_meanwhile_is_none(start: Start) -> None:
    async with start(double) as engine:
        durable = engine.durability != "memory"
        await switch(engine, "double", Switches(dispatch="hold", until=at(0.2)))
        job = await submit(engine, "double", 1)
    await asyncio.sleep(0.2)
    if durable:
        async with start(double) as engine:
            assert await hold_of(engine, "double") == NO_HOLD
            assert (await finished(engine, job)).state == State.SUCCEEDED
