"""What is declared to be around attempts and around the life of an engine, and what the context tells."""

import asyncio
import functools
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from headway.core.errors import ConfigError, InvalidError
from headway.core.job import Reason, State
from headway.core.tasks.context import Context

from tests.core.contract.client import becomes, cancel, finished, submit, text_of
from tests.core.contract.conftest import Start
from tests.core.engines import known

STEPS: list[str] = []
INSIDE: ContextVar[str] = ContextVar("inside", default="nobody")


@pytest.fixture(autouse=True)
def _no_steps() -> None:
    STEPS.clear()


def noting(name: str) -> Callable[[Context], Iterator[None]]:
    """Return a context manager that notes when it is entered and left, and with which error."""

    def around(context: Context) -> Iterator[None]:
        STEPS.append(f"{name} begins {context.task} {context.attempt}")
        before = INSIDE.set(name)
        try:
            yield
        except BaseException as error:
            STEPS.append(f"{name} sees {type(error).__name__}")
            raise
        finally:
            INSIDE.reset(before)
            STEPS.append(f"{name} ends")

    return around


def noting_on_loop(name: str) -> Callable[[Context], AsyncIterator[None]]:
    """Return an async one."""

    async def around(context: Context) -> AsyncIterator[None]:
        assert threading.current_thread() is threading.main_thread()
        STEPS.append(f"{name} begins {context.task} {context.attempt}")
        INSIDE.set(name)
        await asyncio.sleep(0)
        try:
            yield
        except BaseException as error:
            STEPS.append(f"{name} sees {type(error).__name__}")
            raise
        finally:
            await asyncio.sleep(0)
            STEPS.append(f"{name} ends")

    return around


async def on_loop(payload: object) -> str:
    STEPS.append("task")
    if payload is not None:
        raise ValueError(payload)
    return INSIDE.get()


def in_thread(payload: object) -> str:
    assert threading.current_thread() is not threading.main_thread()
    STEPS.append("task")
    if payload is not None:
        raise ValueError(payload)
    return INSIDE.get()


@functools.wraps(on_loop)
def wrapped(*given: object) -> object:
    """Make the coroutine in a thread."""
    return on_loop(*given)


TASKS = {"on_loop": on_loop, "in_thread": in_thread, "wrapped": wrapped}
MIXED = [noting_on_loop("a"), noting("b"), noting("c")]
PLAIN = [noting("a"), noting("b"), noting("c")]


def named(name: str) -> Any:
    from headway.core.tasks.registry import Options

    return (TASKS[name], Options(name=name))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("arounds", [PLAIN, MIXED], ids=["plain", "mixed"])
async def test_they_nest_in_the_order_of_their_declaration(start: Start, name: str, arounds: list[Any]) -> None:
    async with start(named(name), arounds=arounds) as engine:
        status = await finished(engine, await submit(engine, name))
        assert await text_of(engine, status) == '"c"'
        assert [
            *(f"{around} begins {name} 1" for around in "abc"),
            "task",
            *(f"{around} ends" for around in "cba"),
        ] == STEPS


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("arounds", [PLAIN, MIXED], ids=["plain", "mixed"])
async def test_they_see_the_error_of_the_task(start: Start, name: str, arounds: list[Any]) -> None:
    async with start(named(name), arounds=arounds) as engine:
        status = await finished(engine, await submit(engine, name, "no", retries=1))
        assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.ERROR, 2)
        assert await text_of(engine, status) == "ValueError: no"
        assert [step for step in STEPS if "sees" in step] == [f"{around} sees ValueError" for around in "cba"] * 2


def raising(context: Context) -> Iterator[None]:
    raise LookupError("no entry")
    yield


def raising_at_the_end(context: Context) -> Iterator[None]:
    yield
    raise LookupError("no exit")


async def raising_on_loop(context: Context) -> AsyncIterator[None]:
    yield
    raise LookupError("no exit of the loop")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    ("around", "text"), [(raising, "no entry"), (raising_at_the_end, "no exit"), (raising_on_loop, "of the loop")]
)
async def test_one_that_raises_fails_the_attempt(start: Start, name: str, around: Any, text: str) -> None:
    async with start(named(name), arounds=[around]) as engine:
        status = await finished(engine, await submit(engine, name))
        assert (status.state, status.reason) == (State.FAILED, Reason.ERROR)
        said = await text_of(engine, status)
        assert said.startswith("LookupError: ")
        assert said.endswith(text)
        assert ([] if around is raising else ["task"]) == STEPS


