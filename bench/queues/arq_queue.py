"""arq: one process, ten coroutines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import JobStatus

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, Queue, port


async def noop(_: object, sent: float) -> None:
    """Do nothing."""
    await record.noop_async(sent)


async def nap(_: object, sent: float) -> None:
    """Wait 10 ms."""
    await record.nap_async(sent)


class WorkerSettings:
    """What ``arq`` reads."""

    functions = [noop, nap]
    max_jobs = WORKERS
    keep_result = KEEP_S
    redis_settings = RedisSettings(port=port())


class Adapter(Queue[Any]):
    """``enqueue_job`` and ``status``."""

    workers = f"1 process, {WORKERS} coroutines"

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        return [sys.executable, "-m", "arq", "bench.queues.arq_queue.WorkerSettings"]

    async def open(self) -> None:
        """Connect."""
        self._pool: Any = await create_pool(RedisSettings(port=port()))

    async def enqueue(self, task: str, sent: float) -> Any:
        """``enqueue_job``."""
        return await self._pool.enqueue_job(task, sent)

    async def is_over(self, handle: Any) -> bool:
        """``status``."""
        return bool(await handle.status() is JobStatus.complete)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.aclose()
