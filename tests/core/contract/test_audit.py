"""The audit log: each change that a client makes is in it, and nothing else is."""

from __future__ import annotations

import asyncio
import time

import pytest
from headway.core.audit import Act, AuditEntry
from headway.core.errors import InvalidError, NotFailedError, NotWaitingError
from headway.core.hold import Switches
from headway.core.interface import Cancel, Cancelled, Engine
from headway.core.job import Revision, State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.order import Action
from msgspec.structs import replace

from tests.core.contract.client import becomes, cancel, finished, peek, submit, submit_batch, until
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known

ACT = Act("cancelJob", who="night shift", address="192.0.2.7", target="order-4711", code=204)
LATER = 3600.0


async def last(engine: Engine) -> int:
    """Return the number of the newest entry, 0 if there is none."""
    found = await known(engine.audit(0, 1))
    return found[0].number if found else 0


async def since(engine: Engine, number: int) -> list[Act]:
    """Return the acts after the entry with this number, oldest first."""
    found = await known(engine.audit(0, 1000))
    numbers = [entry.number for entry in found]
    assert numbers == sorted(numbers, reverse=True)
    return [entry.act for entry in reversed(found) if entry.number > number]


async def test_the_end_of_a_job_is_noted_with_its_effect(engine: Engine) -> None:
    begin = await last(engine)
    running = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    assert (await known(engine.cancel(running, ACT))).how is Cancel.ASKED
    waiting = await submit(engine, "double", 1, delay=LATER)
    assert (await known(engine.cancel(waiting, ACT))).how is Cancel.DROPPED
    done = await finished(engine, await submit(engine, "double", 1))
    assert (await known(engine.cancel(done, ACT))).how is Cancel.FORGOTTEN
    assert await since(engine, begin) == [replace(ACT, goes_on=True), ACT, ACT]


async def test_an_entry_has_a_number_and_the_time_of_day(engine: Engine) -> None:
    begin, before = await last(engine), time.time()
    for name in ("first", "second"):
        waiting = await submit(engine, "double", 1, delay=LATER)
        await known(engine.cancel(waiting, replace(ACT, target=name)))
    newest, older = await known(engine.audit(0, 2))
    assert (older, newest) == (
        AuditEntry(begin + 1, older.at, replace(ACT, target="first")),
        AuditEntry(begin + 2, newest.at, replace(ACT, target="second")),
    )
    # The clock of a store is known to some milliseconds.
    assert before - 1 < older.at <= newest.at < time.time() + 1


async def test_other_changes_are_noted(engine: Engine) -> None:
    begin = await last(engine)
    waiting = await submit(engine, "double", 1, delay=LATER)
    await known(engine.revise(waiting, Revision(priority=9), replace(ACT, what="changeJob")))
    held = await known(engine.switch("double", Switches(dispatch="hold"), replace(ACT, what="switchTask")))
    assert held is not None
    await known(engine.switch("double", Switches(dispatch="run")))
    failed = await finished(engine, await submit(engine, "broken"))
    again = (await known(engine.retry(failed, None, replace(ACT, what="retryJob")))).status
    wanted = JobFilter(task="broken", tag="nobody's")
    order = (await known(engine.order(Action.DELETE, wanted, None, replace(ACT, what="deleteJobs")))).status
    assert await since(engine, begin) == [
        replace(ACT, what="changeJob"),
        replace(ACT, what="switchTask"),
        replace(ACT, what="retryJob", goes_on=True, job=again.id.decode()),
        replace(ACT, what="deleteJobs", goes_on=True, job=order.id.decode()),
    ]
    for job in (again, order):
        await finished(engine, job)


async def test_the_end_of_a_batch_is_noted_with_the_number_of_its_jobs(engine: Engine) -> None:
    batch = await submit_batch(engine, "forever", "forever", "double")
    ids = [job_id for job_id, _ in await known(engine.list_batch(batch))]
    jobs = [status for job_id in ids if (status := await known(engine.peek(job_id))) is not None]
    await finished(engine, jobs[2])
    for job in jobs[:2]:
        await becomes(engine, job, State.RUNNING)
    begin, act = await last(engine), replace(ACT, what="cancelBatch")
    found = await known(engine.peek_batch(batch.id))
    assert found is not None
    assert (await known(engine.cancel_batch(found, act))).running
    assert await since(engine, begin) == [replace(act, goes_on=True, count=2)]
    # Nothing is left to be cancelled.
    for job in jobs[:2]:
        await finished(engine, job)
    found = await known(engine.peek_batch(batch.id))
    assert found is not None
    await known(engine.cancel_batch(found, act))
    assert len(await since(engine, begin)) == 1


