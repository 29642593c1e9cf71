"""Timers that share one of libuv's: each is called as if it had its own, a little later."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
from headway.protocol.process.loop import Loop, run_to_its_end
from headway.protocol.process.timers import FAR_S, NEAR_S, TOGETHER_S, Timer, Timers

# On a machine that has much else to do.
LATE_S = 1.0

seen: ContextVar[str] = ContextVar("seen", default="nothing")


@pytest.fixture(autouse=True)
def _no_loop_is_left() -> None:
    asyncio.set_event_loop(None)


def on_loop(main: Callable[[Loop], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        await main(loop)

    run_to_its_end(run())


@pytest.mark.parametrize("delay", [0.0, 0.01, NEAR_S, NEAR_S + TOGETHER_S / 3, 0.15])
def test_no_timer_is_early(delay: float) -> None:
    # A timer of libuv is rounded to a millisecond.
    early = 0.001 if delay < NEAR_S else 0.0

    async def main(_: Loop) -> None:
        for _attempt in range(5):
            begun = time.monotonic()
            await asyncio.sleep(delay)
            assert delay - early <= time.monotonic() - begun < delay + LATE_S

    on_loop(main)


def test_timers_of_the_same_time_share_one_and_come_in_their_order() -> None:
    started: list[float] = []
    called: list[int] = []

    async def main(loop: Loop) -> None:
        def start(delay: float, callback: Callable[[int], object], place: int, context: Context) -> None:
            started.append(delay)
            loop.call_later(delay, callback, place, context=context)

        timers, begun = Timers(loop, start), time.monotonic()
        for number in range(1000):
            timers.add(NEAR_S, called.append, (number,), None)
        assert len(started) <= 2 + (time.monotonic() - begun) / TOGETHER_S
        await asyncio.sleep(NEAR_S + 10 * TOGETHER_S)

    on_loop(main)
    assert called == [*range(1000)]


@pytest.mark.parametrize("delay", [NEAR_S / 10, NEAR_S, FAR_S])
def test_a_cancelled_timer_is_not_called_and_keeps_nothing(delay: float) -> None:
    class Argument:
        """Something to be kept."""

    called: list[Argument] = []

    async def main(loop: Loop) -> None:
        argument = Argument()
        kept = weakref.ref(argument)
        timer = loop.call_later(delay, called.append, argument)
        assert not timer.cancelled()
        timer.cancel()
        timer.cancel()
        assert timer.cancelled()
        del argument
        assert kept() is None
        await asyncio.sleep(min(delay, NEAR_S) + 2 * TOGETHER_S)

    on_loop(main)
    assert called == []


def test_a_timer_can_cancel_the_next_one_and_itself() -> None:
    called: list[int] = []

    async def main(loop: Loop) -> None:
        timers: list[asyncio.TimerHandle] = []

        def first() -> None:
            called.append(1)
            for timer in timers:
                timer.cancel()

        timers.append(loop.call_later(NEAR_S, first))
        timers.append(loop.call_later(NEAR_S, called.append, 2))
        loop.call_later(NEAR_S, called.append, 3)
        await asyncio.sleep(NEAR_S + 4 * TOGETHER_S)
        assert not timers[0].cancelled()

    on_loop(main)
    assert called in ([1, 3], [1, 2, 3])


def test_a_timer_is_called_in_the_context_of_its_maker_or_in_one_that_is_given() -> None:
    called: list[str] = []

    async def main(loop: Loop) -> None:
        other = copy_context()
        other.run(seen.set, "given")
        seen.set("made")
        loop.call_later(NEAR_S, lambda: called.append(seen.get()))
        loop.call_later(NEAR_S, lambda: called.append(seen.get()), context=other)
        seen.set("later")
        await asyncio.sleep(NEAR_S + 4 * TOGETHER_S)

    on_loop(main)
    assert called == ["made", "given"]


def test_an_error_in_a_timer_is_told_and_the_others_come() -> None:
    called: list[int] = []
    told: list[object] = []

    async def main(loop: Loop) -> None:
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        error = ValueError("of a timer")

        def fails() -> None:
            raise error

        loop.call_later(NEAR_S, called.append, 1)
        loop.call_later(NEAR_S, fails)
        loop.call_later(NEAR_S, called.append, 2)
        await asyncio.sleep(NEAR_S + 4 * TOGETHER_S)
        assert told == [error]

    on_loop(main)
    assert called == [1, 2]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_timer_that_stops_the_loop_loses_none_of_the_others(error: type[BaseException]) -> None:
    called: list[int] = []

    async def main(loop: Loop) -> None:
        def stops() -> None:
            raise error

        for number in range(3):
            loop.call_later(NEAR_S, called.append, number)
            loop.call_later(NEAR_S, stops)
        await asyncio.sleep(NEAR_S + 10 * TOGETHER_S)

    on_loop(main)
    assert called == [0, 1, 2]


def test_a_timer_tells_when_it_is_due() -> None:
    async def main(loop: Loop) -> None:
        before = time.monotonic()
        timer = loop.call_at(loop.time() + 1.0, print)
        assert isinstance(timer, Timer)
        assert before + 0.9 < timer.when() < time.monotonic() + 1.0
        timer.cancel()

    on_loop(main)
