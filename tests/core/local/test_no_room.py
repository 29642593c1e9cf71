"""Changes under way when the disk becomes full: each is refused as a whole, or done later."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from headway.core.audit import Act
from headway.core.errors import JournalFullError
from headway.core.hold import NO_HOLD, Switches
from headway.core.job import Revision, State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.local.engine import LocalEngine
from headway.core.order import Action

from tests.core.contract.client import asked_for, becomes, finished, jobs_of, peek, submit, text_of, until
from tests.core.contract.conftest import started
from tests.core.engines import double, forever, known

COUNT = 300
# Until a job is due: the writer has stopped by then, and is full.
DUE_S, MANY_TURNS_S = 1.0, 0.1
ACT, ITSELF = Act("changeJob"), Act("reloadTokens")


@asynccontextmanager
async def engine_in(folder: Path, **changed: Any) -> AsyncIterator[LocalEngine]:
    async with started({"journal": {"path": str(folder / "jobs")}}, double, forever, **changed) as engine:
        assert isinstance(engine, LocalEngine)
        yield engine


@asynccontextmanager
async def no_room(
    engine: LocalEngine, while_full: Callable[[], Awaitable[object]] | None = None
) -> AsyncIterator[None]:
    """Stop the writer for the block. It finds no room for the changes that are made there, and then finds room.

    ``while_full`` is called in between.
    """
    assert engine.journal is not None
    journal, writer = engine.journal, engine.journal.delivery.link.pid
    os.kill(writer, signal.SIGSTOP)
    before = resource.prlimit(writer, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    yield
    os.kill(writer, signal.SIGCONT)

    async def is_full() -> bool:
        return journal.full

    async def has_room() -> bool:
        return not journal.full

    await until(is_full)
    if while_full is not None:
        await while_full()
    resource.prlimit(writer, resource.RLIMIT_FSIZE, before)
    await until(has_room)


async def test_a_step_of_an_order_is_done_once_there_is_room(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as engine:
        await known(engine.submit_batch([asked_for("double", 1, delay=1000) for _ in range(COUNT)]))
        accepted = (await known(engine.order(Action.CANCEL, JobFilter(task="double")))).status
        # At most the first step is under way.
        async with no_room(engine):
            assert engine.counts().waiting > 0
        await becomes(engine, accepted, State.SUCCEEDED)
        done = await finished(engine, accepted)
        assert json.loads(await text_of(engine, done)) == {"matched": COUNT, "done": COUNT, "skipped": 0}
        assert len(await jobs_of(engine, JobFilter(frozenset({State.CANCELLED})))) == COUNT
        assert engine.counts().waiting == 0


async def test_a_change_of_a_job_or_a_task_that_is_refused_has_no_effect(tmp_path: Path) -> None:
    async with engine_in(tmp_path, workers=1, queue={"size": 2}) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        job = await submit(engine, "double", 1, deadline=1000)
        async with no_room(engine):
            revised = asyncio.create_task(known(engine.revise(job, Revision(priority=9, delay=500), ACT)))
            switches = Switches(dispatch="hold", intake="closed")
            switched = asyncio.create_task(known(engine.switch("double", switches, ACT)))
            await asyncio.sleep(0)
            # Nobody has asked for this, so it is kept until there is room.
            engine.note(ITSELF)
        for change in (revised, switched):
            with pytest.raises(JournalFullError):
                await change
        assert [entry.act for entry in await known(engine.audit(0, 9))] == [ITSELF]
        as_before = await peek(engine, job)
        assert (as_before.state, as_before.held) == (State.QUEUED, None)
        double_now = await known(engine.task("double"))
        assert double_now is not None
        assert double_now.hold == NO_HOLD
        # Neither takes effect later, and the place of the job is taken once.
        await submit(engine, "double", 2)
        assert engine.counts().waiting == 2
        double_now = await known(engine.task("double"))
        assert double_now is not None
        assert double_now.hold == NO_HOLD


async def test_a_submission_that_is_refused_keeps_neither_its_place_nor_its_bytes_nor_its_key(tmp_path: Path) -> None:
    async with engine_in(tmp_path, queue={"size": 2, "max_bytes": 100}) as engine:
        await finished(engine, await submit(engine, "double", 1))
        async with no_room(engine):
            keys = [Key.of(text, b"before") for text in ("one", "two")]
            refused = [asyncio.create_task(submit(engine, "double", 10**39, key, delay=1000)) for key in keys]
            await asyncio.sleep(0)
        for one in refused:
            with pytest.raises(JournalFullError):
                await one
        # All places and bytes are there, and the keys are free for other content.
        for text in ("one", "two"):
            await submit(engine, "double", 10**40, Key.of(text, b"after"), delay=1000)


async def test_no_job_begins_while_there_is_no_room(tmp_path: Path) -> None:
    async with engine_in(tmp_path) as engine:
        job = await submit(engine, "double", 1, delay=DUE_S)

        async def is_due_and_waits() -> None:
            await becomes(engine, job, State.QUEUED)
            # A worker that is free takes a job in the next turn of the loop.
            await asyncio.sleep(MANY_TURNS_S)
            assert (await peek(engine, job)).state == State.QUEUED

        async with no_room(engine, is_due_and_waits):
            # It is not refused, so there is no room until it is written.
            engine.note(ITSELF)
        assert (await finished(engine, job)).state == State.SUCCEEDED
