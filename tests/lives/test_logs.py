"""Logs over lives: all that was shown is shown again, and a further attempt goes on behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from headway.core.tasks.context import Context

from tests.lives.server import Lives, linux, run
from tests.protocol.wire import request

# Lives take their time.
pytestmark = pytest.mark.long

LOG_BYTES = 2048


async def logs(payload: dict[str, Any], context: Context) -> None:
    """Log numbered lines with a pause after each, and then wait unless there is no ``wait``."""
    for number in range(payload["count"]):
        context.log(f"{number:>9}")
        await asyncio.sleep(payload.get("pause", 0))
    if payload.get("wait"):
        await asyncio.Event().wait()


def lines(count: int) -> bytes:
    return b"".join(b"%9d\n" % number for number in range(count))


async def until_logged(lives: Lives, path: str, length: int) -> bytes:
    """Return the text of a log once it has ``length`` bytes."""
    async with asyncio.timeout(10):
        while True:
            answer = await lives.ask(request("GET", f"{path}/log"))
            if int(answer["log-length"]) >= length:
                return answer.body
            await asyncio.sleep(0.01)


@linux
@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.3, 1.05])
def test_all_that_was_shown_is_shown_after_a_kill(tmp_path: Path, pause_s: float) -> None:
    async def test() -> None:
        lives = Lives(tmp_path, (logs,))
        await lives.start()
        done = await lives.run("logs", {"count": 3})
        path = await lives.submit("logs", {"count": 1000, "pause": 0.01})
        await until_logged(lives, path, 10)
        await asyncio.sleep(pause_s)
        shown = (await lives.ask(request("GET", f"{path}/log"))).body
        assert lines(1000).startswith(shown)
        await lives.kill()
        await lives.start()
        assert (await lives.ask(request("GET", f"{done}/log"))).body == lines(3)
        text = await until_logged(lives, path, len(shown) + 100)
        assert text.startswith(shown)
        first, _, second = text.partition(b"--- attempt 2 ---\n")
        assert lines(1000).startswith(first)
        assert lines(1000).startswith(second)
        assert second
        await lives.end()

    run(test())


@linux
def test_both_ends_and_the_length_of_a_long_log_outlive_a_kill(tmp_path: Path) -> None:
    async def test() -> None:
        settings = {"results": {"log_bytes": LOG_BYTES}}
        lives = Lives(tmp_path, (logs,))
        await lives.start(**settings)
        path = await lives.submit("logs", {"count": 5000, "wait": True})
        shown = await until_logged(lives, path, 50_000)
        left_out = b"\n[... %d bytes left out ...]\n" % (50_000 - LOG_BYTES)
        assert shown == lines(5000)[: LOG_BYTES // 2] + left_out + lines(5000)[-LOG_BYTES // 2 :]
        await lives.kill()
        await lives.start(**settings)
        length = 100_000 + len(b"--- attempt 2 ---\n")
        text = await until_logged(lives, path, length)
        left_out = b"\n[... %d bytes left out ...]\n" % (length - LOG_BYTES)
        assert text == lines(5000)[: LOG_BYTES // 2] + left_out + lines(5000)[-LOG_BYTES // 2 :]
        await lives.end()

    run(test())


@pytest.mark.parametrize("journal", [False, True])
def test_a_deploy_or_an_end_keeps_the_logs(tmp_path: Path, journal: bool) -> None:
    async def test() -> None:
        lives = Lives(tmp_path, (logs,), journal=journal)
        await lives.start(results={"log_bytes": LOG_BYTES})
        paths = [await lives.run("logs", {"count": count}) for count in (0, 3, 500)]
        before = [await lives.ask(request("GET", f"{path}/log")) for path in paths]
        if journal:
            await lives.end()
            await lives.start(results={"log_bytes": LOG_BYTES})
        else:
            await lives.deploy()
        after = [await lives.ask(request("GET", f"{path}/log")) for path in paths]
        assert [(answer.body, answer["log-length"]) for answer in after] == [
            (answer.body, answer["log-length"]) for answer in before
        ]
        assert [answer["log-length"] for answer in after] == ["0", "30", "5000"]
        await lives.end()

    run(test())


def test_the_text_of_a_job_that_an_end_interrupts_is_kept(tmp_path: Path) -> None:
    async def test() -> None:
        lives = Lives(tmp_path, (logs,))
        await lives.start()
        path = await lives.submit("logs", {"count": 1000, "pause": 0.001})
        await until_logged(lives, path, 10)
        await asyncio.sleep(0.1)
        await lives.end()
        await lives.start()
        answer = await lives.ask(request("GET", f"{path}/log"))
        # More than was shown: all that it had logged by then.
        assert int(answer["log-length"]) > 200
        assert lines(1000).startswith(answer.body.partition(b"---")[0])
        assert json.loads((await lives.ask(request("GET", path))).body)["id"] in path
        await lives.end()

    run(test())
