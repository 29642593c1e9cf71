"""What is kept of each outcome, and what is counted, over starts, kills and deploys, under any settings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from headway.core.tasks.registry import Options

from tests.lives.server import Lives, echo, run
from tests.protocol.wire import request

# Lives take their time.
pytestmark = pytest.mark.long

EITHER = pytest.mark.parametrize("how", ["end", "kill", "deploy"])
OUTCOMES = ("succeeded", "failed", "cancelled")


def lives_that(how: str, folder: Path) -> Lives:
    """The lives of a server, of which each ends so; ``short`` is a task whose jobs are kept for half a second."""
    return Lives(folder, [(echo, Options(name="short", keep=0.5))], journal=how != "deploy")


async def again(lives: Lives, how: str, **settings: Any) -> None:
    """End a life and begin the next one."""
    if how == "deploy":
        await lives.deploy(**settings)
        return
    await (lives.end() if how == "end" else lives.kill())
    await lives.start(**settings)


async def cancelled(lives: Lives) -> str:
    path = await lives.submit("echo", 1, delay=100)
    assert (await lives.ask(request("DELETE", path))).status == 204
    return path


async def state(lives: Lives, path: str) -> str:
    return (await lives.ask(request("HEAD", path)))["job-state"]


async def counted(lives: Lives) -> tuple[list[int], dict[str, list[int]]]:
    """The jobs that ever ended: of all tasks, and by task."""
    jobs = (await lives.ask(request("GET", "/stats"))).json["jobs"]
    tasks = (await lives.ask(request("GET", "/tasks"))).json["tasks"]
    by_task = {task["name"]: [task["counts"][outcome] for outcome in OUTCOMES] for task in tasks}
    return [jobs[outcome] for outcome in OUTCOMES], by_task


@EITHER
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_job_that_was_gone_stays_gone_under_a_larger_number(tmp_path: Path, how: str, outcome: str) -> None:
    """Nothing has had the time to delete it from the disk."""

    async def test() -> None:
        lives = lives_that(how, tmp_path)
        await lives.start(retention={"jobs": 1})
        make = {"succeeded": lambda: lives.run("echo", 1), "failed": lambda: lives.run("fail", 1)}
        gone, kept = [await make.get(outcome, lambda: cancelled(lives))() for _ in range(2)]
        assert [await state(lives, path) for path in (gone, kept)] == ["expired", outcome]
        for number in (10, 100):
            await again(lives, how, retention={"jobs": number})
            assert [await state(lives, path) for path in (gone, kept)] == ["expired", outcome]
            assert len((await lives.ask(request("GET", f"/jobs?state={outcome}"))).json["jobs"]) == 1
        await lives.end()

    run(test())


@EITHER
def test_what_is_kept_of_each_outcome_and_until_when_outlives_the_server(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        lives, bounds = lives_that(how, tmp_path), {"jobs": 2, "failed": {"jobs": 3}, "cancelled": {"seconds": 500}}
        await lives.start(retention=bounds)
        made = {
            "failed": [await lives.run("fail", number) for number in range(3)],
            "cancelled": [await cancelled(lives) for _ in range(2)],
            "succeeded": [await lives.run("echo", number, keep=70 + number) for number in range(9)][-2:],
        }
        before = {path: await lives.ask(request("HEAD", path)) for paths in made.values() for path in paths}
        for _ in range(2):
            await again(lives, how, retention=bounds)
            for path, said in before.items():
                now = await lives.ask(request("HEAD", path))
                assert (now.status, now["job-state"], now["sunset"]) == (said.status, said["job-state"], said["sunset"])
        # The places go on where they were.
        await lives.run("echo", 1)
        assert [await state(lives, path) for path in made["succeeded"]] == ["expired", "succeeded"]
        assert {await state(lives, path) for path in made["failed"]} == {"failed"}
        await lives.end()

    run(test())


@EITHER
def test_a_number_holds_at_once_and_seconds_for_jobs_that_end_from_then_on(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        lives = lives_that(how, tmp_path)
        await lives.start(retention={"jobs": 5, "seconds": 1000, "failed": {"seconds": 1000}})
        failed = [await lives.run("fail", number) for number in range(3)]
        done = await lives.run("echo", 1)
        said = [(await lives.ask(request("HEAD", path)))["sunset"] for path in (*failed, done)]
        await again(lives, how, retention={"jobs": 9, "seconds": 0.4, "failed": {"seconds": 0.4, "jobs": 2}})
        assert await state(lives, failed[0]) == "expired"
        assert [(await lives.ask(request("HEAD", path)))["sunset"] for path in (*failed[1:], done)] == said[1:]
        await lives.wait_for(await lives.submit("echo", 2), "expired")
        await lives.wait_for(await lives.submit("fail", 2), "expired")
        assert await state(lives, done) == "succeeded"
        await lives.end()

    run(test())


@EITHER
def test_a_job_whose_time_ends_between_two_lives_is_gone_whatever_the_next_settings_are(
    tmp_path: Path, how: str
) -> None:
    async def test() -> None:
        lives = lives_that(how, tmp_path)
        await lives.start()
        short, long = await lives.run("short", 1), await lives.run("short", 1, keep=1000)
        await asyncio.sleep(0.6)
        await again(lives, how, retention={"seconds": 9999})
        assert [await state(lives, path) for path in (short, long)] == ["expired", "succeeded"]
        await lives.end()

    run(test())


@EITHER
def test_counts_by_task_and_outcome_outlive_the_server_and_the_jobs(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        lives = lives_that(how, tmp_path)
        await lives.start(retention={"jobs": 1})
        expected: dict[str, list[int]] = {}
        for life in range(1, 4):
            for _ in range(3):
                await lives.run("echo", 1)
            for _ in range(2):
                await lives.run("fail", 1)
            await cancelled(lives)
            await lives.run("short", 1)
            totals = [4 * life, 2 * life, life]
            expected = {"echo": [3 * life, 0, life], "fail": [0, 2 * life, 0], "short": [life, 0, 0]}
            assert await counted(lives) == (totals, expected)
            if life == 2:
                # Retention has deleted them.
                await asyncio.sleep(1.2)
            await again(lives, how, retention={"jobs": 1})
            assert await counted(lives) == (totals, expected)
        metrics = (await lives.ask(request("GET", "/metrics"))).body.decode()
        for task, ended in expected.items():
            for outcome, total in zip(OUTCOMES, ended, strict=True):
                assert f'headway_jobs_total{{outcome="{outcome}",task="{task}"}} {total}\n' in metrics
        await lives.end()

    run(test())


def test_the_job_that_ended_last_may_be_deleted_first_and_its_place_is_not_given_again(tmp_path: Path) -> None:
    async def test() -> None:
        lives = lives_that("kill", tmp_path)
        await lives.start(retention={"jobs": 2})
        paths = [await lives.run("echo", number) for number in range(2)]
        await lives.run("short", 1)
        assert [await state(lives, path) for path in paths] == ["expired", "succeeded"]
        # It is deleted, by its time.
        await asyncio.sleep(1.8)
        await again(lives, "kill", retention={"jobs": 2})
        assert [await state(lives, path) for path in paths] == ["expired", "succeeded"]
        await lives.run("echo", 1)
        assert [await state(lives, path) for path in paths] == ["expired", "expired"]
        await lives.end()

    run(test())
