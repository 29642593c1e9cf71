"""A job touches no other job: each attempt has a task and a context of its own, and what it does to them is its own."""

import asyncio
import decimal
import gc
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

import pytest
from headway.core.job import Reason, State
from headway.core.running import hide_tasks
from headway.core.work.attempt import Attempt

from tests.core.engines import double, engine_with, over, peek, run, said, submit, until

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def in_thread(function: Callable[[Any], object]) -> Callable[..., object]:
    """The same as a plain function."""
    return function


def on_loop(function: Callable[[Any], object]) -> Callable[..., object]:
    """The same as a coroutine function."""

    @wraps(function)
    async def coroutine(payload: object) -> object:
        return function(payload)

    return coroutine


LANES = pytest.mark.parametrize("lane", [on_loop, in_thread])


def test_each_attempt_has_a_task_of_its_own() -> None:
    tasks = []

    async def who(_: object) -> None:
        tasks.append(this_task())
        await asyncio.sleep(0)
        assert this_task() is tasks[-1]

    async def test() -> None:
        async with engine_with(who, workers=1) as engine:
            for _ in range(3):
                assert (await over(engine, submit(engine, "who"))).state == State.SUCCEEDED
            assert len(set(tasks)) == 3
            assert all(task.done() for task in tasks)

    run(test)


@LANES
def test_what_a_job_sets_in_its_context_is_not_there_for_the_next(
    lane: Callable[[Callable[[Any], object]], Callable[..., Any]],
) -> None:
    tenant.set("the server's")

    def work(payload: str) -> list[str]:
        seen = [tenant.get(), str(decimal.Decimal(1) / 3)]
        tenant.set(payload)
        decimal.getcontext().prec = 3
        return seen

    async def test() -> None:
        async with engine_with(lane(work), workers=1) as engine:
            seen = [said(engine, await over(engine, submit(engine, "work", name))) for name in ("alice", "bob")]
            assert seen[0] == seen[1] == '["nobody","0.3333333333333333333333333333"]'

    run(test)


def test_a_cancel_that_comes_late_hits_nobody() -> None:
    async def homemade_timeout(seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, this_task().cancel)

    async def innocent(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def test() -> None:
        async with engine_with(homemade_timeout, innocent, workers=1) as engine:
            first = submit(engine, "homemade_timeout", 0.05)
            second = submit(engine, "innocent", 0.2)
            assert (await over(engine, first)).state == State.SUCCEEDED
            assert (await over(engine, second)).state == State.SUCCEEDED

    run(test)


def test_what_an_attempt_does_to_its_own_task_is_not_seen_by_the_next() -> None:
    called: list[object] = []

    async def odd(_: object) -> str:
        task = this_task()
        task.add_done_callback(called.append)
        for _ in range(3):
            task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            # It keeps this count, and asks for another that is still to come when it returns.
            task.cancel()
        return "well"

    async def clean(_: object) -> int:
        await asyncio.sleep(0)
        return this_task().cancelling()

    async def test() -> None:
        async with engine_with(odd, clean, workers=1) as engine:
            one, two = submit(engine, "odd"), submit(engine, "clean")
            status = await over(engine, one)
            assert (status.state, said(engine, status)) == (State.SUCCEEDED, '"well"')
            status = await over(engine, two)
            assert (status.state, said(engine, status)) == (State.SUCCEEDED, "0")
            await until(lambda: len(called) == 1)

    run(test)


@pytest.mark.parametrize("how", ["itself", "a child"])
def test_a_cancellation_that_is_not_ours_is_an_error_of_the_task(how: str) -> None:
    async def cancelled(_: object) -> None:
        victim = this_task() if how == "itself" else asyncio.ensure_future(asyncio.sleep(10))
        victim.cancel()
        await (asyncio.sleep(0) if how == "itself" else victim)

    async def test() -> None:
        async with engine_with(cancelled, double, workers=1) as engine:
            status = await over(engine, submit(engine, "cancelled", retries=3))
            assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.ERROR, 1)
            assert said(engine, status).startswith("CancelledError")
            assert (await over(engine, submit(engine, "double", 1))).state == State.SUCCEEDED

    run(test)