async def test_what_changes_nothing_leaves_no_entry(engine: Engine) -> None:
    begin = await last(engine)
    done = await finished(engine, await submit(engine, "double", 1))
    waiting = await submit(engine, "double", 1, delay=LATER, priority=3)
    assert (await known(engine.revise(waiting, Revision(priority=3), ACT))).state == State.SCHEDULED
    gone = await cancel(engine, waiting)
    assert (await known(engine.cancel(gone, ACT))).how is Cancel.NOTHING
    with pytest.raises(NotWaitingError):
        await known(engine.revise(done, Revision(priority=3), ACT))
    with pytest.raises(NotFailedError):
        await known(engine.retry(done, None, ACT))
    with pytest.raises(InvalidError):
        await known(engine.order(Action.CANCEL, JobFilter(), None, ACT))
    with pytest.raises(InvalidError):
        await known(engine.switch("double", Switches(), ACT))
    assert await known(engine.switch("unheard of", Switches(dispatch="hold"), ACT)) is None
    await known(engine.count_meant(Action.DELETE, JobFilter(task="double")))
    assert await since(engine, begin) == []


async def test_what_is_asked_again_under_its_key_is_noted_once(engine: Engine) -> None:
    begin, failed = await last(engine), await finished(engine, await submit(engine, "broken"))
    key = Key.of("retried once", b"content")
    first = await known(engine.retry(failed, key, ACT))
    again = await known(engine.retry(failed, key, ACT))
    assert (again.replayed, again.status.id) == (True, first.status.id)
    assert await since(engine, begin) == [replace(ACT, goes_on=True, job=first.status.id.decode())]
    await finished(engine, first.status)


async def test_of_two_that_end_a_job_at_once_one_is_noted(engine: Engine) -> None:
    begin, waiting = await last(engine), await submit(engine, "double", 1, delay=LATER)

    async def end(who: str) -> Cancelled:
        return await known(engine.cancel(await peek(engine, waiting), replace(ACT, who=who)))

    ended = await asyncio.gather(end("early"), end("late"))
    assert [cancelled.how for cancelled in ended] == [Cancel.DROPPED, Cancel.NOTHING]
    assert [act.who for act in await since(engine, begin)] == ["early"]


async def test_pages_follow_one_another(engine: Engine) -> None:
    begin = await last(engine)
    for name in "abcde":
        waiting = await submit(engine, "double", 1, delay=LATER)
        await known(engine.cancel(waiting, replace(ACT, target=name)))
    found: list[str] = []
    before = 0
    for _ in range(3):
        page = await known(engine.audit(before, 2))
        found += [entry.act.target for entry in page if entry.number > begin]
        before = page[-1].number
    assert "".join(found) == "edcba"
    assert await known(engine.audit(1, 10)) == []


async def test_an_act_of_the_server_itself_is_noted(engine: Engine) -> None:
    begin = await last(engine)
    engine.note(Act("reloadTokens"))
    await until(lambda: since(engine, begin))
    assert await since(engine, begin) == [Act("reloadTokens")]


async def test_acts_that_are_alike_at_a_moment_are_an_entry_each(engine: Engine) -> None:
    begin, count = await last(engine), 20
    for _ in range(count):
        engine.note(ACT)

    async def all_noted() -> bool:
        return await last(engine) >= begin + count

    await until(all_noted)
    assert await since(engine, begin) == [ACT] * count


async def test_only_the_last_entries_are_kept(start: Start) -> None:
    async with start(double, audit={"kept": 3}) as engine:
        for number in range(5):
            waiting = await submit(engine, "double", 1, delay=LATER)
            await known(engine.cancel(waiting, replace(ACT, target=str(number))))
        found = await known(engine.audit(0, 10))
        assert [(entry.number, entry.act.target) for entry in found] == [(5, "4"), (4, "3"), (3, "2")]
        assert [entry.number for entry in await known(engine.audit(4, 10))] == [3]


async def test_there_need_be_no_audit_log(start: Start) -> None:
    async with start(double, audit={"kept": 0}) as engine:
        waiting = await submit(engine, "double", 1, delay=LATER)
        await known(engine.cancel(waiting, ACT))
        engine.note(ACT)
        assert (await peek(engine, waiting)).state == State.CANCELLED
        assert await known(engine.audit(0, 10)) == []


async def test_a_restart_keeps_the_entries_where_the_jobs_are_kept(start: Start) -> None:
    async with start(double, broken, forever) as engine:
        await known(engine.cancel(await submit(engine, "double", 1, delay=LATER), ACT))
        keeps = engine.durability != "memory"
    async with start(double) as engine:
        assert await since(engine, 0) == [ACT] * keeps
        await known(engine.cancel(await submit(engine, "double", 1, delay=LATER), ACT))
        assert await last(engine) == 1 + keeps
