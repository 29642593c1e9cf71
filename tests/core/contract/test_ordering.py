"""Orders about many jobs: each is a job, over a set that is fixed when it comes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from headway.core.errors import InvalidError, OrdersFullError, UnknownTaskError
from headway.core.hold import Switches
from headway.core.interface import Engine
from headway.core.job import ACTIVE, Reason, State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.order import OWN_TASKS, Action
from headway.core.status import Status

from tests.core.contract.client import (
    asked_for,
    becomes,
    cancel,
    clear,
    counts,
    finished,
    has_come,
    jobs_of,
    peek,
    states,
    submit,
    text_of,
    until,
)
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known

FAILED = frozenset({State.FAILED})


async def order(engine: Engine, action: Action, **wanted: Any) -> Status:
    """Order, and return the accepted job."""
    submitted = await known(engine.order(action, JobFilter(**wanted)))
    assert not submitted.replayed
    return submitted.status


async def result(engine: Engine, job: Status) -> dict[str, int]:
    """Wait for the end of an order, and return its result."""
    done = await finished(engine, job)
    assert done.state == State.SUCCEEDED, await text_of(engine, done)
    found: dict[str, int] = json.loads(await text_of(engine, done))
    return found


async def test_failed_jobs_are_retried_once_each(start: Start) -> None:
    async with start(broken, double, workers=4) as engine:
        failed = [await finished(engine, await submit(engine, "broken", n, tags=("all", str(n)))) for n in range(80)]
        await finished(engine, await submit(engine, "double", 1, tags=("all",)))
        counted = await known(engine.count_meant(Action.RETRY, JobFilter(tag="all")))
        assert counted == {"broken": 80}
        accepted = await order(engine, Action.RETRY, states=FAILED, task="broken")
        assert accepted.task == "headway.retry"
        # Those that fail now are not among them.
        assert await result(engine, accepted) == {"matched": 80, "done": 80, "skipped": 0}
        for n in range(80):
            tagged = await jobs_of(engine, JobFilter(tag=str(n)))
            assert len(tagged) == 2
            assert tagged[1].id == failed[n].id
        done = await peek(engine, accepted)
        assert (done.progress, done.attempt) == (100, 1)
        # In the order of their first submission.
        again = (await jobs_of(engine, JobFilter(tag="all")))[:80]
        assert [job.tags[1] for job in again] == [str(n) for n in range(79, -1, -1)]


async def test_jobs_are_cancelled_however_they_wait_or_run(start: Start) -> None:
    async with start(forever, double, broken, workers=2, jobs={"backoff": 600, "backoff_max": 600}) as engine:
        retrying = await becomes(engine, await submit(engine, "broken", retries=1, tags=("x",)), State.RETRYING)
        running = [await becomes(engine, await submit(engine, "forever", tags=("x",)), State.RUNNING) for _ in range(2)]
        await known(engine.switch("double", Switches(dispatch="hold")))
        held = await submit(engine, "double", 1, tags=("x",))
        queued = [await submit(engine, "forever", tags=("x",)) for _ in range(50)]
        delayed = await submit(engine, "double", 1, delay=1000, tags=("x",))
        other = await submit(engine, "forever")
        counted = await known(engine.count_meant(Action.CANCEL, JobFilter(tag="x")))
        assert counted == {"broken": 1, "forever": 52, "double": 2}
        # All workers are busy, and it is carried out.
        accepted = await order(engine, Action.CANCEL, tag="x")
        assert accepted.retry_after_ms < 5000
        assert await result(engine, accepted) == {"matched": 55, "done": 55, "skipped": 0}
        assert set(await states(engine, [retrying, *running, held, *queued, delayed])) == {State.CANCELLED}
        await becomes(engine, other, State.RUNNING)


async def test_results_are_deleted(engine: Engine) -> None:
    jobs = [await finished(engine, await submit(engine, "double", n, tags=("away",))) for n in range(5)]
    jobs.append(await finished(engine, await submit(engine, "broken", 1, tags=("away",))))
    waiting = await submit(engine, "double", 1, delay=1000, tags=("away",))
    accepted = await order(engine, Action.DELETE, tag="away")
    assert await result(engine, accepted) == {"matched": 6, "done": 6, "skipped": 0}
    for job in jobs:
        assert await known(engine.result(job)) is None
    assert (await peek(engine, waiting)).state == State.SCHEDULED


async def test_the_set_is_fixed_when_the_order_comes(start: Start) -> None:
    async with start(forever, broken, workers=1) as engine:
        blocking = await becomes(engine, await submit(engine, "forever", tags=("x",)), State.RUNNING)
        early = [await submit(engine, "forever", tags=("x",)) for _ in range(5)]
        accepted, late = await asyncio.gather(
            order(engine, Action.CANCEL, tag="x"), submit(engine, "forever", tags=("x",))
        )
        assert (await result(engine, accepted))["matched"] == 6
        assert set(await states(engine, [blocking, *early])) == {State.CANCELLED}
        assert (await peek(engine, late)).state in ACTIVE


async def test_a_job_that_ends_after_the_order_came_is_not_in_it(start: Start) -> None:
    go = asyncio.Event()

    async def fails_late(_: object) -> None:
        await go.wait()
        raise ValueError("late")

    async with start(fails_late) as engine:
        late = await becomes(engine, await submit(engine, "fails_late", tags=("x",)), State.RUNNING)
        # With a journal the end of the job is committed with the order, and before that is carried out.
        soon = engine.order(Action.RETRY, JobFilter(tag="x"))
        await has_come(engine)
        go.set()
        accepted = (await known(soon)).status
        assert await result(engine, accepted) == {"matched": 0, "done": 0, "skipped": 0}
        assert (await finished(engine, late)).state == State.FAILED
        assert len(await jobs_of(engine, JobFilter(tag="x"))) == 1


async def test_orders_are_in_no_set(start: Start) -> None:
    async with start(broken, forever, workers=1, queue={"size": 4}) as engine:
        for n in range(10):
            await finished(engine, await submit(engine, "broken", n))
        blocking = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        first = await becomes(engine, await order(engine, Action.RETRY, states=FAILED), State.RUNNING)

        async def waits_for_room() -> bool:
            return (await counts(engine)).waiting >= 4

        await until(waits_for_room)
        own = await cancel(engine, await order(engine, Action.RETRY, states=FAILED))
        await finished(engine, own)
        counted = await known(engine.count_meant(Action.CANCEL, JobFilter(ACTIVE)))
        assert counted == {"forever": 1, "broken": 4}
        # The order before it is no job that it cancels.
        accepted = await order(engine, Action.CANCEL, states=frozenset({State.RUNNING}))
        assert await result(engine, accepted) == {"matched": 1, "done": 1, "skipped": 0}
        assert (await finished(engine, blocking)).state == State.CANCELLED
        assert await result(engine, first) == {"matched": 10, "done": 10, "skipped": 0}


async def test_jobs_that_have_changed_since_are_skipped(engine: Engine) -> None:
    await known(engine.submit_batch([asked_for("double", 1, delay=1000, tags=("many",)) for _ in range(600)]))
    # The order comes to the newest ones last.
    newest = await jobs_of(engine, JobFilter(tag="many"), 5)
    accepted = await order(engine, Action.CANCEL, tag="many")

    async def has_begun() -> bool:
        return (await peek(engine, accepted)).progress is not None

    await until(has_begun)
    await asyncio.gather(*(known(engine.cancel(job)) for job in newest[:5]))
    assert await result(engine, accepted) == {"matched": 600, "done": 595, "skipped": 5}
    assert (await counts(engine)).active == 0


async def test_a_retry_waits_for_room(start: Start) -> None:
    async with start(broken, forever, workers=1, queue={"size": 20}) as engine:
        failed = [await finished(engine, await submit(engine, "broken", n)) for n in range(30)]
        assert len(failed) == 30
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        accepted = await order(engine, Action.RETRY, states=FAILED)

        async def is_at_the_bound() -> bool:
            return (await counts(engine)).waiting >= 18

        await until(is_at_the_bound)
        await asyncio.sleep(0.15)
        # A tenth is left to clients.
        assert (await counts(engine)).waiting == 18
        assert 50 <= ((await peek(engine, accepted)).progress or 0) < 100
        mine = await submit(engine, "forever")
        # The jobs that wait are given up.
        await cancel(engine, mine)
        assert await result(engine, await order(engine, Action.CANCEL, task="broken")) != {}
        assert (await result(engine, await order(engine, Action.CANCEL, task="forever")))["matched"] == 1
        assert await result(engine, accepted) == {"matched": 30, "done": 30, "skipped": 0}


async def test_an_order_that_is_carried_out_has_its_attempt(start: Start) -> None:
    async with start(broken, forever, workers=1, queue={"size": 10}) as engine:
        for n in range(10):
            await finished(engine, await submit(engine, "broken", n))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        running = await becomes(engine, await order(engine, Action.RETRY, states=FAILED), State.RUNNING)
        (attempt,) = await known(engine.attempts(running))
        assert (attempt.number, attempt.place, attempt.ended) == (1, "loop", 0)
        assert [job.id for job in await jobs_of(engine, JobFilter(task="headway.retry"))] == [running.id]
        await clear(engine)


async def test_an_order_is_cancelled_as_any_job(start: Start) -> None:
    async with start(broken, forever, workers=1, queue={"size": 10}) as engine:
        for n in range(30):
            await finished(engine, await submit(engine, "broken", n))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        first = await becomes(engine, await order(engine, Action.RETRY, states=FAILED), State.RUNNING)
        second = await order(engine, Action.RETRY, states=FAILED)
        for job in (second, first):
            assert (await cancel(engine, job)).state in {State.RUNNING, State.CANCELLED}
            assert (await finished(engine, job)).state == State.CANCELLED
        waiting = (await counts(engine)).waiting
        assert waiting <= 9
        await asyncio.sleep(0.1)
        assert (await counts(engine)).waiting == waiting
        # The next one is carried out.
        assert (await result(engine, await order(engine, Action.CANCEL, task="broken")))["done"] == waiting


async def test_a_retry_skips_jobs_that_cannot_be(engine: Engine) -> None:
    jobs = [await finished(engine, await submit(engine, "broken", n, tags=("gone",))) for n in range(4)]
    await cancel(engine, jobs[1])
    accepted = await order(engine, Action.RETRY, tag="gone", reason=Reason.ERROR)
    assert await result(engine, accepted) == {"matched": 4, "done": 3, "skipped": 1}


async def test_a_retry_skips_jobs_of_tasks_that_are_no_longer_declared(start: Start) -> None:
    async with start(broken) as engine:
        durable = engine.durability != "memory"
        for n in range(3):
            await finished(engine, await submit(engine, "broken", n))
    if durable:
        async with start(double) as engine:
            accepted = await order(engine, Action.RETRY, states=FAILED)
            assert await result(engine, accepted) == {"matched": 3, "done": 0, "skipped": 3}


@pytest.mark.parametrize(
    ("action", "wanted", "field", "fault"),
    [
        (Action.RETRY, JobFilter(), "", "expected at least one of state, task, tag"),
        (Action.RETRY, JobFilter(frozenset({State.QUEUED})), "state", "expected one or more of failed"),
        (Action.CANCEL, JobFilter(FAILED), "state", "expected one or more of scheduled, queued, running, retrying"),
        (Action.DELETE, JobFilter(ACTIVE), "state", "expected one or more of succeeded, failed"),
        (Action.DELETE, JobFilter(task="dubble"), "task", "'dubble' is not one of: "),
    ],
)
async def test_a_wrong_order_is_refused(
    engine: Engine, action: Action, wanted: JobFilter, field: str, fault: str
) -> None:
    before = (await counts(engine)).jobs[:]
    for ask in (engine.order, engine.count_meant):
        with pytest.raises(UnknownTaskError if field == "task" else InvalidError) as caught:
            # Among nodes they may be asked first.
            await known(ask(action, wanted))
        assert [name for name, _ in caught.value.faults] == [field]
        assert fault in caught.value.faults[0][1]
    assert (await counts(engine)).jobs == before


async def test_the_same_key_is_the_same_order(engine: Engine) -> None:
    await finished(engine, await submit(engine, "broken", 1, tags=("keyed",)))
    key = Key.of("an-order", b"content")
    first = await known(engine.order(Action.RETRY, JobFilter(tag="keyed"), key))
    again = await known(engine.order(Action.RETRY, JobFilter(tag="keyed"), key))
    assert (first.replayed, again.replayed, again.status.id) == (False, True, first.status.id)
    assert (await result(engine, first.status))["done"] == 1
    assert len(await jobs_of(engine, JobFilter(tag="keyed"))) == 2


async def test_a_bounded_number_of_orders_wait(start: Start) -> None:
    async with start(broken, forever, workers=1, queue={"size": 2}) as engine:
        for n in range(3):
            await finished(engine, await submit(engine, "broken", n))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        some = [await order(engine, Action.RETRY, states=FAILED) for _ in range(16)]
        with pytest.raises(OrdersFullError, match="16 orders are waiting, which is the limit"):
            await known(engine.order(Action.RETRY, JobFilter(FAILED)))
        found = await jobs_of(engine, JobFilter(task="headway.retry"))
        assert [job.id for job in found] == [job.id for job in some[::-1]]
        await cancel(engine, some[5])
        some[5] = await order(engine, Action.CANCEL, task="broken")
        # While orders are given up, others submit.
        await clear(engine)
        await clear(engine)
        assert ((await counts(engine)).waiting, (await counts(engine)).active) == (0, 0)


async def test_as_many_orders_are_carried_out_at_a_time_whatever_the_size_of_the_queue(start: Start) -> None:
    async with start(broken, double, workers=1, queue={"size": 2}) as engine:
        for n in range(3):
            await finished(engine, await submit(engine, "broken", n))
        await known(engine.switch("broken", Switches(dispatch="hold")))
        some = [await order(engine, Action.RETRY, states=FAILED) for _ in range(16)]
        for job in some:
            running = await becomes(engine, job, State.RUNNING)
            # As of any job that runs.
            (attempt,) = await known(engine.attempts(running))
            assert (attempt.number, attempt.place, attempt.reason) == (1, "loop", Reason.NONE)
        # They wait for room, and jobs begin beside them and make some.
        for job in some[1:]:
            await cancel(engine, job)
        await known(engine.switch("broken", Switches(dispatch="run")))
        assert await result(engine, some[0]) == {"matched": 3, "done": 3, "skipped": 0}
        assert (await finished(engine, await submit(engine, "double", 1))).state == State.SUCCEEDED


async def test_jobs_begin_however_many_orders_wait_for_room(start: Start) -> None:
    async with start(broken, double, workers=1, queue={"size": 2}) as engine:
        for n in range(3):
            await finished(engine, await submit(engine, "broken", n))
        await known(engine.switch("broken", Switches(dispatch="hold")))
        some = [await order(engine, Action.RETRY, states=FAILED) for _ in range(16)]

        async def is_full() -> bool:
            return (await counts(engine)).jobs[State.RUNNING] == 16

        await until(is_full)
        await known(engine.switch("broken", Switches(dispatch="run")))
        for job in some:
            assert await result(engine, job) == {"matched": 3, "done": 3, "skipped": 0}


async def test_orders_of_before_a_restart_are_among_the_bounded_number(start: Start) -> None:
    async with start(broken, queue={"size": 2}) as engine:
        durable = engine.durability != "memory"
        for n in range(3):
            await finished(engine, await submit(engine, "broken", n))
        # So no order finds room for all.
        await known(engine.switch("broken", Switches(dispatch="hold")))
        some = [await order(engine, Action.RETRY, states=FAILED) for _ in range(16)]
    if durable:
        async with start(broken, queue={"size": 2}) as engine:
            for job in some:
                await becomes(engine, job, State.RUNNING)
            with pytest.raises(OrdersFullError):
                await known(engine.order(Action.RETRY, JobFilter(FAILED)))
            await cancel(engine, some[0])
            await order(engine, Action.CANCEL, task="broken")
            await clear(engine)
            await clear(engine)


async def test_clients_cannot_submit_the_tasks_of_the_server(engine: Engine) -> None:
    for name in OWN_TASKS:
        with pytest.raises(UnknownTaskError):
            await known(engine.submit(asked_for(name)))
        assert name not in [task.name for task in await known(engine.tasks())]
        assert await known(engine.switch(name, Switches(dispatch="hold"))) is None


async def test_a_restart_goes_on_with_an_order(start: Start) -> None:
    async with start(broken, forever, workers=1, queue={"size": 10}) as engine:
        durable = engine.durability != "memory"
        for n in range(40):
            await finished(engine, await submit(engine, "broken", n, tags=(str(n),)))
        blocking = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        accepted = await order(engine, Action.RETRY, states=FAILED)

        async def has_begun() -> bool:
            return (await peek(engine, accepted)).progress is not None

        await until(has_begun)
        if durable:
            async with asyncio.timeout(3):
                await asyncio.create_task(cancel_and_drain(engine, blocking))
    if durable:
        async with start(broken, forever, workers=1, queue={"size": 10}) as engine:
            assert await result(engine, accepted) == {"matched": 40, "done": 40, "skipped": 0}
            for n in range(40):
                assert len(await jobs_of(engine, JobFilter(tag=str(n)))) == 2


async def cancel_and_drain(engine: Engine, blocking: Status) -> None:
    """End an engine whose only worker is busy."""
    await cancel(engine, blocking)
    await engine.drain(5)
