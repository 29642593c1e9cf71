"""Jobs found by a filter: by state, task, tag, reason, time and the text of their error."""

from __future__ import annotations

import asyncio
import time

import pytest
from headway.core.errors import UnknownTaskError
from headway.core.interface import ERROR_LONGEST, Engine
from headway.core.job import ACTIVE, Reason, State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.status import Status

from tests.core.contract.client import asked_for, becomes, cancel, counts, finished, jobs_in, jobs_of, peek, submit
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known


async def slow(_: object) -> None:
    await asyncio.sleep(60)


def ids(jobs: list[Status]) -> list[bytes]:
    return [job.id for job in jobs]


async def found(engine: Engine, **wanted: object) -> list[bytes]:
    """Return the ids of the jobs that fit, newest first."""
    return ids(await jobs_of(engine, JobFilter(**wanted)))  # type: ignore[arg-type]


async def test_jobs_are_found_by_all_that_is_known_of_them(start: Start) -> None:
    async with start(broken, double, slow, workers=2) as engine:
        ok = await finished(engine, await submit(engine, "double", 1))
        bad = await finished(engine, await submit(engine, "broken", "Paper Jam"))
        late = await finished(engine, await submit(engine, "slow", timeout=0.01))
        waiting = await submit(engine, "double", 2, delay=60)
        all_of_them = ids([waiting, late, bad, ok])
        assert await found(engine) == all_of_them
        assert await found(engine, states=frozenset({State.FAILED})) == ids([late, bad])
        assert await found(engine, states=frozenset({State.SUCCEEDED, State.SCHEDULED})) == ids([waiting, ok])
        assert await found(engine, task="double") == ids([waiting, ok])
        assert await found(engine, task="double", states=ACTIVE) == ids([waiting])
        assert await found(engine, reason=Reason.TIMEOUT) == ids([late])
        assert await found(engine, reason=Reason.ERROR, task="slow") == []
        assert await found(engine, reason=Reason.ERROR, states=frozenset({State.SUCCEEDED})) == []
        assert await found(engine, error="paper jam") == await found(engine, error="VALUEERROR: p") == ids([bad])
        assert await found(engine, error="no such text") == []
        for job, name in ((bad, "submitted"), (late, "ended")):
            moment = getattr(job, name)
            after = await found(engine, **{f"{name}_after": moment - 0.0005})
            before = await found(engine, **{f"{name}_before": moment - 0.0005})
            assert job.id in after
            assert job.id not in before
            assert sorted(after + before) == sorted(all_of_them if name == "submitted" else ids([ok, bad, late]))
        assert await found(engine, ended_before=time.time() - 60) == []
        assert await found(engine, submitted_after=time.time() + 60) == []
        await cancel(engine, waiting)


async def test_an_unknown_task_is_named(engine: Engine) -> None:
    with pytest.raises(UnknownTaskError) as caught:
        await known(engine.find(JobFilter(task="dubble"), 0, 50))
    field, fault = caught.value.faults[0]
    assert field == "task"
    assert fault.startswith("'dubble' is not one of: broken, double")


async def test_jobs_are_found_by_tag(engine: Engine) -> None:
    one = await submit(engine, "double", 1, tags=("customer:42", "nightly", "customer:42"))
    other = await submit(engine, "double", 1, tags=("customer:42",))
    none = await submit(engine, "double", 1)
    assert (one.tags, other.tags, none.tags) == (("customer:42", "nightly"), ("customer:42",), ())
    await finished(engine, none)
    assert await found(engine, tag="customer:42") == ids([other, one])
    assert await found(engine, tag="customer:4") == []
    assert await found(engine, tag="nightly", task="broken") == []
    assert (await peek(engine, one)).tags == ("customer:42", "nightly")
    assert (await jobs_of(engine, JobFilter(tag="nightly")))[0].tags == ("customer:42", "nightly")


async def test_jobs_of_a_batch_have_tags_of_their_own(engine: Engine) -> None:
    batch = await known(
        engine.submit_batch([asked_for("double", number, tags=(f"part:{number}", "all")) for number in range(3)])
    )
    jobs = [job_id for job_id, _ in await known(engine.list_batch(batch.status))]
    assert await found(engine, tag="all") == jobs[::-1]
    assert await found(engine, tag="part:1") == [jobs[1]]


async def test_a_resubmitted_job_keeps_its_tags(engine: Engine) -> None:
    failed = await finished(engine, await submit(engine, "broken", tags=("again",)))
    new = (await known(engine.retry(failed))).status
    assert new.tags == ("again",)
    assert await found(engine, tag="again") == ids([new, failed])


async def test_a_replayed_submission_shows_the_tags_of_the_first(engine: Engine) -> None:
    key = Key.of("tagged-once", b"content")
    first = await submit(engine, "double", 1, key=key, tags=("once",))
    again = await known(engine.submit(asked_for("double", 1, tags=("once",)), key))
    assert again.replayed
    assert (again.status.id, again.status.tags) == (first.id, ("once",))


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_pages_of_a_filter_follow_one_another(start: Start, limit: int) -> None:
    async with start(broken, double) as engine:
        jobs = [await submit(engine, ("double", "broken")[n % 2], n, tags=(f"third:{n % 3}",)) for n in range(20)]
        for job in jobs:
            await finished(engine, job)
        wanted = JobFilter(frozenset({State.FAILED, State.SUCCEEDED}), tag="third:1")
        assert ids(await jobs_of(engine, wanted, limit)) == ids(jobs[1::3][::-1])
        wanted = JobFilter(task="broken", error="valueerror: 1")
        assert ids(await jobs_of(engine, wanted, limit)) == ids([job for n, job in enumerate(jobs) if n in TENS][::-1])


