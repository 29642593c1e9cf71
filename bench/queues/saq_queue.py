"""SAQ: one process, ten coroutines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from saq import Queue, Status

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, url
from bench.queues.interface import Queue as Contract


async def noop(_: object, *, sent: float) -> None:
    """Do nothing."""
    await record.noop_async(sent)


async def nap(_: object, *, sent: float) -> None:
    """Wait 10 ms."""
    await record.nap_async(sent)


queue = Queue.from_url(url(), name="bench")
settings = {"queue": queue, "functions": [noop, nap], "concurrency": WORKERS}


class Adapter(Contract[Any]):
    """``enqueue`` and ``job``."""

    workers = f"1 process, {WORKERS} coroutines"

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        return [sys.executable, "-m", "saq", "bench.queues.saq_queue.settings"]

    async def open(self) -> None:
        """Connect."""
        await queue.connect()

    async def enqueue(self, task: str, sent: float) -> Any:
        """``enqueue``."""
        return await queue.enqueue(task, sent=sent, ttl=KEEP_S)

    async def is_over(self, handle: Any) -> bool:
        """``job``, one GET of all that is known of it."""
        job: Any = await queue.job(handle.key)
        return job is not None and job.status == Status.COMPLETE

    async def close(self) -> None:
        """Disconnect."""
        await queue.disconnect()
