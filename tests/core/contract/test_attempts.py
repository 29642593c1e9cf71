"""The failed attempts at a job: what is kept of each, for how long, and which count."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from headway.core.interface import Engine
from headway.core.job import Reason, State
from headway.core.past_attempt import PastAttempt
from headway.core.status import Status
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options
from headway.core.tasks.retry import Retry, Snooze

from tests.core.contract.client import becomes, cancel, finished, peek, submit, text_of, until
from tests.core.contract.conftest import Start, Tasks
from tests.core.engines import known
from tests.core.processes import tasks_in_processes

# Attempts at a job that are kept.
FIRST, LAST = 5, 20
IN_PROCESSES: dict[str, Any] = {"tasks": [tasks_in_processes.__name__], "processes": 1}


async def until_third(payload: object, context: Context) -> int:
    if context.attempt < 3:
        raise ValueError(payload)
    return context.attempt


async def caused(_: object) -> None:
    tasks_in_processes.fail_with_a_cause(None)


async def in_context(_: object) -> None:
    try:
        raise KeyError("the first")
    except KeyError:
        raise ValueError("the second")  # noqa: B904 — the context is wanted


async def several(_: object) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_raise(ValueError("one of two")))
        group.create_task(_raise(KeyError("two of two")))


async def _raise(error: BaseException) -> None:
    raise error


async def long(_: object) -> None:
    error = ValueError("long")
    error.add_note("a line\n" * 14_285_714)
    raise error


async def gives_up(_: object) -> None:
    raise Retry(0.0)


async def sleeps(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def snoozes(payload: dict[str, Any], context: Context) -> list[int]:
    """Snooze until this was called so often, and return the number of the attempt at each call."""
    CALLS.setdefault(payload["name"], []).append(context.attempt)
    if payload["fails"] and context.attempt == 1:
        raise ValueError("first of all")
    if len(CALLS[payload["name"]]) < payload["calls"]:
        raise Snooze(timedelta(seconds=payload.get("seconds", 0.001)))
    return CALLS[payload["name"]]


CALLS: dict[str, list[int]] = {}
TASKS: Tasks = (until_third, caused, in_context, several, long, gives_up, sleeps, snoozes)


async def attempts(engine: Engine, job: Status) -> list[PastAttempt]:
    found: Sequence[PastAttempt] = await known(engine.attempts(await peek(engine, job)))
    return list(found)


async def all_attempts(engine: Engine, job: Status) -> list[PastAttempt]:
    """Return the attempts at a job once that has finished."""
    return await attempts(engine, await finished(engine, job))


def told(past: PastAttempt) -> tuple[int, Reason, str, str]:
    return past.number, past.reason, past.error_type, past.error


async def test_each_failed_attempt_is_kept_and_the_one_that_succeeded(engine: Engine) -> None:
    begun = time.time()
    status = await finished(engine, await submit(engine, "until_third", "bad", retries=5))
    found = await all_attempts(engine, status)
    failed = Reason.ERROR, "ValueError", "bad"
    assert list(map(told, found)) == [(1, *failed), (2, *failed), (3, Reason.NONE, "", "")]
    times = [moment for past in found for moment in (past.started, past.ended)]
    # The clocks of the row and of the wall are read one after the other.
    assert begun - 0.1 < times[0] < times[-1] < time.time() + 0.1
    assert all(before <= after + 0.001 for before, after in pairwise(times))
    assert [past.place for past in found] == ["loop", "loop", ""]
    assert "raise ValueError(payload)" in found[0].traceback
    assert found[2].traceback == ""


async def test_a_job_without_an_attempt_has_none_and_one_that_runs_has_that(engine: Engine) -> None:
    waits = await submit(engine, "double", 1, delay=60)
    assert await attempts(engine, waits) == []
    runs = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    (past,) = await attempts(engine, runs)
    assert (past.number, past.ended, past.reason, past.place) == (1, 0.0, Reason.NONE, "loop")
    assert abs(past.started - time.time()) < 5


async def test_a_cancelled_attempt_was_interrupted_and_a_cancelled_job_that_waits_has_none(engine: Engine) -> None:
    runs = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    await cancel(engine, runs)
    (past,) = await all_attempts(engine, runs)
    assert told(past) == (1, Reason.INTERRUPTED, "", "")
    assert past.ended >= past.started > 0
    waits = await submit(engine, "double", 1, delay=60)
    await cancel(engine, waits)
    assert await all_attempts(engine, waits) == []


async def test_a_job_that_is_cancelled_between_two_attempts_keeps_the_first(start: Start) -> None:
    async with start(until_third, jobs={"backoff": 60, "backoff_max": 60}) as engine:
        job = await becomes(engine, await submit(engine, "until_third", "bad", retries=5), State.RETRYING)

        async def is_seen() -> bool:
            return len(await attempts(engine, job)) == 1

        await until(is_seen)
        await cancel(engine, job)
        (past,) = await all_attempts(engine, job)
        assert told(past) == (1, Reason.ERROR, "ValueError", "bad")


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("caused", ["KeyError: 'the cause'", "direct cause of the following", "ValueError: the error"]),
        ("in_context", ["KeyError: 'the first'", "During handling of the above", "ValueError: the second"]),
        ("several", ["ExceptionGroup", "ValueError: one of two", "KeyError: 'two of two'"]),
    ],
)
async def test_the_causes_of_an_error_are_in_its_traceback(engine: Engine, task: str, parts: list[str]) -> None:
    (past,) = await all_attempts(engine, await submit(engine, task, retries=0))
    places = [past.traceback.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    assert "headway/core" not in past.traceback


async def test_an_error_of_a_hundred_megabytes_is_kept_in_short(engine: Engine) -> None:
    job = await submit(engine, "long", retries=0)
    slowest, before = 0.0, time.perf_counter()
    while (await peek(engine, job)).state != State.FAILED:
        await asyncio.sleep(0)
        now = time.perf_counter()
        slowest, before = max(slowest, now - before), now
    (past,) = await all_attempts(engine, job)
    assert told(past) == (1, Reason.ERROR, "ValueError", "long")
    assert past.traceback.startswith("Traceback")
    assert "ValueError: long\na line\na line" in past.traceback
    assert len(past.traceback) < 20_000
    # The task takes some ten milliseconds to make the note. To split it into lines would take ten seconds.
    assert slowest < 3


async def test_a_timeout_and_a_deadline_are_kept(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    timed_out = await submit(engine, "sleeps", 60, retries=1, timeout=0.01)
    found = await all_attempts(engine, timed_out)
    error = "took longer than its timeout of 0.01 s"
    assert list(map(told, found)) == [(1, Reason.TIMEOUT, "", error), (2, Reason.TIMEOUT, "", error)]
    late = await submit(engine, "sleeps", 60, retries=1, deadline=0.5)
    (past,) = await all_attempts(engine, late)
    assert told(past) == (1, Reason.DEADLINE, "", "was still running at its deadline")
    assert logged(caplog) == [
        (timed_out.id.decode(), "sleeps", 1, "timeout"),
        (timed_out.id.decode(), "sleeps", 2, "timeout"),
        (late.id.decode(), "sleeps", 1, "deadline"),
    ]


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int, str]]:
    """The job, task, attempt and reason of each warning: in JSON logs they are fields."""
    fields = ("job", "task", "attempt", "reason")
    return [
        tuple(getattr(record, field) for field in fields)
        for record in caplog.records
        if record.levelno == logging.WARNING and hasattr(record, "reason")
    ]


async def test_a_deadline_that_comes_first_is_logged_and_is_no_attempt(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    job = await submit(engine, "double", 1, delay=60, deadline=0.02)
    assert await all_attempts(engine, job) == []
    assert logged(caplog) == [(job.id.decode(), "double", 0, "deadline")]


async def test_a_job_whose_deadline_leaves_no_time_to_try_again_fails_at_once(start: Start) -> None:
    async with start(gives_up, until_third, jobs={"backoff": 600, "backoff_max": 600}) as engine:
        job = await finished(engine, await submit(engine, "until_third", "bad", retries=5, deadline=200))
        assert (job.state, job.reason, job.attempt) == (State.FAILED, Reason.DEADLINE, 1)
        assert await text_of(engine, job) == "ValueError: bad (and its deadline leaves no time to try again)"
        (past,) = await all_attempts(engine, job)
        assert told(past) == (1, Reason.ERROR, "ValueError", "bad")
        # Its own delay is shorter.
        job = await finished(engine, await submit(engine, "gives_up", retries=1, deadline=200))
        assert (job.reason, job.attempt) == (Reason.ERROR, 2)


async def test_a_retry_is_kept_as_a_failed_attempt_the_last_one_too(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    job = await submit(engine, "gives_up", retries=2)
    found = await all_attempts(engine, job)
    assert [(past.number, past.reason, past.error_type) for past in found] == [
        (number, Reason.ERROR, "Retry") for number in (1, 2, 3)
    ]
    assert logged(caplog) == [(job.id.decode(), "gives_up", number, "error") for number in (1, 2, 3)]


async def test_places_are_told_and_a_crash_is_kept(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    tasks = [
        (tasks_in_processes.fail_with_a_cause, Options()),
        (tasks_in_processes.fail, Options(run_in="process")),
        (tasks_in_processes.die, Options(run_in="process")),
    ]
    async with start(*tasks, **IN_PROCESSES) as engine:
        (in_thread,) = await all_attempts(engine, await submit(engine, "fail_with_a_cause", retries=0))
        assert (in_thread.place, in_thread.error_type) == ("thread", "ValueError")
        assert "KeyError: 'the cause'" in in_thread.traceback
        (in_process,) = await all_attempts(engine, await submit(engine, "fail", "value", retries=0))
        assert (in_process.place, *told(in_process)) == ("process", 1, Reason.ERROR, "ValueError", "no such luck")
        assert "tasks_in_processes.py" in in_process.traceback
        died = await submit(engine, "die", "exit", retries=0)
        (crashed,) = await all_attempts(engine, died)
        assert (crashed.place, crashed.reason, crashed.error_type) == ("process", Reason.CRASHED, "")
        assert "exit" in crashed.error
        assert (died.id.decode(), "die", 1, "crashed") in logged(caplog)


async def test_of_many_failed_attempts_the_first_and_the_last_are_kept(start: Start) -> None:
    async def always(_: object, context: Context) -> None:
        raise ValueError(context.attempt)

    kept = [*range(1, FIRST + 1), *range(41 - LAST, 41)]
    async with start(always, jobs={"backoff": 0.0001, "backoff_max": 0.0001}) as engine:
        job = await finished(engine, await submit(engine, "always", retries=39))
        assert [past.number for past in await all_attempts(engine, job)] == kept
    async with start(always) as engine:
        if engine.durability != "memory":
            found = await all_attempts(engine, job)
            assert [(past.number, past.error) for past in found] == [(number, str(number)) for number in kept]


async def test_memory_keeps_those_of_the_last_jobs_and_a_journal_all(start: Start) -> None:
    async def broken(payload: str) -> None:
        raise ValueError(payload)

    # A text is in the message and in the traceback.
    async with start(broken, attempts={"max_bytes": 20_000}) as engine:
        jobs = [await finished(engine, await submit(engine, "broken", f"{n} " * 500, retries=1)) for n in range(10)]
        found = [[past.error[:2] for past in await all_attempts(engine, job)] for job in jobs]
    assert found[-1] == ["9 ", "9 "]
    if engine.durability == "memory":
        assert found[:5] == [[]] * 5
    else:
        assert found == [[f"{n} "] * 2 for n in range(10)]


async def test_what_was_shown_is_shown_again_where_it_is_durable(start: Start) -> None:
    async with start(until_third, caused) as engine:
        jobs = [await submit(engine, "until_third", "bad", retries=2), await submit(engine, "caused", retries=1)]
        before = [await all_attempts(engine, job) for job in jobs]
    async with start(until_third, caused) as engine:
        if engine.durability == "memory":
            return
        after = [await all_attempts(engine, job) for job in jobs]
        for one, other in zip(sum(before, []), sum(after, []), strict=True):  # noqa: RUF017 — two lists
            assert told(one) == told(other)
            assert (one.place, one.traceback) == (other.place, other.traceback)
            assert abs(one.started - other.started) + abs(one.ended - other.ended) < 0.01


async def test_a_deletion_takes_the_attempts_with_the_result(engine: Engine) -> None:
    job = await finished(engine, await submit(engine, "broken", "secret", retries=0))
    assert len(await all_attempts(engine, job)) == 1
    await cancel(engine, job)
    assert await all_attempts(engine, job) == []


# Snooze.


async def test_a_snooze_is_no_attempt_and_uses_no_retry(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    payload = {"name": f"first {type(engine).__name__} {engine.durability}", "fails": False, "calls": 30}
    job = await finished(engine, await submit(engine, "snoozes", payload, retries=0))
    assert (job.state, job.attempt, await text_of(engine, job)) == (State.SUCCEEDED, 1, str([1] * 30).replace(" ", ""))
    assert [past.number for past in await all_attempts(engine, job)] == [1]
    assert logged(caplog) == []


async def test_a_job_that_snoozes_after_a_failed_attempt_keeps_that(engine: Engine) -> None:
    payload = {"name": f"second {type(engine).__name__} {engine.durability}", "fails": True, "calls": 4}
    job = await finished(engine, await submit(engine, "snoozes", payload, retries=1))
    assert (job.state, await text_of(engine, job)) == (State.SUCCEEDED, "[1,2,2,2]")
    found = await all_attempts(engine, job)
    assert [(past.number, past.error) for past in found] == [(1, "first of all"), (2, "")]


async def test_a_job_that_snoozed_is_scheduled_and_can_be_cancelled(engine: Engine) -> None:
    payload = {"name": f"third {type(engine).__name__} {engine.durability}", "fails": False, "calls": 2, "seconds": 60}
    job = await becomes(engine, await submit(engine, "snoozes", payload, delay=0.01), State.SCHEDULED)
    await until(lambda: _begun(payload["name"]))
    status = await becomes(engine, job, State.SCHEDULED)
    assert (status.attempt, await attempts(engine, job)) == (0, [])
    assert (await cancel(engine, status)).state == State.CANCELLED
    assert await all_attempts(engine, job) == []


async def _begun(name: object) -> bool:
    return str(name) in CALLS


@pytest.mark.parametrize("seconds", [60, 0.4])
async def test_only_the_deadline_ends_a_job_that_snoozes(
    engine: Engine, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    payload = {"name": f"{seconds} {engine.durability}", "fails": False, "calls": 1000, "seconds": seconds}
    job = await finished(engine, await submit(engine, "snoozes", payload, deadline=1))
    assert (job.state, job.reason) == (State.FAILED, Reason.DEADLINE)
    (past,) = await all_attempts(engine, job)
    assert told(past) == (1, Reason.DEADLINE, "", f"snoozed for {seconds:g} s, and its deadline comes before that")
    assert await text_of(engine, job) == past.error
    assert logged(caplog) == [(job.id.decode(), "snoozes", 1, "deadline")]


@pytest.mark.parametrize("run_in", ["thread", "process"])
async def test_functions_in_threads_and_processes_snooze(start: Start, tmp_path: Path, run_in: Any) -> None:
    async with start((tasks_in_processes.snooze_twice, Options(run_in=run_in)), **IN_PROCESSES) as engine:
        job = await finished(engine, await submit(engine, "snooze_twice", str(tmp_path / "calls"), retries=0))
        assert (job.state, job.attempt, await text_of(engine, job)) == (State.SUCCEEDED, 1, "1")
        assert (tmp_path / "calls").read_text() == "x\n" * 3


Raising = Callable[[object], Coroutine[Any, Any, None]]


def group_of(*errors: Callable[[], Exception]) -> Raising:
    async def raising(_: object) -> None:
        raise ExceptionGroup("several", [make() for make in errors])

    return raising


class SubclassError(Snooze):
    """A Snooze of the user's, without a delay."""

    def __init__(self) -> None:
        pass


