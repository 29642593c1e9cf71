"""What is told of jobs: by id, by state, and what they left."""

import time
from itertools import pairwise

import pytest
from headway.core.errors import MisdirectedError
from headway.core.ids import MARKER_LENGTH, SEQUENCE_BITS
from headway.core.interface import Engine
from headway.core.job import State

from tests.core.contract.client import becomes, cancel, counts, finished, jobs_in, peek, submit, submit_batch
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known


def changed(job_id: bytes) -> list[bytes]:
    """Return ids that differ from ``job_id`` in one digit, each in another one."""
    return [job_id[:at] + (b"1" if digit == 0x30 else b"0") + job_id[at + 1 :] for at, digit in enumerate(job_id)]


@pytest.mark.parametrize("kind", ["job", "batch"])
async def test_a_changed_id_was_never_issued(engine: Engine, kind: str) -> None:
    job = await submit(engine, "double", 1)
    batch = await submit_batch(engine, "double", "double")
    right, other = (job.id, batch.id) if kind == "job" else (batch.id, job.id)

    async def is_known(wrong: bytes) -> bool:
        found: object = await (known(engine.peek(wrong)) if kind == "job" else known(engine.peek_batch(wrong)))
        return found is not None

    assert await is_known(right)
    misdirected = 0
    for wrong in (*changed(right), right.upper(), other):
        try:
            assert not await is_known(wrong)
        except MisdirectedError:
            misdirected += 1
    # The digits that say which engine has issued it, or which run: those of the marker and of the number.
    assert 0 < misdirected <= MARKER_LENGTH + SEQUENCE_BITS // 4


async def test_times_of_a_job_are_of_the_wall_clock(engine: Engine) -> None:
    before = time.time()
    job = await finished(engine, await submit(engine, "double", 1))
    times = [before, job.submitted, job.started, job.ended, time.time()]
    # The clocks are compared once a second, and may be corrected meanwhile.
    assert all(later - earlier > -0.1 for earlier, later in pairwise(times)), times


async def test_jobs_are_listed_newest_first_by_state_a_page_after_the_other(start: Start) -> None:
    async with start(broken, double, workers=1) as engine:
        jobs = [await submit(engine, "broken" if number % 2 else "double", number) for number in range(10)]
        for job in jobs:
            await finished(engine, job)
        for limit in (1, 3, 50):
            assert [job.id for job in await jobs_in(engine, State.FAILED, limit)] == [job.id for job in jobs[::-2]]
            assert [job.id for job in await jobs_in(engine, State.SUCCEEDED, limit)] == [job.id for job in jobs[-2::-2]]
        assert await jobs_in(engine, State.RUNNING) == []
        failed = await jobs_in(engine, State.FAILED)
        assert [job.retry_after_ms for job in failed] == [0] * 5
        assert failed[0] == await peek(engine, jobs[-1])


@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED, State.RUNNING, State.CANCELLED])
async def test_active_and_cancelled_jobs_are_listed(engine: Engine, state: State) -> None:
    blockers = [await submit(engine, "forever", priority=9) for _ in range(8)]
    for blocker in blockers:
        await becomes(engine, blocker, State.RUNNING)
    job = await submit(engine, "forever", delay=60 if state == State.SCHEDULED else 0)
    if state == State.RUNNING:
        await cancel(engine, blockers[0])
        await becomes(engine, job, State.RUNNING)
    elif state == State.CANCELLED:
        await cancel(engine, job)
    listed = (await jobs_in(engine, state))[0]
    assert listed.id == job.id
    # The list is no poll of each job, and promises none.
    assert listed.retry_after_ms == 0


async def test_the_payload_of_a_job_that_succeeded_takes_no_room_of_results(start: Start) -> None:
    async def short(_: str) -> int:
        return 1

    async with start(short, results={"max_bytes": 5000}) as engine:
        for _ in range(4):
            await finished(engine, await submit(engine, "short", "x" * 4000))
        assert ((await counts(engine)).results_kept, (await counts(engine)).results_evicted) == (4, 0)


async def test_the_result_of_a_job_is_given_up_for_others(start: Start) -> None:
    async def long(payload: str) -> str:
        return payload * 1000

    async with start(long, results={"max_bytes": 5000}) as engine:
        jobs = [await finished(engine, await submit(engine, "long", letter)) for letter in "abcdefgh"]
        last = await known(engine.result(jobs[-1]))
        assert last is not None
        assert (last.body, last.media_type) == (b'"' + b"h" * 1000 + b'"', "application/json")
        first = await known(engine.result(jobs[0]))
        # Where there is a disk it is there for as long as the job is.
        assert (first is None) == (engine.durability == "memory")
        assert first is None or first.body == b'"' + b"a" * 1000 + b'"'
        assert (await peek(engine, jobs[0])).state == State.SUCCEEDED
        counted = await counts(engine)
        # A store keeps results for as long as their jobs.
        assert (counted.results_evicted > 0) == (counted.store is None)


async def test_the_payload_can_be_read_until_its_job_succeeds(start: Start) -> None:
    async with start(forever, broken, double, workers=1) as engine:
        failed = await finished(engine, await submit(engine, "broken", {"a": [1, 2.50]}))
        done = await finished(engine, await submit(engine, "double", 3))
        running = await becomes(engine, await submit(engine, "forever", "x"), State.RUNNING)
        waiting = await submit(engine, "double", 4)
        bodies = [await known(engine.payload(job)) for job in (failed, running, waiting)]
        assert [(body.data, body.media_type) for body in bodies if body is not None] == [
            (b'{"a":[1,2.5]}', "application/json"),
            (b'"x"', "application/json"),
            (b"4", "application/json"),
        ]
        assert await known(engine.payload(done)) is None
