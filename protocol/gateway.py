"""The process of a gateway: the HTTP API of a server whose engine is another process. It imports no task."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from contextlib import suppress
from typing import NoReturn

import msgspec
from headway.core.config import Config
from headway.core.open import open_gateway
from headway.protocol.api.service import Shared
from headway.protocol.front import HttpFront
from headway.protocol.http.connections import TICK_S
from headway.protocol.node import collect_rarely
from headway.protocol.process import logs, parts, signals
from headway.protocol.process.fingerprint import fingerprint
from headway.protocol.process.listener import Listener
from headway.protocol.process.loop import run_to_its_end
from headway.protocol.process.parts import ServerPart, Teller

log = logging.getLogger(__name__)


def run(config: Config, part: ServerPart) -> NoReturn:
    """Serve until SIGTERM."""
    gc.disable()
    logs.set_up(config.log)
    # The supervisor decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run_to_its_end(_Life(config, part).serve())
    signals.end(0)


def share(config: Config, part: ServerPart) -> Config:
    """Return the settings of one gateway: its share of what all of them may do, and no first token to make."""
    replace, count = msgspec.structs.replace, part.count
    limits = config.limits
    return replace(
        config,
        auth=replace(config.auth, first_token=False),
        polling=replace(config.polling, capacity=max(config.polling.capacity // count, 1)),
        limits=replace(
            limits,
            connections=-(-limits.connections // count),
            waiting=-(-limits.waiting // count),
            unanswered_bytes=limits.unanswered_bytes // count,
            untaken_bytes=limits.untaken_bytes // count,
        ),
    )


class _Life:
    """One gateway, from its start to its end."""

    def __init__(self, config: Config, part: ServerPart) -> None:
        self._part = part
        self._teller = Teller(part)
        own = share(config, part)
        self._engine = open_gateway(own, part.path, fingerprint(config))
        shared = Shared(part.rates_fd, self._engine.others, part.parent)
        self._front = HttpFront(own, Listener(part.socket(), passed=True), shared)
        self._ends = asyncio.Event()

    async def serve(self) -> None:
        """Let clients in until SIGTERM. Then give the last answers."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._ends.set)
        ticker = loop.create_task(self._tick())
        self._front.open(self._engine)
        self._front.accept()
        starting = loop.create_task(self._start())
        collect_rarely()
        await self._ends.wait()
        starting.cancel()
        await self._engine.drain(0.0)
        await self._front.leave()
        ticker.cancel()
        await self._front.close()
        # What was counted since the last tick.
        self._engine.count(self._front.counted)
        await self._engine.stop()

    async def _start(self) -> None:
        """Reach the engine. Until then clients are told that it is about to come."""
        await self._engine.start(int)
        with suppress(OSError):
            self._teller.tell(parts.SERVING, str(os.getpid()))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._front.tick()
            self._engine.count(self._front.counted)
            if self._part.is_orphan:
                log.error("the supervisor is gone: gateway %d ends", self._part.number)
                self._part.remove_folder()
                self._ends.set()