async def test_a_group_of_snoozes_is_one_and_with_another_error_it_is_none(start: Start) -> None:
    tasks = [
        (group_of(lambda: Snooze(60), lambda: Snooze(70)), Options(name="all")),
        (group_of(lambda: Snooze(60), lambda: ValueError("no")), Options(name="one")),
        (group_of(SubclassError), Options(name="no_delay")),
    ]
    async with start(*tasks) as engine:
        job = await submit(engine, "all")
        assert (await becomes(engine, job, State.SCHEDULED)).attempt == 0
        for name in ("one", "no_delay"):
            job = await finished(engine, await submit(engine, name, retries=0))
            assert (job.state, job.reason) == (State.FAILED, Reason.ERROR)
        assert "Snooze: delay=None is not allowed" in await text_of(engine, job)


async def test_a_snooze_outlives_the_engine_where_that_is_durable(start: Start) -> None:
    CALLS.pop("durable", None)
    payload = {"name": "durable", "fails": True, "calls": 3, "seconds": 0.3}
    async with start(snoozes, jobs={"backoff": 0.01, "backoff_max": 0.01}) as engine:
        job = await submit(engine, "snoozes", payload, retries=1)

        async def is_snoozing() -> bool:
            return CALLS.get("durable") == [1, 2] and (await peek(engine, job)).state == State.SCHEDULED

        await until(is_snoozing)
    async with start(snoozes) as engine:
        if engine.durability == "memory":
            return
        job = await finished(engine, job)
        assert (job.state, await text_of(engine, job)) == (State.SUCCEEDED, "[1,2,2]")
        assert [past.number for past in await all_attempts(engine, job)] == [1, 2]
