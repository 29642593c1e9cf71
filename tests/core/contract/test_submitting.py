"""Submissions: what is refused, and what comes again under its key."""

import asyncio

import msgspec
import pytest
from headway.core.errors import KeyReusedError, QueueFullError, UnknownTaskError
from headway.core.interface import Engine, Later
from headway.core.job import State
from headway.core.key import Key

from tests.core.contract.client import (
    asked_for,
    becomes,
    cancel,
    counts,
    finished,
    has_no_room,
    has_room,
    peek,
    states,
    submit,
    submit_batch,
    until,
)
from tests.core.contract.conftest import Start
from tests.core.engines import double, forever, known


async def test_an_unknown_task_is_refused_and_the_known_ones_are_named(engine: Engine) -> None:
    with pytest.raises(UnknownTaskError, match=r"'dubble' is not one of: broken, double, forever"):
        await submit(engine, "dubble")
    assert (await counts(engine)).active == 0


async def test_a_full_queue_refuses_and_keeps_what_it_has(start: Start) -> None:
    async with start(forever, workers=1, queue={"size": 2}) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        await has_room(engine, 2)
        await has_no_room(engine, 3)
        kept = [await submit(engine, "forever"), await submit(engine, "forever", delay=60)]
        with pytest.raises(QueueFullError) as refused:
            await submit(engine, "forever")
        assert refused.value.retry_after_s >= 1
        await has_no_room(engine, 1)
        assert await states(engine, kept) == [State.QUEUED, State.SCHEDULED]
        await cancel(engine, kept[1])
        await submit(engine, "forever")


async def test_payloads_have_a_budget_of_their_own(start: Start) -> None:
    async with start(forever, workers=1, queue={"max_bytes": 1000}) as engine:
        first = await submit(engine, "forever", "x" * 598)
        assert (await counts(engine)).payload_bytes == 600
        await has_room(engine, 1, 400)
        await has_no_room(engine, 1, 401)
        with pytest.raises(QueueFullError, match=r"queue\.max_bytes"):
            await submit(engine, "forever", "x" * 399)
        await submit(engine, "forever", "x" * 398)
        await becomes(engine, first, State.RUNNING)
        await cancel(engine, first)
        assert (await counts(engine)).payload_bytes == 400


async def test_what_comes_again_under_its_key_is_the_same_job(engine: Engine) -> None:
    key = Key.of("again", b"content")
    assert (await known(engine.replay(key))) is None
    job = await submit(engine, "double", 1, key)
    again = await known(engine.submit(asked_for("double", 1), key))
    assert (again.status.id, again.replayed) == (job.id, True)
    found = await known(engine.replay(key))
    assert found is not None
    assert (await known(found)).status.id == job.id
    # Also when it is over.
    await finished(engine, job)
    again = await known(engine.submit(asked_for("double", 1), key))
    assert (again.status.id, again.status.state, again.replayed) == (job.id, State.SUCCEEDED, True)


async def test_what_comes_again_before_it_is_known_is_the_same_job(engine: Engine) -> None:
    key = Key.of("at once", b"content")
    first, second = engine.submit(asked_for("double", 1), key), engine.submit(asked_for("double", 1), key)
    one, two = await asyncio.gather(known(first), known(second))
    assert (one.replayed, two.replayed) == (False, True)
    assert one.status.id == two.status.id


async def test_a_key_with_other_content_is_refused(engine: Engine) -> None:
    await finished(engine, await submit(engine, "double", 1, Key.of("reused", b"content")))
    other = Key.of("reused", b"other")
    with pytest.raises(KeyReusedError):
        await submit(engine, "double", 1, other)
    with pytest.raises(KeyReusedError):
        await submit_batch(engine, "double", key=other)
    with pytest.raises(KeyReusedError):
        (await known(engine.replay(other)))
    with pytest.raises(KeyReusedError):
        (await known(engine.replay_batch(other)))
    assert (await counts(engine)).active == 0


async def test_a_job_is_found_by_its_key(engine: Engine) -> None:
    assert await known(engine.peek_key("looked up")) is None
    job = await submit(engine, "forever", 1, Key.of("looked up", b""))
    found = await known(engine.peek_key("looked up"))
    assert found is not None
    assert found.id == job.id
    await cancel(engine, job)
    found = await known(engine.peek_key("looked up"))
    assert found is not None
    assert found.state == State.CANCELLED


async def test_a_batch_that_comes_again_under_its_key_is_the_same(engine: Engine) -> None:
    key = Key.of("a batch", b"content")
    assert (await known(engine.replay_batch(key))) is None
    batch = await submit_batch(engine, "double", "double", key=key)
    again = await known(engine.submit_batch([asked_for("double", 1)] * 2, key))
    assert (again.status.id, again.status.count, again.replayed) == (batch.id, 2, True)
    found = await known(engine.replay_batch(key))
    assert found is not None
    assert (await known(found)).status.id == batch.id
    # It stands for no job.
    assert await known(engine.peek_key("a batch")) is None


async def test_a_key_is_forgotten_after_its_time(start: Start) -> None:
    async with start(double, idempotency={"seconds": 0.1}) as engine:
        key = Key.of("short", b"content")
        first = await submit(engine, "double", 1, key)

        async def is_forgotten() -> bool:
            return (await known(engine.replay(key))) is None and await known(engine.peek_key("short")) is None

        await until(is_forgotten)
        second = await submit(engine, "double", 1, key)
        assert second.id != first.id


async def test_a_key_that_is_used_anew_is_the_newest(start: Start) -> None:
    async with start(double, idempotency={"seconds": 0.4, "keys": 2}) as engine:
        used, other, third = (Key.of(text, b"content") for text in ("used", "other", "third"))
        first = await submit(engine, "double", 1, used)
        await submit(engine, "double", 1, other)

        async def is_forgotten() -> bool:
            return (await known(engine.replay(used))) is None

        await until(is_forgotten)
        anew = await submit(engine, "double", 1, used)
        assert anew.id != first.id
        # The oldest is given up for it, which is another.
        await submit(engine, "double", 1, third)
        again = await known(engine.submit(asked_for("double", 1), used))
        assert (again.status.id, again.replayed) == (anew.id, True)


async def test_a_job_is_taken_although_its_client_has_gone(engine: Engine) -> None:
    soon = engine.submit(asked_for("double", 4), Key.of("gone", b"content"))
    if isinstance(soon, Later):
        soon.when_known(lambda: None)
        soon.cancel()

    async def is_over() -> bool:
        status = await known(engine.peek_key("gone"))
        return status is not None and (await finished(engine, status)).state == State.SUCCEEDED

    await until(is_over)


async def test_a_submission_has_all_its_members(engine: Engine) -> None:
    job = await submit(engine, "forever", {"a": [1]}, delay=50, priority=3, timeout=7, deadline=60, retries=2)
    status = await peek(engine, job)
    assert msgspec.structs.replace(status, retry_after_ms=0) == msgspec.structs.replace(job, retry_after_ms=0)
    assert (status.task, status.state, status.attempt, status.progress) == ("forever", State.SCHEDULED, 0, None)
    assert (status.started, status.ended, status.reason) == (0.0, 0.0, 0)
    # Within its deadline.
    assert 49_000 < status.retry_after_ms < 61_000