def test_who_cancels_all_tasks_finds_none_of_another() -> None:
    async def cleanup(_: object) -> int:
        found = 0
        for _ in range(20):
            for task in asyncio.all_tasks():
                found += task.cancel()
            await asyncio.sleep(0.005)
        return found

    def cleanup_in_thread(_: object) -> int:
        found = 0
        for _ in range(20):
            for task in asyncio.all_tasks(runner.get_loop()):
                found += 1
                runner.get_loop().call_soon_threadsafe(task.cancel)
            time.sleep(0.005)
        return found

    async def parent(seconds: float) -> str:
        children = [asyncio.create_task(asyncio.sleep(seconds)) for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(seconds))
            await asyncio.wait_for(asyncio.gather(*children), 10)
        return "fine"

    async def test() -> None:
        async with engine_with(cleanup, cleanup_in_thread, parent, workers=4) as engine:
            innocent = submit(engine, "parent", 0.3)
            await until(lambda: peek(engine, innocent).state == State.RUNNING)
            for name in ("cleanup", "cleanup_in_thread"):
                assert said(engine, await over(engine, submit(engine, name))) == "0"
            status = await over(engine, innocent)
            assert (status.state, said(engine, status)) == (State.SUCCEEDED, '"fine"')

    with asyncio.Runner() as runner:
        # As the server does: its own tasks are there before the engine.
        hide_tasks(runner.get_loop())
        runner.run(test())


def test_what_an_attempt_leaves_behind_goes_on_and_hits_nobody() -> None:
    seen: list[str] = []
    left: list[asyncio.Task[None]] = []

    async def parent(_: object) -> str:
        async def background() -> None:
            await asyncio.sleep(0.05)
            seen.append(tenant.get())
            raise ValueError("nobody waits for this")

        tenant.set("parent")
        left.append(asyncio.create_task(background()))
        return "returned"

    async def test() -> None:
        async with engine_with(parent, double, workers=1) as engine:
            assert (await over(engine, submit(engine, "parent"))).state == State.SUCCEEDED
            assert (await over(engine, submit(engine, "double", 2))).state == State.SUCCEEDED
            await until(lambda: left[0].done())
            assert seen == ["parent"]
            assert isinstance(left[0].exception(), ValueError)

    run(test)


def attempts() -> list[Attempt]:
    """All there are, with their jobs."""
    return [found for found in gc.get_objects() if isinstance(found, Attempt)]


class Large:
    """Something that can be seen to be freed."""


@LANES
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_nothing_of_a_job_is_kept_when_it_is_over(
    lane: Callable[[Callable[[Any], object]], Callable[..., Any]], fails: bool
) -> None:
    alive: list[weakref.ref[Large]] = []

    def work(payload: object) -> None:
        large = Large()
        alive.append(weakref.ref(large))
        if fails:
            raise ValueError("no")

    async def test() -> None:
        async with engine_with(lane(work), workers=1) as engine:
            gc.collect()
            # Other tests may have left some in threads that never return.
            before = attempts()
            gc.disable()
            try:
                await over(engine, submit(engine, "work", "x" * 100))
                # The thread has to come back for its next call.
                await until(lambda: alive[0]() is None and not set(attempts()) - set(before))
            finally:
                gc.enable()
            assert engine.active.workers.idle == 1

    run(test)


def test_a_wrapped_coroutine_function_is_awaited_where_it_belongs() -> None:
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function(*arguments)

        return wrapper

    @traced
    async def wrapped(payload: int) -> list[object]:
        await asyncio.sleep(0)
        return [payload, threading.current_thread() is threading.main_thread()]

    @traced
    async def wrapped_and_broken(payload: int) -> None:
        await asyncio.sleep(0)
        raise KeyError(payload)

    async def test() -> None:
        async with engine_with(wrapped, wrapped_and_broken) as engine:
            status = await over(engine, submit(engine, "wrapped", 7))
            assert (status.state, said(engine, status)) == (State.SUCCEEDED, "[7,true]")
            status = await over(engine, submit(engine, "wrapped_and_broken", 7))
            assert (status.state, said(engine, status)) == (State.FAILED, "KeyError: 7")

    run(test)


def test_jobs_that_begin_in_one_turn_may_wait_for_one_future() -> None:
    async def test() -> None:
        shared: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def waits(_: object) -> int:
            return await shared

        async def yields(_: object) -> int:
            await asyncio.sleep(0)
            return await waits(None)

        async with engine_with(waits, yields, workers=6) as engine:
            jobs = [submit(engine, name) for name in ("waits", "yields") * 3]
            await asyncio.sleep(0.02)
            shared.set_result(7)
            for job in jobs:
                status = await over(engine, job)
                assert (status.state, said(engine, status)) == (State.SUCCEEDED, "7")

    run(test)