def swallowing(context: Context) -> Iterator[None]:
    try:
        yield
    except ValueError:
        STEPS.append("swallowed")


@pytest.mark.parametrize("name", TASKS)
async def test_one_that_swallows_the_error_makes_the_result_null(start: Start, name: str) -> None:
    async with start(named(name), arounds=[swallowing]) as engine:
        status = await finished(engine, await submit(engine, name, "no"))
        assert (status.state, await text_of(engine, status)) == (State.SUCCEEDED, "null")
        assert STEPS == ["task", "swallowed"]


async def test_an_attempt_that_fails_by_its_payload_or_its_result_fails_within_them(start: Start) -> None:
    async def not_json(payload: Any) -> object:
        return object()

    async def typed(payload: int) -> None: ...

    async with start(not_json, typed, arounds=[noting("a")]) as engine:
        status = await finished(engine, await submit(engine, "not_json"))
        assert status.state == State.FAILED
        assert "a sees ResultError" in STEPS


async def test_a_timeout_reaches_them_as_a_cancellation(start: Start) -> None:
    async def forever(_: object) -> None:
        await asyncio.Event().wait()

    async with start(forever, arounds=MIXED) as engine:
        status = await finished(engine, await submit(engine, "forever", timeout=0.05))
        assert (status.state, status.reason) == (State.FAILED, Reason.TIMEOUT)
        assert [step for step in STEPS if "sees" in step] == [f"{around} sees CancelledError" for around in "cba"]
        running = await submit(engine, "forever")
        await becomes(engine, running, State.RUNNING)
        await cancel(engine, running)


async def test_nothing_keeps_an_error_that_came_out_of_a_thread(start: Start) -> None:
    class CustomError(Exception):
        """An error that can be watched."""

    seen: list[weakref.ref[BaseException]] = []

    def fail(_: object) -> None:
        error = CustomError()
        seen.append(weakref.ref(error))
        raise error

    async with start(fail, arounds=[noting_on_loop("a")]) as engine:
        await finished(engine, await submit(engine, "fail"))
        gc.collect()
        assert seen[0]() is None


# The life of the engine.


async def test_the_lifespan_is_entered_and_left_once_and_its_value_is_the_state(start: Start) -> None:
    async def life() -> AsyncIterator[dict[str, int]]:
        STEPS.append("begins")
        task = asyncio.current_task()
        yield {"pool": 7}
        # As cancel scopes ask for.
        assert asyncio.current_task() is task
        STEPS.append("ends")

    async def look(_: object, context: Context) -> object:
        return context.state

    def look_in_thread(_: object, context: Context) -> object:
        return context.state

    async with start(look, look_in_thread, lifespan=life) as engine:
        for name in ("look", "look_in_thread", "look"):
            status = await finished(engine, await submit(engine, name))
            assert await text_of(engine, status) == '{"pool":7}'
        assert STEPS == ["begins"]
    assert STEPS == ["begins", "ends"]


async def nowhere() -> AsyncIterator[None]:
    raise ConnectionError("no database\nat all")
    yield


async def exits() -> AsyncIterator[None]:
    raise SystemExit(3)
    yield


async def without_yield() -> AsyncIterator[None]:
    if STEPS:
        yield