# Odd numbers that begin with 1.
TENS = {1, 11, 13, 15, 17, 19}


async def test_an_error_that_memory_gave_up_is_found_where_there_is_a_disk(start: Start) -> None:
    async with start(broken, results={"max_bytes": 2000}, retention={"jobs": 1000, "seconds": 3600}) as engine:
        jobs = [await finished(engine, await submit(engine, "broken", f"error {n} of many")) for n in range(250)]
        counted = await counts(engine)
        # A store keeps results for as long as their jobs.
        assert (counted.results_evicted > 0) == (counted.store is None)
        rare = await found(engine, error="ERROR 7 OF")
        assert rare == ([] if engine.durability == "memory" else [jobs[7].id])
        newest = await found(engine, error="error 249 of")
        assert newest == [jobs[249].id]
        everywhere = await jobs_of(engine, JobFilter(error="of many"), 60)
        assert len(everywhere) == (250 if engine.durability != "memory" else (await counts(engine)).results_kept)
        assert ids(everywhere) == ids(jobs[::-1][: len(everywhere)])


async def test_a_forgotten_error_is_not_found(engine: Engine) -> None:
    job = await finished(engine, await submit(engine, "broken", "to be forgotten"))
    assert await found(engine, error="to be forgotten") == [job.id]
    await cancel(engine, job)
    assert await found(engine, error="to be forgotten") == []


async def test_a_job_that_has_expired_is_not_found(start: Start) -> None:
    async with start(double, retention={"jobs": 2, "seconds": 3600}) as engine:
        jobs = [await finished(engine, await submit(engine, "double", n, tags=("all",))) for n in range(5)]
        assert await found(engine, tag="all") == await found(engine, task="double") == ids(jobs[:2:-1])


async def test_a_restart_keeps_tags(start: Start) -> None:
    async with start(double, forever, workers=1) as engine:
        durable = engine.durability != "memory"
        done = await finished(engine, await submit(engine, "double", 1, tags=("kept", "ünïcode \U0001f600")))
        await finished(engine, await submit(engine, "double", 1))
        running = await becomes(engine, await submit(engine, "forever", tags=("kept",)), State.RUNNING)
        waiting = await submit(engine, "double", 1, delay=60, tags=("kept", 'quo"te'))
    if durable:
        async with start(double, forever, workers=1) as engine:
            assert await found(engine, tag="kept") == ids([waiting, running, done])
            assert await found(engine, tag="ünïcode \U0001f600") == [done.id]
            assert await found(engine, tag='quo"te') == [waiting.id]
            assert (await peek(engine, done)).tags == ("kept", "ünïcode \U0001f600")
            assert [job.tags for job in await jobs_in(engine, State.SUCCEEDED)] == [(), done.tags]


async def test_a_job_that_ends_at_a_start_keeps_its_tags(start: Start) -> None:
    async with start(double) as engine:
        durable = engine.durability != "memory"
        # Its deadline comes while no engine runs.
        late = await submit(engine, "double", 1, delay=60, deadline=0.05, tags=("late",))
    await asyncio.sleep(0.05)
    if durable:
        async with start(double) as engine:
            status = await finished(engine, late)
            assert (status.state, status.reason, status.tags) == (State.FAILED, Reason.DEADLINE, ("late",))
            assert await found(engine, tag="late") == [late.id]


async def test_many_searches_at_once_end(engine: Engine) -> None:
    for number in range(30):
        await finished(engine, await submit(engine, "broken", f"many {number}"))
    pages = await asyncio.gather(*(found(engine, error=f"many {number}") for number in range(10, 30)))
    assert [len(page) for page in pages] == [1] * 20


async def test_failed_jobs_have_the_beginning_of_their_errors(start: Start) -> None:
    async with start(broken, double, results={"max_bytes": 1_000_000}) as engine:
        short = await finished(engine, await submit(engine, "broken", "short"))
        long = await finished(engine, await submit(engine, "broken", "x" * 5000))
        good = await finished(engine, await submit(engine, "double", 1))
        errors = await known(engine.errors([short, long, good]))
        assert errors[short.sequence] == "ValueError: short"
        assert errors[long.sequence] == "ValueError: " + "x" * (ERROR_LONGEST - 12)
        assert good.sequence not in errors


async def test_errors_that_memory_gave_up_are_read_where_there_is_a_disk(start: Start) -> None:
    async with start(broken, results={"max_bytes": 2000}) as engine:
        jobs = [await finished(engine, await submit(engine, "broken", f"error {n}")) for n in range(150)]
        errors = await known(engine.errors(jobs))
        assert errors[jobs[-1].sequence] == "ValueError: error 149"
        assert (errors.get(jobs[0].sequence) == "ValueError: error 0") == (engine.durability != "memory")
