"""A disk that hangs: the writer is stopped, as one is that waits for its disk, and goes on later."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.lives.server import PATIENCE_S, Client, Gates, Lives, linux, run, stopped
from tests.protocol.wire import post, request, submission

pytestmark = [pytest.mark.long, linux]
HUNG_S = 1.5
# An answer that asks nothing of the disk.
AT_ONCE_S = 0.5


async def in_time(client: Client, data: bytes, status: int) -> None:
    """Ask, and see that the answer comes although the disk hangs."""
    begun = time.monotonic()
    assert (await client.ask(data)).status == status
    assert time.monotonic() - begun < AT_ONCE_S


@pytest.mark.parametrize("ends", ["end", "kill"])
def test_reads_go_on_and_what_was_asked_for_is_done_when_the_disk_is_back(tmp_path: Path, ends: str) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,))
        # So few bytes of results that those of before are read from the disk.
        await lives.start(results={"max_bytes": 1000})
        old = await lives.run("echo", "x" * 800)
        newer = await lives.run("echo", "y" * 800)
        held, delayed = await lives.submit("hold", 1), await lives.submit("echo", 2, delay=1000)
        await lives.wait_for(held, "running")
        asking = {
            "submitted": post(submission("echo", 3)),
            "by key": post(submission("echo", 4), "Idempotency-Key: k-1"),
            "the same key": post(submission("echo", 4), "Idempotency-Key: k-1"),
            "cancelled": request("DELETE", delayed),
            "batch": request(
                "POST", "/batches", "Content-Type: application/json", body=b"[%b]" % submission("echo", 5)
            ),
        }
        with stopped(lives.writers()):
            clients = {what: lives.client() for what in asking}
            answers = {what: asyncio.create_task(clients[what].ask(data)) for what, data in asking.items()}
            gates.open(1, "done")
            hung_until = time.monotonic() + HUNG_S
            while time.monotonic() < hung_until:
                reader = lives.client()
                for path, status in ((old, 200), (newer, 200), (held, 202), (delayed, 202)):
                    await in_time(reader, request("HEAD", path), status)
                await in_time(reader, request("GET", f"{old}/result"), 200)
                await in_time(reader, request("GET", "/jobs?state=succeeded"), 200)
                await in_time(reader, request("GET", "/healthz"), 200)
                await asyncio.sleep(0.05)
            assert not any(answer.done() for answer in answers.values())
        async with asyncio.timeout(PATIENCE_S):
            said = {what: await answer for what, answer in answers.items()}
        assert {what: answer.status for what, answer in said.items()} == {
            "submitted": 202,
            "by key": 202,
            "the same key": said["the same key"].status,
            "cancelled": 204,
            "batch": 202,
        }
        assert said["the same key"]["location"] == said["by key"]["location"]
        await lives.wait_for(held, "succeeded")
        await (lives.end() if ends == "end" else lives.kill())
        await lives.start()
        for what in ("submitted", "by key"):
            assert (await lives.wait_for(said[what]["location"], "succeeded", "expired"))["job-state"] == "succeeded"
        assert (await lives.ask(request("GET", f"{held}/result"))).json == "done"
        assert (await lives.ask(request("HEAD", delayed)))["job-state"] == "cancelled"
        await lives.end()

    run(test())


def test_a_client_that_gives_up_while_the_disk_hangs_harms_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        with stopped(lives.writers()):
            for number in range(20):
                client = lives.client()
                await client.send(post(submission("echo", number), f"Idempotency-Key: gone-{number}"))
                if number % 2:
                    # Half of them before the server has read.
                    await asyncio.sleep(0.01)
                client.close()
            await asyncio.sleep(0.2)
            await in_time(lives.client(), request("GET", "/healthz"), 200)
        # Whether they were taken is told by their key: each once, and nothing is in between.
        paths = []
        for number in range(20):
            again = await lives.ask(post(submission("echo", number), f"Idempotency-Key: gone-{number}"))
            paths.append(again.headers.get("location") or again["content-location"])
        assert len(set(paths)) == 20
        for path in paths:
            await lives.wait_for(path, "succeeded")
        jobs = (await lives.ask(request("GET", "/stats"))).json["jobs"]
        assert sum(jobs.values()) == 20
        await lives.end()

    run(test())


def test_a_disk_that_hangs_at_the_end_loses_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        path = await lives.run("echo", 1)
        other = lives.client()
        with stopped(lives.writers()):
            await other.send(post(submission("echo", 2), "Idempotency-Key: last"))
            await asyncio.sleep(0.05)
            ending = asyncio.create_task(lives.end())
            await asyncio.sleep(0.5)
            assert not ending.done()
        await ending
        await lives.start()
        assert (await lives.ask(request("GET", f"{path}/result"))).json == 1
        assert (await lives.ask(request("HEAD", "/jobs/last"))).status in (200, 202, 404)
        await lives.end()

    run(test())
