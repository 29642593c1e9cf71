"""A start after an end of any kind: attempts, deadlines, and jobs of which the server may have died."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from headway.core.journal.journal import Journal
from headway.core.local.engine import LocalEngine
from headway.core.tasks.registry import Options, Registry
from headway.core.tasks.retry import Snooze

from tests.lives.server import Gates, Lives, linux, run
from tests.protocol.wire import post, request, submission

# Lives take their time.
pytestmark = pytest.mark.long

DEATHS_MOST = 2


@pytest.mark.parametrize(("ends", "retries"), [("end", 0), ("kill", 0), ("kill", 2)])
def test_an_attempt_that_was_ended_cleanly_does_not_count_and_one_of_a_killed_server_does(
    tmp_path: Path, ends: str, retries: int
) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,))
        await lives.start()
        path = await lives.submit("hold", "job", retries=retries)
        lives_most = 2 * DEATHS_MOST + 2 if ends == "end" else retries + DEATHS_MOST + 1
        for life in range(1, lives_most + 1):
            said = await lives.wait_for(path, "running", "failed")
            assert (said["job-state"], said["job-attempt"]) == ("running", "1" if ends == "end" else str(life))
            # The death of the last life is being written down.
            while ends == "kill" and len((await documents(lives, [path]))[0]) < life:  # noqa: ASYNC110 — as clients
                await asyncio.sleep(0.002)
            await (lives.end() if ends == "end" else lives.kill())
            gates.forget()
            await lives.start()
        if ends == "end":
            await lives.wait_for(path, "running")
            gates.open("job", 7)
            assert (await lives.wait_for(path, "succeeded", "failed"))["job-state"] == "succeeded"
        else:
            said = await lives.wait_for(path, "running", "failed")
            assert (said["job-state"], said["job-reason"]) == ("failed", "crashed")
        (told,) = await documents(lives, [path])
        if ends == "end":
            assert [(past["attempt"], past["outcome"]) for past in told] == [(1, "succeeded")]
        else:
            died = [(number, "failed", "crashed") for number in range(1, lives_most + 1)]
            assert [(past["attempt"], past["outcome"], past["reason"]) for past in told] == died
        await lives.end()

    run(test())


async def documents(lives: Lives, paths: list[str]) -> list[list[dict[str, object]]]:
    """Return the attempts at each job."""
    return [(await lives.ask(request("GET", path))).json["attempts"] for path in paths]


@linux
def test_the_attempts_that_were_shown_are_shown_again_after_a_kill(tmp_path: Path) -> None:
    async def test() -> None:
        snoozed: list[bool] = []

        async def snooze_once(_: object) -> None:
            if not snoozed:
                snoozed.append(True)
                raise Snooze(60)

        lives = Lives(tmp_path, (snooze_once,))
        await lives.start()
        paths = [await lives.run("fail", f"job {number}", retries=number) for number in range(3)]
        succeeded = await lives.run("echo", 1)
        sleeper = await lives.submit("snooze_once", retries=0)
        await lives.wait_for(sleeper, "scheduled")
        # Nobody waits until a Snooze is written down. It is by the time that a later job is.
        await lives.submit("echo", 2)
        before = await documents(lives, paths)
        assert list(map(len, before)) == [1, 2, 3]
        for _ in range(2):
            await lives.kill()
            await lives.start()
            assert await documents(lives, paths) == before
            ((told,),) = await documents(lives, [succeeded])
            assert (told["attempt"], told["outcome"]) == (1, "succeeded")
        await lives.ask(request("PATCH", sleeper, "Content-Type: application/json", body=b'{"delay": 0}'))
        await lives.wait_for(sleeper, "succeeded")
        ((told,),) = await documents(lives, [sleeper])
        assert (told["attempt"], told["outcome"]) == (1, "succeeded")
        await lives.end()

    run(test())


@linux
def test_a_job_that_is_given_up_at_a_start_holds_up_nobody(tmp_path: Path) -> None:
    """Its end is committed with what clients have submitted meanwhile."""

    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,))
        await lives.start(workers=3)
        paths = [await lives.submit("hold", number, retries=0) for number in range(3)]
        for _ in range(DEATHS_MOST + 1):
            for path in paths:
                await lives.wait_for(path, "running")
            await lives.kill()
            gates.forget()
            client = await lives.start(workers=3)
        await client.send(post(submission("echo", 1)) * 20)
        assert {(await client.read("POST")).status for _ in range(20)} == {202}
        for path in paths:
            assert (await lives.wait_for(path, "failed"))["job-reason"] == "crashed"
            # It is over for all who look: nothing of it is left to wait for.
            assert (await lives.ask(request("DELETE", path))).status == 204
        assert (await lives.ask(request("GET", "/stats"))).json["jobs"]["running"] == 0
        assert await lives.engine.drain(5.0) == 0
        await lives.end()

    loop_errors: list[object] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
        await test()

    run(watched())
    assert loop_errors == []


@pytest.mark.parametrize("state", ["scheduled", "retrying"])
def test_a_deadline_that_passed_while_no_server_ran_fails_the_job_without_beginning_it(
    tmp_path: Path, state: str
) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,))
        settings = {"jobs": {"backoff": 1.0, "backoff_max": 1.0}}
        await lives.start(**settings)
        delay = 1.0 if state == "scheduled" else 0
        path = await lives.submit("hold", "job", deadline=1.5, retries=5, delay=delay)
        if state == "retrying":
            await lives.wait_for(path, "running")
            gates.open("job", ValueError("no"))
        await lives.wait_for(path, state)
        await lives.end()
        gates.forget()
        await asyncio.sleep(1.5)
        await lives.start(**settings)
        said = await lives.wait_for(path, "failed")
        assert said["job-reason"] == "deadline"
        assert not gates.is_held("job")
        await lives.end()

    run(test())


@pytest.mark.parametrize("ends", [pytest.param("end", marks=pytest.mark.long), "kill"])
def test_an_id_whose_job_is_gone_from_the_disk_is_not_given_again(tmp_path: Path, ends: str) -> None:
    async def test() -> None:
        lives, gone = Lives(tmp_path), set[str]()
        for _ in range(3):
            await lives.start(retention={"jobs": 0})
            # So small that nothing that is over stays on the board or on the disk.
            for path in gone:
                assert (await lives.ask(request("HEAD", path)))["job-state"] == "expired"
            for number in range(3):
                path = await lives.submit("echo", number)
                assert path not in gone, "an id was given twice"
                await lives.wait_for(path, "expired")
                gone.add(path)
            await asyncio.sleep(1.1)
            await (lives.end() if ends == "end" else lives.kill())

    run(test())


@pytest.mark.parametrize("ends", ["end", "kill"])
def test_a_delay_and_a_backoff_that_a_restart_came_into_are_over_in_time(tmp_path: Path, ends: str) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,))
        settings = {"jobs": {"backoff": 1.0, "backoff_max": 1.0}}
        await lives.start(**settings)
        delayed = await lives.submit("echo", 1, delay=1.0)
        retried = await lives.submit("hold", "job", retries=1)
        await lives.wait_for(retried, "running")
        gates.open("job", ValueError("no"))
        await lives.wait_for(retried, "retrying")
        await (lives.end() if ends == "end" else lives.kill())
        gates.forget()
        await lives.start(**settings)
        assert (await lives.wait_for(retried, "running"))["job-attempt"] == "2"
        gates.open("job")
        for path in (retried, delayed):
            await lives.wait_for(path, "succeeded")
        await lives.end()

    run(test())


@linux
def test_an_attempt_counts_through_starts_that_come_to_nothing(tmp_path: Path) -> None:
    """It is in no commit yet, so a start has to carry it on before the job is begun again."""

    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,))
        await lives.start()
        path = await lives.submit("hold", "job", retries=5)
        await lives.wait_for(path, "running")
        await lives.kill()
        for _ in range(3):
            registry = Registry()
            registry.add(gates.hold, Options())
            journal = Journal(lives.path)
            LocalEngine(lives.config, registry, journal).restore(lambda _: None)
            journal.abandon()
        gates.forget()
        await lives.start()
        assert (await lives.wait_for(path, "running"))["job-attempt"] == "2"
        await lives.end()

    run(test())
