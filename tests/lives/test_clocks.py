"""Clocks that are set, forwards and backwards, while a server runs and between two lives."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lives.server import Lives, clock_that_is_set, run
from tests.protocol.wire import post, request, submission

pytestmark = pytest.mark.long

HOUR_S, DAY_S = 3600.0, 86_400.0
MORE = [pytest.param(shift, marks=pytest.mark.long) for shift in (-HOUR_S, -1.0, 1.0, HOUR_S, 300 * DAY_S)]
SHIFTS = pytest.mark.parametrize("shift", [-DAY_S, DAY_S, *MORE])
EITHER = pytest.mark.parametrize("journal", [True, False], ids=["journal", "memory"])


async def sums(lives: Lives) -> list[float]:
    """The sums of all histograms of seconds."""
    text = (await lives.ask(request("GET", "/metrics"))).body.decode()
    return [float(value) for value in re.findall(r"^headway_\w*seconds_sum(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)]


@EITHER
@SHIFTS
def test_nothing_moves_when_the_clock_is_set_while_a_server_runs(tmp_path: Path, journal: bool, shift: float) -> None:
    async def test() -> None:
        with clock_that_is_set() as clock:
            lives = Lives(tmp_path, journal=journal)
            await lives.start(retention={"seconds": 60}, idempotency={"seconds": 60})
            old = await lives.run("echo", 1)
            keyed = post(submission("echo", 2), "Idempotency-Key: k")
            first = (await lives.ask(keyed))["location"]
            begun = time.monotonic()
            due = await lives.submit("echo", 3, delay=1.0)
            late = await lives.submit("echo", 4, delay=50, deadline=1.0)
            clock.shift = shift
            # What is tidied up once a second sees it.
            await asyncio.sleep(0.5)
            for path in (due, late):
                assert (await lives.ask(request("HEAD", path)))["job-state"] == "scheduled"
            after = await lives.submit("echo", 5, delay=0.5)
            assert (await lives.wait_for(late, "failed"))["job-reason"] == "deadline"
            for path in (due, after):
                await lives.wait_for(path, "succeeded")
            assert 1.0 <= time.monotonic() - begun < 3.0
            await asyncio.sleep(max(begun + 2.2 - time.monotonic(), 0))
            assert (await lives.ask(request("GET", f"{old}/result"))).json == 1
            again = await lives.ask(keyed)
            assert (again["location"], again["idempotency-replayed"]) == (first, "true")
            assert all(0 <= value < 10 for value in await sums(lives))
            await lives.end()

    run(test())


@pytest.mark.parametrize("ends", ["end", pytest.param("kill", marks=pytest.mark.long)])
@SHIFTS
def test_what_the_clock_says_between_two_lives_neither_holds_nor_keeps_for_long(
    tmp_path: Path, ends: str, shift: float
) -> None:
    """Forwards, time may have passed, as far as anyone can know; backwards, none has."""

    async def test() -> None:
        with clock_that_is_set() as clock:
            lives = Lives(tmp_path)
            settings = {"retention": {"seconds": 3}, "idempotency": {"seconds": 3}}
            await lives.start(**settings)
            old = await lives.run("echo", 1)
            due = await lives.submit("echo", 2, delay=0.5)
            await (lives.end() if ends == "end" else lives.kill())
            clock.shift = shift
            await lives.start(**settings)
            begun = time.monotonic()
            state = (await lives.ask(request("HEAD", old)))["job-state"]
            assert state == "succeeded" or (state == "expired" and shift > 3)
            assert (await lives.wait_for(due, "succeeded"))["job-state"] == "succeeded"
            assert time.monotonic() - begun < 2
            new = await lives.run("echo", 3)
            # Neither is kept for longer than retention says, whenever it seems to have ended.
            await asyncio.sleep(max(begun + 1.5 - time.monotonic(), 0))
            assert (await lives.ask(request("HEAD", new)))["job-state"] == "succeeded"
            await asyncio.sleep(max(begun + 4.5 - time.monotonic(), 0))
            for path in (old, due, new):
                assert (await lives.ask(request("HEAD", path)))["job-state"] == "expired"
            listed = (await lives.ask(request("GET", "/jobs?state=succeeded"))).json["jobs"]
            assert listed == []
            assert all(0 <= value < 10 for value in await sums(lives)) or shift > 0
            await (lives.end() if ends == "end" else lives.kill())
            await lives.start(**settings)
            for path in (old, due, new):
                assert (await lives.ask(request("HEAD", path)))["job-state"] == "expired"
            await lives.end()

    run(test())


def test_rows_that_are_dated_in_the_future_block_nothing(tmp_path: Path) -> None:
    """Jobs of a life whose clock was a year ahead go when as many have ended after them."""

    async def test() -> None:
        with clock_that_is_set() as clock:
            lives = Lives(tmp_path)
            settings = {"retention": {"jobs": 10}, "queue": {"size": 5}, "workers": 2}
            clock.shift = 365 * DAY_S
            await lives.start(**settings)
            ahead = [await lives.run("echo", number) for number in range(10)]
            await lives.end()
            clock.shift = 0.0
            await lives.start(**settings)
            assert {(await lives.ask(request("HEAD", path))).status for path in ahead} == {200}
            since = [await lives.run("echo", number) for number in range(60)]
            assert {(await lives.ask(request("HEAD", path))).status for path in ahead} == {410}
            assert {(await lives.ask(request("HEAD", path))).status for path in since[-10:]} == {200}
            assert {(await lives.ask(request("HEAD", path))).status for path in since[:-10]} == {410}
            await lives.end()

    run(test())


@pytest.mark.parametrize("ends", ["while it runs", "between two lives"])
def test_a_hold_that_has_ended_does_not_come_back_with_the_clock(tmp_path: Path, ends: str) -> None:
    async def test() -> None:
        with clock_that_is_set() as clock:
            lives = Lives(tmp_path)
            await lives.start()
            until = datetime.fromtimestamp(time.time() + 1.0, UTC).isoformat()
            body = b'{"dispatch": "hold", "until": "%b"}' % until.encode()
            held = await lives.ask(request("PATCH", "/tasks/echo", "Content-Type: application/json", body=body))
            assert held.json["dispatch"] == "hold"
            if ends == "between two lives":
                await lives.kill()
                await asyncio.sleep(1.0)
                await lives.start()
            while (await lives.ask(request("GET", "/tasks/echo"))).json["dispatch"] == "hold":  # noqa: ASYNC110 — seen from outside
                await asyncio.sleep(0.02)
            # It is written down a turn later.
            await lives.run("echo", 1)
            await lives.kill()
            clock.shift = -HOUR_S
            await lives.start()
            assert (await lives.ask(request("GET", "/tasks/echo"))).json["dispatch"] == "run"
            await lives.run("echo", 2)
            await lives.end()

    run(test())
