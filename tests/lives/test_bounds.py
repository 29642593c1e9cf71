"""Bounds of what is kept, and what holds for a job that is submitted again."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

import pytest
from headway.core.tasks.registry import Options

from tests.lives.server import PATIENCE_S, Gates, Lives, linux, run
from tests.protocol.wire import Answer, post, request, submission

# Lives take their time.
pytestmark = pytest.mark.long

# What each entry may take besides its bytes.
BOOKKEEPING_BYTES = 1000
EITHER = pytest.mark.parametrize("journal", [True, False], ids=["journal", "memory"])


async def kept_bytes(lives: Lives, paths: list[str]) -> int:
    """The bytes of all results of ``paths`` that can be read."""
    answers = [await lives.ask(request("GET", f"{path}/result")) for path in paths]
    assert {answer.status for answer in answers} <= {200, 410}
    return sum(len(answer.body) for answer in answers if answer.status == 200)


@pytest.mark.parametrize("large", [1, 2, 3])
def test_results_stay_within_their_bytes_when_large_ones_come_after_small_ones(tmp_path: Path, large: int) -> None:
    async def test() -> None:
        most = 40_000
        lives = Lives(tmp_path, journal=False)
        await lives.start(results={"max_bytes": most})
        paths = [await lives.run("echo", "x" * 1000) for _ in range(20)]
        assert await kept_bytes(lives, paths) > 19_000
        for _ in range(large):
            paths.append(await lives.run("echo", "y" * 30_000))
            assert await kept_bytes(lives, paths) <= most
            # The newest one is there.
            assert (await lives.ask(request("GET", f"{paths[-1]}/result"))).status == 200
        # One that fits nowhere takes out all others and itself.
        paths.append(await lives.run("echo", "z" * (most + 1)))
        assert await kept_bytes(lives, paths) == 0
        await lives.end()

    run(test())


def test_payloads_of_failed_jobs_are_within_the_bytes_of_results(tmp_path: Path) -> None:
    async def test() -> None:
        most, size = 50_000, 8000
        lives = Lives(tmp_path, journal=False)
        await lives.start(results={"max_bytes": most})
        failed = [await lives.run("fail", "x" * size, retries=0) for _ in range(20)]
        again = [await lives.ask(request("POST", f"{path}/retry", body=b"")) for path in failed]
        assert {answer.status for answer in again} == {202, 410}
        assert {answer.json["type"] for answer in again if answer.status == 410} == {"urn:headway:problem:payload-gone"}
        resubmitted = sum(answer.status == 202 for answer in again)
        # Of each its payload and the error's text, in which the payload stands, are kept.
        assert 1 <= resubmitted <= most // size
        await lives.end()

    run(test())


@EITHER
def test_a_key_that_is_used_anew_is_among_the_last(tmp_path: Path, journal: bool) -> None:
    async def test() -> None:
        lives = Lives(tmp_path, journal=journal)
        await lives.start(idempotency={"keys": 2, "seconds": 0.3})

        async def put(key: str) -> Answer:
            return await lives.ask(post(submission("echo", 1), f"Idempotency-Key: {key}"))

        await put("a")
        await put("b")
        await asyncio.sleep(0.35)
        anew = await put("a")
        assert "idempotency-replayed" not in anew.headers
        await put("c")
        again = await put("a")
        assert (again["location"], again.headers.get("idempotency-replayed")) == (anew["location"], "true")
        await lives.end()

    run(test())


def test_a_key_is_as_old_after_a_start_as_before(tmp_path: Path) -> None:
    async def test() -> None:
        lives, settings = Lives(tmp_path), {"idempotency": {"seconds": 2}}
        await lives.start(**settings)

        async def put() -> Answer:
            return await lives.ask(post(submission("echo", 1), "Idempotency-Key: a"))

        begun, first = time.monotonic(), await put()
        await lives.end()
        await lives.start(**settings)
        again = await put()
        assert again["location"] == first["location"] or time.monotonic() > begun + 2
        await asyncio.sleep(max(begun + 2.2 - time.monotonic(), 0))
        assert "idempotency-replayed" not in (await put()).headers
        await lives.end()

    run(test())


@EITHER
def test_keys_are_known_while_they_are_among_the_last(tmp_path: Path, journal: bool) -> None:
    async def test() -> None:
        lives = Lives(tmp_path, journal=journal)
        await lives.start(idempotency={"keys": 5})
        given: dict[int, str] = {}

        async def put(number: int) -> Answer:
            return await lives.ask(post(submission("echo", number), f"Idempotency-Key: k-{number}"))

        for number in range(9):
            given[number] = (await put(number))["location"]
        for number in range(4, 9):
            # Replayed, and no newer by it.
            assert (await put(number))["location"] == given[number]
        assert (await put(3))["location"] != given[3]
        assert (await put(5))["location"] == given[5]
        assert (await put(4))["location"] != given[4]
        await lives.end()

    run(test())


def test_a_submissions_own_timeout_comes_before_that_of_its_task(tmp_path: Path) -> None:
    async def test() -> None:
        gates = Gates()
        short = (gates.hold, Options(name="short", timeout=0.05))
        long = (gates.hold, Options(name="long", timeout=1000))
        lives = Lives(tmp_path, (short, long, gates.hold), journal=False)
        await lives.start(workers=6, jobs={"timeout": 0.05})
        # By whom the timeout is said: the submission, the task, and neither.
        out = [
            await lives.submit("long", 1, timeout=0.05),
            await lives.submit("short", 2),
            await lives.submit("hold", 3),
        ]
        stay = [await lives.submit("short", 4, timeout=1000), await lives.submit("long", 5)]
        stay.append(await lives.submit("hold", 6, timeout=1000))
        for path in out:
            assert (await lives.wait_for(path, "failed"))["job-reason"] == "timeout"
        await asyncio.sleep(0.1)
        for number, path in enumerate(stay, start=4):
            assert (await lives.ask(request("HEAD", path)))["job-state"] == "running"
            gates.open(number)
            await lives.wait_for(path, "succeeded")
        await lives.end()

    run(test())


@EITHER
def test_a_job_that_is_resubmitted_has_its_deadline_from_then_on(tmp_path: Path, journal: bool) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal)
        await lives.start()
        old = await lives.submit("hold", "job", deadline=1.0)
        await lives.wait_for(old, "running")
        gates.open("job", ValueError("not yet"))
        await lives.wait_for(old, "failed")
        await asyncio.sleep(0.6)
        new = (await lives.ask(request("POST", f"{old}/retry", body=b"")))["location"]
        await lives.wait_for(new, "running")
        # The old one's deadline passes, and later its own.
        await asyncio.sleep(0.6)
        assert (await lives.ask(request("HEAD", new)))["job-state"] == "running"
        ended = await lives.wait_for(new, "failed")
        assert ended["job-reason"] in ("deadline", "timeout")
        await lives.end()

    run(test())


@EITHER
def test_resubmitting_finds_the_queue_full_or_draining_as_submitting_does(tmp_path: Path, journal: bool) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal)
        await lives.start(workers=1, queue={"size": 3}, jobs={"backoff": 0.01})
        failed = await lives.run("fail", "why", retries=0)
        held = await lives.submit("hold", 1)
        await lives.wait_for(held, "running")
        waiting = [await lives.submit("echo", delay=1000) for _ in range(3)]
        retry = request("POST", f"{failed}/retry", body=b"")
        submit = post(submission("echo"))
        for _ in range(2):
            refused, as_ever = await lives.ask(retry), await lives.ask(submit)
            assert (refused.status, refused.json["type"]) == (429, "urn:headway:problem:queue-full")
            assert refused["ratelimit-policy"] == as_ever["ratelimit-policy"]
        await lives.ask(request("DELETE", waiting[0]))
        assert (await lives.ask(retry)).status == 202
        drain = asyncio.create_task(lives.engine.drain(0.2))
        await asyncio.sleep(0)
        refused = await lives.client().ask(retry)
        assert (refused.status, refused.json["type"]) == (503, "urn:headway:problem:draining")
        await drain
        await lives.end()

    run(test())


@linux
def test_resubmitting_finds_the_journal_full_as_submitting_does(tmp_path: Path) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        failed = await lives.run("fail", "why", retries=0)
        retry = request("POST", f"{failed}/retry", body=b"")
        limits = [(pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)) for pid in lives.writers()]
        for pid, (_, most) in limits:
            # No file of the journal's grows any more, as on a full disk.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, most))
        for sent in (post(submission("echo")), retry, retry):
            refused = await lives.ask(sent)
            assert (refused.status, refused.json["type"]) == (503, "urn:headway:problem:journal-full")
            assert int(refused["retry-after"]) >= 1
        for pid, limit in limits:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
        async with asyncio.timeout(PATIENCE_S):
            while (await lives.ask(retry)).status != 202:  # noqa: ASYNC110 — as clients do
                await asyncio.sleep(0.05)
        await lives.end()

    run(test())


def test_a_payload_that_is_no_longer_kept_is_said_before_a_full_queue_and_a_state_before_both(tmp_path: Path) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal=False)
        await lives.start(workers=1, queue={"size": 1}, results={"max_bytes": 2000})
        succeeded = await lives.run("echo")
        gone = await lives.run("fail", "x" * 3000, retries=0)
        await lives.wait_for(await lives.submit("hold", 1), "running")
        await lives.submit("echo")
        for path, status in ((succeeded, 409), (gone, 410)):
            assert (await lives.ask(request("POST", f"{path}/retry", body=b""))).status == status
        await lives.end()

    run(test())