@pytest.mark.parametrize(
    ("life", "message"),
    [
        (nowhere, r"^@lifespan: nowhere \(.*test_around.py:\d+\) raised ConnectionError: no database$"),
        (exits, "raised SystemExit: 3"),
        (without_yield, "raised RuntimeError: generator didn't yield"),
    ],
)
async def test_a_lifespan_that_raises_ends_the_start_in_one_line(start: Start, life: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        async with start(on_loop, lifespan=life):
            pass
    # What it has kept is not locked.
    async with start(on_loop) as engine:
        await finished(engine, await submit(engine, "on_loop"))


async def test_a_lifespan_that_raises_at_its_end_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> AsyncIterator[None]:
        yield
        raise ConnectionError("not closed")

    async with start(on_loop, lifespan=life) as engine:
        await finished(engine, await submit(engine, "on_loop"))
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().endswith("raised ConnectionError: not closed")


@pytest.mark.long
async def test_a_lifespan_that_does_not_end_is_left_after_three_seconds(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def life() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    async with asyncio.timeout(20):
        async with start(on_loop, lifespan=life) as engine:
            await finished(engine, await submit(engine, "on_loop"))
    # Its cancellation may be logged as well.
    said = next(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert said.startswith("@lifespan: life (")
    assert said.endswith(" did not end within 3 s")


async def test_a_job_cannot_cancel_the_lifespan(start: Start) -> None:
    async def life() -> AsyncIterator[None]:
        yield
        STEPS.append("ends")

    async def cancel_all(_: object) -> int:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return len([task.cancel() for task in tasks if task and "Lifespan" in repr(task)])

    async with start(on_loop, cancel_all) as engine:
        # The loop of the server hides all tasks from its beginning on, and that of a test from here on.
        pass
    async with start(cancel_all, lifespan=life) as engine:
        status = await finished(engine, await submit(engine, "cancel_all"))
        assert await text_of(engine, status) == "0"
    assert STEPS == ["ends"]


# What the context tells.

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_the_context_has_the_task_and_the_trace_also_after_a_restart(start: Start) -> None:
    async def tell(_: object, context: Context) -> object:
        return [context.task, context.traceparent]

    async def hold(_: object) -> None:
        await asyncio.Event().wait()

    async with start(tell, hold, workers=1) as engine:
        durable = engine.durability != "memory"
        status = await finished(engine, await submit(engine, "tell", traceparent=TRACE))
        assert await text_of(engine, status) == f'["tell","{TRACE}"]'
        status = await finished(engine, await submit(engine, "tell"))
        assert await text_of(engine, status) == '["tell",null]'
        await becomes(engine, await submit(engine, "hold"), State.RUNNING)
        waiting = await submit(engine, "tell", traceparent=TRACE)
    if durable:
        async with start(tell, hold, workers=2) as engine:
            status = await finished(engine, waiting)
            assert await text_of(engine, status) == f'["tell","{TRACE}"]'


async def test_a_resubmission_has_the_trace_of_the_failed_job(start: Start) -> None:
    async def fail(_: object, context: Context) -> None:
        STEPS.append(str(context.traceparent))
        raise ConnectionError

    async with start(fail) as engine:
        failed = await finished(engine, await submit(engine, "fail", retries=0, traceparent=TRACE))
        await finished(engine, (await known(engine.retry(failed))).status)
        assert STEPS == [TRACE, TRACE]


async def test_lines_of_the_context_have_the_job_the_task_and_the_attempt(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def say(_: object, context: Context) -> None:
        context.log.warning("said %d", 5)
        assert context.log is context.log

    def say_in_thread(_: object, context: Context) -> None:
        context.log.error("said in a thread", exc_info=True)

    async with start(say, say_in_thread) as engine:
        jobs = [await finished(engine, await submit(engine, name)) for name in ("say", "say_in_thread")]
    lines = [
        (vars(record)["job"], vars(record)["task"], vars(record)["attempt"], record.getMessage())
        for record in caplog.records
        if record.name == "headway.task"
    ]
    assert lines == [
        (jobs[0].id.decode(), "say", 1, "said 5"),
        (jobs[1].id.decode(), "say_in_thread", 1, "said in a thread"),
    ]


async def test_an_invalid_payload_is_seen_by_those_around(start: Start) -> None:
    """It fitted before: nobody can submit it now."""
    from headway.core.tasks.registry import Options

    async def before(payload: Any) -> None:
        await asyncio.Event().wait()

    async def after(payload: int) -> None: ...

    async with start((before, Options(name="work"))) as engine:
        if engine.durability == "memory":
            return
        job = await submit(engine, "work", "x")
    async with start((after, Options(name="work")), arounds=[noting("a")]) as engine:
        status = await finished(engine, job)
        assert (status.state, status.reason) == (State.FAILED, Reason.INVALID_PAYLOAD)
        assert "a sees InvalidPayloadError" in STEPS
        with pytest.raises(InvalidError):
            await known(engine.retry(status))
