"""The loop of the server: what stops it, and what comes meanwhile."""

import asyncio
import logging
import signal
from collections.abc import Callable

import pytest
from headway.protocol.process.loop import run_to_its_end

PATIENCE_S = 10


def exits() -> None:
    raise SystemExit(3)


def interrupts() -> None:
    raise KeyboardInterrupt


def stops() -> None:
    asyncio.get_running_loop().stop()


@pytest.fixture(autouse=True)
def _no_loop_is_left() -> None:
    asyncio.set_event_loop(None)


@pytest.mark.parametrize("callback", [exits, interrupts, stops])
def test_what_stops_the_loop_loses_nothing_that_was_ready(callback: Callable[[], None]) -> None:
    called: list[int] = []

    async def main() -> str:
        running = asyncio.get_running_loop()
        for number in range(3):
            running.call_soon(called.append, number)
            running.call_soon(callback)
        running.call_later(0.01, called.append, 3)
        async with asyncio.timeout(PATIENCE_S):
            while len(called) < 4:  # noqa: ASYNC110 — others fill it
                await asyncio.sleep(0.001)
        return "the end"

    assert run_to_its_end(main()) == "the end"
    assert called == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [ValueError("main"), RuntimeError("main"), SystemExit(4)])
def test_what_main_raises_is_raised(error: BaseException) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as raised:
        run_to_its_end(main())
    assert raised.value is error


class Signals(logging.Handler):
    """Sends this process a signal for each record."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    def emit(self, _: logging.LogRecord) -> None:
        signal.raise_signal(signal.SIGUSR1)
        self.sent += 1


def test_a_signal_that_comes_while_the_loop_stands_is_not_lost() -> None:
    # The server says that its loop was stopped before the loop goes on.
    log, meanwhile = logging.getLogger("headway.protocol.process.loop"), Signals()

    async def main() -> None:
        came = asyncio.Event()
        running = asyncio.get_running_loop()
        running.add_signal_handler(signal.SIGUSR1, came.set)
        try:
            running.call_soon(exits)
            await asyncio.wait_for(came.wait(), PATIENCE_S / 5)
        finally:
            running.remove_signal_handler(signal.SIGUSR1)

    log.addHandler(meanwhile)
    try:
        run_to_its_end(main())
    finally:
        log.removeHandler(meanwhile)
    assert meanwhile.sent == 1
