"""A run from its first client to its last.

The first client goes ahead. Once a Headway has answered it, the others follow, spread over
``settings.spread`` seconds. One timer turns the wheel. Once a second the crowd looks for overdue
answers and shows the moment.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from headway.sim.client import Client
from headway.sim.figures import Moment, Pulse
from headway.sim.link import CrowdLink
from headway.sim.run import Run
from headway.sim.wheel import TICK_S

BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a run: its length, and the problem if it could not go on."""

    problem: str | None
    interrupted: bool
    seconds: float
    # User and system time of this process, in seconds.
    cpu_s: float


class Crowd:
    """All clients of a run."""

    def __init__(self, run: Run) -> None:
        settings = run.settings
        self._run = run
        self._links = [CrowdLink(run) for _ in range(run.links)]
        each = run.links_per_client
        firsts = (number * each % run.links for number in range(settings.clients))
        self._clients = [Client(run, self._links[first : first + each]) for first in firsts]
        # When the clients after the first began to come, of time.monotonic.
        self._coming = inf
        self._interrupted = False

    async def run(self, show: Callable[[Moment], None]) -> Ending:
        """Run to the end, calling ``show`` once a second."""
        run, began, cpu_s = self._run, time.monotonic(), time.process_time()
        if await self._resolve():
            self._handle_signals()
            self._clients[0].due()
            self._turn_wheel()
            following = asyncio.create_task(self._follow())
            await self._beats(began, show)
            following.cancel()
        ending = Ending(run.problem, self._interrupted, time.monotonic() - began, time.process_time() - cpu_s)
        await self._leave()
        return ending

    async def _leave(self) -> None:
        for link in self._links:
            await link.close()
        # The transports end in the loop's next turn.
        await asyncio.sleep(TICK_S)

    async def _resolve(self) -> bool:
        run, target = self._run, self._run.settings.target()
        try:
            found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            run.stop(f"unknown host: {error.strerror or error}")
            return False
        run.address = str(found[0][4][0]), target.port
        return True

    async def _follow(self) -> None:
        """Let the others come."""
        run, others = self._run, self._clients[1:]
        await run.recognised.wait()
        self._coming = time.monotonic()
        for number, client in enumerate(others):
            run.wheel.add(client, self._coming + run.settings.spread * number / len(others))
        # Objects that exist now stay to the end, and the garbage collector need not look at them.
        gc.collect()
        gc.freeze()

    def _turn_wheel(self) -> None:
        run = self._run
        late = run.wheel.turn(time.monotonic())
        if late:
            run.figures.lag.record(late)
        if not run.over.is_set():
            asyncio.get_running_loop().call_later(TICK_S, self._turn_wheel)

    async def _beats(self, began: float, show: Callable[[Moment], None]) -> None:
        run, duration = self._run, self._run.settings.duration
        end = began + duration if duration else inf
        pulse = Pulse(run.figures, began, duration)
        beat = began
        while not run.over.is_set() and (now := time.monotonic()) < end:
            beat = max(beat + BEAT_S, now)
            try:
                async with asyncio.timeout(min(beat, end) - now):
                    await run.over.wait()
            except TimeoutError:
                self._check(time.monotonic())
            if run.recognised.is_set():
                show(pulse.beat(time.monotonic(), self._come(), sum(link.open for link in self._links)))
        run.over.set()

    def _check(self, now: float) -> None:
        for link in self._links:
            link.check(now - self._run.settings.timeout)
        self._run.check(now)

    def _come(self) -> int:
        """The number of clients that have begun."""
        settings = self._run.settings
        share = min(max(time.monotonic() - self._coming, 0.0) / max(settings.spread, 1e-9), 1.0)
        return 1 + int(share * (settings.clients - 1))

    def _handle_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt, number)

    def _interrupt(self, number: int) -> None:
        """End the run as if its time were over. A second signal ends the process."""
        if self._interrupted:
            os._exit(128 + number)
        self._interrupted = True
        self._run.over.set()
