"""One worker process, started as those of a pool are, to see whether it can be: for a check before the start.

It confines itself and imports the task modules. It begins no lifespan and runs no job.
"""

from __future__ import annotations

import asyncio
import logging

from headway.core.processes.confinement import Confinement
from headway.core.processes.messages import Log
from headway.core.processes.process import Process

# Seconds in which it has to be ready, and those in which it has to be gone.
READY_S, GONE_S = 30.0, 2.0


class _Owner:
    """Hears of one process."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    def ready(self, process: Process) -> None:
        """It can be called."""
        self._hear(None)

    def free(self, process: Process) -> None:
        """It has answered: it never does."""

    def ended(self, process: Process) -> None:
        """It has ended."""
        self._hear(process.how)
        self.gone.set()

    def logged(self, process: Process, record: Log) -> float:
        """It has logged, which the process of the check has done as well."""
        return 0.0

    def wrote(self, process: Process, text: str, is_dead: bool) -> None:
        """It wrote: it never does, since its output is that of the check."""

    def has_read(self, began: float) -> float:
        """Its output was read."""
        return 0.0

    def _hear(self, fault: str | None) -> None:
        if not self.heard.done():
            self.heard.set_result(fault)


async def fault(modules: tuple[str, ...], confinement: Confinement) -> str | None:
    """Return the reason why a worker process of these task modules cannot start here, None if it can."""
    owner = _Owner()
    process = Process(owner, modules, 0, logging.CRITICAL, confinement, trial=True)
    process.start()
    try:
        async with asyncio.timeout(READY_S):
            return await owner.heard
    except TimeoutError:
        return f"it is not ready within {READY_S:g} s"
    finally:
        process.kill()
        async with asyncio.timeout(GONE_S):
            await owner.gone.wait()
