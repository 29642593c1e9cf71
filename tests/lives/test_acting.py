"""Orders of a person about tasks and waiting jobs, over a kill and a deploy: what was answered holds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.lives.server import Gates, Lives, linux, run
from tests.protocol.wire import Answer, request

# Lives take their time.
pytestmark = pytest.mark.long

JSON = "Content-Type: application/json"


async def change(lives: Lives, path: str, **members: Any) -> Answer:
    answer = await lives.ask(request("PATCH", path, JSON, body=json.dumps(members).encode()))
    assert answer.status == 200, answer
    return answer


@linux
def test_a_kill_keeps_the_switches(tmp_path: Path) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        await change(lives, "/tasks/echo", dispatch="hold", reason="later", until="2035-01-01T00:00:00Z")
        await change(lives, "/tasks/fail", intake="closed")
        path = await lives.submit("echo", 1)
        before = (await lives.ask(request("GET", "/tasks/echo"))).json
        await lives.kill()
        await lives.start()
        assert (await lives.ask(request("GET", "/tasks/echo"))).json == before
        assert (await lives.ask(request("GET", "/tasks/fail"))).json["intake"] == "closed"
        assert (await lives.ask(request("HEAD", path)))["job-held"] == "later"
        await change(lives, "/tasks/echo", dispatch="run")
        await lives.wait_for(path, "succeeded")
        await lives.kill()
        await lives.start()
        assert (await lives.ask(request("GET", "/tasks/echo"))).json["dispatch"] == "run"
        await lives.end()

    run(test())


def test_a_deploy_keeps_the_switches(tmp_path: Path) -> None:
    async def test() -> None:
        lives = Lives(tmp_path, journal=False)
        await lives.start()
        await change(lives, "/tasks/echo", dispatch="hold", intake="closed", reason="ünïcode")
        before = (await lives.ask(request("GET", "/tasks/echo"))).json
        await lives.deploy()
        assert (await lives.ask(request("GET", "/tasks/echo"))).json == before
        await change(lives, "/tasks/echo", intake="open")
        path = await lives.submit("echo", 1)
        assert (await lives.ask(request("HEAD", path)))["job-held"] == "%C3%BCn%C3%AFcode"
        # In memory a job that waits cannot be handed over: a drain does not wait for it in vain.
        async with asyncio.timeout(2):
            assert await lives.engine.drain(10) == 1
        lives.engine.resume()
        await change(lives, "/tasks/echo", dispatch="run")
        await lives.wait_for(path, "succeeded")
        await lives.deploy()
        assert (await lives.ask(request("GET", "/tasks/echo"))).json["dispatch"] == "run"
        await lives.end()

    run(test())


def test_a_drain_waits_for_jobs_of_a_hold_that_ends_in_time(tmp_path: Path) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal=False)
        await lives.start()
        running = await lives.submit("hold", "runs")
        await lives.wait_for(running, "running")
        await change(lives, "/tasks/hold", dispatch="hold")
        drained = asyncio.create_task(lives.engine.drain(10))
        await asyncio.sleep(0.05)
        assert not drained.done()
        gates.open("runs")
        async with asyncio.timeout(2):
            assert await drained == 0
        lives.engine.resume()
        path = await lives.submit("hold", "waits")
        drained = asyncio.create_task(lives.engine.drain(10))
        async with asyncio.timeout(2):
            assert await drained == 1
        lives.engine.resume()
        await change(lives, "/tasks/hold", dispatch="run")
        await lives.wait_for(path, "running")
        gates.open("waits")
        await lives.wait_for(path, "succeeded")
        await lives.end()

    run(test())


@linux
@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.004])
def test_a_kill_after_a_change_of_a_job_finds_it_as_it_was_told(tmp_path: Path, pause_s: float) -> None:
    """The job begins, fails and waits again in the commits that follow, or in none."""

    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start(jobs={"backoff": 1000, "backoff_max": 1000})
        ended = [await lives.submit("echo", n, delay=1000) for n in range(8)]
        failing = [await lives.submit("fail", n, delay=1000, retries=1) for n in range(8)]
        put_off = [await lives.submit("echo", n, delay=1000) for n in range(8)]
        for n in range(8):
            await change(lives, ended[n], delay=0)
            await change(lives, failing[n], delay=0, priority=9)
            await change(lives, put_off[n], delay=5000, priority=1)
        await asyncio.sleep(pause_s)
        told = {path: await lives.ask(request("GET", path)) for path in (*ended, *failing)}
        await lives.kill()
        await lives.start(jobs={"backoff": 1000, "backoff_max": 1000})
        for path in put_off:
            said = await lives.ask(request("HEAD", path))
            assert (said["job-state"], 4900 < int(said["retry-after"]) < 5100) == ("scheduled", True)
        for path in ended:
            said = await lives.ask(request("HEAD", path))
            if told[path]["job-state"] == "succeeded":
                assert said["job-state"] == "succeeded"
            await lives.wait_for(path, "succeeded")
        for path in failing:
            # It fails, and fails again once it is run now.
            said = await lives.wait_for(path, "retrying", "failed")
            if said["job-state"] == "retrying":
                await change(lives, path, delay=0)
            said = await lives.wait_for(path, "failed")
            assert int(said["job-attempt"]) >= 2
        await lives.end()

    run(test())


@linux
@pytest.mark.parametrize("pause_s", [0.002, 0.01, 0.03])
@pytest.mark.parametrize("kills", [1, 3])
def test_a_kill_in_the_middle_of_a_retry_of_many_retries_none_twice(tmp_path: Path, pause_s: float, kills: int) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        for n in range(150):
            await lives.submit("fail", n, tags=[f"n{n}"])
        async with asyncio.timeout(10):
            while (await lives.ask(request("GET", "/stats"))).json["jobs"]["failed"] < 150:  # noqa: ASYNC110 — a client
                await asyncio.sleep(0.01)
        answer = await lives.ask(request("POST", "/jobs/retry?state=failed&task=fail", body=b""))
        assert answer.status == 202
        for _ in range(kills):
            await asyncio.sleep(pause_s)
            await lives.kill()
            await lives.start()
        await lives.wait_for(answer["location"], "succeeded", "failed")
        result = await lives.ask(request("GET", f"{answer['location']}/result"))
        assert result.json == {"matched": 150, "done": 150, "skipped": 0}
        for n in range(150):
            found: list[object] = []
            after = f"/jobs?tag=n{n}"
            # A page may be short on a busy machine.
            while after:
                page = (await lives.ask(request("GET", after))).json
                found, after = found + page["jobs"], page["next"]
            assert len(found) == 2
        await lives.end()

    run(test())


@linux
def test_a_kill_in_the_middle_of_a_cancellation_of_many_leaves_none(tmp_path: Path) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        paths = [await lives.submit("echo", n, delay=1000) for n in range(300)]
        answer = await lives.ask(request("POST", "/jobs/cancel?task=echo", body=b""))
        await asyncio.sleep(0.005)
        await lives.kill()
        await lives.start()
        await lives.wait_for(answer["location"], "succeeded", "failed")
        result = await lives.ask(request("GET", f"{answer['location']}/result"))
        assert result.json == {"matched": 300, "done": 300, "skipped": 0}
        for path in paths:
            assert (await lives.ask(request("HEAD", path)))["job-state"] == "cancelled"
        await lives.end()

    run(test())


async def cut(lives: Lives, gates: Gates) -> tuple[Answer, asyncio.Task[int]]:
    """Have a drain end an order in the middle. Return the answer to the order, and the drain, which goes on."""
    await lives.start(workers=1, queue={"size": 5})
    for n in range(20):
        await lives.run("fail", n)
    running = await lives.submit("hold", "runs")
    await lives.wait_for(running, "running")
    answer = await lives.ask(request("POST", "/jobs/retry?state=failed", body=b""))
    async with asyncio.timeout(5):
        while "job-progress" not in (await lives.ask(request("HEAD", answer["location"]))).headers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    drained = asyncio.create_task(lives.engine.drain(10))
    said = await lives.wait_for(answer["location"], "failed")
    assert said["job-reason"] == "error"
    return answer, drained


def test_an_order_that_failed_is_not_resubmitted_as_a_job_is(tmp_path: Path) -> None:
    """Who may submit jobs may not act on all."""

    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal=False)
        answer, drained = await cut(lives, gates)
        gates.open("runs")
        await drained
        lives.engine.resume()
        again = await lives.ask(request("POST", f"{answer['location']}/retry", body=b""))
        assert (again.status, again.json["type"]) == (410, "urn:headway:problem:payload-gone")
        await lives.end()

    run(test())


def test_without_a_journal_a_drain_says_how_far_a_retry_came(tmp_path: Path) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal=False)
        answer, drained = await cut(lives, gates)
        detail = (await lives.ask(request("GET", answer["location"]))).json["detail"]
        assert detail.endswith("the server is shutting down: 5 of 20 jobs were retried")
        gates.open("runs")
        assert await drained == 0
        await lives.end()

    run(test())
