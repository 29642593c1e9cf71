"""A client that does not read, beside answers that wait."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.lives.server import PATIENCE_S, Client, Gates, Lives, run
from tests.protocol.wire import request

pytestmark = pytest.mark.long

LARGE_BYTES = 4_000_000


async def large(size: int) -> str:
    """Return so many bytes."""
    return "x" * size


async def ask_until_dropped(lives: Lives, client: Client) -> None:
    """Go on asking until the connection ends."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0.5)
            # What looks for those who are overdue; nobody else calls it here.
            lives.connections.tick()
            await client.send(b"\r\n")


@pytest.mark.parametrize("order", ["waits first", "reads nothing first"])
def test_a_client_that_reads_nothing_keeps_no_waiting_answer_from_others(tmp_path: Path, order: str) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold, large), journal=False)
        await lives.start(results={"max_bytes": 100_000_000})
        path = await lives.run("large", LARGE_BYTES)
        held = await lives.submit("hold", 1)
        await lives.wait_for(held, "running")
        wait = request("HEAD", held, "Prefer: wait=20")
        slow, patient = lives.client(), lives.client()
        fetch = request("GET", f"{path}/result")
        # The slow one asks for more than any buffer takes, and for an answer that waits.
        await slow.send(wait + fetch * 5 if order == "waits first" else fetch * 5 + wait)
        answer = asyncio.create_task(patient.ask(wait))
        await asyncio.sleep(0.2)
        assert not answer.done()
        begun = time.monotonic()
        gates.open(1, "done")
        assert (await answer).status == 200
        assert time.monotonic() - begun < 2
        # It gets all that it asked for, in order, once it reads.
        expected = [("HEAD", 200)] + [("GET", 200)] * 5
        for method, status in expected if order == "waits first" else [*expected[1:], expected[0]]:
            said = await slow.read(method)
            assert said.status == status
            assert method == "HEAD" or len(said.body) == LARGE_BYTES + 2
        await lives.end()

    run(test())


def test_a_client_that_reads_nothing_is_dropped_and_one_that_waits_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold, large), journal=False)
        await lives.start(results={"max_bytes": 100_000_000}, timeouts={"write": 0.3, "idle": 60})
        path = await lives.run("large", LARGE_BYTES)
        held = await lives.submit("hold", 1)
        await lives.wait_for(held, "running")
        slow, patient = lives.client(), lives.client()
        await slow.send(request("GET", f"{path}/result") * 20)
        answer = asyncio.create_task(patient.ask(request("GET", held, "Prefer: wait=20")))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask_until_dropped(lives, slow)
        assert not answer.done()
        gates.open(1, "done")
        assert (await answer).status == 200
        await lives.end()

    run(test())
