"""Attempts that count as not begun: those that an orderly end interrupts, and those that snooze."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

from headway.core.job import State
from headway.core.job_filter import JobFilter
from headway.core.local.engine import LocalEngine
from headway.core.order import Action
from headway.core.tasks.context import Context
from headway.core.tasks.retry import Retry, Snooze

from tests.core.contract.client import becomes, finished, jobs_of, submit
from tests.core.contract.conftest import started
from tests.core.engines import double, known, until


async def test_an_order_that_is_interrupted_in_the_commit_of_a_step_has_not_begun(tmp_path: Path) -> None:
    own = {"journal": {"path": str(tmp_path / "jobs")}}
    async with started(own, double) as engine:
        assert isinstance(engine, LocalEngine)
        for number in range(100):
            await submit(engine, "double", number, delay=1000)
        order = (await known(engine.order(Action.CANCEL, JobFilter(task="double")))).status
        changes = engine.changes
        await until(lambda: engine.board.state(order.sequence) == State.RUNNING)
        while changes.uncommitted(order.sequence) is None:  # noqa: ASYNC110 — a turn later it may be committed
            await asyncio.sleep(0)
    async with started(own, double) as engine:
        done = await finished(engine, order)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 1)
        assert [past.number for past in await known(engine.attempts(done))] == [1]
        assert {job.state for job in await jobs_of(engine, JobFilter(task="double"))} == {State.CANCELLED}


async def test_a_snooze_does_not_take_back_a_failed_attempt_that_is_not_committed(tmp_path: Path) -> None:
    go, begun = asyncio.Event(), list[int]()

    async def fails_and_snoozes(_: object, context: Context) -> None:
        await go.wait()
        begun.append(context.attempt)
        if len(begun) == 1:
            raise Retry(delay=0)
        raise Snooze(delay=600)

    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with started({"journal": {"path": str(before / "jobs")}}, fails_and_snoozes) as engine:
        assert isinstance(engine, LocalEngine)
        assert engine.journal is not None
        job = await becomes(engine, await submit(engine, "fails_and_snoozes", retries=1), State.RUNNING)
        os.kill(engine.journal.delivery.link.pid, signal.SIGSTOP)
        go.set()
        assert (await becomes(engine, job, State.SCHEDULED)).attempt == 1
        # As a kill would leave it.
        shutil.copytree(before, after)
        os.kill(engine.journal.delivery.link.pid, signal.SIGCONT)
    async with started({"journal": {"path": str(after / "jobs")}}, fails_and_snoozes) as engine:
        assert (await becomes(engine, job, State.SCHEDULED)).attempt == 1
    assert begun == [1, 2, 2]
