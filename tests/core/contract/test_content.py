"""Payloads that are content as it is: the task gets the bytes and their media type."""

import pytest
from headway.core.body import Body
from headway.core.errors import InvalidPayloadError
from headway.core.interface import Accepts, Engine
from headway.core.job import ContentSubmission, Reason, State, Submission
from headway.core.status import Status
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options

from tests.core.contract.client import asked_for, counts, finished, text_of
from tests.core.contract.conftest import Function, Start
from tests.core.engines import known

BYTES = bytes(range(256)) * 400


async def typed(photo: dict[str, int]) -> int:
    """Take JSON."""
    return len(photo)


async def on_loop(body: Body) -> bytes:
    """Take content."""
    return f"{body.media_type}:".encode() + body.data


def in_thread(body: Body) -> bytes:
    """Take content."""
    return f"{body.media_type}:".encode() + body.data


async def anything(payload: object) -> str:
    """Take both."""
    return repr(payload)


async def fails_first(body: Body, context: Context) -> int:
    """Fail in the first attempt."""
    if context.attempt == 1:
        raise RuntimeError
    return len(body.data)


async def fails(_: object) -> None:
    """Fail."""
    raise RuntimeError


async def submit(engine: Engine, task: str, data: bytes = BYTES, media_type: str = "image/png") -> Status:
    return (await known(engine.submit(ContentSubmission(task, data, media_type=media_type)))).status


@pytest.mark.parametrize("task", [on_loop, in_thread])
async def test_a_task_gets_the_content_as_it_came(start: Start, task: Function) -> None:
    async with start((task, Options(name="t"))) as engine:
        job = await finished(engine, await submit(engine, "t"))
        result = await known(engine.result(job))
        assert result is not None
        assert result.body == b"image/png:" + BYTES


async def test_empty_content_is_no_null(start: Start) -> None:
    async with start((anything, Options())) as engine:
        empty = await finished(engine, await submit(engine, "anything", b"", "text/plain"))
        assert await text_of(engine, empty) == '"<Body text/plain, 0 bytes>"'
        null = await finished(engine, (await known(engine.submit(Submission("anything")))).status)
        assert await text_of(engine, null) == '"None"'


async def test_content_is_there_in_each_attempt_and_in_a_resubmission(start: Start) -> None:
    async with start((fails_first, Options(retries=1)), (fails, Options())) as engine:
        job = await finished(engine, await submit(engine, "fails_first"))
        assert (job.attempt, await text_of(engine, job)) == (2, str(len(BYTES)))
        failed = await finished(engine, await submit(engine, "fails"))
        again = await finished(engine, (await known(engine.retry(failed))).status)
        assert (again.state, again.reason) == (State.FAILED, Reason.ERROR)


async def test_a_task_says_what_it_accepts(start: Start) -> None:
    tasks = ((typed, Options()), (on_loop, Options(body_bytes=9)), (anything, Options()))
    async with start(*tasks) as engine:
        assert engine.accepts("typed") == Accepts(json=True, content=False, body_bytes=None)
        assert engine.accepts("on_loop") == Accepts(json=False, content=True, body_bytes=9)
        assert engine.accepts("anything") == Accepts(json=True, content=True, body_bytes=None)
        assert engine.accepts("nothing") is None


async def test_a_payload_of_the_wrong_kind_is_refused(start: Start) -> None:
    async with start((typed, Options()), (on_loop, Options())) as engine:
        with pytest.raises(InvalidPayloadError, match="expected JSON, got image/png"):
            await submit(engine, "typed")
        with pytest.raises(InvalidPayloadError, match="takes content as it is"):
            await known(engine.submit(asked_for("on_loop", 1)))
        assert (await counts(engine)).active == 0


async def test_content_that_waits_is_there_after_a_restart(start: Start) -> None:
    async with start((on_loop, Options())) as engine:
        job = (await known(engine.submit(ContentSubmission("on_loop", BYTES, media_type="a/b", delay=1.0)))).status
        durable = engine.durability != "memory"
    async with start((on_loop, Options())) as engine:
        if durable:
            result = await known(engine.result(await finished(engine, job)))
            assert result is not None
            assert result.body == b"a/b:" + BYTES


async def test_content_that_waited_for_a_task_that_takes_json_now_fails(start: Start) -> None:
    async with start((anything, Options(name="t"))) as engine:
        job = (await known(engine.submit(ContentSubmission("t", BYTES, media_type="a/b", delay=1.0)))).status
        durable = engine.durability != "memory"
    async with start((typed, Options(name="t", retries=3))) as engine:
        if durable:
            failed = await finished(engine, job)
            assert (failed.state, failed.reason, failed.attempt) == (State.FAILED, Reason.INVALID_PAYLOAD, 1)
            assert "expected JSON, got a/b" in await text_of(engine, failed)
